// The filters of the plan's end, for processes of the container that never come there.
#pragma once

#include "launch.h"

// Installs in this process the filters of a kind, OP_LANDLOCK or OP_SECCOMP, that the plan has
// still to come to. Returns 0 or -1.
int confine(struct run *run, enum operation operation);
