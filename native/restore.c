// The steps that bring a container back from a checkpoint, with criu(8) as the child of the plan:
//
//     HOST                                            CHILD: becomes "criu swrk FD"
//     restore_request: options ---------------------> reads it, makes the namespaces and processes,
//     restore_begin                                   as its siblings: they are HOST's children
//     <----------------- notice "setup-namespaces"    waits
//     hooks, loopback
//     restore_end: acknowledgement -----------------> memory, files, ...
//     <-------- notice "orphan-pts-master" (with the master end of the container's terminal)
//     <------------------------------------ response  ends
//
// The messages are in the encoding of protocol buffers: fields, each a tag (number << 3 | type) and
// a value, which is a varint (type 0) or a length and as many bytes (type 2). A message within
// another is bytes. criu's images/rpc.proto has the numbers.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "interrupt.h"
#include "run.h"
#include "spawn.h"
#include "steps.h"
#include "text.h"

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };
enum { TYPE_RESTORE = 2, TYPE_NOTIFY = 6 }; // criu_req_type
enum { REQUEST_TYPE = 1, REQUEST_OPTIONS = 2, REQUEST_SUCCESS = 3 };
enum { OPTION_IMAGES_FD = 1, OPTION_WORK_FD = 17 };
enum {
    RESPONSE_TYPE = 1,
    RESPONSE_SUCCESS = 2,
    RESPONSE_NOTIFY = 5,
    RESPONSE_MESSAGE = 9,
    NOTIFY_SCRIPT = 1,
    NOTIFY_PID = 2,
};

// --- the encoding --------------------------------------------------------------------------------

struct message {
    uint8_t bytes[1 << 16];
    size_t length;
};

static size_t varint_size(uint64_t number)
{
    size_t size = 1;
    while (number >>= 7)
        size++;
    return size;
}

static void put_varint(struct message *message, uint64_t number)
{
    for (; number > 0x7f; number >>= 7)
        message->bytes[message->length++] = (uint8_t)(number | 0x80);
    message->bytes[message->length++] = (uint8_t)number;
}

static void put_number(struct message *message, uint64_t field, uint64_t number)
{
    put_varint(message, field << 3 | VARINT);
    put_varint(message, number);
}

struct field {
    uint64_t number;
    uint64_t value; // of a varint, or the length of
    const uint8_t *bytes;
};

struct reader {
    const uint8_t *next;
    const uint8_t *end;
};

static bool take_varint(struct reader *reader, uint64_t *number)
{
    *number = 0;
    for (unsigned shift = 0; reader->next < reader->end && shift < 64; shift += 7) {
        uint8_t byte = *reader->next++;
        *number |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return true;
    }
    return false;
}

static bool take_field(struct reader *reader, struct field *field)
{
    uint64_t tag;
    if (!take_varint(reader, &tag))
        return false;
    field->number = tag >> 3;
    field->bytes = NULL;
    unsigned type = tag & 7;
    if (type == VARINT)
        return take_varint(reader, &field->value);
    if (type == FIXED32 || type == FIXED64)
        field->value = type == FIXED32 ? 4 : 8;
    else if (type != BYTES || !take_varint(reader, &field->value))
        return false;
    if (field->value > (size_t)(reader->end - reader->next))
        return false;
    field->bytes = reader->next;
    reader->next += field->value;
    return true;
}

struct response {
    uint64_t type;
    bool success;
    char script[64];
    pid_t pid;
    char message[512];
};

static void copy(char *to, size_t size, const struct field *field)
{
    size_t length = field->bytes ? field->value : 0;
    if (length >= size)
        length = size - 1;
    memcpy(to, field->bytes, length);
    to[length] = '\0';
}

static void read_notice(struct response *response, const struct field *notice)
{
    struct reader reader = {notice->bytes, notice->bytes + notice->value};
    struct field field;
    while (take_field(&reader, &field)) {
        if (field.number == NOTIFY_SCRIPT && field.bytes)
            copy(response->script, sizeof response->script, &field);
        else if (field.number == NOTIFY_PID && !field.bytes)
            response->pid = (pid_t)field.value;
    }
}

static void read_response(struct response *response, const uint8_t *bytes, size_t size)
{
    struct reader reader = {bytes, bytes + size};
    struct field field;
    while (take_field(&reader, &field)) {
        if (field.number == RESPONSE_TYPE)
            response->type = field.value;
        else if (field.number == RESPONSE_SUCCESS)
            response->success = field.value != 0;
        else if (field.number == RESPONSE_NOTIFY && field.bytes)
            read_notice(response, &field);
        else if (field.number == RESPONSE_MESSAGE && field.bytes)
            copy(response->message, sizeof response->message, &field);
    }
}

// --- the conversation ----------------------------------------------------------------------------

// Its log says what was wrong; what it said last goes along for the case that there is none.
static int fail_criu(struct run *run, const char *problem, const char *said)
{
    struct failure *failure = &run->records->failure;
    errno = ECANCELED;
    fail(run, "criu", problem);
    size_t length = strlen(said);
    memcpy(failure->head, said, length);
    failure->head_length = (uint32_t)length;
    return -1;
}

static int send_message(struct run *run, int socket, const void *bytes, size_t size)
{
    return send(socket, bytes, size, MSG_NOSIGNAL) < 0 ? fail(run, "send", "criu") : 0;
}

static int acknowledge(struct run *run, int socket)
{
    static const uint8_t success[] = {REQUEST_TYPE << 3, TYPE_NOTIFY, REQUEST_SUCCESS << 3, 1};
    return send_message(run, socket, success, sizeof success);
}

// The one file descriptor that comes is the master end of the container's terminal.
static void take_terminal(struct run *run, struct msghdr *packet)
{
    struct cmsghdr *header = CMSG_FIRSTHDR(packet);
    if (!header || header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(sizeof(int)))
        return;
    close_fd(&run->terminal);
    memcpy(&run->terminal, CMSG_DATA(header), sizeof(int));
}

static int wait_for_criu(struct run *run, int socket)
{
    struct pollfd events[] = {
        {.fd = socket, .events = POLLIN},
        {.fd = run->signals, .events = POLLIN},
    };
    while (poll(events, 2, -1) < 0) {
        if (errno != EINTR)
            return fail(run, "poll", NULL);
    }
    return events[0].revents ? 0 : interrupt_check(run);
}

static int receive(struct run *run, int socket, struct response *response)
{
    uint8_t bytes[4096];
    union {
        struct cmsghdr header; // for its alignment
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {.iov_base = bytes, .iov_len = sizeof bytes};
    struct msghdr packet = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof control,
    };
    if (wait_for_criu(run, socket) < 0)
        return -1;
    ssize_t size = recvmsg(socket, &packet, MSG_CMSG_CLOEXEC);
    if (size < 0 && errno != ECONNRESET)
        return fail(run, "recvmsg", "criu");
    if (size <= 0)
        return fail_criu(run, "it died", "");
    take_terminal(run, &packet);
    read_response(response, bytes, (size_t)size);
    return 0;
}

// Goes on until a notice comes, or the end where `notice` is NULL.
static int converse(struct run *run, int socket, const char *notice, struct response *response)
{
    for (;;) {
        memset(response, 0, sizeof *response);
        if (receive(run, socket, response) < 0)
            return -1;
        if (!response->success)
            return fail_criu(run, "it failed", response->message);
        if (response->type != TYPE_NOTIFY)
            return notice ? fail_criu(run, "it told of no namespaces", "") : 0;
        if (notice && strcmp(response->script, notice) == 0)
            return 0;
        if (acknowledge(run, socket) < 0)
            return -1;
    }
}

// From here on the restored process is the container's, and criu a helper.
static int adopt(struct run *run, pid_t pid, uint64_t kinds)
{
    int pidfd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    if (pidfd < 0)
        return fail(run, "pidfd_open", "the restored process");
    close(run->pidfd);
    run->restorer = run->child;
    run->child = pid;
    run->pidfd = pidfd;
    run->kinds = kinds;
    run->records->progress = SPAWNED;
    run->records->pid = pid;
    run->records->start_time = process_start_time(pid);
    return 0;
}

// --- the steps -----------------------------------------------------------------------------------

int step_socket_pair(struct run *run, const struct step *step)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return fail(run, "socketpair", NULL);
    if (fill_slot(run, number_argument(step, 0), ends[0]) < 0) {
        close(ends[1]);
        return -1;
    }
    return fill_slot(run, number_argument(step, 1), ends[1]);
}

// Whoever of the launcher's own has the number gives way.
static int make_way(struct run *run, int number)
{
    int *holders[SLOTS + 1] = {&run->baton};
    for (unsigned slot = 0; slot < SLOTS; slot++)
        holders[slot + 1] = &run->slots[slot];
    for (unsigned i = 0; i < SLOTS + 1; i++) {
        if (*holders[i] != number)
            continue;
        *holders[i] = fcntl(number, F_DUPFD_CLOEXEC, number + SLOTS);
        if (*holders[i] < 0)
            return fail(run, "fcntl", NULL);
    }
    return 0;
}

int step_pass_fd(struct run *run, const struct step *step)
{
    int64_t slot = number_argument(step, 0);
    int number = (int)number_argument(step, 1);
    if (slot == NO_SLOT || run->slots[slot] < 0 || number <= STDERR_FILENO) {
        errno = EBADF;
        return fail(run, "dup2", NULL);
    }
    if (make_way(run, number) < 0)
        return -1;
    return dup2(run->slots[slot], number) < 0 ? fail(run, "dup2", NULL) : 0;
}

int step_open_directory(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 1);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? fail(run, "open", path) : fill_slot(run, number_argument(step, 0), fd);
}

static int take_open(struct run *run, int64_t slot)
{
    if (slot != NO_SLOT && run->slots[slot] >= 0 && run->child > 0)
        return run->slots[slot];
    errno = EBADF;
    return fail(run, "send", "criu");
}

int step_restore_request(struct run *run, const struct step *step)
{
    static struct message message;
    int socket = take_open(run, number_argument(step, 0));
    // criu opens the two again, through this process's /proc/PID/fd.
    int images = take_open(run, number_argument(step, 1));
    int work = take_open(run, number_argument(step, 2));
    const struct value *options = &step->arguments[3];
    if (socket < 0 || images < 0 || work < 0)
        return -1;
    size_t length = options->length + varint_size(OPTION_IMAGES_FD << 3) +
                    varint_size((uint64_t)images) + varint_size(OPTION_WORK_FD << 3) +
                    varint_size((uint64_t)work);
    if (length + 16 > sizeof message.bytes) {
        errno = E2BIG;
        return fail(run, "send", "criu");
    }
    put_number(&message, REQUEST_TYPE, TYPE_RESTORE);
    put_varint(&message, REQUEST_OPTIONS << 3 | BYTES);
    put_varint(&message, length);
    memcpy(message.bytes + message.length, options->blob, options->length);
    message.length += options->length;
    put_number(&message, OPTION_IMAGES_FD, (uint64_t)images);
    put_number(&message, OPTION_WORK_FD, (uint64_t)work);
    return send_message(run, socket, message.bytes, message.length);
}

int step_restore_begin(struct run *run, const struct step *step)
{
    int socket = take_open(run, number_argument(step, 0));
    int64_t peer = number_argument(step, 1);
    struct response response;
    if (socket < 0)
        return -1;
    if (peer != NO_SLOT) { // criu alone is to have it, so that its end is seen
        close_fd(&run->slots[peer]);
        run->slots[peer] = -1;
    }
    if (converse(run, socket, "setup-namespaces", &response) < 0)
        return -1;
    return adopt(run, response.pid, (uint64_t)number_argument(step, 3));
}

int step_restore_end(struct run *run, const struct step *step)
{
    int64_t slot = number_argument(step, 0);
    int socket = take_open(run, slot);
    struct response response;
    if (socket < 0 || acknowledge(run, socket) < 0 || converse(run, socket, NULL, &response) < 0)
        return -1;
    close_fd(&run->slots[slot]);
    run->slots[slot] = -1;
    wait_for(run->restorer);
    run->restorer = 0;
    run->records->ready = now();
    __atomic_store_n(&run->records->progress, STARTED, __ATOMIC_RELEASE);
    return 0;
}
