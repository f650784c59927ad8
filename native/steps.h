// The function of every operation; each is defined in one of the steps_*.c and their like.
#pragma once

#include "launch.h"

#define DECLARE_STEP(upper, name, signature, slots) step_function step_##name;
FOR_EACH_OPERATION(DECLARE_STEP)
#undef DECLARE_STEP
