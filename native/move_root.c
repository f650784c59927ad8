// The way into the root where pivot_root(2) isn't possible: on a machine that runs from its
// initramfs, whose root has no parent and can't be detached.
//
// The container's root is moved onto "/" and becomes the root of the process, as switch_root(8)
// does it. The old root stays beneath, so what is mounted in it is detached: most of the host's
// files, and each procfs and sysfs. Were one of those left whole, a user namespace that the
// container makes could mount a new one without the container's masks, since the kernel takes the
// old one for in sight.
//
// This is no wall against who has CAP_SYS_ADMIN over the mount namespace, be it as the root of the
// container's own users: it can take the root off again and enter its mount namespace anew.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mounts.h"
#include "procfs.h"
#include "steps.h"
#include "syscalls.h"

enum { LINE_SIZE = 65536 }; // an overlay's options may be very long

// A line of mountinfo, cut into what matters here.
struct mounted {
    uint64_t id;
    uint64_t parent;
    const char *path; // decoded
    bool is_kernels; // a whole procfs or sysfs
};

static uint64_t take_number(char **text)
{
    uint64_t number = 0;
    while (**text >= '0' && **text <= '9')
        number = number * 10 + (uint64_t)(*(*text)++ - '0');
    *text += strspn(*text, " ");
    return number;
}

static char *take_word(char **text)
{
    char *word = *text;
    *text += strcspn(*text, " ");
    if (**text)
        *(*text)++ = '\0';
    return word;
}

// White space and backslashes are written as \ and three octal digits.
static void decode(char *text)
{
    char *to = text;
    for (; *text; text++) {
        if (text[0] == '\\' && text[1] && text[2] && text[3]) {
            *to++ = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + (text[3] - '0'));
            text += 3;
        } else {
            *to++ = *text;
        }
    }
    *to = '\0';
}

// "ID PARENT MAJOR:MINOR ROOT PATH ATTRIBUTES [OPTIONAL ...] - TYPE SOURCE OPTIONS"
static struct mounted parse(char *line)
{
    struct mounted found = {0};
    found.id = take_number(&line);
    found.parent = take_number(&line);
    take_word(&line);
    bool whole = !strcmp(take_word(&line), "/");
    char *path = take_word(&line);
    decode(path);
    found.path = path;
    const char *type = strstr(line, " - ");
    found.is_kernels =
        whole && type && (!strncmp(type, " - proc ", 8) || !strncmp(type, " - sysfs ", 9));
    return found;
}

static int mount_id(int fd, uint64_t *id)
{
    struct statx status;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &status))
        return -1;
    *id = status.stx_mnt_id;
    return 0;
}

// Detaches a mount of the old root, which is the working directory. Returns 1, or 0 where that
// isn't possible: mounts from outside are locked in a user namespace. Those of the kernel's are
// then covered, after which they are no longer whole.
static int detach(struct run *run, const struct mounted *mount)
{
    const char *path = mount->path + strspn(mount->path, "/");
    if (!sys_umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW))
        return 1;
    if (mount->is_kernels && sys_mount("tmpfs", path, "tmpfs", MS_RDONLY, NULL))
        return fail(run, "mount", mount->path);
    return 0;
}

// Detaches the first mount on the old root that can be and isn't ours. Returns 1, 0 when there is
// none, or -1.
static int detach_one(struct run *run, uint64_t old, uint64_t own)
{
    char line[LINE_SIZE];
    size_t length = 0;
    cleanup_fd int list = open_own_proc(run, "self/mountinfo");
    if (list < 0)
        return -1;
    for (;;) {
        ssize_t size = read(list, line + length, sizeof line - 1 - length);
        if (length == sizeof line - 1) {
            errno = E2BIG;
            size = -1;
        }
        if (size < 0)
            return fail(run, "read", "/proc/self/mountinfo");
        length += (size_t)size;
        line[length] = '\0';
        char *end;
        while ((end = strchr(line, '\n'))) {
            *end = '\0';
            struct mounted mount = parse(line);
            if (mount.parent == old && mount.id != own) {
                int result = detach(run, &mount);
                if (result)
                    return result;
            }
            length -= (size_t)(end + 1 - line);
            memmove(line, end + 1, length + 1);
        }
        if (size == 0)
            return 0;
    }
}

int step_move_root(struct run *run, const struct step *step)
{
    (void)step;
    uint64_t old_id, own_id;
    int result;
    if (keep_proc(run))
        return -1;
    cleanup_fd int old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (old < 0 || mount_id(old, &old_id) || mount_id(run->root, &own_id))
        return fail(run, "statx", "/");
    if (fchdir(old))
        return fail(run, "fchdir", "/");
    if (sys_move_mount(run->root, old))
        return fail(run, "move_mount", "/");
    while ((result = detach_one(run, old_id, own_id)) > 0)
        ;
    if (result < 0)
        return -1;
    if (fchdir(run->root) || chroot(".") || chdir("/"))
        return fail(run, "chroot", ".");
    close_fd(&run->root);
    run->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return run->root >= 0 ? 0 : fail(run, "open", "/");
}
