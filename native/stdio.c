// The container's standard streams, before it starts. How they are fed: supervise.c.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "steps.h"

static int open_pipe(struct run *run, int stream)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return fail(run, "pipe2", NULL);
    int host = stream == STDIN_FILENO ? ends[1] : ends[0];
    int child = stream == STDIN_FILENO ? ends[0] : ends[1];
    run->stdio_host[stream] = host;
    run->stdio_child[stream] = child;
    // Each end has flags of its own: the container's stays blocking.
    if (fcntl(host, F_SETFL, O_NONBLOCK) < 0)
        return fail(run, "fcntl", NULL);
    // A pipe belongs to its maker, and opening it anew through /dev/stdout checks permissions; the
    // container's user is another one. Nobody finds it but by the file descriptors of those who
    // have it.
    if (fchmod(child, 0666) < 0)
        return fail(run, "fchmod", NULL);
    return 0;
}

int step_stdio(struct run *run, const struct step *step)
{
    if (run->child != 0) {
        errno = EINVAL; // its ends go to the child by fork
        return fail(run, "stdio", NULL);
    }
    for (int stream = 0; stream < 3; stream++) {
        run->stdio_mode[stream] = (int)number_argument(step, (unsigned)stream);
        switch ((enum stdio_mode)run->stdio_mode[stream]) {
        case STDIO_INHERIT:
        case STDIO_TERMINAL: // the console brings it
            continue;
        case STDIO_NULL:
            run->stdio_child[stream] = open("/dev/null", O_RDWR | O_CLOEXEC);
            if (run->stdio_child[stream] < 0)
                return fail(run, "open", "/dev/null");
            continue;
        case STDIO_PIPE:
            if (open_pipe(run, stream) < 0)
                return -1;
            continue;
        }
        errno = EINVAL;
        return fail(run, "stdio", NULL);
    }
    return 0;
}

static bool is_null(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3);
}

// Returns the container's own /dev/null, or -1: through the host's, a root without a user namespace
// could change the mode of the host's device.  Nor could such a container be checkpointed: what its
// files are on must be mounted in it.
static int own_null(void)
{
    int fd = open("/dev/null", O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0 && is_null(fd))
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

int step_adopt_stdio(struct run *run, const struct step *step)
{
    (void)step;
    for (int stream = 0; stream < 3; stream++) {
        cleanup_fd int null = -1;
        int source = run->stdio_child[stream];
        if (run->terminal >= 0)
            source = run->terminal; // whatever is fed to it or shown of it
        else if (run->stdio_mode[stream] == STDIO_INHERIT && !is_null(stream))
            continue;
        else if (run->stdio_mode[stream] != STDIO_PIPE && (null = own_null()) >= 0)
            source = null;
        else if (run->stdio_mode[stream] == STDIO_INHERIT)
            continue;
        if (dup2(source, stream) < 0)
            return fail(run, "dup2", NULL);
    }
    return 0;
}

// A pipe or terminal that was handed in belongs to the caller, and a program that opens its
// /dev/stdout anew needs the right to. Files are left alone: they are no streams of the
// container's.
int step_own_stdio(struct run *run, const struct step *step)
{
    uid_t uid = (uid_t)number_argument(step, 0);
    for (int stream = 0; stream < 3; stream++) {
        struct stat status;
        if (fstat(stream, &status) < 0 || status.st_uid == uid)
            continue;
        bool owned = S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode) || isatty(stream);
        // Where the owner is none of the user namespace's, or the file system is read-only, it
        // stays as it is, which nothing but opening it anew suffers from.
        if (owned && fchown(stream, uid, (gid_t)-1) < 0 && errno != EPERM && errno != EINVAL &&
            errno != EROFS && errno != ENOSYS)
            return fail(run, "fchown", NULL);
    }
    return 0;
}
