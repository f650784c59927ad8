// A PID 1 for containers whose program wasn't written to be one.
//
// Some facts about PID 1, and what follows:
// - Orphans of its pid namespace become its children, and stay zombies until it waits for them.
// - The kernel drops signals whose action is the default, unless they are blocked. So with all
//   of them blocked init gets each one, and can hand it on.
// - When it ends, the kernel kills everything in the namespace.
//
// It stays for as long as the container lives, in reach of the container's processes: so nothing
// of the launcher's may be left in its memory or among its file descriptors.
#include <errno.h>
#include <linux/close_range.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "interrupt.h"
#include "spawn.h"
#include "steps.h"

static void forget(const struct run *run)
{
    // What others wait for the end of: the baton, pipes; and ways out of the container.
    syscall(SYS_close_range, 0, ~0u, 0);
    for (char **variable = environ; *variable; variable++)
        memset(*variable, 0, strlen(*variable)); // the user's, in /proc/1/environ
    for (unsigned i = 0; i < sizeof run->mappings / sizeof run->mappings[0]; i++)
        munmap(run->mappings[i].start, run->mappings[i].size);
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

__attribute__((noreturn)) static void stay_as_init(const struct run *run, pid_t main_process)
{
    sigset_t all;
    sigfillset(&all);
    forget(run);
    prctl(PR_SET_NAME, "cloche-init");
    // Now that there is nothing to see: only of a process that is dumpable can an unprivileged
    // user join the namespaces, as `exec` does.
    prctl(PR_SET_DUMPABLE, 1);
    prctl(PR_SET_CHILD_SUBREAPER, 1); // for when there is no pid namespace
    for (;;) {
        siginfo_t info;
        int signal = sigwaitinfo(&all, &info);
        if (signal == SIGCHLD)
            reap(main_process);
        else if (signal > 0 && !signal_reaches_both(info.si_code, main_process))
            kill(main_process, signal);
    }
}

int step_init(struct run *run, const struct step *step)
{
    (void)step;
    sigset_t all;
    sigset_t none;
    sigfillset(&all);
    sigemptyset(&none);
    // Before the fork, so that no signal is lost in between.
    sigprocmask(SIG_SETMASK, &all, NULL);
    pid_t main_process = fork_process();
    if (main_process > 0)
        stay_as_init(run, main_process);
    int error = errno;
    sigprocmask(SIG_SETMASK, &none, NULL);
    errno = error;
    return main_process < 0 ? fail(run, "clone", NULL) : 0;
}
