// The user's terminal, while it stands for the container's.
#pragma once

#include <termios.h>

#include "launch.h"

struct terminal {
    int fd; // the user's terminal, or -1 if it is none
    bool raw;
    struct termios original; // while raw
};

// Whether the launcher's process group may read from a terminal. True of one that doesn't control
// jobs of our session.
bool terminal_is_ours(int fd);

// Passes every key on, as a byte; the container's terminal does what is to be done with it. Does
// nothing in the background, where the terminal is somebody else's.
void terminal_make_raw(struct terminal *terminal);

// Undoes that.
void terminal_restore(struct terminal *terminal);

// Gives the container's terminal the size of the user's window.
void terminal_resize(const struct terminal *terminal, int master);

// Stops the launcher as a signal of job control would, until it is continued. Does nothing where
// the kernel doesn't either: nobody could continue an orphaned process group.
void terminal_stop(int signal);
