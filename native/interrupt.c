// Some facts about signals, and what follows:
// - A blocked signal stays pending. So with all of them blocked the launcher never stops half
//   way; it looks for them between steps (sigpending(2)) and where it waits (signalfd(2)).
// - A blocked signal is queued even when its action is to ignore it. So whether SIGHUP was to be
//   ignored (nohup), or SIGINT (a shell's background job), has to be asked for.
// - exec keeps ignored signals ignored and blocked ones blocked. The launcher's parent may well
//   ignore some: Python ignores SIGPIPE. So a program that is to start as if from init needs
//   every action reset.
#include "interrupt.h"

#include <errno.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const int fatal_signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};
static const char *const fatal_names[] = {"SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"};
enum { FATAL_SIGNALS = sizeof fatal_signals / sizeof fatal_signals[0] };

bool is_fatal(int signal)
{
    for (unsigned i = 0; i < FATAL_SIGNALS; i++) {
        if (fatal_signals[i] == signal)
            return true;
    }
    return false;
}

bool signal_reaches_both(int code, pid_t other)
{
    // The terminal's signals are the kernel's own; those of kill(2) say SI_USER.
    return code == SI_KERNEL && getpgid(other) == getpgrp();
}

void interrupt_block(struct run *run)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &run->original_mask);
    sigemptyset(&run->ignored);
    for (unsigned i = 0; i < FATAL_SIGNALS; i++) {
        struct sigaction action;
        if (sigaction(fatal_signals[i], NULL, &action) == 0 && action.sa_handler == SIG_IGN)
            sigaddset(&run->ignored, fatal_signals[i]);
    }
    // A child of a process that ignores SIGCHLD leaves no exit status.
    signal(SIGCHLD, SIG_DFL);
    // Of a pipe without reader the write says enough.
    signal(SIGPIPE, SIG_IGN);
}

int interrupt_check(struct run *run)
{
    sigset_t pending;
    sigpending(&pending);
    for (unsigned i = 0; i < FATAL_SIGNALS; i++) {
        int number = fatal_signals[i];
        if (sigismember(&pending, number) && !sigismember(&run->ignored, number)) {
            run->interrupted = number;
            errno = EINTR;
            return fail(run, "signal", fatal_names[i]);
        }
    }
    return 0;
}

int interrupt_open(struct run *run)
{
    sigset_t watched;
    sigemptyset(&watched);
    for (unsigned i = 0; i < FATAL_SIGNALS; i++) {
        if (!sigismember(&run->ignored, fatal_signals[i]))
            sigaddset(&watched, fatal_signals[i]);
    }
    run->signals = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    return run->signals < 0 ? fail(run, "signalfd", NULL) : 0;
}

void interrupt_restore(const struct run *run)
{
    sigset_t all;
    sigfillset(&all);
    const struct timespec at_once = {0};
    while (sigtimedwait(&all, NULL, &at_once) > 0)
        ; // pending signals would end the launcher as soon as they are let through
    sigprocmask(SIG_SETMASK, &run->original_mask, NULL);
}

void interrupt_reset(void)
{
    // The kernel's own call: the C library hides two real-time signals from sigaction(3).
    // What it takes, on every architecture: action, flags, restorer and mask, all zero here.
    const unsigned long default_action[4] = {0};
    const size_t mask_size = 8;
    for (int number = 1; number <= 64; number++) {
        if (number != SIGKILL && number != SIGSTOP)
            syscall(SYS_rt_sigaction, number, default_action, NULL, mask_size);
    }
    const uint64_t empty = 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &empty, NULL, mask_size);
}
