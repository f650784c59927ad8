// Steps that build the wall of namespaces, but for `spawn`, which has a file of its own.
#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "interrupt.h"
#include "run.h"
#include "spawn.h"
#include "steps.h"
#include "syscalls.h"
#include "text.h"

int step_open_namespace(struct run *run, const struct step *step)
{
    int64_t kind = number_argument(step, 1);
    const char *path = string_argument(step, 2);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(run, "open", path);
    int found = ioctl(fd, NS_GET_NSTYPE);
    if (found != kind) {
        if (found >= 0)
            errno = EINVAL; // a namespace of another kind
        fail(run, "ioctl", path);
        close(fd);
        return -1;
    }
    return fill_slot(run, number_argument(step, 0), fd);
}

int step_join_namespace(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 1);
    cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(run, "open", path);
    uint64_t before = now();
    if (setns(fd, (int)number_argument(step, 0)) < 0)
        return fail(run, "setns", path);
    // A time namespace's clock would show in a trace, where times of both processes are compared.
    if (number_argument(step, 0) == CLONE_NEWTIME)
        run->ahead += now() - before;
    return 0;
}

int step_unshare(struct run *run, const struct step *step)
{
    if (unshare((int)number_argument(step, 0)) < 0)
        return fail(run, "unshare", NULL);
    return 0;
}

// Writes a file in the child's /proc directory, in one call as the kernel wants it.
static int write_child_proc(struct run *run, const char *name, const char *content)
{
    char path[64];
    struct text text = TEXT(path);
    text_add(&text, "/proc/");
    text_add_number(&text, (uint64_t)run->child);
    text_add(&text, "/");
    text_add(&text, name);
    cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return fail(run, "open", path);
    if (write(fd, content, strlen(content)) < 0)
        return fail(run, "write", path);
    return 0;
}

int step_deny_setgroups(struct run *run, const struct step *step)
{
    (void)step;
    return write_child_proc(run, "setgroups", "deny");
}

int step_id_map(struct run *run, const struct step *step)
{
    const char *name = number_argument(step, 0) ? "gid_map" : "uid_map";
    return write_child_proc(run, name, string_argument(step, 1));
}

int step_id_map_program(struct run *run, const struct step *step)
{
    enum { MAX_ARGUMENTS = 1024 };
    char *const *given = vector_argument(step, 0);
    uint32_t count = step->arguments[0].length;
    if (count == 0 || count > MAX_ARGUMENTS) {
        errno = E2BIG;
        return fail(run, "execve", NULL);
    }
    char pid[16];
    struct text text = TEXT(pid);
    text_add_number(&text, (uint64_t)run->child);
    char *argv[MAX_ARGUMENTS + 2] = {given[0], pid};
    memcpy(argv + 2, given + 1, count * sizeof *argv); // with the NULL at the end
    pid_t process = fork_process();
    if (process == 0) {
        interrupt_reset();
        execve(argv[0], argv, environ);
        fail(run, "execve", argv[0]); // in the shared records
        _exit(1);
    }
    if (process < 0)
        return fail(run, "clone3", NULL);
    if (wait_for(process) != 0) {
        errno = EPERM; // it has written to standard error what it didn't like
        return fail(run, "exit code", argv[0]);
    }
    return 0;
}

int step_hostname(struct run *run, const struct step *step)
{
    if (sethostname(string_argument(step, 0), step->arguments[0].length) < 0)
        return fail(run, "sethostname", NULL);
    return 0;
}

int step_domainname(struct run *run, const struct step *step)
{
    if (setdomainname(string_argument(step, 0), step->arguments[0].length) < 0)
        return fail(run, "setdomainname", NULL);
    return 0;
}

static int bring_up_loopback(struct run *run)
{
    cleanup_fd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(run, "socket", NULL);
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    if (ioctl(fd, SIOCSIFFLAGS, &request) < 0)
        return fail(run, "ioctl", "lo");
    return 0;
}

// HOST goes there and back: it is alone with its thread, and keeps its own namespace open.
int step_loopback_up(struct run *run, const struct step *step)
{
    if (step->stage == CHILD)
        return bring_up_loopback(run);
    cleanup_fd int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (own < 0)
        return fail(run, "open", "/proc/thread-self/ns/net");
    if (setns(run->pidfd, CLONE_NEWNET) < 0)
        return fail(run, "setns", "net");
    int result = bring_up_loopback(run);
    if (setns(own, CLONE_NEWNET) < 0)
        return fail(run, "setns", "net");
    return result;
}
