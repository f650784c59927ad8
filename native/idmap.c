// Clones of the host's mounts whose files have other owners: those that a user namespace maps them
// to.
//
// A mount can be id-mapped only while it is detached, by who is privileged over its file system:
// so HOST makes it, after the child's id maps were written, and the child attaches it.
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "mounts.h"
#include "spawn.h"
#include "steps.h"
#include "syscalls.h"
#include "text.h"

// Opens or writes a file of a process in /proc.
static int open_proc_of(struct run *run, pid_t pid, const char *name, int flags)
{
    char path[64];
    struct text text = TEXT(path);
    text_add(&text, "/proc/");
    text_add_number(&text, (uint64_t)pid);
    text_add(&text, name);
    int fd = open(path, flags | O_CLOEXEC);
    return fd >= 0 ? fd : fail(run, "open", path);
}

static int write_map(struct run *run, pid_t pid, const char *name, const char *map)
{
    cleanup_fd int fd = open_proc_of(run, pid, name, O_WRONLY);
    if (fd < 0)
        return -1;
    return write(fd, map, strlen(map)) < 0 ? fail(run, "write", name + 1) : 0;
}

static int open_mapped(struct run *run, pid_t pid, const char *uids, const char *gids)
{
    if (write_map(run, pid, "/uid_map", uids) || write_map(run, pid, "/gid_map", gids))
        return -1;
    return open_proc_of(run, pid, "/ns/user", O_RDONLY);
}

// Returns a user namespace with these maps. It takes a process to make one; the file descriptor
// then keeps it.
static int make_users(struct run *run, const char *uids, const char *gids)
{
    pid_t pid = fork_process_in(CLONE_NEWUSER);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    if (pid < 0)
        return fail(run, "clone", NULL);
    int users = open_mapped(run, pid, uids, gids);
    int error = errno;
    kill(pid, SIGKILL);
    wait_for(pid);
    errno = error;
    return users;
}

int step_idmap_tree(struct run *run, const struct step *step)
{
    const char *source = string_argument(step, 1);
    unsigned recursive = number_argument(step, 2) ? AT_RECURSIVE : 0u;
    unsigned all_beneath = number_argument(step, 3) ? AT_RECURSIVE : 0u;
    const char *uids = string_argument(step, 4);
    cleanup_fd int users = *uids ? make_users(run, uids, string_argument(step, 5))
                                 : open_proc_of(run, run->child, "/ns/user", O_RDONLY);
    if (users < 0)
        return -1;
    cleanup_fd int tree = sys_open_tree(AT_FDCWD, source, OPEN_TREE_CLONE | recursive);
    if (tree < 0)
        return fail(run, "open_tree", source);
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (unsigned)users};
    if (sys_mount_setattr(tree, all_beneath, &attributes) < 0) {
        // The kernel's word for a file system that isn't made for it is EINVAL.
        const char *reason = errno == EINVAL ? "its file system can't map owners" : "";
        return fail_because(run, "mount_setattr", source, reason);
    }
    return fill_slot(run, number_argument(step, 0), take_fd(&tree));
}

int step_attach_tree(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 1);
    cleanup_fd int place = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (place < 0)
        return fail(run, "open", path);
    cleanup_fd int tree = take_slot(run, number_argument(step, 0));
    // A clone is a peer of its origin, and would get what is mounted on that later.
    if (tree < 0 || set_mount_propagation(run, tree, MS_PRIVATE | MS_REC, path))
        return -1;
    return sys_move_mount(tree, place) < 0 ? fail(run, "move_mount", path) : 0;
}
