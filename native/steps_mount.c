// The steps that mount: new file systems, and parts of the host bound into the container.
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "copy_up.h"
#include "in_root.h"
#include "mounts.h"
#include "steps.h"
#include "syscalls.h"

int step_open_tree(struct run *run, const struct step *step)
{
    const char *source = string_argument(step, 1);
    unsigned recursive = number_argument(step, 2) ? AT_RECURSIVE : 0u;
    int tree = sys_open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | recursive);
    if (tree < 0)
        return fail(run, "open_tree", source);
    return fill_slot(run, number_argument(step, 0), tree);
}

int step_mount(struct run *run, const struct step *step)
{
    struct filesystem filesystem = {
        .type = string_argument(step, 0),
        .source = string_argument(step, 1),
        .options = vector_argument(step, 2),
        .attributes = (unsigned)number_argument(step, 3),
    };
    const char *dest = string_argument(step, 4);
    unsigned beneath = (unsigned)number_argument(step, 6);
    unsigned readonly = beneath ? filesystem.attributes & MOUNT_ATTR_RDONLY : 0;
    filesystem.attributes &= ~readonly; // until it has been filled
    cleanup_fd int mount = make_filesystem(run, &filesystem, dest);
    if (mount < 0)
        return -1;
    cleanup_fd int covered = beneath ? open_in_root(run, dest, O_DIRECTORY) : -1;
    if ((covered >= 0 && take_over(run, mount, covered, beneath, dest)) ||
        set_mount_attributes(run, mount, readonly, 0, false, dest) ||
        attach_in_root(run, mount, dest))
        return -1;
    return set_mount_propagation(run, mount, (uint64_t)number_argument(step, 5), dest);
}

// The copy of what `bind` binds, not attached yet.
static int open_bind_source(struct run *run, const char *source, int64_t slot, bool recursive)
{
    if (slot == NO_SLOT) {
        unsigned flags = OPEN_TREE_CLONE | (recursive ? AT_RECURSIVE : 0u);
        int mount = sys_open_tree(AT_FDCWD, source, flags);
        return mount >= 0 ? mount : fail(run, "open_tree", source);
    }
    return take_slot(run, slot);
}

int step_bind(struct run *run, const struct step *step)
{
    const char *source = string_argument(step, 0);
    int64_t slot = number_argument(step, 1);
    const char *dest = string_argument(step, 2);
    uint64_t set = (uint64_t)number_argument(step, 4);
    uint64_t clear = (uint64_t)number_argument(step, 5);
    uint64_t set_recursive = (uint64_t)number_argument(step, 6);
    uint64_t clear_recursive = (uint64_t)number_argument(step, 7);
    uint64_t propagation = (uint64_t)number_argument(step, 8);
    cleanup_fd int mount = open_bind_source(run, source, slot, number_argument(step, 3) != 0);
    if (mount < 0)
        return -1;
    // A copy is a peer of its original. What the host has copied is a peer of the host's mounts:
    // what is mounted on it in the container appears on the host, unless the whole of it is cut
    // off. (The child's own copies are peers of its own mounts, cut off by `propagation`.)
    if (slot != NO_SLOT)
        propagation = (propagation ? propagation : MS_PRIVATE) | MS_REC;
    if (set_mount_attributes(run, mount, set_recursive, clear_recursive, true, dest) ||
        set_mount_attributes(run, mount, set, clear, false, dest) ||
        set_mount_propagation(run, mount, propagation, dest))
        return -1;
    return attach_in_root(run, mount, dest);
}

int step_mount_attributes(struct run *run, const struct step *step)
{
    const char *dest = string_argument(step, 0);
    cleanup_fd int mount = open_in_root(run, dest, 0);
    if (mount < 0)
        return fail(run, "openat2", dest);
    if (set_mount_attributes(run, mount, (uint64_t)number_argument(step, 1),
                             (uint64_t)number_argument(step, 2), number_argument(step, 3) != 0,
                             dest))
        return -1;
    return set_mount_propagation(run, mount, (uint64_t)number_argument(step, 4), dest);
}

int step_reconfigure(struct run *run, const struct step *step)
{
    const char *dest = string_argument(step, 0);
    cleanup_fd int mount = open_in_root(run, dest, 0);
    if (mount < 0)
        return fail(run, "openat2", dest);
    return reconfigure_filesystem(run, mount, vector_argument(step, 1), dest);
}

int step_mount_on_host(struct run *run, const struct step *step)
{
    const struct filesystem filesystem = {
        .type = string_argument(step, 0),
        .source = string_argument(step, 1),
        .options = vector_argument(step, 2),
        .attributes = (unsigned)number_argument(step, 3),
    };
    const char *path = string_argument(step, 4);
    cleanup_fd int mount = make_filesystem(run, &filesystem, path);
    if (mount < 0)
        return -1;
    cleanup_fd int place = open(path, O_PATH | O_CLOEXEC);
    if (place < 0)
        return fail(run, "open", path);
    return sys_move_mount(mount, place) ? fail(run, "move_mount", path) : 0;
}
