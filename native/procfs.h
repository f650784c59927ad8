// The launcher's own procfs; see procfs.c.
#pragma once

#include "launch.h"

// Opens the procfs if a later step of the plan writes to it: in a user namespace the kernel gives
// one only as long as the host's is in sight, before pivot_root. Records failure.
int keep_proc(struct run *run);

// Opens a file of this process in the procfs to be read, by its path there. Records failure.
int open_own_proc(struct run *run, const char *path);
