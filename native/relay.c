// Some facts about waiting, and what follows:
// - The launcher mustn't wait in read(2) or write(2): signals and the time limit would wait too. So
//   it does one of each after poll(2) said so.
// - O_NONBLOCK is a flag of the open file description, which the standard streams share with other
//   processes: set there, a shell would read EAGAIN from its terminal. Opening /proc/self/fd/N
//   makes a new description, of terminals and pipes if permissions allow, of sockets never.
// - poll(2) calls a blocking pipe writable when PIPE_BUF bytes fit. A larger write waits.
// - When nobody reads a pipe any more, write(2) fails with EPIPE. The relay's other end is closed
//   then, and so the program in the container gets its own SIGPIPE.
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "text.h"

static const uint8_t end_of_file = 4; // Ctrl-D

int relay_reopen(int stream, int mode)
{
    struct stat status;
    if (fstat(stream, &status) < 0 || !(S_ISFIFO(status.st_mode) || isatty(stream)))
        return stream;
    char path[32];
    struct text text = TEXT(path);
    text_add(&text, "/proc/self/fd/");
    text_add_number(&text, (uint64_t)stream);
    int fd = open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return fd < 0 ? stream : fd;
}

// How much can be written at once without waiting for a reader. A file has none.
static size_t chunk_for(int to)
{
    struct stat status;
    bool waits = to <= STDERR_FILENO && fstat(to, &status) == 0 && !S_ISREG(status.st_mode);
    return waits ? PIPE_BUF : RELAY_BUFFER;
}

void relay_begin(struct relay *relay, int from, int to)
{
    relay->from = from;
    relay->to = to;
    relay->to_terminal = false;
    relay->left = SIZE_MAX;
    relay->chunk = chunk_for(to);
    relay->begin = 0;
    relay->end = 0;
    relay->last = '\n';
    relay->error = 0;
}

struct pollfd relay_event(const struct relay *relay)
{
    if (relay->begin < relay->end)
        return (struct pollfd){.fd = relay->to, .events = POLLOUT};
    return (struct pollfd){.fd = relay->from, .events = POLLIN};
}

void relay_end(struct relay *relay)
{
    if (relay->from > STDERR_FILENO)
        close(relay->from);
    if (relay->to > STDERR_FILENO)
        close(relay->to);
    relay->from = -1;
    relay->to = -1;
    relay->begin = 0;
    relay->end = 0;
}

void relay_limit(struct relay *relay)
{
    int waiting = 0;
    if (relay->from < 0 || ioctl(relay->from, FIONREAD, &waiting) < 0)
        waiting = 0;
    relay->left = (size_t)waiting;
    if (relay->left == 0 && relay->begin == relay->end)
        relay_end(relay);
}

// A terminal has no end to close while the output is still wanted. What stands for the end of file
// is a key; a line that isn't finished takes it twice.
static void type_end_of_file(struct relay *relay)
{
    relay->begin = 0;
    relay->end = 0;
    relay->buffer[relay->end++] = end_of_file;
    if (relay->last != '\n')
        relay->buffer[relay->end++] = end_of_file;
    relay->to_terminal = false;
}

// Ends the relay since a write has failed. A pipe without reader (EPIPE) and a terminal that was
// hung up (EIO) are ways to say that no more is wanted.
static void give_up(struct relay *relay)
{
    if (errno != EPIPE && errno != EIO)
        relay->error = errno;
    relay_end(relay);
}

void relay_move(struct relay *relay)
{
    if (relay->begin < relay->end) {
        size_t size = relay->end - relay->begin;
        if (size > relay->chunk)
            size = relay->chunk;
        ssize_t written = write(relay->to, relay->buffer + relay->begin, size);
        if (written >= 0)
            relay->begin += (size_t)written;
        else if (errno != EAGAIN && errno != EINTR)
            give_up(relay);
        if (relay->left == 0 && relay->begin == relay->end)
            relay_end(relay);
        return;
    }
    size_t limit = relay->left < RELAY_BUFFER ? relay->left : RELAY_BUFFER;
    ssize_t size = read(relay->from, relay->buffer, limit);
    if (size > 0) {
        if (relay->left != SIZE_MAX)
            relay->left -= (size_t)size;
        relay->begin = 0;
        relay->end = (size_t)size;
        relay->last = relay->buffer[size - 1];
    } else if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    } else if (relay->to_terminal) {
        type_end_of_file(relay);
    } else {
        relay_end(relay);
    }
}
