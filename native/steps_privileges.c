// The steps that give up privileges, and the attributes that a process keeps over exec.
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "confine.h"
#include "steps.h"
#include "syscalls.h"

// Whether keyrings can't be reached from here at all: the kernel has none, or an outer container's
// filter answers EPERM even to a question that any process may ask (the kernel's own answer to a
// lack of rights on a key is EACCES). The container then inherits that filter.
static bool without_keyrings(int error)
{
    return error == ENOSYS ||
           (error == EPERM &&
            syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 0) < 0 &&
            errno == EPERM);
}

int step_keyring(struct run *run, const struct step *step)
{
    const char *name = string_argument(step, 0);
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, *name ? name : NULL) >= 0)
        return 0;
    int error = errno;
    if (without_keyrings(error))
        return 0; // none to keep apart
    errno = error;
    return fail(run, "keyctl", *name ? name : NULL);
}

int step_rlimit(struct run *run, const struct step *step)
{
    // -1 is RLIM_INFINITY.
    const struct rlimit limits = {
        .rlim_cur = (rlim_t)number_argument(step, 1),
        .rlim_max = (rlim_t)number_argument(step, 2),
    };
    unsigned resource = (unsigned)number_argument(step, 0);
    pid_t pid = child_of(run);
    return pid < 0 || syscall(SYS_prlimit64, pid, resource, &limits, NULL)
               ? fail(run, "prlimit", NULL)
               : 0;
}

int step_personality(struct run *run, const struct step *step)
{
    return personality((unsigned)number_argument(step, 0)) < 0 ? fail(run, "personality", NULL) : 0;
}

int step_umask(struct run *run, const struct step *step)
{
    (void)run;
    umask((mode_t)number_argument(step, 0));
    return 0;
}

static bool contains(uint64_t set, unsigned capability)
{
    return set >> capability & 1;
}

int step_bounding_set(struct run *run, const struct step *step)
{
    uint64_t keep = (uint64_t)number_argument(step, 0);
    for (unsigned capability = 0; capability < 64; capability++) {
        int bounded = prctl(PR_CAPBSET_READ, capability, 0, 0, 0);
        if (bounded < 0) // EINVAL: the kernel has no more
            return 0;
        // Dropping takes CAP_SETPCAP.
        if (bounded && !contains(keep, capability) && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0))
            return fail(run, "PR_CAPBSET_DROP", NULL);
    }
    return 0;
}

// -1 is no id: to the kernel it means "leave it", which would be root. Nor are longer numbers,
// whose lower half might be anybody's.
static bool is_id(int64_t number)
{
    return number >= 0 && number < UINT32_MAX;
}

int step_identity(struct run *run, const struct step *step)
{
    uid_t uid = (uid_t)number_argument(step, 0);
    gid_t gid = (gid_t)number_argument(step, 1);
    const struct value *groups = &step->arguments[3];
    if (!is_id(number_argument(step, 0)) || !is_id(number_argument(step, 1))) {
        errno = EINVAL;
        return fail(run, "setresuid", NULL);
    }
    // In the order in which the privilege to do it is still there. The blob holds gid_t, but
    // nothing aligns it: only the kernel reads it, which doesn't mind.
    if (number_argument(step, 2) &&
        syscall(SYS_setgroups, groups->length / sizeof(gid_t), groups->blob))
        return fail(run, "setgroups", NULL);
    if (setresgid(gid, gid, gid))
        return fail(run, "setresgid", NULL);
    // Leaving uid 0 would clear the permitted set, from which `capabilities` has yet to choose.
    // The effective set is cleared even so. Exec resets the flag.
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
        return fail(run, "PR_SET_KEEPCAPS", NULL);
    if (setresuid(uid, uid, uid))
        return fail(run, "setresuid", NULL);
    // A change of ids sets it to fs.suid_dumpable, which may be 1.
    prctl(PR_SET_DUMPABLE, 0);
    return 0;
}

int step_capabilities(struct run *run, const struct step *step)
{
    uint64_t effective = (uint64_t)number_argument(step, 0);
    uint64_t permitted = (uint64_t)number_argument(step, 1);
    uint64_t inheritable = (uint64_t)number_argument(step, 2);
    uint64_t ambient = (uint64_t)number_argument(step, 3);
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];
    for (unsigned word = 0; word < _LINUX_CAPABILITY_U32S_3; word++) {
        sets[word].effective = (uint32_t)(effective >> 32 * word);
        sets[word].permitted = (uint32_t)(permitted >> 32 * word);
        sets[word].inheritable = (uint32_t)(inheritable >> 32 * word);
    }
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
        return fail(run, "PR_CAP_AMBIENT", NULL);
    if (syscall(SYS_capset, &header, sets))
        return fail(run, "capset", NULL);
    // Ambient capabilities have to be permitted and inheritable already.
    for (unsigned capability = 0; capability < 64; capability++) {
        if (contains(ambient, capability) &&
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0))
            return fail(run, "PR_CAP_AMBIENT", NULL);
    }
    return 0;
}

int step_no_new_privs(struct run *run, const struct step *step)
{
    (void)step;
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? fail(run, "PR_SET_NO_NEW_PRIVS", NULL) : 0;
}

// Installs a filter. Returns 0, or the listener that the flags ask for, or -1.
static int install(struct run *run, const struct step *step, unsigned flags)
{
    const struct value *program = &step->arguments[0];
    const size_t size = sizeof(struct sock_filter);
    if (program->length % size || program->length / size > BPF_MAXINSNS) {
        errno = EINVAL;
        return fail(run, "seccomp", NULL);
    }
    // Only the kernel reads the instructions, which doesn't mind how they are aligned.
    const struct sock_fprog filter = {
        .len = (unsigned short)(program->length / size),
        .filter = (void *)(uintptr_t)program->blob,
    };
    int result = sys_seccomp_filter(flags, &filter);
    return result < 0 ? fail(run, "seccomp", NULL) : result;
}

int step_seccomp(struct run *run, const struct step *step)
{
    unsigned flags = (unsigned)number_argument(step, 1);
    int result = install(run, step, flags);
    if (result < 0)
        return -1;
    if (!(flags & SECCOMP_FILTER_FLAG_NEW_LISTENER))
        return 0;
    // From here on this process may be stopped at any call until the listener answers. So HOST gets
    // the listener by the very next one, sendmsg; and it alone keeps it: calls are failed once
    // nobody has the listener any more, and wait forever for one that nobody reads.
    int64_t slot = number_argument(step, 2);
    if (fill_slot(run, slot, result) < 0)
        return -1;
    run->given_slots |= UINT64_C(1) << slot;
    return 0;
}

int confine(struct run *run, enum operation operation)
{
    for (uint32_t i = run->step->index; i < run->plan->step_count; i++) {
        const struct step *step = &run->plan->steps[i];
        if (step->operation != operation)
            continue;
        // Without a listener of its own: what would be left to one fails (ENOSYS).
        const unsigned listening =
            SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
        int result = operation == OP_LANDLOCK
                         ? step_landlock(run, step)
                         : install(run, step, (unsigned)number_argument(step, 1) & ~listening);
        if (result < 0)
            return -1;
    }
    return 0;
}

int step_parent_death_signal(struct run *run, const struct step *step)
{
    char byte;
    if (prctl(PR_SET_PDEATHSIG, number_argument(step, 0), 0, 0, 0))
        return fail(run, "PR_SET_PDEATHSIG", NULL);
    // Had the launcher died before, no signal would come. Its end of the baton tells: getppid(2)
    // doesn't, being 0 in a pid namespace anyway.
    if (run->baton >= 0 && recv(run->baton, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0) {
        errno = ESRCH;
        return fail(run, "PR_SET_PDEATHSIG", NULL);
    }
    return 0;
}

int step_close_fds(struct run *run, const struct step *step)
{
    unsigned first = (unsigned)number_argument(step, 0);
    return sys_close_range(first, ~0u, CLOSE_RANGE_CLOEXEC) ? fail(run, "close_range", NULL) : 0;
}
