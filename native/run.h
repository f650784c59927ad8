// Running a plan.
#pragma once

#include "launch.h"

// Carries out the plan in both stages. Returns 0 when all of HOST's steps are done, -1 when one
// failed in either stage. In the child it never returns.
int run_plan(struct run *run);

uint64_t now(void); // CLOCK_MONOTONIC, nanoseconds

// Returns an operation's name, as in the planner.
const char *operation_name(enum operation operation);
