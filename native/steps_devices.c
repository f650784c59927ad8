// The steps that make device nodes, and those that hide or protect parts of /proc and /sys.
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "in_root.h"
#include "mounts.h"
#include "steps.h"
#include "syscalls.h"

static int require_same_node(struct run *run, int parent, const char *name, mode_t mode,
                             dev_t device, const char *dest)
{
    struct stat status;
    if (fstatat(parent, name, &status, AT_SYMLINK_NOFOLLOW))
        return fail(run, "fstatat", dest);
    bool is_device = S_ISCHR(mode) || S_ISBLK(mode);
    if ((status.st_mode & S_IFMT) == (mode & S_IFMT) && (!is_device || status.st_rdev == device))
        return 0;
    errno = EEXIST;
    return fail(run, "mknodat", dest);
}

int step_make_node(struct run *run, const struct step *step)
{
    const char *dest = string_argument(step, 0);
    mode_t mode = (mode_t)number_argument(step, 1);
    dev_t device = makedev((unsigned)number_argument(step, 2), (unsigned)number_argument(step, 3));
    struct component last;
    cleanup_fd int parent = open_parent_in_root(run, dest, &last);
    if (parent < 0)
        return -1;
    mode_t mask = umask(0);
    int result = mknodat(parent, last.name, mode, device);
    umask(mask);
    if (result && errno == EEXIST)
        return require_same_node(run, parent, last.name, mode, device, dest);
    if (result)
        return fail(run, "mknodat", dest);
    if (fchownat(parent, last.name, (uid_t)number_argument(step, 4),
                 (gid_t)number_argument(step, 5), AT_SYMLINK_NOFOLLOW))
        return fail(run, "fchownat", dest);
    return 0;
}

// What hides a directory: an empty tmpfs, the same for all.
static int empty_directory(struct run *run, const char *dest)
{
    if (run->empty >= 0)
        return clone_mount(run, run->empty, false, dest);
    const struct filesystem filesystem = {
        .type = "tmpfs",
        .source = "tmpfs",
        .options = (char *const[]){"ro", "size=4k", "nr_inodes=2", "mode=0755", NULL},
        .attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
    };
    run->empty = make_filesystem(run, &filesystem, dest);
    if (run->empty < 0)
        return -1;
    // Before 6.15 only attached mounts can be cloned. So this one is attached itself, at the
    // first path, and its file descriptor serves for cloning it afterwards.
    int mount = fcntl(run->empty, F_DUPFD_CLOEXEC, 3);
    return mount >= 0 ? mount : fail(run, "fcntl", dest);
}

// What hides a file: the host's /dev/null. Never the one in the container, which an image or a
// running container may have replaced by a link to what it wants to see (CVE-2025-31133). What
// was opened is checked, and it is that which is mounted. Read-only, since else who owns the
// host's node could chmod it through the container.
static int null_device(struct run *run, const char *dest)
{
    struct stat status;
    cleanup_fd int mount =
        sys_open_tree(AT_FDCWD, "/dev/null", OPEN_TREE_CLONE | AT_SYMLINK_NOFOLLOW);
    if (mount < 0)
        return fail(run, "open_tree", "/dev/null");
    if (fstat(mount, &status))
        return fail(run, "fstat", "/dev/null");
    if (!S_ISCHR(status.st_mode) || status.st_rdev != makedev(1, 3)) {
        errno = ENODEV;
        return fail_because(run, "open_tree", "/dev/null", "isn't the null device");
    }
    if (set_mount_attributes(run, mount, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
                             0, false, dest) ||
        set_mount_propagation(run, mount, MS_PRIVATE, dest))
        return -1;
    return take_fd(&mount);
}

// Opens what shall be hidden or protected; -1 with errno 0 when it isn't there.
static int open_if_present(struct run *run, const char *dest)
{
    int place = open_in_root(run, dest, 0);
    if (place >= 0)
        return place;
    if (errno != ENOENT && errno != ENOTDIR)
        return fail(run, "openat2", dest);
    errno = 0;
    return -1;
}

int step_mask(struct run *run, const struct step *step)
{
    const char *dest = string_argument(step, 0);
    struct stat status;
    cleanup_fd int place = open_if_present(run, dest);
    if (place < 0)
        return errno ? -1 : 0;
    if (fstat(place, &status))
        return fail(run, "fstat", dest);
    cleanup_fd int mount =
        S_ISDIR(status.st_mode) ? empty_directory(run, dest) : null_device(run, dest);
    return mount < 0 ? -1 : attach(run, mount, place, dest);
}

int step_readonly(struct run *run, const struct step *step)
{
    const char *dest = string_argument(step, 0);
    cleanup_fd int place = open_if_present(run, dest);
    if (place < 0)
        return errno ? -1 : 0;
    cleanup_fd int mount = clone_mount(run, place, true, dest);
    if (mount < 0 || set_mount_attributes(run, mount, MOUNT_ATTR_RDONLY, 0, true, dest))
        return -1;
    return attach(run, mount, place, dest);
}
