// cloche-launch PLAN_FD RECORDS_FD: builds a container from a plan, and watches it.
//
// The planner becomes this program by execve(2). The plan comes in a memfd that nobody can change
// any more, the records go to one that the planner reads. A container can start this program too,
// through /proc/PID/exe, and gets nothing but the usage.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "decode.h"
#include "interrupt.h"
#include "run.h"
#include "spawn.h"
#include "text.h"
#include "undo.h"

enum { EXIT_NOT_FOUND = 127, EXIT_NOT_EXECUTABLE = 126, EXIT_LAUNCHER = 125 };

struct command {
    int plan_fd;
    int records_fd;
};

static int complain(const char *problem)
{
    char line[256];
    struct text text = TEXT(line);
    text_add(&text, "cloche-launch: ");
    text_add(&text, problem);
    text_add(&text, "\n");
    (void)!write(STDERR_FILENO, line, text.length);
    return EXIT_LAUNCHER;
}

// Returns the file descriptor that an argument names, now close-on-exec, or -1. The standard
// streams are none of ours.
static int parse_fd(const char *argument)
{
    int fd = 0;
    const char *digit = argument;
    for (; *digit >= '0' && *digit <= '9' && fd < 1000000; digit++)
        fd = fd * 10 + (*digit - '0');
    if (*digit != '\0' || fd <= STDERR_FILENO || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return -1;
    return fd;
}

// File descriptors are given out from 0 up: without this one of ours could end up in the place of
// a standard stream that was closed.
static void fill_standard_streams(void)
{
    struct pollfd streams[] = {{.fd = 0}, {.fd = 1}, {.fd = 2}};
    if (poll(streams, 3, 0) <= 0)
        return;
    for (int fd = 0; fd < 3; fd++) {
        if (streams[fd].revents & POLLNVAL)
            (void)!open("/dev/null", O_RDWR);
    }
}

static int map_file(struct mapping *mapping, int fd, size_t size, int protection, int flags)
{
    mapping->size = size;
    mapping->start = mmap(NULL, size, protection, flags, fd, 0);
    return mapping->start == MAP_FAILED ? -1 : 0;
}

// Maps and decodes the plan. A plan that could change after it was checked isn't taken.
static int load_plan(struct run *run, int fd, struct arena *arena, struct plan *plan)
{
    const int sealed = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
    int seals = fcntl(fd, F_GET_SEALS);
    struct stat status;
    if (seals < 0 || (seals & sealed) != sealed || fstat(fd, &status) < 0)
        return -1;
    size_t size = (size_t)status.st_size;
    if (map_file(&run->mappings[PLAN_MAPPING], fd, size, PROT_READ, MAP_PRIVATE) < 0)
        return -1;
    const uint8_t *wire = run->mappings[PLAN_MAPPING].start;
    // Pages that are never touched cost nothing.
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    if (map_file(&run->mappings[ARENA_MAPPING], -1, arena_size(wire, size), PROT_READ | PROT_WRITE,
                 flags))
        return -1;
    *arena =
        (struct arena){run->mappings[ARENA_MAPPING].start, run->mappings[ARENA_MAPPING].size, 0};
    if (decode_plan(wire, size, arena, plan) < 0)
        return -1;
    run->undo = arena_take(arena, plan->step_count, sizeof *run->undo);
    run->plan = plan;
    return run->undo ? 0 : -1;
}

static int open_records(struct run *run, int fd)
{
    size_t size = sizeof(struct records) + run->plan->step_count * sizeof(struct step_times);
    struct stat status;
    if (fstat(fd, &status) < 0 || (size_t)status.st_size != size ||
        map_file(&run->mappings[RECORDS_MAPPING], fd, size, PROT_READ | PROT_WRITE, MAP_SHARED) < 0)
        return -1;
    run->records = run->mappings[RECORDS_MAPPING].start;
    run->records_fd = fd;
    run->records->magic = RECORDS_MAGIC;
    run->records->step_count = run->plan->step_count;
    return 0;
}

static int failure_code(const struct run *run)
{
    const struct failure *failure = &run->records->failure;
    if (run->interrupted)
        return 128 + run->interrupted;
    enum operation operation = run->plan->steps[failure->step].operation;
    if (operation != OP_EXEC && operation != OP_FIND_PROGRAM)
        return EXIT_LAUNCHER;
    bool missing = failure->error == ENOENT || failure->error == ENOTDIR;
    return missing ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}

static void print_failure(const struct run *run)
{
    const struct failure *failure = &run->records->failure;
    char line[1024];
    struct text text = TEXT(line);
    text_add(&text, operation_name(run->plan->steps[failure->step].operation));
    text_add(&text, ": ");
    text_add(&text, failure->call);
    text_add(&text, *failure->path ? " " : "");
    text_add(&text, failure->path);
    text_add(&text, ": ");
    text_add(&text, strerror(failure->error));
    complain(line);
}

// Becomes the report program, with the two file descriptors and the exit code as its last
// arguments. Returns if that can't be.
static void report(const struct run *run, struct arena *arena, char *const descriptors[2], int code)
{
    const struct plan *plan = run->plan;
    char digits[16];
    struct text text = TEXT(digits);
    text_add_number(&text, (uint64_t)code);
    char **argv = arena_take(arena, plan->report_length + 4, sizeof *argv);
    if (!argv)
        return;
    memcpy(argv, plan->report, plan->report_length * sizeof *argv);
    argv[plan->report_length] = descriptors[0];
    argv[plan->report_length + 1] = descriptors[1];
    argv[plan->report_length + 2] = digits;
    for (int i = 0; i < 2; i++)
        fcntl(parse_fd(descriptors[i]), F_SETFD, 0);
    interrupt_restore(run);
    execve(argv[0], argv, environ);
}

// Takes back what is to be taken back. Returns the launcher's exit code.
static int finish(struct run *run, int result)
{
    if (result == 0 && !run->supervised)
        return 0; // the plan leaves a container behind
    if (!run->supervised) {
        spawn_end(run);
        kill_leftovers(run);
    }
    undo_all(run);
    run->records->ended = now();
    return result < 0 ? failure_code(run) : (int)run->records->exit_code;
}

int main(int argc, char **argv)
{
    struct run run = {
        .lock = -1,
        .root = -1,
        .mounted_proc = -1,
        .mounted_sys = -1,
        .proc = -1,
        .empty = -1,
        .baton = -1,
        .pidfd = -1,
        .terminal = -1,
        .terminal_master = -1,
        .stdio_host = {-1, -1, -1},
        .stdio_child = {-1, -1, -1},
        .signals = -1,
    };
    memset(run.slots, -1, sizeof run.slots);
    umask(022); // what is made for the container must be found by its users too
    interrupt_block(&run);
    fill_standard_streams();
    if (argc != 3)
        return complain("usage: cloche-launch PLAN_FD RECORDS_FD (cloche starts it)");
    int plan_fd = parse_fd(argv[1]);
    int records_fd = parse_fd(argv[2]);
    struct plan plan;
    struct arena arena;
    if (plan_fd < 0 || load_plan(&run, plan_fd, &arena, &plan) < 0)
        return complain("PLAN_FD isn't a sealed plan of this version");
    if (records_fd < 0 || open_records(&run, records_fd) < 0)
        return complain("RECORDS_FD isn't a file of the plan's size");
    prctl(PR_SET_NAME, "cloche-host");
    run.records->begun = now();

    int result = run_plan(&run);
    int code = finish(&run, result);
    bool eventful = result < 0 || run.records->timed_out || plan.flags & REPORT_ALWAYS;
    if (plan.report_length && eventful)
        report(&run, &arena, argv + 1, code);
    if (result < 0)
        print_failure(&run);
    _exit(code); // nothing of the C library's is to be flushed
}
