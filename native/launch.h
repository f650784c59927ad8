// What every part of the launcher shares: the decoded plan, the state of one run, and the
// signature of the functions that carry out steps.
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "operations.h" // generated from src/cloche/plan/steps.py: enum operation, SLOTS ...
#include "records.h"

// One argument of a step; its type is fixed by the operation's signature, which the decoder
// has checked.
struct value {
    char type; // 'i', 's', 'b' or 'v'
    uint32_t length; // bytes of a string or blob, items of a vector
    union {
        int64_t number;
        const char *string;
        const uint8_t *blob;
        char *const *vector; // ends with NULL, as execve wants it
    };
};

enum stage { HOST = 0, CHILD = 1 };

struct step {
    enum operation operation;
    enum stage stage;
    uint32_t index;
    const struct value *arguments;
    const char *why;
};

struct plan {
    uint32_t step_count;
    const struct step *steps;
    uint32_t flags;
    uint32_t fail_step;
    int fail_errno;
    char *const *report; // NULL, or the argv of the report program
    uint32_t report_length;
};

enum { ELDERS = 32 };

enum { PLAN_MAPPING, RECORDS_MAPPING, ARENA_MAPPING, MAPPINGS };

// A region of memory that a PID 1 must not keep; see init.c.
struct mapping {
    void *start;
    size_t size;
};

struct undo; // undo.h

// The state of one run. HOST and CHILD each have their own copy after spawn (they are two
// processes); what both must see travels with the baton or lives in the shared records.
struct run {
    const struct plan *plan;
    struct records *records; // shared memory
    int records_fd; // the file that it is mapped from
    bool records_are_kept; // in a file that others read, so that they must tell the process
    bool left; // CHILD: HOST is going to leave, or has left, without waiting for the program
    int lock; // HOST: the lock on the container's directory, -1 before
    enum stage stage; // which process this is
    const struct step *step; // the step being carried out
    int slots[SLOTS]; // -1 or a file descriptor
    uint64_t shared_slots; // bit mask of those that the other process has too
    uint64_t given_slots; // bit mask of those that the other process alone is to have
    int root; // O_PATH of the container's root directory, -1 before open_root
    int mounted_proc; // the root of the procfs that was mounted at the container's /proc, or -1
    uint64_t mounted_proc_id; // the mount that it is, as statx(2) tells mounts apart
    int mounted_sys; // the root of the sysfs that was mounted at the container's /sys, or -1
    int proc; // a detached procfs of the child's own, -1 until first wanted
    int empty; // a detached read-only empty tmpfs for masks, -1 until first wanted
    int baton; // this process's end of the socket pair, -1 before spawn
    pid_t child; // HOST: the child, 0 before spawn
    int pidfd; // HOST: the child's, -1 before spawn
    pid_t restorer; // HOST: criu, while the child is the process that it restores; else 0
    uint64_t kinds; // HOST: the CLONE_NEW* of the namespaces that spawn made
    int terminal; // HOST: the master end of the container's pty; CHILD: its slave end; or -1
    int terminal_master; // CHILD: the master end until the baton takes it to HOST, else -1
    int stdio_mode[3]; // STDIO_* of each standard stream
    int stdio_host[3]; // HOST's ends of the pipes, -1 where none
    int stdio_child[3]; // CHILD's ends, -1 where inherited
    sigset_t original_mask; // the signal mask that the launcher was started with
    sigset_t ignored; // which of the fatal signals it was started with as ignored (nohup)
    int signals; // HOST: a signalfd, -1 before spawn
    int interrupted; // HOST: the signal that ended the run before its container ran, or 0
    uint64_t ahead; // CHILD: what its clock is ahead of HOST's, in a time namespace (modulo 2**64)
    bool supervised; // HOST: the container has run and ended
    struct undo *undo; // HOST: what to take back at the end, in the order it was made
    uint32_t undo_count;
    pid_t elders[ELDERS]; // HOST: children that it had before spawn, see undo.h
    unsigned elder_count;
    struct mapping mappings[MAPPINGS];
};

// Carries out one step. Returns 0, or -1 after fail() has recorded what went wrong.
typedef int step_function(struct run *run, const struct step *step);

// Records the failed system call with errno (kept) and a path or NULL; always returns -1.
int fail(struct run *run, const char *call, const char *path);

// Returns the process that a step of either stage is about: 0 in CHILD, which is itself, or -1
// (ESRCH) if there is none yet.
pid_t child_of(const struct run *run);

static inline int64_t number_argument(const struct step *step, unsigned position)
{
    return step->arguments[position].number;
}

static inline const char *string_argument(const struct step *step, unsigned position)
{
    return step->arguments[position].string;
}

static inline char *const *vector_argument(const struct step *step, unsigned position)
{
    return step->arguments[position].vector;
}

// Puts a file descriptor into a slot, which closes what was there; closes it (EINVAL) when the
// slot is NO_SLOT. Always takes the file descriptor over.
int fill_slot(struct run *run, int64_t slot, int fd);

// Closes a file descriptor when the variable goes out of scope.
void close_fd(int *fd);
#define cleanup_fd __attribute__((cleanup(close_fd)))

// Hands a file descriptor on: the variable no longer closes it.
static inline int take_fd(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}
