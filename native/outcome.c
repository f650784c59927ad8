#include "outcome.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "text.h"

// Returns the number after a word at the start of a line, or 0.
static uint64_t number_after(const char *content, const char *word)
{
    const char *found = content;
    while ((found = strstr(found, word))) {
        if (found == content || found[-1] == '\n')
            break;
        found++;
    }
    uint64_t number = 0;
    for (found += found ? strlen(word) : 0; found && *found >= '0' && *found <= '9'; found++)
        number = number * 10 + (uint64_t)(*found - '0');
    return number;
}

// Returns how many processes of the container the OOM killer has killed. They are counted in the
// cgroup that has the memory limit: beside the file that was set, memory.events of cgroup v2 or
// memory.oom_control of v1.
static uint64_t count_oom_kills(const struct plan *plan)
{
    static const char *const counters[] = {"events", "oom_control"};
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct step *step = &plan->steps[i];
        const char *path = step->operation == OP_CGROUP_SET ? string_argument(step, 0) : "";
        const char *name = strrchr(path, '/');
        if (!name || strncmp(name, "/memory.", strlen("/memory.")) != 0)
            continue;
        for (int version = 0; version < 2; version++) {
            char file[PATH_MAX];
            struct text text = TEXT(file);
            text_add(&text, path);
            text_cut(&text, (size_t)(name - path) + strlen("/memory."));
            text_add(&text, counters[version]);
            cleanup_fd int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
            char content[1024];
            ssize_t size = fd < 0 ? -1 : read(fd, content, sizeof content - 1);
            if (size < 0)
                continue;
            content[size] = '\0';
            return number_after(content, "oom_kill ");
        }
    }
    return 0;
}

static uint64_t microseconds(struct timeval time)
{
    return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_usec;
}

int outcome_record(struct run *run)
{
    struct records *records = run->records;
    siginfo_t info = {0};
    struct rusage usage = {0};
    // The C library's waitid(3) hides the kernel's fifth argument.
    while (syscall(SYS_waitid, P_PIDFD, run->pidfd, &info, WEXITED, &usage) < 0) {
        if (errno != EINTR)
            return fail(run, "waitid", NULL);
    }
    if (info.si_code == CLD_EXITED) {
        records->exit_code = (uint32_t)info.si_status;
    } else {
        records->signal = (uint32_t)info.si_status;
        records->exit_code = 128 + records->signal;
    }
    records->user_us = microseconds(usage.ru_utime);
    records->system_us = microseconds(usage.ru_stime);
    records->peak_bytes = (uint64_t)usage.ru_maxrss * 1024;
    records->oom_kills = count_oom_kills(run->plan);
    records->progress = EXITED;
    run->supervised = true;
    return 0;
}
