// The directories of an overlay whose paths are too long for fsconfig(2).
#pragma once

#include <stdbool.h>

enum { MAX_LAYERS = 15 }; // whose names below /proc/self/fd fit into 255 bytes

struct layers {
    int fds[MAX_LAYERS]; // to be kept open until the overlay has been made
    unsigned count;
};

// Whether a mount option takes paths of layers.
bool is_layer_option(const char *key);

// Opens the directories of such an option and writes a value of less than `size` bytes that means
// the same. Returns 0, or -1 with errno.
int layers_shorten(struct layers *layers, const char *key, const char *value, char *shorter,
                   unsigned size);

// Closes them.
void layers_close(struct layers *layers);
