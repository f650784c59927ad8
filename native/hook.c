// The step `hook`: a program of the user's that is run at a moment of the container's life.
//
// It gets the container's state as JSON on its standard input, from a file in memory: so nobody has
// to feed a pipe while it runs. What it prints goes to another such file, of which a failure
// records the end.
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine.h"
#include "interrupt.h"
#include "spawn.h"
#include "steps.h"
#include "text.h"

static int write_value(int fd, const struct value *value)
{
    return write(fd, value->blob, value->length) == (ssize_t)value->length ? 0 : -1;
}

// The state's only gap is the pid: the child's for hooks outside, its own for hooks inside. That of
// a container that has ended has none.
static int make_state(struct run *run, const struct step *step)
{
    char digits[16];
    struct text pid = TEXT(digits);
    text_add_number(&pid, (uint64_t)(run->stage == HOST ? run->child : getpid()));
    cleanup_fd int fd = memfd_create("state", MFD_CLOEXEC);
    if (fd < 0)
        return fail(run, "memfd_create", NULL);
    bool has_gap = step->arguments[6].length > 0;
    if (write_value(fd, &step->arguments[5]) < 0 ||
        (has_gap && write(fd, digits, pid.length) != (ssize_t)pid.length) ||
        write_value(fd, &step->arguments[6]) < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return fail(run, "write", "state");
    return take_fd(&fd);
}

// Whether the process has become the container's user: then what it runs is the image's program,
// which is kept as the container's own is. It could stay as long as that.
static bool is_the_images(const struct run *run)
{
    for (uint32_t i = 0; i < run->step->index; i++) {
        if (run->plan->steps[i].operation == OP_CAPABILITIES)
            return run->stage == CHILD;
    }
    return false;
}

__attribute__((noreturn)) static void become_hook(struct run *run, const struct step *step,
                                                  int state, int output)
{
    const char *path = string_argument(step, 0);
    const char *directory = string_argument(step, 4);
    interrupt_reset();
    if (dup2(state, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0)
        fail(run, "dup2", path);
    else if (*directory && chdir(directory) < 0)
        fail(run, "chdir", directory);
    else if (is_the_images(run) && (confine(run, OP_LANDLOCK) < 0 || confine(run, OP_SECCOMP) < 0))
        _exit(127);
    else if (execve(path, vector_argument(step, 1), vector_argument(step, 2)) < 0)
        fail(run, "execve", path); // in the shared records
    _exit(127);
}

// Waits for the end of a hook, or of its time. Returns 0, or -1 when it had to be killed.
static int wait_for_hook(struct run *run, pid_t pid, const struct step *step)
{
    int64_t seconds = number_argument(step, 3);
    int timeout = seconds <= 0 || seconds > 2000000 ? -1 : (int)seconds * 1000;
    cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    bool interruptible = run->stage == HOST && run->records->progress < STARTED;
    struct pollfd events[] = {
        {.fd = pidfd, .events = POLLIN},
        {.fd = interruptible ? run->signals : -1, .events = POLLIN},
    };
    int ready;
    do {
        ready = poll(events, 2, timeout);
    } while (ready < 0 && errno == EINTR);
    if (ready > 0 && events[0].revents)
        return 0;
    kill(pid, SIGKILL);
    wait_for(pid);
    if (ready > 0 && interrupt_check(run) < 0)
        return -1;
    errno = ETIME;
    return fail(run, "hook", string_argument(step, 0));
}

static void record_output(struct failure *failure, int output)
{
    off_t end = lseek(output, 0, SEEK_END);
    off_t start = end > (off_t)sizeof failure->head ? end - (off_t)sizeof failure->head : 0;
    ssize_t size = pread(output, failure->head, sizeof failure->head, start);
    failure->head_length = size > 0 ? (uint32_t)size : 0;
}

static int check_end(struct run *run, const struct step *step, int status)
{
    char how[PATH_MAX];
    struct text text = TEXT(how);
    if (status == 0 || run->records->failure.set)
        return run->records->failure.set ? -1 : 0;
    text_add(&text, string_argument(step, 0));
    text_add(&text, WIFSIGNALED(status) ? ": signal " : ": exit code ");
    int number = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
    text_add_number(&text, (uint64_t)number);
    errno = ECANCELED;
    return fail(run, "hook", how);
}

// Says what went wrong, and goes on as if it hadn't.
static int forgive(struct run *run)
{
    struct failure *failure = &run->records->failure;
    char line[1024];
    struct text text = TEXT(line);
    text_add(&text, "cloche: warning: ");
    text_add(&text, failure->call);
    text_add(&text, " ");
    text_add(&text, failure->path);
    text_add(&text, ": ");
    text_add(&text, strerror(failure->error));
    text_add(&text, "\n");
    (void)!write(STDERR_FILENO, line, text.length);
    failure->set = 0;
    failure->head_length = 0;
    run->records->progress = EXITED;
    return 0;
}

int step_hook(struct run *run, const struct step *step)
{
    cleanup_fd int state = make_state(run, step);
    if (state < 0)
        return -1;
    cleanup_fd int output = memfd_create("output", MFD_CLOEXEC);
    if (output < 0)
        return fail(run, "memfd_create", NULL);
    pid_t pid = fork_process();
    if (pid == 0)
        become_hook(run, step, state, output);
    if (pid < 0)
        return fail(run, "clone", NULL);
    int result = wait_for_hook(run, pid, step);
    if (result == 0)
        result = check_end(run, step, wait_for(pid));
    if (result == 0)
        return 0;
    if (number_argument(step, 7) && !run->interrupted)
        return forgive(run);
    record_output(&run->records->failure, output);
    return -1;
}
