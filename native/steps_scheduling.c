// The steps that tell the kernel how to schedule the child, and where its memory shall lie. All of
// it is inherited by fork and kept over exec.
#include <errno.h>
#include <linux/sched/types.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "steps.h"

pid_t child_of(const struct run *run)
{
    if (run->stage == CHILD || run->child != 0)
        return run->stage == CHILD ? 0 : run->child;
    errno = ESRCH;
    return -1;
}

int step_scheduler(struct run *run, const struct step *step)
{
    struct sched_attr attributes = {
        .size = sizeof attributes,
        .sched_policy = (uint32_t)number_argument(step, 0),
        .sched_flags = (uint64_t)number_argument(step, 1),
        .sched_nice = (int32_t)number_argument(step, 2),
        .sched_priority = (uint32_t)number_argument(step, 3),
        .sched_runtime = (uint64_t)number_argument(step, 4),
        .sched_deadline = (uint64_t)number_argument(step, 5),
        .sched_period = (uint64_t)number_argument(step, 6),
    };
    pid_t pid = child_of(run);
    if (pid < 0 || syscall(SYS_sched_setattr, pid, &attributes, 0) < 0)
        return fail(run, "sched_setattr", NULL);
    return 0;
}

int step_io_priority(struct run *run, const struct step *step)
{
    const int who_process = 1; // IOPRIO_WHO_PROCESS of <linux/ioprio.h>, since Linux 6.5 only
    const int class_shift = 13;
    int64_t value = number_argument(step, 0) << class_shift | number_argument(step, 1);
    pid_t pid = child_of(run);
    if (pid < 0 || syscall(SYS_ioprio_set, who_process, pid, (int)value) < 0)
        return fail(run, "ioprio_set", NULL);
    return 0;
}

int step_memory_policy(struct run *run, const struct step *step)
{
    // Only the kernel reads the mask, which doesn't mind how it is aligned. It takes one bit less
    // than it is told.
    const struct value *nodes = &step->arguments[1];
    unsigned long bits = nodes->length ? nodes->length * 8UL + 1 : 0;
    if (syscall(SYS_set_mempolicy, (int)number_argument(step, 0), bits ? nodes->blob : NULL, bits))
        return fail(run, "set_mempolicy", NULL);
    return 0;
}

int step_cpu_affinity(struct run *run, const struct step *step)
{
    // As long as there is no child HOST sets its own, which the child inherits.
    pid_t pid = run->stage == CHILD ? 0 : run->child;
    const struct value *cpus = &step->arguments[0];
    if (syscall(SYS_sched_setaffinity, pid, (size_t)cpus->length, cpus->blob) < 0)
        return fail(run, "sched_setaffinity", NULL);
    return 0;
}
