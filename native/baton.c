// The protocol between the two processes, on a pair of SOCK_SEQPACKET sockets:
//
//     HOST                                   CHILD
//     spawn ---------- clone3 -------------> waits
//     its steps
//     baton (next step, file descriptors) -->
//     waits                                  its steps
//     <----------------------------- baton (next step, file descriptors)
//     its steps
//     ...                                    exec: the kernel closes its end
//     end of file <--------------------------
//
// Only the process that holds the baton acts, so the steps run in the plan's order. Some facts
// about sockets, and what follows:
// - A packet arrives whole or not at all: there is no partial message to put together.
// - The kernel closes all ends of a process that dies, and the close-on-exec ones of a process
//   that execs. So the end of file tells each side that the other is gone, however it went; if
//   it left no failure and hadn't come to its exec, it was killed.
// - File descriptors that arrive with SCM_RIGHTS are new ones of the receiver's, and
//   MSG_CMSG_CLOEXEC keeps them from the program.
#include "baton.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "interrupt.h"
#include "spawn.h"
#include "terminal.h"

struct message {
    uint32_t next;
    uint32_t terminal; // whether the console's master end comes last
    uint64_t slots; // bit mask of the slots that come, in ascending order
};

enum { MAX_FDS = SLOTS + 1 };

union control {
    struct cmsghdr header; // for its alignment
    char bytes[CMSG_SPACE(sizeof(int) * MAX_FDS)];
};

int baton_pass(struct run *run, uint32_t next)
{
    struct message message = {.next = next};
    int fds[MAX_FDS];
    size_t count = 0;
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        uint64_t bit = UINT64_C(1) << slot;
        if (run->slots[slot] >= 0 && !(run->shared_slots & bit)) {
            message.slots |= bit;
            fds[count++] = run->slots[slot];
        }
    }
    if (run->terminal_master >= 0) {
        message.terminal = 1;
        fds[count++] = run->terminal_master;
    }
    union control control;
    struct iovec part = {.iov_base = &message, .iov_len = sizeof message};
    struct msghdr packet = {.msg_iov = &part, .msg_iovlen = 1};
    if (count) {
        memset(&control, 0, sizeof control);
        packet.msg_control = &control;
        packet.msg_controllen = (socklen_t)CMSG_SPACE(sizeof(int) * count);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = (socklen_t)CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * count);
    }
    if (sendmsg(run->baton, &packet, MSG_NOSIGNAL) < 0)
        return fail(run, "sendmsg", NULL);
    run->shared_slots |= message.slots;
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        if (run->given_slots >> slot & 1) {
            close_fd(&run->slots[slot]);
            run->slots[slot] = -1;
        }
    }
    run->given_slots = 0;
    if (message.terminal) {
        close(run->terminal_master);
        run->terminal_master = -1;
    }
    return 0;
}

// Puts the file descriptors that came with a message in their places.
static int accept_fds(struct run *run, const struct message *message, struct msghdr *packet)
{
    int fds[MAX_FDS];
    size_t count = 0;
    const struct cmsghdr *header = CMSG_FIRSTHDR(packet);
    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
        count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(header), count * sizeof(int));
    }
    size_t expected = (size_t)__builtin_popcountll(message->slots) + message->terminal;
    if (packet->msg_flags & MSG_CTRUNC || count != expected) {
        // The kernel drops what it can't install in a full table of file descriptors.
        errno = EMFILE;
        return fail(run, "recvmsg", NULL);
    }
    size_t next = 0;
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        if (message->slots >> slot & 1) {
            close_fd(&run->slots[slot]);
            run->slots[slot] = fds[next++];
        }
    }
    run->shared_slots |= message->slots;
    if (!message->terminal)
        return 0;
    run->terminal = fds[next];
    // Before the program runs, which may ask for the size at once.
    const struct terminal own = {.fd = STDIN_FILENO};
    if (run->stdio_mode[0] == STDIO_TERMINAL && has_operation(run->plan, OP_SUPERVISE))
        terminal_resize(&own, run->terminal);
    return 0;
}

// HOST only: waits until the child has something to say; a fatal signal ends the wait, which
// else could last as long as a mount of an unreachable server.
static int wait_for_child(struct run *run)
{
    struct pollfd events[] = {
        {.fd = run->baton, .events = POLLIN},
        {.fd = run->signals, .events = POLLIN},
    };
    while (poll(events, 2, -1) < 0) {
        if (errno != EINTR)
            return fail(run, "poll", NULL);
    }
    // What the child has to say comes first: if it has become the program, the signal is for it.
    return events[0].revents ? 0 : interrupt_check(run);
}

enum turn baton_await(struct run *run, uint32_t *next)
{
    if (run->stage == HOST && wait_for_child(run) < 0)
        return TURN_FAILED;
    struct message message;
    union control control;
    struct iovec part = {.iov_base = &message, .iov_len = sizeof message};
    struct msghdr packet = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof control,
    };
    ssize_t size;
    do {
        size = recvmsg(run->baton, &packet, MSG_CMSG_CLOEXEC);
    } while (size < 0 && errno == EINTR);
    // A process that dies with messages unread resets the connection: it is as gone.
    if (size == 0 || (size < 0 && errno == ECONNRESET))
        return TURN_LAST;
    if (size != sizeof message) {
        if (size > 0)
            errno = EPROTO;
        fail(run, "recvmsg", NULL);
        return TURN_FAILED;
    }
    if (accept_fds(run, &message, &packet) < 0)
        return TURN_FAILED;
    *next = message.next;
    return TURN_OURS;
}
