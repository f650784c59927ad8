// Kernel files in /proc, written through a procfs that the image can't have tampered with.
//
// What looks like /proc/self/attr/exec may be a plain file, or a link to another such file, so
// that a label would be "written" and never set, or a harmless value land in a dangerous file
// (CVE-2019-16884, CVE-2025-52881). So the launcher mounts a procfs of its own that is never
// attached to any path.
#pragma once

#include "launch.h"

// Opens the procfs if a later step of the plan writes to it: in a user namespace the kernel gives
// one only as long as the host's is in sight, before pivot_root. Records failure.
int keep_proc(struct run *run);

// Writes a value in one write(2). `path` is relative to /proc; records failure with it.
int write_proc(struct run *run, const char *path, const char *value);
