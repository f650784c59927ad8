// The steps that make a container one that other commands manage: they find it by files that stay
// when the launcher has left, above all its records.
//
//     create: HOST ... spawn ............ leave                    start: one byte, wait for HUP
//             CHILD           builds ...        waits at the gate <----- FIFO ---+    exec
//
// Some facts about FIFOs, and what follows:
// - Opening one for both directions never waits, and who has it so counts as its reader. So the
//   child has its end from the start; to open the other end without waiting (O_NONBLOCK) succeeds
//   as long as the child waits, and fails with ENXIO when it is gone.
// - When the last reader is gone, poll(2) tells the writer so (POLLERR). The child's end is closed
//   by its exec, or its death: so who has opened the gate sees when the program runs.
// - The child needs nothing but read(2) for it, which even a narrow system call filter allows.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "spawn.h"
#include "steps.h"
#include "text.h"
#include "undo.h"

static int write_all(int fd, const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t written = write(fd, (const char *)data + done, size - done);
        if (written < 0)
            return -1;
        done += (size_t)written;
    }
    return 0;
}

int step_keep_records(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 0);
    struct mapping *mapping = &run->mappings[RECORDS_MAPPING];
    cleanup_fd int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(run, "open", path);
    undo_add(run, UNDO_FILE, path);
    // Written, not only made as long: on a full disk a store into a mapped hole is a SIGBUS.
    if (write_all(fd, mapping->start, mapping->size) < 0)
        return fail(run, "write", path);
    void *records = mmap(NULL, mapping->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (records == MAP_FAILED)
        return fail(run, "mmap", path);
    if (dup3(fd, run->records_fd, O_CLOEXEC) < 0) { // for the report program
        munmap(records, mapping->size);
        return fail(run, "dup3", path);
    }
    munmap(mapping->start, mapping->size);
    mapping->start = records;
    run->records = records;
    run->records_are_kept = true;
    return 0;
}

int step_keep_plan(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 0);
    const struct mapping *mapping = &run->mappings[PLAN_MAPPING];
    cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(run, "open", path);
    undo_add(run, UNDO_FILE, path);
    return write_all(fd, mapping->start, mapping->size) < 0 ? fail(run, "write", path) : 0;
}

int step_make_gate(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 1);
    if (mkfifo(path, 0600) < 0)
        return fail(run, "mkfifo", path);
    undo_add(run, UNDO_FILE, path);
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return fail(run, "open", path);
    return fill_slot(run, number_argument(step, 0), fd);
}

int step_wait_at_gate(struct run *run, const struct step *step)
{
    int64_t slot = number_argument(step, 0);
    char byte;
    ssize_t size;
    do {
        size = read(run->slots[slot], &byte, 1);
    } while (size < 0 && errno == EINTR);
    if (size == 1)
        return 0;
    if (size == 0)
        errno = EPIPE;
    return fail(run, "read", "the start gate");
}

int step_unlock(struct run *run, const struct step *step)
{
    (void)step;
    // The child has the same lock: closing our file descriptor alone wouldn't release it.
    if (flock(run->lock, LOCK_UN) < 0)
        return fail(run, "flock", NULL);
    return 0;
}

int step_leave(struct run *run, const struct step *step)
{
    (void)step;
    undo_forget(run);
    __atomic_store_n(&run->records->progress, CREATED, __ATOMIC_RELEASE);
    return step_unlock(run,
                       step); // the interpreter does the rest: it hands the baton over for good
}

int step_keep(struct run *run, const struct step *step)
{
    (void)step;
    undo_forget(run);
    return 0;
}

int step_take_back(struct run *run, const struct step *step)
{
    (void)step;
    undo_all(run);
    return 0;
}

// Whoever waits for the file finds the whole number in it.
int step_write_pid(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 0);
    char temporary[PATH_MAX];
    char digits[16];
    struct text name = TEXT(temporary);
    struct text number = TEXT(digits);
    const char *slash = strrchr(path, '/');
    size_t directory = slash ? (size_t)(slash - path) + 1 : 0;
    text_add(&name, path);
    text_cut(&name, directory);
    text_add(&name, ".");
    text_add(&name, path + directory);
    if (name.length + 1 >= sizeof temporary) {
        errno = ENAMETOOLONG;
        return fail(run, "open", path);
    }
    text_add_number(&number, (uint64_t)run->child);
    // One that is left of a command that was killed is in nobody's way.
    if (unlink(temporary) < 0 && errno != ENOENT)
        return fail(run, "unlink", temporary);
    cleanup_fd int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return fail(run, "open", temporary);
    if (write_all(fd, digits, number.length) < 0 || rename(temporary, path) < 0) {
        fail(run, "rename", path);
        unlink(temporary);
        return -1;
    }
    return 0;
}

// Sends all parts of a message, the file descriptor with the first of it: readers that expect
// all in one piece get it so, unless it is longer than a socket takes at a time.
static int send_parts(int connection, struct msghdr *packet)
{
    ssize_t sent;
    while ((sent = sendmsg(connection, packet, MSG_NOSIGNAL)) >= 0) {
        packet->msg_control = NULL;
        packet->msg_controllen = 0;
        while (packet->msg_iovlen && (size_t)sent >= packet->msg_iov->iov_len) {
            sent -= (ssize_t)packet->msg_iov->iov_len;
            packet->msg_iov++;
            packet->msg_iovlen--;
        }
        if (packet->msg_iovlen == 0)
            return 0;
        packet->msg_iov->iov_base = (char *)packet->msg_iov->iov_base + sent;
        packet->msg_iov->iov_len -= (size_t)sent;
    }
    return -1;
}

// Sends one file descriptor with a message over a connection to a listening socket.
static int send_fd(struct run *run, const char *path, int fd, struct iovec *parts, size_t count)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return fail(run, "connect", path);
    }
    strcpy(address.sun_path, path);
    cleanup_fd int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection < 0)
        return fail(run, "socket", NULL);
    if (connect(connection, (const struct sockaddr *)&address, sizeof address) < 0)
        return fail(run, "connect", path);
    union {
        struct cmsghdr header; // for its alignment
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    struct msghdr packet = {
        .msg_iov = parts,
        .msg_iovlen = count,
        .msg_control = &control,
        .msg_controllen = sizeof control,
    };
    return send_parts(connection, &packet) < 0 ? fail(run, "sendmsg", path) : 0;
}

static struct iovec part(const void *data, size_t size)
{
    return (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = size};
}

int step_send_console(struct run *run, const struct step *step)
{
    if (run->terminal < 0) {
        errno = ENOTTY;
        return fail(run, "sendmsg", string_argument(step, 0));
    }
    struct iovec name = part("/dev/ptmx", strlen("/dev/ptmx"));
    return send_fd(run, string_argument(step, 0), run->terminal, &name, 1);
}

int step_send_pidfd(struct run *run, const struct step *step)
{
    struct iovec name = part("pidfd", strlen("pidfd"));
    return send_fd(run, string_argument(step, 0), run->pidfd, &name, 1);
}

// The message is a JSON document in which the pid is missing, at two places or at one.
int step_send_listener(struct run *run, const struct step *step)
{
    int *listener = &run->slots[number_argument(step, 0)];
    const struct value *texts = &step->arguments[2];
    char digits[16];
    struct text pid = TEXT(digits);
    text_add_number(&pid, (uint64_t)run->child);
    struct iovec parts[] = {
        part(texts[0].blob, texts[0].length), part(digits, pid.length),
        part(texts[1].blob, texts[1].length), part(digits, pid.length),
        part(texts[2].blob, texts[2].length),
    };
    size_t count = texts[2].length ? 5 : 3;
    int result = send_fd(run, string_argument(step, 1), *listener, parts, count);
    close_fd(listener);
    *listener = -1;
    return result;
}

// A pid is given to another process when its own has ended: the start time tells them apart. It is
// looked at with the pidfd in hand, so that what was found is what is used.
int step_open_process(struct run *run, const struct step *step)
{
    pid_t pid = (pid_t)number_argument(step, 1);
    char path[32];
    struct text text = TEXT(path);
    text_add(&text, "pid ");
    text_add_number(&text, (uint64_t)pid);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        return fail(run, "pidfd_open", path);
    if (process_start_time(pid) != (uint64_t)number_argument(step, 2)) {
        close(pidfd);
        errno = ESRCH;
        return fail(run, "pidfd_open", path);
    }
    return fill_slot(run, number_argument(step, 0), pidfd);
}

int step_join(struct run *run, const struct step *step)
{
    int kinds = (int)number_argument(step, 1);
    if (setns(run->slots[number_argument(step, 0)], kinds) < 0)
        return fail(run, "setns", NULL);
    return 0;
}
