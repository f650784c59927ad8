// The baton: which of the two processes carries out steps.
#pragma once

#include "launch.h"

// How a wait for the baton ended.
enum turn {
    TURN_OURS, // the other process has handed it over
    TURN_LAST, // the other process is gone: it has become the program, or died
    TURN_FAILED, // a failure has been recorded
};

// Hands the baton over, with what the other process hasn't got yet: the file descriptors in
// newly filled slots, and the console's master end. `next` is the index of the step that is due.
int baton_pass(struct run *run, uint32_t next);

// Waits for the baton and takes over what comes with it; sets the index of the step that is due.
enum turn baton_await(struct run *run, uint32_t *next);
