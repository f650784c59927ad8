// How the container ended.
#pragma once

#include "launch.h"

// Reaps the child, which has ended, and records how: exit code or signal, processor time, peak
// memory, and the kills of its memory cgroup's OOM killer.
int outcome_record(struct run *run);
