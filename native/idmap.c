// Id-mapped clones of the host's directories: in the container their files belong to the users of
// its namespace that have the same ids inside as the owners have outside.
//
// A mount can be id-mapped only while it is detached, by who is privileged over its file system:
// so HOST makes it, after the child's id maps were written, and the child attaches it.
#include <fcntl.h>
#include <linux/mount.h>
#include <unistd.h>

#include "steps.h"
#include "syscalls.h"
#include "text.h"

int step_idmap_tree(struct run *run, const struct step *step)
{
    const char *source = string_argument(step, 1);
    char path[64];
    struct text text = TEXT(path);
    text_add(&text, "/proc/");
    text_add_number(&text, (uint64_t)run->child);
    text_add(&text, "/ns/user");
    cleanup_fd int users = open(path, O_RDONLY | O_CLOEXEC);
    if (users < 0)
        return fail(run, "open", path);
    cleanup_fd int tree = sys_open_tree(AT_FDCWD, source, OPEN_TREE_CLONE);
    if (tree < 0)
        return fail(run, "open_tree", source);
    struct mount_attr attributes = {
        .attr_set = MOUNT_ATTR_IDMAP,
        .userns_fd = (unsigned)users,
        // A clone is a peer of its origin, and would get what is mounted on that later.
        .propagation = MS_PRIVATE,
    };
    if (sys_mount_setattr(tree, 0, &attributes) < 0)
        return fail(run, "mount_setattr", source);
    return fill_slot(run, number_argument(step, 0), take_fd(&tree));
}

int step_attach_tree(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 1);
    cleanup_fd int place = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (place < 0)
        return fail(run, "open", path);
    if (sys_move_mount(run->slots[number_argument(step, 0)], place) < 0)
        return fail(run, "move_mount", path);
    return 0;
}
