#include "procfs.h"

#include <errno.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

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
    // (EPERM inside most containers). Then the mounted one has to do: each process finds itself,
    // its network, UTS and IPC namespaces in any procfs.
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

int write_proc(struct run *run, const char *path, const char *value)
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
