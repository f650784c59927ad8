// The launcher's own procfs; see procfs.c.
#pragma once

#include "launch.h"

// Opens the procfs if a later step of the plan writes to it: in a user namespace the kernel gives
// one only as long as the host's is in sight, before pivot_root. Records failure.
int keep_proc(struct run *run);
