// The last step of the child: it becomes the container's program.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "steps.h"

// Reads the start of a file that the kernel wouldn't execute, so that the planner can say what it
// is: a script whose interpreter is missing, a program for another machine... Directories get an
// errno of their own, since execve(2) says EACCES.
static void examine(struct failure *failure, const char *path)
{
    // O_NONBLOCK: the open of a FIFO would wait for its writer.
    cleanup_fd int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0)
        return;
    if (S_ISDIR(status.st_mode) && failure->error == EACCES)
        failure->error = EISDIR;
    if (!S_ISREG(status.st_mode))
        return;
    ssize_t size = read(fd, failure->head, sizeof failure->head);
    failure->head_length = size > 0 ? (uint32_t)size : 0;
}

// A file that is there and yet ENOENT: its interpreter is missing, or its dynamic linker.
static bool exists(const char *path)
{
    return faccessat(AT_FDCWD, path, F_OK, AT_EACCESS) == 0;
}

// HOST takes the end of the baton for success, unless it finds a failure. So it must be there for
// what comes after; from here on nothing but a parent death signal ties the program to it.
static bool host_is_alive(const struct run *run)
{
    struct pollfd baton = {.fd = run->baton};
    return poll(&baton, 1, 0) == 0;
}

// Whether execve(2) would take a file, as far as can be told without: sets errno.
static bool is_executable(const char *path)
{
    struct stat status;
    if (stat(path, &status) < 0 || faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0)
        return false;
    errno = EACCES;
    return S_ISREG(status.st_mode);
}

// The same search as that of `exec`, before the container is said to have been created.
int step_find_program(struct run *run, const struct step *step)
{
    const char *culprit = NULL;
    int error = ENOENT;
    for (char *const *candidate = vector_argument(step, 0); *candidate; candidate++) {
        if (is_executable(*candidate))
            return 0;
        if (!culprit && errno != ENOENT && errno != ENOTDIR) {
            culprit = *candidate;
            error = errno;
        }
    }
    errno = error;
    fail(run, "execve", culprit ? culprit : vector_argument(step, 0)[0]);
    if (culprit)
        examine(&run->records->failure, culprit);
    return -1;
}

int step_exec(struct run *run, const struct step *step)
{
    char *const *candidates = vector_argument(step, 0);
    char *const *argv = vector_argument(step, 1);
    char *const *env = vector_argument(step, 2);
    if (!candidates[0] || !argv[0]) {
        errno = EINVAL;
        return fail(run, "execve", NULL);
    }
    if (!run->left && !host_is_alive(run))
        _exit(125);
    __atomic_store_n(&run->records->progress, STARTED, __ATOMIC_RELEASE);
    // The search of execvp(3): a candidate that isn't there is passed over, and so is one that may
    // not be executed, but it is what to complain of if no other will do.
    const char *culprit = NULL;
    int error = ENOENT;
    for (; *candidates; candidates++) {
        execve(*candidates, argv, env);
        int problem = errno;
        bool missing = problem == ENOENT || problem == ENOTDIR;
        bool passable = missing || problem == EACCES;
        if (passable && (culprit || (missing && !exists(*candidates))))
            continue;
        culprit = *candidates;
        error = problem;
        if (!passable)
            break;
    }
    errno = error;
    fail(run, "execve", culprit ? culprit : vector_argument(step, 0)[0]);
    if (culprit)
        examine(&run->records->failure, culprit);
    return -1;
}
