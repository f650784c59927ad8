// Signals that end a run before its container runs.
#pragma once

#include "launch.h"

// Blocks every signal, so that none ends the launcher between a step and its undo; remembers the
// mask that it was started with, and which fatal signals it was told to ignore.
void interrupt_block(struct run *run);

// Fails (EINTR) when a fatal signal is pending: SIGHUP, SIGINT, SIGQUIT or SIGTERM.
int interrupt_check(struct run *run);

// Opens the signalfd of the run, which is readable when a fatal signal is pending.
int interrupt_open(struct run *run);

// Gives back the signal mask of the start, before the launcher becomes another program.
void interrupt_restore(const struct run *run);

// Gives the signals of this process, a child that becomes a program, their default actions and
// an empty mask.
void interrupt_reset(void);

bool is_fatal(int signal);

// Whether a process has got a signal already that came to this one: the terminal sends Ctrl-C and
// its like to the whole process group, so that they mustn't be forwarded within it.
bool signal_reaches_both(int code, pid_t other);
