// Some facts about job control, and what follows:
// - A background process that reads its terminal gets SIGTTIN, which stops it; with that signal
//   blocked, as all are here, the read fails with EIO. So we look first, and stop ourselves.
// - A blocked signal doesn't stop. To be stopped as the shell expects (its name is in the exit
//   status), we send it to ourselves and unblock it for a moment.
// - A background process may change the settings of a terminal with SIGTTOU blocked: it would
//   spoil the shell's. So we look there too.
#include "terminal.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

bool terminal_is_ours(int fd)
{
    pid_t foreground = tcgetpgrp(fd);
    return foreground < 0 || foreground == getpgrp();
}

void terminal_make_raw(struct terminal *terminal)
{
    if (terminal->fd < 0 || terminal->raw || !terminal_is_ours(terminal->fd))
        return;
    if (tcgetattr(terminal->fd, &terminal->original) < 0)
        return;
    struct termios raw = terminal->original;
    cfmakeraw(&raw);
    // Not TCSAFLUSH: what has been typed ahead is for the container.
    terminal->raw = tcsetattr(terminal->fd, TCSANOW, &raw) == 0;
}

void terminal_restore(struct terminal *terminal)
{
    if (terminal->raw && terminal_is_ours(terminal->fd))
        tcsetattr(terminal->fd, TCSANOW, &terminal->original);
    terminal->raw = false;
}

void terminal_resize(const struct terminal *terminal, int master)
{
    struct winsize size;
    int source = terminal->fd >= 0 ? terminal->fd : STDOUT_FILENO;
    if (ioctl(source, TIOCGWINSZ, &size) == 0 && size.ws_row && size.ws_col)
        ioctl(master, TIOCSWINSZ, &size);
}

void terminal_stop(int signal)
{
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, signal);
    kill(getpid(), signal);
    sigprocmask(SIG_UNBLOCK, &one, NULL); // stopped here, if at all
    sigprocmask(SIG_BLOCK, &one, NULL);
}
