// What a new file system takes over from the directory that it is mounted on.
#pragma once

#include "launch.h"

// Gives a detached mount of an empty file system what `what` (BENEATH_*) says of the directory
// `beneath`: its mode, its owner, its content. Records failure.
int take_over(struct run *run, int mount, int beneath, unsigned what, const char *dest);
