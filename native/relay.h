// Carrying bytes between the container's standard streams and the launcher's own.
#pragma once

#include <poll.h>

#include "launch.h"

enum { RELAY_BUFFER = 32768 };

// One direction. What has been read is written before more is read, so a slow reader slows the
// writer down and nothing is lost.
struct relay {
    int from; // -1 when it has ended
    int to;
    bool to_terminal; // the end of file is to be typed (Ctrl-D) instead of passed on
    size_t left; // bytes that are still to be read; SIZE_MAX: until the end of file
    size_t chunk; // that can be written at once without waiting
    size_t begin; // of what is in the buffer
    size_t end;
    uint8_t last; // byte that was read
    int error; // why bytes were lost: the errno of a write; a reader that has gone away is none
    uint8_t *buffer; // of RELAY_BUFFER bytes
};

// Opens one of the launcher's standard streams anew, so that it can be non-blocking without
// becoming so for all processes that share it. Returns the stream itself where that can't be.
int relay_reopen(int stream, int mode);

// Begins to carry from one file descriptor to another, both of which become the relay's. The
// buffer has been set before.
void relay_begin(struct relay *relay, int from, int to);

// Returns what the relay waits for; nothing (fd -1) when it has ended.
struct pollfd relay_event(const struct relay *relay);

// Reads or writes once, after poll(2) said that it won't wait. Ends the relay at the end of file
// and when nobody reads any more.
void relay_move(struct relay *relay);

// Has the relay end with what the container has written by now, because processes may be left
// that hold its stream for ever.
void relay_limit(struct relay *relay);

// Ends the relay: closes both ends, but not the standard streams.
void relay_end(struct relay *relay);
