// The steps that write to kernel files in /proc, through a procfs that the image can't have
// tampered with.
//
// What looks like /proc/self/attr/exec may be a plain file, or a link to another such file, so
// that a label would be "written" and never set, or a harmless value land in a dangerous file
// (CVE-2019-16884, CVE-2025-52881). So the launcher mounts a procfs of its own that is never
// attached to any path.
#include "procfs.h"

#include <errno.h>
#include <linux/magic.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "steps.h"
#include "syscalls.h"
#include "text.h"

#define PROC_ROOT_INODE 1

// Returns a procfs of our own, -1 with errno where the kernel doesn't give one.
static int make_proc(void)
{
    cleanup_fd int context = sys_fsopen("proc");
    if (context < 0 || sys_fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL))
        return -1;
    return sys_fsmount(context, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
}

// Returns what is mounted at /proc, after a proof that it is the root of a procfs.
static int open_mounted_proc(void)
{
    struct statfs filesystem;
    struct stat status;
    cleanup_fd int proc = sys_openat2(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY, RESOLVE_NO_SYMLINKS);
    if (proc < 0 || fstatfs(proc, &filesystem) || fstat(proc, &status))
        return -1;
    if (filesystem.f_type != PROC_SUPER_MAGIC || status.st_ino != PROC_ROOT_INODE) {
        errno = ENODEV;
        return -1;
    }
    return take_fd(&proc);
}

static int open_proc(struct run *run)
{
    if (run->proc < 0)
        run->proc = make_proc();
    // In a user namespace the kernel gives a new procfs only to who sees all of another one
    // (EPERM inside most containers). Then the mounted one has to do: a process finds
    // itself in that of an outer pid namespace too, and its own network, UTS and IPC namespaces.
    if (run->proc < 0 && errno == EPERM)
        run->proc = open_mounted_proc();
    return run->proc >= 0 ? 0 : fail(run, "fsopen", "/proc");
}

int keep_proc(struct run *run)
{
    for (uint32_t i = run->step->index; i < run->plan->step_count; i++) {
        enum operation operation = run->plan->steps[i].operation;
        if (operation == OP_OOM_SCORE_ADJ || operation == OP_LSM_LABEL || operation == OP_SYSCTL)
            return open_proc(run);
    }
    return 0;
}

int open_own_proc(struct run *run, const char *path)
{
    if (open_proc(run))
        return -1;
    int file = sys_openat2(run->proc, path, O_RDONLY,
                           RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS);
    return file >= 0 ? file : fail(run, "openat2", path);
}

// Writes a value in one write(2). `path` is relative to /proc.
static int write_proc(struct run *run, const char *path, const char *value)
{
    char name[256];
    struct text text = TEXT(name);
    text_add(&text, "/proc/");
    text_add(&text, path);
    if (open_proc(run))
        return -1;
    // Neither out of the procfs nor onto anything that is mounted upon it. "self" is a symbolic
    // link, of the kernel's own making as all is in there.
    cleanup_fd int file = sys_openat2(run->proc, path, O_WRONLY,
                                      RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS);
    if (file < 0)
        return fail(run, "openat2", name);
    size_t length = strlen(value);
    ssize_t written = write(file, value, length);
    if (written >= 0 && (size_t)written != length)
        errno = EIO;
    return written == (ssize_t)length ? 0 : fail(run, "write", name);
}

int step_oom_score_adj(struct run *run, const struct step *step)
{
    int64_t score = number_argument(step, 0);
    char value[24];
    struct text text = TEXT(value);
    text_add(&text, score < 0 ? "-" : "");
    text_add_number(&text, score < 0 ? -(uint64_t)score : (uint64_t)score);
    return write_proc(run, "self/oom_score_adj", value);
}

int step_time_namespace(struct run *run, const struct step *step)
{
    const char *offsets = string_argument(step, 0);
    if (unshare(CLONE_NEWTIME) < 0)
        return fail(run, "unshare", NULL);
    return *offsets ? write_proc(run, "self/timens_offsets", offsets) : 0;
}

int step_lsm_label(struct run *run, const struct step *step)
{
    char path[64];
    struct text text = TEXT(path);
    text_add(&text, "thread-self/attr/");
    text_add(&text, string_argument(step, 0));
    return write_proc(run, path, string_argument(step, 1));
}

int step_sysctl(struct run *run, const struct step *step)
{
    const char *parameter = string_argument(step, 0);
    char path[256];
    struct text text = TEXT(path);
    text_add(&text, "sys/");
    text_add(&text, parameter);
    if (strlen(parameter) + strlen("sys/") >= sizeof path) {
        errno = ENAMETOOLONG; // what was cut off would name another parameter
        return fail(run, "openat2", parameter);
    }
    return write_proc(run, path, string_argument(step, 1));
}
