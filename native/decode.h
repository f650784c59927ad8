// The decoder of a plan's wire form; src/cloche/plan/wire.py describes it and is its twin.
#pragma once

#include "launch.h"

// Memory that is handed out from its start and never given back.
struct arena {
    uint8_t *start;
    size_t size;
    size_t used;
};

// Returns the size of an arena that suffices for a plan of this many bytes: every plan that the
// planner encodes fits. (Hand-made ones whose values overlap a great deal may not; they are
// refused.)
size_t arena_size(const uint8_t *wire, size_t size);

// Takes zeroed memory for `count` items from an arena, aligned for any type of the plan.
// Returns NULL when there isn't enough.
void *arena_take(struct arena *arena, size_t count, size_t item_size);

// Decodes a plan, which keeps pointers into the wire form and the arena. Returns 0, or -1 when
// the bytes aren't exactly of the form described or don't fit the arena; reads nothing outside
// of the wire form, whatever its content.
int decode_plan(const uint8_t *wire, size_t size, struct arena *arena, struct plan *plan);
