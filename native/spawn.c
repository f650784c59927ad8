// The step `spawn`: the one place where the launcher becomes two processes.
//
// A user namespace that exists already is joined by an intermediate process, since who has joined
// one can't come back, and HOST has to stay outside:
//
//     HOST --- clone(FILES) ---> intermediate: setns(user) --- clone3(PARENT) ---> CHILD
//      ^                                       |                                     |
//      +---- exits; shares HOST's fd table, so it leaves the child's pidfd there     |
//      +----------------------------------- parent --------------------------------- +
//
// The new namespaces of CHILD then belong to that user namespace. Likewise for a process that is to
// live in another's pid namespace: only children enter it. What is joined is a namespace file, or a
// pidfd, which stands for all of its process's (Linux 5.8).
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "baton.h"
#include "interrupt.h"
#include "text.h"
#include "undo.h"

// <sched.h> of the C library and <linux/sched.h> define the same names differently.
int setns(int fd, int kind);

pid_t fork_process(void)
{
    return fork_process_in(0);
}

pid_t fork_process_in(unsigned long kinds)
{
    // Not clone3: seccomp can't look into its arguments, so that filters such as the default one
    // answer it with ENOSYS, and init forks behind the container's filter.
    return (pid_t)syscall(SYS_clone, kinds | SIGCHLD, 0, 0, 0, 0);
}

int wait_for(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return -1;
    }
    return status;
}

void spawn_end(struct run *run)
{
    if (run->restorer > 0) {
        kill(run->restorer, SIGKILL);
        wait_for(run->restorer);
        run->restorer = 0;
    }
    if (run->child == 0 || run->supervised)
        return;
    syscall(SYS_pidfd_send_signal, run->pidfd, SIGKILL, NULL, 0);
    wait_for(run->child);
    run->child = 0;
}

// Returns the pid of a pidfd's process as this process sees it, or -1. The kernel shows it in
// /proc/self/fdinfo only.
static pid_t pid_of(int pidfd)
{
    char path[64];
    struct text text = TEXT(path);
    text_add(&text, "/proc/self/fdinfo/");
    text_add_number(&text, (uint64_t)pidfd);
    cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
    char content[512];
    ssize_t size = fd < 0 ? -1 : read(fd, content, sizeof content - 1);
    if (size < 0)
        return -1;
    content[size] = '\0';
    const char *line = strstr(content, "\nPid:\t");
    pid_t pid = 0;
    for (line += line ? 6 : 0; line && *line >= '0' && *line <= '9'; line++)
        pid = pid * 10 + (*line - '0');
    if (pid == 0)
        errno = ESRCH; // it is gone, or not in a pid namespace that we see
    return pid > 0 ? pid : -1;
}

// Takes file descriptors that the other process alone shall hold out of this one: as long as a
// second process holds the end of a pipe or socket, nobody sees the end of file.
static void close_ends(int ends[3])
{
    for (int i = 0; i < 3; i++) {
        if (ends[i] >= 0)
            close(ends[i]);
        ends[i] = -1;
    }
}

uint64_t process_start_time(pid_t pid)
{
    char path[32];
    struct text text = TEXT(path);
    text_add(&text, "/proc/");
    text_add_number(&text, (uint64_t)pid);
    text_add(&text, "/stat");
    cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
    char content[1024];
    ssize_t size = fd < 0 ? -1 : read(fd, content, sizeof content - 1);
    if (size < 0)
        return 0;
    content[size] = '\0';
    // The second field is a name in parentheses, which may hold anything.
    const char *field = strrchr(content, ')');
    for (int number = 2; field && number < 22; number++)
        field = strchr(field + 1, ' ');
    uint64_t time = 0;
    for (field += field ? 1 : 0; field && *field >= '0' && *field <= '9'; field++)
        time = time * 10 + (uint64_t)(*field - '0');
    return time;
}

bool has_operation(const struct plan *plan, enum operation operation)
{
    for (uint32_t i = 0; i < plan->step_count; i++) {
        if (plan->steps[i].operation == operation)
            return true;
    }
    return false;
}

static void become_child(struct run *run, int baton)
{
    run->stage = CHILD;
    run->left = has_operation(run->plan, OP_LEAVE);
    close(run->baton);
    run->baton = baton;
    close_ends(run->stdio_host);
    interrupt_reset();
    prctl(PR_SET_NAME, "cloche-child");
}

// In the intermediate process: makes the child, and leaves its pidfd in the place of `reserved`.
// Returns in the child only.
static void spawn_joined(struct run *run, struct clone_args *arguments, int joined, int kinds,
                         int reserved)
{
    int pidfd = -1;
    // A child made with CLONE_PARENT inherits the signal that its end sends.
    arguments->flags |= CLONE_PARENT;
    arguments->exit_signal = 0;
    arguments->pidfd = (uintptr_t)&pidfd;
    int dumpable = prctl(PR_GET_DUMPABLE);
    if (setns(joined, kinds) < 0) {
        fail(run, "setns", NULL);
        _exit(1);
    }
    prctl(PR_SET_DUMPABLE, dumpable); // a change of capabilities sets it to fs.suid_dumpable
    pid_t pid = (pid_t)syscall(SYS_clone3, arguments, sizeof *arguments);
    if (pid == 0)
        return;
    if (pid < 0) {
        fail(run, "clone3", NULL);
        _exit(1);
    }
    if (dup3(pidfd, reserved, O_CLOEXEC) < 0) {
        fail(run, "dup3", NULL);
        syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
        _exit(1);
    }
    close(pidfd);
    _exit(0);
}

// Makes the child by way of an intermediate process. Returns 0 in HOST, 1 in the child, -1.
static int spawn_indirectly(struct run *run, struct clone_args *arguments, int joined, int kinds)
{
    int reserved = fcntl(run->baton, F_DUPFD_CLOEXEC, 0);
    if (reserved < 0)
        return fail(run, "fcntl", NULL);
    struct clone_args intermediate = {.flags = CLONE_FILES | CLONE_VFORK, .exit_signal = SIGCHLD};
    pid_t pid = (pid_t)syscall(SYS_clone3, &intermediate, sizeof intermediate);
    if (pid == 0) {
        spawn_joined(run, arguments, joined, kinds, reserved);
        return 1;
    }
    if (pid < 0) {
        close(reserved);
        return fail(run, "clone3", NULL);
    }
    int status = wait_for(pid);
    if (status != 0) {
        close(reserved);
        errno = ECANCELED; // it has recorded why, unless it was killed
        return fail(run, "clone3", "intermediate process");
    }
    run->pidfd = reserved;
    run->child = pid_of(reserved);
    if (run->child < 0) {
        // It can't be waited for by pid; as an orphan it is reaped by init.
        syscall(SYS_pidfd_send_signal, run->pidfd, SIGKILL, NULL, 0);
        run->child = 0;
        return fail(run, "pidfd_open", "/proc/self/fdinfo");
    }
    return 0;
}

// Makes the child. Returns 0 in HOST, 1 in the child, -1.
static int spawn_directly(struct run *run, struct clone_args *arguments)
{
    arguments->pidfd = (uintptr_t)&run->pidfd;
    pid_t pid = (pid_t)syscall(SYS_clone3, arguments, sizeof *arguments);
    if (pid == 0)
        return 1;
    if (pid < 0)
        return fail(run, "clone3", NULL);
    run->child = pid;
    return 0;
}

// A process can be traced and its memory and files be looked at by processes of the same user as
// long as it is "dumpable"; those of a container that it joins must not reach into the launcher
// (CVE-2016-9962). The attribute is inherited by clone. But /proc/PID of a process that isn't
// dumpable belongs to the machine's root, so a HOST that isn't couldn't write the child's id maps:
// then it is the child that drops it when the maps are written (run.c).
static void close_to_others(const struct plan *plan)
{
    prctl(PR_SET_DUMPABLE, 0);
    if (!has_operation(plan, OP_ID_MAP) && !has_operation(plan, OP_ID_MAP_PROGRAM))
        return;
    cleanup_fd int map = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
    if (map < 0)
        prctl(PR_SET_DUMPABLE, 1);
}

int step_spawn(struct run *run, const struct step *step)
{
    uint64_t kinds = (uint64_t)number_argument(step, 0);
    int64_t cgroup = number_argument(step, 1);
    int64_t joined = number_argument(step, 2);
    if (run->child != 0 || run->stage != HOST || (cgroup != NO_SLOT && run->slots[cgroup] < 0) ||
        (joined != NO_SLOT && run->slots[joined] < 0)) {
        errno = EINVAL;
        return fail(run, "clone3", NULL);
    }
    int batons[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, batons) < 0)
        return fail(run, "socketpair", NULL);
    run->baton = batons[HOST];
    if (interrupt_open(run) < 0)
        return -1;
    close_to_others(run->plan);
    // Orphans of a container without a pid namespace of its own come to HOST, which ends them.
    if (!(kinds & CLONE_NEWPID)) {
        prctl(PR_SET_CHILD_SUBREAPER, 1);
        note_elders(run);
    }
    struct clone_args arguments = {.flags = kinds | CLONE_PIDFD, .exit_signal = SIGCHLD};
    if (cgroup != NO_SLOT) {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = (unsigned)run->slots[cgroup];
    }
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        if (run->slots[slot] >= 0)
            run->shared_slots |= UINT64_C(1) << slot;
    }
    int process = joined == NO_SLOT ? spawn_directly(run, &arguments)
                                    : spawn_indirectly(run, &arguments, run->slots[joined],
                                                       (int)number_argument(step, 3));
    if (process == 1) {
        become_child(run, batons[CHILD]);
        if (cgroup != NO_SLOT) // a directory of the host's, which the child has no use for
            close_fd(&run->slots[cgroup]);
    } else
        close(batons[CHILD]);
    if (process != 0)
        return process < 0 ? -1 : 0;
    close_ends(run->stdio_child);
    run->kinds = kinds;
    run->records->pid = run->child;
    if (run->records_are_kept)
        run->records->start_time = process_start_time(run->child);
    run->records->progress = SPAWNED;
    return 0;
}
