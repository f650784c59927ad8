// The steps that open the root, make directories and links in it, and move into it.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "in_root.h"
#include "mounts.h"
#include "procfs.h"
#include "steps.h"
#include "syscalls.h"

int step_propagation(struct run *run, const struct step *step)
{
    // By mount(2): before 6.8 mount_setattr refuses a root without a parent mount, as a machine
    // has that runs from its initramfs.
    unsigned long flags = (unsigned long)number_argument(step, 0);
    return sys_mount(NULL, "/", NULL, flags, NULL) ? fail(run, "mount", "/") : 0;
}

int step_make_dir_on_mount(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 0);
    mode_t mask = umask(0);
    int result = mkdir(path, (mode_t)number_argument(step, 1));
    umask(mask);
    return result ? fail(run, "mkdir", path) : 0;
}

int step_open_root(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 0);
    int64_t slot = number_argument(step, 1);
    close_fd(&run->root);
    cleanup_fd int directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return fail(run, "open", path);
    if (!number_argument(step, 2)) {
        run->root = take_fd(&directory);
        return 0;
    }
    cleanup_fd int root = slot == NO_SLOT
                              ? clone_mount(run, directory, number_argument(step, 3) != 0, path)
                              : take_slot(run, slot);
    if (root < 0)
        return -1;
    // A tree that the host has cloned is a peer of the host's mounts.
    if (slot != NO_SLOT && set_mount_propagation(run, root, MS_PRIVATE | MS_REC, path))
        return -1;
    if (sys_move_mount(root, directory))
        return fail(run, "move_mount", path);
    run->root = take_fd(&root);
    return 0;
}

int step_make_dir_in_root(struct run *run, const struct step *step)
{
    const char *dest = string_argument(step, 0);
    struct component last;
    cleanup_fd int present = open_in_root(run, dest, O_DIRECTORY);
    if (present >= 0)
        return 0;
    if (errno != ENOENT)
        return fail(run, "openat2", dest);
    cleanup_fd int parent = open_parent_in_root(run, dest, &last);
    if (parent < 0)
        return -1;
    mode_t mask = umask(0);
    int result = mkdirat(parent, last.name, (mode_t)number_argument(step, 1));
    umask(mask);
    if (result)
        return fail(run, "mkdirat", dest);
    if (fchownat(parent, last.name, (uid_t)number_argument(step, 2),
                 (gid_t)number_argument(step, 3), AT_SYMLINK_NOFOLLOW))
        return fail(run, "fchownat", dest);
    return 0;
}

int step_make_link_in_root(struct run *run, const struct step *step)
{
    const char *target = string_argument(step, 0);
    const char *dest = string_argument(step, 1);
    struct component last;
    cleanup_fd int parent = open_parent_in_root(run, dest, &last);
    if (parent < 0)
        return -1;
    if (symlinkat(target, parent, last.name) && errno != EEXIST)
        return fail(run, "symlinkat", dest);
    return 0;
}

int step_pivot_root(struct run *run, const struct step *step)
{
    (void)step;
    if (keep_proc(run))
        return -1;
    cleanup_fd int old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (old < 0)
        return fail(run, "open", "/");
    if (fchdir(run->root))
        return fail(run, "fchdir", ".");
    // With both paths the same the old root is stacked upon the new one (pivot_root(2)), so
    // that the new root needs no directory to put it.
    if (sys_pivot_root(".", "."))
        return fail(run, "pivot_root", ".");
    // Detaching propagates. From a slave nothing does, so that the host's mounts stay.
    if (fchdir(old))
        return fail(run, "fchdir", "/");
    if (sys_mount(NULL, ".", NULL, MS_SLAVE | MS_REC, NULL))
        return fail(run, "mount", ".");
    if (sys_umount2(".", MNT_DETACH))
        return fail(run, "umount2", ".");
    if (chdir("/"))
        return fail(run, "chdir", "/");
    close_fd(&run->root);
    run->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return run->root >= 0 ? 0 : fail(run, "open", "/");
}

int step_chdir(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 0);
    cleanup_fd int directory = number_argument(step, 1) ? open_directory_in_root(run, path)
                                                        : open_in_root(run, path, O_DIRECTORY);
    if (directory < 0)
        return number_argument(step, 1) ? -1 : fail(run, "openat2", path);
    if (fchdir(directory))
        return fail(run, "fchdir", path);
    // Magic links aren't followed, so /proc/self/fd/N leads nowhere (CVE-2024-21626). Whatever
    // else might: the kernel says of a directory outside the root that it is "(unreachable)".
    char name[PATH_MAX];
    if (syscall(SYS_getcwd, name, sizeof name) < 0)
        return fail(run, "getcwd", path);
    if (name[0] != '/') {
        errno = EXDEV;
        return fail_because(run, "getcwd", path, "outside the container's root");
    }
    return 0;
}
