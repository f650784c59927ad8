// Copies what lies beneath a mount into it.
//
// What is copied may be hostile and change meanwhile: each entry is opened by its name in an open
// directory, no link is followed, no other mount entered, and what was opened is looked at again.
// What it is copied to is nobody's but ours until it is attached.
#include "copy_up.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "mounts.h"
#include "syscalls.h"
#include "text.h"

// Each level takes two file descriptors and a buffer on the stack.
enum { MAX_DEPTH = 100 };

// One entry of a directory: where it is, where it goes, and how it is called in both.
struct entry {
    int from;
    int to;
    const char *name;
};

static int fail_entry(struct run *run, const char *call, const char *name, const char *dest)
{
    return fail_because(run, call, dest, name);
}

static int open_entry(int directory, const char *name, int flags)
{
    return sys_openat2(directory, name, (uint64_t)flags | O_RDONLY | O_NOFOLLOW | O_NONBLOCK,
                       RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
}

// The label is that of the new file system; what else the file system can't hold is left out
// (user attributes before 6.6).
static int copy_attributes(int from, int to)
{
    char names[XATTR_LIST_MAX / 8], value[XATTR_SIZE_MAX];
    ssize_t length = flistxattr(from, names, sizeof names);
    if (length < 0)
        return errno == EOPNOTSUPP ? 0 : -1;
    for (const char *name = names; name < names + length; name += strlen(name) + 1) {
        if (!strcmp(name, "security.selinux"))
            continue;
        ssize_t size = fgetxattr(from, name, value, sizeof value);
        if (size < 0 || (fsetxattr(to, name, value, (size_t)size, 0) < 0 && errno != EOPNOTSUPP))
            return -1;
    }
    return 0;
}

// Owner, mode and times, in an order in which none undoes another: chown takes set-user-ID bits and
// file capabilities away.
static int finish(int from, int to, const struct stat *status)
{
    const struct timespec times[2] = {status->st_atim, status->st_mtim};
    if (fchown(to, status->st_uid, status->st_gid) || fchmod(to, status->st_mode & 07777) ||
        copy_attributes(from, to) || futimens(to, times))
        return -1;
    return 0;
}

static int copy_directory(struct run *run, int from, int to, int depth, const char *dest);

static int copy_subdirectory(struct run *run, const struct entry *entry, int depth,
                             const char *dest)
{
    if (mkdirat(entry->to, entry->name, 0700))
        return fail_entry(run, "mkdirat", entry->name, dest);
    cleanup_fd int from = open_entry(entry->from, entry->name, O_DIRECTORY);
    if (from < 0 && errno == EXDEV) // a mount point: what is mounted there stays there
        return fchmodat(entry->to, entry->name, 0755, 0);
    struct stat status;
    if (from < 0 || fstat(from, &status))
        return fail_entry(run, "openat2", entry->name, dest);
    cleanup_fd int to = openat(entry->to, entry->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (to < 0)
        return fail_entry(run, "openat", entry->name, dest);
    if (copy_directory(run, from, to, depth + 1, dest))
        return -1;
    return finish(from, to, &status) ? fail_entry(run, "fchown", entry->name, dest) : 0;
}

static int copy_file(struct run *run, const struct entry *entry, const char *dest)
{
    cleanup_fd int from = open_entry(entry->from, entry->name, 0);
    struct stat status;
    if (from < 0 || fstat(from, &status))
        return fail_entry(run, "openat2", entry->name, dest);
    if (!S_ISREG(status.st_mode)) {
        errno = EAGAIN; // it was one a moment ago
        return fail_entry(run, "openat2", entry->name, dest);
    }
    cleanup_fd int to =
        openat(entry->to, entry->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0)
        return fail_entry(run, "openat", entry->name, dest);
    ssize_t copied;
    while ((copied = sendfile(to, from, NULL, INT_MAX)) > 0)
        ;
    if (copied < 0)
        return fail_entry(run, "sendfile", entry->name, dest);
    return finish(from, to, &status) ? fail_entry(run, "fchown", entry->name, dest) : 0;
}

// Symbolic links, device nodes, FIFOs and sockets, which have no content to be opened.
static int copy_node(struct run *run, const struct entry *entry, const struct stat *status,
                     const char *dest)
{
    if (S_ISLNK(status->st_mode)) {
        char target[PATH_MAX];
        ssize_t length = readlinkat(entry->from, entry->name, target, sizeof target - 1);
        if (length < 0)
            return fail_entry(run, "readlinkat", entry->name, dest);
        target[length] = '\0';
        if (symlinkat(target, entry->to, entry->name))
            return fail_entry(run, "symlinkat", entry->name, dest);
    } else if (mknodat(entry->to, entry->name, status->st_mode & S_IFMT, status->st_rdev)) {
        return fail_entry(run, "mknodat", entry->name, dest);
    }
    const struct timespec times[2] = {status->st_atim, status->st_mtim};
    if (fchownat(entry->to, entry->name, status->st_uid, status->st_gid, AT_SYMLINK_NOFOLLOW) ||
        (!S_ISLNK(status->st_mode) &&
         fchmodat(entry->to, entry->name, status->st_mode & 07777, 0)) ||
        utimensat(entry->to, entry->name, times, AT_SYMLINK_NOFOLLOW))
        return fail_entry(run, "fchownat", entry->name, dest);
    return 0;
}

static int copy_entry(struct run *run, const struct entry *entry, int depth, const char *dest)
{
    struct stat status;
    if (!strcmp(entry->name, ".") || !strcmp(entry->name, ".."))
        return 0;
    if (fstatat(entry->from, entry->name, &status, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT)) {
        if (errno == ENOENT)
            return 0; // gone since the directory was read
        return fail_entry(run, "fstatat", entry->name, dest);
    }
    if (S_ISDIR(status.st_mode))
        return copy_subdirectory(run, entry, depth, dest);
    if (S_ISREG(status.st_mode))
        return copy_file(run, entry, dest);
    return copy_node(run, entry, &status, dest);
}

// The kernel's struct linux_dirent64 is what the C libraries call dirent.
_Static_assert(offsetof(struct dirent, d_name) == 19, "struct linux_dirent64");

static int copy_directory(struct run *run, int from, int to, int depth, const char *dest)
{
    _Alignas(struct dirent) char buffer[4096];
    if (depth == MAX_DEPTH) {
        errno = ELOOP;
        return fail_because(run, "openat2", dest, "more than 100 directories deep");
    }
    for (;;) {
        ssize_t size = syscall(SYS_getdents64, from, buffer, sizeof buffer);
        if (size < 0)
            return fail(run, "getdents64", dest);
        if (size == 0)
            return 0;
        for (ssize_t at = 0; at < size;) {
            const struct dirent *found = (const struct dirent *)(buffer + at);
            const struct entry entry = {.from = from, .to = to, .name = found->d_name};
            if (copy_entry(run, &entry, depth, dest))
                return -1;
            at += found->d_reclen;
        }
    }
}

int take_over(struct run *run, int mount, int beneath, unsigned what, const char *dest)
{
    struct stat status;
    cleanup_fd int to = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (to < 0 || fstat(beneath, &status))
        return fail(run, "openat", dest);
    if (what & BENEATH_CONTENT) {
        cleanup_fd int from = openat(beneath, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (from < 0)
            return fail(run, "openat", dest);
        if (copy_directory(run, from, to, 0, dest))
            return -1;
        if (copy_attributes(from, to))
            return fail(run, "fsetxattr", dest);
    }
    if (what & BENEATH_OWNER && fchown(to, status.st_uid, status.st_gid))
        return fail(run, "fchown", dest);
    if (what & BENEATH_MODE && fchmod(to, status.st_mode & 07777))
        return fail(run, "fchmod", dest);
    return 0;
}
