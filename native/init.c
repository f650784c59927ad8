// A PID 1 for containers whose program wasn't written to be one.
//
// Some facts about PID 1, and what follows:
// - Orphans of its pid namespace become its children, and stay zombies until it waits for them.
// - The kernel drops signals whose action is the default, unless they are blocked. So with all
//   of them blocked init gets each one, and can hand it on.
// - When it ends, the kernel kills everything in the namespace.
//
// It stays for as long as the container lives, in reach of the container's processes: so nothing
// of the launcher's may be left in its memory or among its file descriptors, and the filters hold
// for it too. Who may trace it would have it do what the filters forbid, or reach the host through
// a directory that is open. The program waits until that is so.
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "confine.h"
#include "interrupt.h"
#include "spawn.h"
#include "steps.h"
#include "syscalls.h"

// Init never execs, which is when the capability goes that was kept to install filters. It needs
// none but to signal processes of other users, and no_new_privs does for the filters.
static int drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_capget, &header, sets))
        return -1;
    for (unsigned word = 0; word < _LINUX_CAPABILITY_U32S_3; word++) {
        const uint32_t kept = word == 0 ? UINT32_C(1) << CAP_KILL : 0;
        sets[word].effective &= kept;
        sets[word].permitted &= kept;
        sets[word].inheritable &= kept;
    }
    return (int)syscall(SYS_capset, &header, sets);
}

// Files are closed before the filter of system calls, which may not know of close_range(2). All of
// them: what others wait for the end of, as the baton, and ways out of the container.
static int forget(struct run *run, int ready)
{
    if (drop_capabilities() || confine(run, OP_LANDLOCK) || dup2(ready, 0) < 0 ||
        sys_close_range(1, ~0u, 0) || confine(run, OP_SECCOMP))
        return -1;
    for (char **variable = environ; *variable; variable++)
        memset(*variable, 0, strlen(*variable)); // the user's, in /proc/1/environ
    for (unsigned i = 0; i < sizeof run->mappings / sizeof run->mappings[0]; i++) {
        if (munmap(run->mappings[i].start, run->mappings[i].size))
            return -1;
    }
    return 0;
}

// Reaps what is dead. Ends when the main process is among it, as that one ended.
static void reap(pid_t main_process)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == main_process)
            _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    }
}

__attribute__((noreturn)) static void stay_as_init(struct run *run, pid_t main_process, int ready)
{
    sigset_t all;
    sigfillset(&all);
    if (forget(run, ready))
        _exit(125);
    prctl(PR_SET_NAME, "cloche-init");
    // Now that there is nothing to see: only of a process that is dumpable can an unprivileged
    // user join the namespaces, as `exec` does.
    prctl(PR_SET_DUMPABLE, 1);
    prctl(PR_SET_CHILD_SUBREAPER, 1); // for when there is no pid namespace
    if (write(0, "", 1) < 0)
        _exit(125);
    close(0);
    for (;;) {
        siginfo_t info;
        int signal = sigwaitinfo(&all, &info);
        if (signal == SIGCHLD)
            reap(main_process);
        else if (signal > 0 && !signal_reaches_both(info.si_code, main_process))
            kill(main_process, signal);
    }
}

static int wait_for_init(struct run *run, int ready)
{
    char byte;
    ssize_t size;
    do {
        size = read(ready, &byte, 1);
    } while (size < 0 && errno == EINTR);
    if (size == 0)
        errno = ESRCH; // it has died
    return size == 1 ? 0 : fail(run, "read", "init");
}

int step_init(struct run *run, const struct step *step)
{
    (void)step;
    sigset_t all;
    sigset_t none;
    int ends[2];
    sigfillset(&all);
    sigemptyset(&none);
    if (pipe2(ends, O_CLOEXEC) < 0)
        return fail(run, "pipe2", NULL);
    cleanup_fd int ready = ends[0];
    // Before the fork, so that no signal is lost in between.
    sigprocmask(SIG_SETMASK, &all, NULL);
    pid_t main_process = fork_process();
    if (main_process > 0)
        stay_as_init(run, main_process, ends[1]);
    close_fd(&ends[1]);
    int error = errno;
    sigprocmask(SIG_SETMASK, &none, NULL);
    errno = error;
    return main_process < 0 ? fail(run, "clone", NULL) : wait_for_init(run, ready);
}
