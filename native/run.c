// The interpreter: each step in its turn, in the process of its stage.
#include "run.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "baton.h"
#include "interrupt.h"
#include "steps.h"
#include "syscalls.h"
#include "text.h"

#define FUNCTION(upper, name, signature, slots) step_##name,
static step_function *const functions[] = {FOR_EACH_OPERATION(FUNCTION)};

#define NAME(upper, name, signature, slots) #name,
static const char *const names[] = {FOR_EACH_OPERATION(NAME)};

const char *operation_name(enum operation operation)
{
    return names[operation];
}

void close_fd(int *fd)
{
    int error = errno; // what is being cleaned up after matters, not how that went
    if (*fd >= 0)
        close(*fd);
    errno = error;
}

uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

int fail(struct run *run, const char *call, const char *path)
{
    int error = errno;
    struct failure *failure = &run->records->failure;
    if (failure->set)
        return -1; // the first failure is the cause; later ones follow from it
    struct text text = TEXT(failure->call);
    text_add(&text, call);
    text = TEXT(failure->path);
    text_add(&text, path ? path : "");
    failure->error = error;
    __atomic_store_n(&failure->set, 1, __ATOMIC_RELEASE);
    __atomic_store_n(&run->records->progress, FAILED, __ATOMIC_RELEASE);
    errno = error;
    return -1;
}

int fill_slot(struct run *run, int64_t slot, int fd)
{
    if (slot < 0 || slot >= SLOTS) {
        close(fd);
        errno = EINVAL;
        return fail(run, "slot", NULL);
    }
    close_fd(&run->slots[slot]);
    run->slots[slot] = fd;
    run->shared_slots &= ~(UINT64_C(1) << slot);
    return 0;
}

// Where the step's own files in /proc/self are to be written, a process that isn't dumpable can't
// unless it is root: they belong to root then.
static bool writes_own_proc(enum operation operation)
{
    return operation == OP_OOM_SCORE_ADJ || operation == OP_LSM_LABEL ||
           operation == OP_TIME_NAMESPACE;
}

static bool joins(const struct plan *plan)
{
    for (uint32_t i = 0; i < plan->step_count; i++) {
        enum operation operation = plan->steps[i].operation;
        // Who shares the clocks sees no more of us for it.
        if (operation == OP_JOIN_NAMESPACE && number_argument(&plan->steps[i], 0) == CLONE_NEWTIME)
            continue;
        if (operation == OP_JOIN_NAMESPACE || operation == OP_OPEN_NAMESPACE ||
            operation == OP_OPEN_PROCESS)
            return true;
    }
    return false;
}

static int carry_out(struct run *run, const struct step *step)
{
    if (run->plan->fail_step == step->index) {
        errno = run->plan->fail_errno;
        return fail(run, "failpoint", NULL);
    }
    // Once the container runs, signals are meant for it: `supervise` will find them.
    if (run->stage == HOST && run->records->progress < STARTED && interrupt_check(run) < 0)
        return -1;
    // With strangers in the container's namespaces (it joins another's) the step has to do without.
    bool dumpable = run->stage == CHILD && writes_own_proc(step->operation) && !joins(run->plan);
    if (dumpable)
        prctl(PR_SET_DUMPABLE, 1);
    int result = functions[step->operation](run, step);
    if (dumpable)
        prctl(PR_SET_DUMPABLE, 0);
    return result;
}

static int run_step(struct run *run, const struct step *step)
{
    bool timed = run->plan->flags & TIME_STEPS;
    run->step = step;
    run->records->failure.step = step->index;
    run->records->failure.stage = step->stage;
    if (timed)
        run->records->steps[step->index].begun = now() - run->ahead;
    int result = carry_out(run, step);
    if (timed && run->stage == step->stage) // not again by the child, after spawn
        run->records->steps[step->index].ended = now() - run->ahead;
    return result;
}

// HOST: the other process has become the container's program, or it has died before.
static int child_is_gone(struct run *run, uint32_t *next)
{
    const struct plan *plan = run->plan;
    struct records *records = run->records;
    if (__atomic_load_n(&records->failure.set, __ATOMIC_ACQUIRE))
        return -1;
    if (__atomic_load_n(&records->progress, __ATOMIC_ACQUIRE) != STARTED) {
        siginfo_t info = {0};
        waitid(P_PID, (id_t)run->child, &info, WEXITED | WNOWAIT);
        char how[32];
        struct text text = TEXT(how);
        text_add(&text, info.si_code == CLD_EXITED ? "exit code " : "signal ");
        text_add_number(&text, (uint64_t)info.si_status);
        errno = EPIPE;
        return fail(run, "child died", how);
    }
    records->ready = now();
    if (plan->flags & TIME_STEPS)
        records->steps[records->failure.step].ended = records->ready;
    while (*next < plan->step_count && plan->steps[*next].stage == CHILD)
        ++*next;
    return 0;
}

// Hands the baton over and waits until it comes back; sets the index of the next step.
static int wait_for_turn(struct run *run, uint32_t *next)
{
    switch (baton_await(run, next)) {
    case TURN_OURS:
        break;
    case TURN_LAST:
        if (run->stage == CHILD)
            _exit(125); // nobody is left to tell
        return child_is_gone(run, next);
    case TURN_FAILED:
        return -1;
    }
    if (run->stage == CHILD)
        prctl(PR_SET_DUMPABLE, 0); // the id maps, if any, have been written: see spawn.c
    return 0;
}

static int run_steps(struct run *run)
{
    const struct plan *plan = run->plan;
    uint32_t next = 0;
    while (next < plan->step_count) {
        const struct step *step = &plan->steps[next];
        if (step->stage == run->stage) {
            enum stage before = run->stage;
            if (run_step(run, step) < 0)
                return -1;
            next++;
            if (step->operation == OP_LEAVE)
                return baton_pass(run, next);
            if (run->stage != before && wait_for_turn(run, &next) < 0)
                return -1;
            // The console's master end goes to HOST with the baton, which comes right back: the
            // steps up to exec may all be the child's.
            if (run->stage == CHILD && run->terminal_master >= 0 &&
                (baton_pass(run, next) < 0 || wait_for_turn(run, &next) < 0))
                return -1;
            continue;
        }
        if (run->baton < 0) {
            errno = EINVAL; // a step of the child's before there is one
            return fail(run, "baton", NULL);
        }
        if (baton_pass(run, next) < 0 || wait_for_turn(run, &next) < 0)
            return -1;
    }
    return 0;
}

int run_plan(struct run *run)
{
    int result = run_steps(run);
    if (run->stage == CHILD)
        _exit(125);
    return result;
}
