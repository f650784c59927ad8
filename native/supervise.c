// The step `supervise`: one loop that waits for the container, the launcher's signals, the time
// limit and the standard streams.
//
//     launcher's stdin  ----> relay ----> pipe, or the master of the terminal ----> container
//     launcher's stdout <---- relay <---- pipe, or the master of the terminal <---- container
//     launcher's stderr <---- relay <---- pipe                                <---- container
//     launcher's signals ---- pidfd_send_signal ----------------------------------> container
//
// When the container's process has ended, what is left of the container is killed; so its streams
// come to their end, and are read up to there.
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "interrupt.h"
#include "outcome.h"
#include "relay.h"
#include "steps.h"
#include "terminal.h"
#include "undo.h"

enum { CHILD_EVENT, SIGNAL_EVENT, TIMER_EVENT, RELAY_EVENTS, EVENTS = RELAY_EVENTS + 3 };

struct supervision {
    struct run *run;
    struct relay relays[3]; // by standard stream
    struct terminal terminal;
    int slave; // of the container's terminal, or -1
    int timer; // -1: no time limit
    bool proxy; // whether signals are forwarded
    bool input_paused; // in the background, where the terminal's input isn't ours
    bool held; // the container's process is dead, and its tracer hasn't let go of it
    bool abandoned; // a signal ended the wait for that, or for the streams' ends
};

enum { HELD_MS = 100 }; // between two looks: no event tells when a tracer lets go

// --- streams -------------------------------------------------------------------------------------

static int duplicate(struct run *run, int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    return copy < 0 ? fail(run, "fcntl", NULL) : copy;
}

static int begin_terminal(struct supervision *supervision)
{
    struct run *run = supervision->run;
    int master = run->terminal;
    if (fcntl(master, F_SETFL, O_NONBLOCK) < 0)
        return fail(run, "fcntl", NULL);
    // While no process has the slave end open, reading from the master fails (EIO). A container's
    // processes may close and open it; so we hold it open as long as they live.
    supervision->slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    int output = duplicate(run, master);
    if (output < 0)
        return -1;
    relay_begin(&supervision->relays[1], output, relay_reopen(STDOUT_FILENO, O_WRONLY));
    if (run->stdio_mode[0] == STDIO_TERMINAL) {
        int input = duplicate(run, master);
        if (input < 0)
            return -1;
        relay_begin(&supervision->relays[0], relay_reopen(STDIN_FILENO, O_RDONLY), input);
        if (isatty(STDIN_FILENO))
            supervision->terminal.fd = STDIN_FILENO;
        else
            supervision->relays[0].to_terminal = true;
    }
    if (supervision->terminal.fd >= 0 && !terminal_is_ours(supervision->terminal.fd))
        terminal_stop(SIGTTOU);
    terminal_resize(&supervision->terminal, master);
    terminal_make_raw(&supervision->terminal);
    return 0;
}

static int begin_streams(struct supervision *supervision)
{
    struct run *run = supervision->run;
    for (int stream = 0; stream < 3; stream++) {
        if (run->stdio_host[stream] < 0)
            continue;
        bool input = stream == STDIN_FILENO;
        int own = relay_reopen(stream, input ? O_RDONLY : O_WRONLY);
        int pipe_end = run->stdio_host[stream];
        run->stdio_host[stream] = -1;
        relay_begin(&supervision->relays[stream], input ? own : pipe_end, input ? pipe_end : own);
    }
    return run->terminal < 0 ? 0 : begin_terminal(supervision);
}

// Hangs up the container's terminal, as when a user's window is closed.
static void hang_up(struct supervision *supervision)
{
    relay_end(&supervision->relays[0]);
    relay_end(&supervision->relays[1]);
    close_fd(&supervision->run->terminal);
    supervision->run->terminal = -1;
    close_fd(&supervision->slave);
    supervision->slave = -1;
}

// Whether the terminal's input may be read now. In the background it may not: the launcher stops
// then, as every program does that tries; if it is continued there, it goes on without.
static bool may_read_input(struct supervision *supervision)
{
    if (supervision->relays[0].from < 0 || terminal_is_ours(STDIN_FILENO))
        return true;
    terminal_stop(SIGTTIN);
    terminal_make_raw(&supervision->terminal);
    supervision->input_paused = !terminal_is_ours(STDIN_FILENO);
    return !supervision->input_paused;
}

static void move_streams(struct supervision *supervision, const struct pollfd *events)
{
    for (int stream = 0; stream < 3; stream++) {
        if (!events[stream].revents)
            continue;
        bool reads = events[stream].events & POLLIN;
        if (stream == STDIN_FILENO && reads && !may_read_input(supervision))
            continue;
        relay_move(&supervision->relays[stream]);
    }
    // Nobody sees any more what it shows; or the user's terminal has been hung up, whose input has
    // no other end.
    bool unseen = supervision->relays[1].from < 0;
    bool closed = supervision->terminal.fd >= 0 && supervision->relays[0].from < 0;
    if (supervision->run->terminal >= 0 && !supervision->run->supervised && (unseen || closed))
        hang_up(supervision);
}

// --- signals -------------------------------------------------------------------------------------

static void send_signal(const struct run *run, int signal)
{
    syscall(SYS_pidfd_send_signal, run->pidfd, signal, NULL, 0);
}

// Leaves a dead process to its tracer.
static void abandon(struct supervision *supervision, int signal)
{
    struct records *records = supervision->run->records;
    records->signal = (uint32_t)signal;
    records->exit_code = 128 + records->signal;
    records->progress = EXITED;
    supervision->held = false;
    supervision->abandoned = true;
    supervision->run->supervised = true;
    kill_leftovers(supervision->run);
}

// Whether the container's process is dead and yet can't be waited for. Those of a container may
// trace each other, and who does so has the dead one until it waits for it, detaches or dies
// (ptrace(2)).
static bool is_held(const struct run *run)
{
    struct pollfd process = {.fd = run->pidfd, .events = POLLIN};
    siginfo_t info = {0};
    return poll(&process, 1, 0) == 1 &&
           waitid(P_PIDFD, (id_t)run->pidfd, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_signo == 0;
}

static void forward(struct supervision *supervision, const struct signalfd_siginfo *info)
{
    struct run *run = supervision->run;
    int signal = (int)info->ssi_signo;
    // It may have died at the same time, and then would be the last to take note.
    if (is_fatal(signal) && !run->supervised && (supervision->held || is_held(run)))
        abandon(supervision, signal);
    else if (run->supervised)
        supervision->abandoned = supervision->abandoned || is_fatal(signal);
    else if (!supervision->proxy && is_fatal(signal))
        send_signal(run, SIGKILL); // the container doesn't outlive its launcher
    else if (supervision->proxy && !signal_reaches_both(info->ssi_code, run->child))
        send_signal(run, signal);
}

// Reaps the orphans that the container left to its launcher. The child is left for later.
static void reap_orphans(const struct run *run)
{
    siginfo_t info = {0};
    while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0 &&
           info.si_pid != run->child) {
        waitid(P_PID, (id_t)info.si_pid, &info, WEXITED);
        info.si_pid = 0;
    }
}

// The launcher stops as a job does, and gives the terminal back for that time.
static void stop(struct supervision *supervision, int signal)
{
    terminal_restore(&supervision->terminal);
    terminal_stop(signal);
    terminal_make_raw(&supervision->terminal);
}

static void handle_signal(struct supervision *supervision, const struct signalfd_siginfo *info)
{
    struct run *run = supervision->run;
    bool has_terminal = run->terminal >= 0;
    switch (info->ssi_signo) {
    case SIGCHLD:
        reap_orphans(run);
        break;
    case SIGWINCH:
        if (has_terminal)
            terminal_resize(&supervision->terminal, run->terminal); // the kernel tells the rest
        else
            forward(supervision, info);
        break;
    case SIGTSTP:
        if (!has_terminal)
            forward(supervision, info);
        stop(supervision, SIGTSTP);
        break;
    case SIGTTIN:
    case SIGTTOU:
        stop(supervision, (int)info->ssi_signo);
        break;
    case SIGCONT:
        supervision->input_paused = false;
        terminal_make_raw(&supervision->terminal);
        if (has_terminal)
            terminal_resize(&supervision->terminal, run->terminal);
        else
            forward(supervision, info);
        break;
    default:
        forward(supervision, info);
    }
}

static void handle_signals(struct supervision *supervision)
{
    struct signalfd_siginfo info;
    while (read(supervision->run->signals, &info, sizeof info) == sizeof info)
        handle_signal(supervision, &info);
}

// From here on every signal counts, not only the fatal ones.
static int watch_signals(struct run *run)
{
    sigset_t watched;
    sigfillset(&watched);
    sigdelset(&watched, SIGPIPE); // of our own writes
    for (int signal = 1; signal < NSIG; signal++) {
        if (sigismember(&run->ignored, signal) == 1)
            sigdelset(&watched, signal);
    }
    return signalfd(run->signals, &watched, 0) < 0 ? fail(run, "signalfd", NULL) : 0;
}

// --- the end -------------------------------------------------------------------------------------

static int start_timer(struct supervision *supervision, int64_t milliseconds)
{
    if (milliseconds <= 0)
        return 0;
    struct run *run = supervision->run;
    supervision->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (supervision->timer < 0)
        return fail(run, "timerfd_create", NULL);
    const struct itimerspec once = {
        .it_value = {milliseconds / 1000, milliseconds % 1000 * 1000000},
    };
    if (timerfd_settime(supervision->timer, 0, &once, NULL) < 0)
        return fail(run, "timerfd_settime", NULL);
    return 0;
}

static void time_out(struct supervision *supervision)
{
    supervision->run->records->timed_out = 1;
    send_signal(supervision->run, SIGKILL);
    close_fd(&supervision->timer);
    supervision->timer = -1;
    if (supervision->held)
        abandon(supervision, SIGKILL);
}

// Whether processes may be left when the container's is dead and leftovers have been killed: in a
// pid namespace that was joined, orphans go to that namespace's init.
static bool leaves_orphans(const struct run *run)
{
    if (run->kinds & CLONE_NEWPID)
        return false;
    for (uint32_t i = 0; i < run->plan->step_count; i++) {
        const struct step *step = &run->plan->steps[i];
        if ((step->operation == OP_SPAWN && number_argument(step, 3) & CLONE_NEWPID) ||
            (step->operation == OP_JOIN_NAMESPACE && number_argument(step, 0) & CLONE_NEWPID))
            return true;
    }
    return false;
}

static int end_container(struct supervision *supervision)
{
    struct run *run = supervision->run;
    supervision->held = is_held(run);
    if (supervision->held)
        return 0;
    if (outcome_record(run) < 0)
        return -1;
    kill_leftovers(run);
    relay_end(&supervision->relays[0]);
    close_fd(&supervision->slave);
    supervision->slave = -1;
    if (leaves_orphans(run)) {
        relay_limit(&supervision->relays[1]);
        relay_limit(&supervision->relays[2]);
    }
    return 0;
}

static bool is_done(const struct supervision *supervision)
{
    bool drained = supervision->relays[1].from < 0 && supervision->relays[2].from < 0;
    return supervision->run->supervised && (drained || supervision->abandoned);
}

static int loop(struct supervision *supervision)
{
    struct run *run = supervision->run;
    while (!is_done(supervision)) {
        struct pollfd events[EVENTS] = {
            [CHILD_EVENT] = {.fd = run->supervised || supervision->held ? -1 : run->pidfd,
                             .events = POLLIN},
            [SIGNAL_EVENT] = {.fd = run->signals, .events = POLLIN},
            [TIMER_EVENT] = {.fd = run->supervised ? -1 : supervision->timer, .events = POLLIN},
        };
        for (int stream = 0; stream < 3; stream++)
            events[RELAY_EVENTS + stream] = relay_event(&supervision->relays[stream]);
        if (supervision->input_paused && events[RELAY_EVENTS].events & POLLIN)
            events[RELAY_EVENTS].fd = -1;
        int ready = poll(events, EVENTS, supervision->held ? HELD_MS : -1);
        if (ready < 0 && errno != EINTR)
            return fail(run, "poll", NULL);
        if (events[SIGNAL_EVENT].revents)
            handle_signals(supervision);
        if (events[TIMER_EVENT].revents)
            time_out(supervision);
        move_streams(supervision, events + RELAY_EVENTS);
        bool ended = events[CHILD_EVENT].revents || supervision->held;
        if (ended && end_container(supervision) < 0)
            return -1;
    }
    return 0;
}

// Output that couldn't be delivered, to a full disk for one, isn't lost silently.
static int check_output(const struct supervision *supervision)
{
    static const char *const names[] = {"standard input", "standard output", "standard error"};
    for (int stream = STDOUT_FILENO; stream <= STDERR_FILENO; stream++) {
        if (supervision->relays[stream].error) {
            errno = supervision->relays[stream].error;
            return fail(supervision->run, "write", names[stream]);
        }
    }
    return 0;
}

int step_supervise(struct run *run, const struct step *step)
{
    struct supervision supervision = {
        .run = run,
        .terminal = {.fd = -1},
        .slave = -1,
        .timer = -1,
        .proxy = number_argument(step, 1) != 0,
    };
    if (run->child == 0) {
        errno = ECHILD;
        return fail(run, "supervise", NULL);
    }
    uint8_t buffers[3][RELAY_BUFFER]; // uninitialized: pages that no relay uses cost nothing
    for (int stream = 0; stream < 3; stream++) {
        supervision.relays[stream].buffer = buffers[stream];
        relay_begin(&supervision.relays[stream], -1, -1);
    }
    int result = -1;
    if (watch_signals(run) == 0 && start_timer(&supervision, number_argument(step, 0)) == 0 &&
        begin_streams(&supervision) == 0)
        result = loop(&supervision);
    terminal_restore(&supervision.terminal);
    return result < 0 ? result : check_output(&supervision);
}
