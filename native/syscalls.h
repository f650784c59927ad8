// The system calls that the C library doesn't wrap everywhere: glibc has the mount calls since
// 2.36 and openat2 later still, musl has neither. All exist since Linux 5.12, below our floor
// of 5.14.
//
// <linux/mount.h> and glibc's <sys/mount.h> define the same types: whoever includes this file
// doesn't include the latter.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif
#ifndef UMOUNT_NOFOLLOW
#define UMOUNT_NOFOLLOW 8
#endif
#ifndef MNT_DETACH
#define MNT_DETACH 2
#endif

// Where ".." occurs, openat2 gives up with EAGAIN when any rename or mount on the whole machine
// coincides with the lookup. Each attempt is short, so many are cheap.
static inline int sys_openat2(int dirfd, const char *path, uint64_t flags, uint64_t resolve)
{
    struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = resolve};
    for (int attempts = 128;; attempts--) {
        int fd = (int)syscall(SYS_openat2, dirfd, path, &how, sizeof how);
        if (fd >= 0 || errno != EAGAIN || attempts == 1)
            return fd;
    }
}

static inline int sys_open_tree(int dirfd, const char *path, unsigned flags)
{
    return (int)syscall(SYS_open_tree, dirfd, path, flags | OPEN_TREE_CLOEXEC);
}

static inline int sys_move_mount(int from, int to)
{
    return (int)syscall(SYS_move_mount, from, "", to, "",
                        MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

static inline int sys_fsopen(const char *fstype)
{
    return (int)syscall(SYS_fsopen, fstype, FSOPEN_CLOEXEC);
}

static inline int sys_fspick(int mount)
{
    return (int)syscall(SYS_fspick, mount, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH);
}

static inline int sys_fsconfig(int context, unsigned command, const char *key, const char *value)
{
    return (int)syscall(SYS_fsconfig, context, command, key, value, 0);
}

static inline int sys_fsmount(int context, unsigned attributes)
{
    return (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes);
}

static inline int sys_mount_setattr(int mount, unsigned flags, struct mount_attr *attributes)
{
    return (int)syscall(SYS_mount_setattr, mount, "", flags | AT_EMPTY_PATH, attributes,
                        sizeof *attributes);
}

static inline int sys_mount(const char *source, const char *target, const char *fstype,
                            unsigned long flags, const char *data)
{
    return (int)syscall(SYS_mount, source, target, fstype, flags, data);
}

static inline int sys_umount2(const char *target, int flags)
{
    return (int)syscall(SYS_umount2, target, flags);
}

static inline int sys_pivot_root(const char *new_root, const char *put_old)
{
    return (int)syscall(SYS_pivot_root, new_root, put_old);
}

static inline int sys_close_range(unsigned first, unsigned last, unsigned flags)
{
    return (int)syscall(SYS_close_range, first, last, flags);
}

static inline int sys_landlock_create_ruleset(const struct landlock_ruleset_attr *attributes,
                                              size_t size)
{
    return (int)syscall(SYS_landlock_create_ruleset, attributes, size, 0);
}

static inline int sys_landlock_add_path(int ruleset, const struct landlock_path_beneath_attr *rule)
{
    return (int)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, rule, 0);
}

static inline int sys_landlock_restrict_self(int ruleset)
{
    return (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
}

// Returns 0, with SECCOMP_FILTER_FLAG_NEW_LISTENER the listener, or -1.
static inline int sys_seccomp_filter(unsigned flags, const void *program)
{
    const unsigned set_mode_filter = 1; // SECCOMP_SET_MODE_FILTER
    return (int)syscall(SYS_seccomp, set_mode_filter, flags, program);
}
