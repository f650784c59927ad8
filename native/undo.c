// Some facts about the end of cgroups, and what follows:
// - A cgroup can't be removed while a process is in it or a cgroup below it (EBUSY); a dead process
//   that hasn't been reaped is no obstacle.
// - v2 has cgroup.kill (Linux 5.14), which no fork can outrun. v1 has nothing: the processes are
//   listed and killed until none is left.
// - A pid may be given to another process as soon as its process has been reaped, which others
//   than us may do here. So we open a pidfd, and kill only if the list, read again after that,
//   still has the pid: then the pidfd is of the process that the list means.
// - A process in a frozen v1 cgroup dies when it is thawed, not before.
// - A dying process leaves its cgroup shortly after its pidfd says that it is dead (since
//   Linux 6.19 it is the scheduler that takes it out).
#include "undo.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    BATCH = 64, // processes killed at a time
    MAX_DEPTH = 32, // of cgroups below ours that a container may have made
    DEATH_MS = 10000, // a process in an uninterruptible sleep may never die
    BUSY_TRIES = 200,
};

void undo_add(struct run *run, enum undo_kind kind, const char *path)
{
    run->undo[run->undo_count++] = (struct undo){kind, path};
}

void undo_forget(struct run *run)
{
    run->undo_count = 0;
}

static int write_at(int directory, const char *name, const char *value)
{
    cleanup_fd int fd = openat(directory, name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || write(fd, value, strlen(value)) < 0)
        return -1;
    return 0;
}

// Reads up to `limit` pids, each followed by white space. Returns how many.
static unsigned read_numbers(int fd, pid_t *pids, unsigned limit)
{
    char content[BATCH * 12];
    ssize_t size = read(fd, content, sizeof content);
    unsigned count = 0;
    pid_t pid = 0;
    for (ssize_t i = 0; i < size && count < limit; i++) {
        if (content[i] >= '0') {
            pid = pid * 10 + (content[i] - '0');
            continue;
        }
        if (pid > 0) // 0 is a process outside of our pid namespace
            pids[count++] = pid;
        pid = 0;
    }
    return count;
}

static unsigned read_pids(int cgroup, pid_t *pids, unsigned limit)
{
    cleanup_fd int fd = openat(cgroup, "cgroup.procs", O_RDONLY | O_CLOEXEC);
    return fd < 0 ? 0 : read_numbers(fd, pids, limit);
}

static bool contains(const pid_t *pids, unsigned count, pid_t pid)
{
    for (unsigned i = 0; i < count; i++) {
        if (pids[i] == pid)
            return true;
    }
    return false;
}

// Kills one batch of a cgroup's processes and waits until they are dead. Returns whether there
// may be more.
static bool kill_batch(int cgroup)
{
    pid_t pids[BATCH];
    unsigned count = read_pids(cgroup, pids, BATCH);
    if (count == 0)
        return false;
    struct pollfd dead[BATCH];
    for (unsigned i = 0; i < count; i++) {
        int pidfd = (int)syscall(SYS_pidfd_open, pids[i], 0);
        dead[i] = (struct pollfd){.fd = pidfd, .events = POLLIN};
    }
    pid_t still[BATCH];
    unsigned still_count = read_pids(cgroup, still, BATCH);
    for (unsigned i = 0; i < count; i++) {
        if (dead[i].fd >= 0 && contains(still, still_count, pids[i]))
            syscall(SYS_pidfd_send_signal, dead[i].fd, SIGKILL, NULL, 0);
    }
    write_at(cgroup, "freezer.state", "THAWED");
    bool all_died = true;
    for (unsigned i = 0; i < count; i++) {
        if (dead[i].fd < 0)
            continue;
        bool killed = contains(still, still_count, pids[i]);
        if (killed && poll(&dead[i], 1, DEATH_MS) != 1)
            all_died = false;
        close(dead[i].fd);
    }
    return all_died;
}

// Removes a cgroup whose processes are dead, as soon as the kernel has taken the last one out;
// nothing tells when. Returns whether it is gone.
static bool remove_cgroup(int parent, const char *name)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    for (int i = 0; unlinkat(parent, name, AT_REMOVEDIR) < 0; i++) {
        if (errno != EBUSY || i == BUSY_TRIES)
            return errno == ENOENT;
        nanosleep(&moment, NULL);
    }
    return true;
}

static bool end_cgroup(int parent, const char *name, bool remove, int depth);

// Ends the cgroups below a cgroup.
static void end_children(int cgroup, bool remove, int depth)
{
    char entries[2048] __attribute__((aligned(8)));
    long size;
    while ((size = syscall(SYS_getdents64, cgroup, entries, sizeof entries)) > 0) {
        for (long at = 0; at < size;) {
            const struct dirent *entry = (const struct dirent *)(void *)(entries + at);
            bool own = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
            if (entry->d_type == DT_DIR && !own)
                end_cgroup(cgroup, entry->d_name, remove, depth + 1);
            at += entry->d_reclen;
        }
    }
}

// Kills what is in a cgroup, and removes it if it is to be. Returns whether it is gone then.
static bool end_cgroup(int parent, const char *name, bool remove, int depth)
{
    // Mostly it is empty: the processes died with their PID 1.
    if (depth > MAX_DEPTH)
        return false;
    if (remove && unlinkat(parent, name, AT_REMOVEDIR) == 0)
        return true;
    cleanup_fd int cgroup = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (cgroup < 0)
        return errno == ENOENT;
    write_at(cgroup, "cgroup.kill", "1");
    while (kill_batch(cgroup))
        ;
    end_children(cgroup, remove, depth);
    return remove && remove_cgroup(parent, name);
}

// Lists up to `limit` children of this process. Returns how many.
static unsigned read_children(pid_t *pids, unsigned limit)
{
    cleanup_fd int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
    return fd < 0 ? 0 : read_numbers(fd, pids, limit);
}

void note_elders(struct run *run)
{
    run->elder_count = read_children(run->elders, ELDERS);
}

// Waits for the end of a child that has been killed. Returns whether it is gone: one that is traced
// stays its tracer's (ptrace(2)), which may be none of ours.
static bool reap_dying(pid_t pid)
{
    cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd dead = {.fd = pidfd, .events = POLLIN};
    siginfo_t info = {0};
    if (pidfd >= 0)
        poll(&dead, 1, DEATH_MS);
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG) == 0 && info.si_pid != 0;
}

// Kills and reaps the children of this process that came after the container, and in the end
// their descendants: the children of a dead process become HOST's, its subreaper.
static void kill_orphans(const struct run *run)
{
    bool found;
    do {
        siginfo_t info = {0};
        while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG) == 0 && info.si_pid != 0)
            info.si_pid = 0;
        pid_t pids[BATCH];
        unsigned count = read_children(pids, BATCH);
        found = false;
        for (unsigned i = 0; i < count; i++) {
            // A child's pid isn't given to another process until we reap it.
            if (!contains(run->elders, run->elder_count, pids[i]))
                kill(pids[i], SIGKILL);
        }
        for (unsigned i = 0; i < count; i++) {
            if (!contains(run->elders, run->elder_count, pids[i]) && reap_dying(pids[i]))
                found = true;
        }
    } while (found);
}

void kill_leftovers(struct run *run)
{
    // The kernel kills a pid namespace with its PID 1.
    if (run->pidfd < 0 || run->kinds & CLONE_NEWPID)
        return;
    for (uint32_t i = run->undo_count; i-- > 0;) {
        if (run->undo[i].kind == UNDO_CGROUP || run->undo[i].kind == UNDO_PROCESSES)
            end_cgroup(AT_FDCWD, run->undo[i].path, false, 0);
    }
    if (run->elder_count < ELDERS)
        kill_orphans(run);
}

void undo_all(struct run *run)
{
    bool busy = false;
    while (run->undo_count > 0) {
        const struct undo *undo = &run->undo[--run->undo_count];
        switch (undo->kind) {
        case UNDO_CGROUP:
            if (!end_cgroup(AT_FDCWD, undo->path, true, 0))
                busy = true;
            break;
        case UNDO_PROCESSES:
            end_cgroup(AT_FDCWD, undo->path, false, 0);
            break;
        // A cgroup that a process in an uninterruptible sleep keeps busy is left to a later
        // command, which finds it by the files of the container's directory.
        case UNDO_FILE:
            if (!busy)
                unlink(undo->path);
            break;
        case UNDO_DIRECTORY:
            if (!busy)
                rmdir(undo->path);
            break;
        }
    }
}
