// An experiment, see warm.py: a native front of the runtime. It asks a planner that runs already,
// and becomes the launcher with the plan that it gets; so it stays its caller's child.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

enum { PROGRAM, PLAN, RECORDS, FDS };

static int complain(const char *what)
{
    dprintf(STDERR_FILENO, "front: %s: %s\n", what, strerror(errno));
    return 1;
}

int main(int argc, char **argv)
{
    char request[16384];
    if (!getcwd(request, 4096))
        return complain("getcwd");
    size_t size = strlen(request) + 1;
    for (int i = 1; i < argc; i++) {
        size_t length = strlen(argv[i]) + 1;
        if (size + length > sizeof request)
            return complain("arguments");
        memcpy(request + size, argv[i], length);
        size += length;
    }
    const char *path = getenv("FRONT_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path ? path : "");
    int connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (connection < 0 || connect(connection, (struct sockaddr *)&address, sizeof address) < 0)
        return complain("connect");
    if (send(connection, request, size, MSG_NOSIGNAL) < 0)
        return complain("send");
    char answer[1024];
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int) * FDS)];
    } control;
    struct iovec part = {answer, sizeof answer};
    struct msghdr packet = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof control,
    };
    ssize_t received = recvmsg(connection, &packet, 0);
    const struct cmsghdr *header = CMSG_FIRSTHDR(&packet);
    if (received <= 0)
        return complain("recvmsg");
    if (!header) // nothing to become: an answer
        return answer[0];
    int fds[FDS];
    memcpy(fds, CMSG_DATA(header), sizeof fds);
    char plan[16], records[16];
    snprintf(plan, sizeof plan, "%d", fds[PLAN]);
    snprintf(records, sizeof records, "%d", fds[RECORDS]);
    fcntl(fds[PROGRAM], F_SETFD, FD_CLOEXEC);
    char *arguments[] = {"cloche-launch", plan, records, NULL};
    syscall(SYS_execveat, fds[PROGRAM], "", arguments, environ, AT_EMPTY_PATH);
    return complain("execveat");
}
