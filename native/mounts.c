#include "mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "in_root.h"
#include "layers.h"
#include "syscalls.h"
#include "text.h"

// fsconfig(2) takes values of up to 255 bytes.
#define VALUE_SIZE 256

int fail_because(struct run *run, const char *call, const char *path, const char *reason)
{
    if (!*reason)
        return fail(run, call, path);
    char both[PATH_MAX];
    struct text text = TEXT(both);
    text_add(&text, path);
    text_add(&text, ": ");
    text_add(&text, reason);
    return fail(run, call, both);
}

// Records a failed fsconfig or fsmount, with what the file system has to say about it: reading
// from a context returns its messages one by one, as "e text\n" (w, i: warning, information).
// `otherwise` is what there is to say when it says nothing.
static int fail_context(struct run *run, const char *call, int context, const char *path,
                        const char *otherwise)
{
    int error = errno;
    char message[VALUE_SIZE] = "", line[VALUE_SIZE];
    ssize_t length;
    while ((length = read(context, line, sizeof line - 1)) > 2) {
        line[length] = '\0';
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == 'e')
            strcpy(message, line + 2);
    }
    errno = error;
    return fail_because(run, call, path, *message ? message : otherwise);
}

static int set_option(struct run *run, int context, const char *option, struct layers *layers,
                      const char *path)
{
    const char *equals = strchr(option, '=');
    if (!equals) {
        if (sys_fsconfig(context, FSCONFIG_SET_FLAG, option, NULL))
            return fail_context(run, "fsconfig", context, path, option);
        return 0;
    }
    char key[VALUE_SIZE] = "";
    char shorter[VALUE_SIZE];
    const char *value = equals + 1;
    size_t length = (size_t)(equals - option);
    if (length < sizeof key)
        memcpy(key, option, length);
    if (is_layer_option(key) && strlen(value) >= VALUE_SIZE) {
        if (layers_shorten(layers, key, value, shorter, sizeof shorter))
            return fail(run, key, value);
        value = shorter;
    }
    if (!*key || strlen(value) >= VALUE_SIZE) {
        errno = EINVAL;
        return fail_because(run, "fsconfig", path, "a mount option of more than 255 bytes");
    }
    if (sys_fsconfig(context, FSCONFIG_SET_STRING, key, value))
        return fail_context(run, "fsconfig", context, path, option);
    return 0;
}

int make_filesystem(struct run *run, const struct filesystem *filesystem, const char *path)
{
    cleanup_fd int context = sys_fsopen(filesystem->type);
    __attribute__((cleanup(layers_close))) struct layers layers = {.count = 0};
    if (context < 0)
        return fail_because(run, "fsopen", path, filesystem->type);
    if (*filesystem->source &&
        sys_fsconfig(context, FSCONFIG_SET_STRING, "source", filesystem->source))
        return fail_context(run, "fsconfig", context, path, "");
    for (char *const *option = filesystem->options; *option; option++) {
        if (set_option(run, context, *option, &layers, path))
            return -1;
    }
    if (sys_fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL))
        return fail_context(run, "fsconfig", context, path, "");
    int mount = sys_fsmount(context, filesystem->attributes);
    return mount >= 0 ? mount : fail_context(run, "fsmount", context, path, "");
}

int reconfigure_filesystem(struct run *run, int mount, char *const *options, const char *path)
{
    cleanup_fd int context = sys_fspick(mount);
    __attribute__((cleanup(layers_close))) struct layers layers = {.count = 0};
    if (context < 0)
        return fail(run, "fspick", path);
    for (char *const *option = options; *option; option++) {
        if (set_option(run, context, *option, &layers, path))
            return -1;
    }
    if (sys_fsconfig(context, FSCONFIG_CMD_RECONFIGURE, NULL, NULL))
        return fail_context(run, "fsconfig", context, path, "");
    return 0;
}

int clone_mount(struct run *run, int fd, bool recursive, const char *path)
{
    // In a user namespace mounts that came from outside are locked together: a copy of only
    // the topmost would uncover what lies below the others, so the kernel refuses it (EINVAL).
    unsigned flags = OPEN_TREE_CLONE | AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0u);
    int mount = sys_open_tree(fd, "", flags);
    return mount >= 0 ? mount : fail(run, "open_tree", path);
}

int set_mount_attributes(struct run *run, int mount, uint64_t set, uint64_t clear, bool recursive,
                         const char *path)
{
    if (!set && !clear)
        return 0;
    // The ways to handle access times are values of one field, not bits: choosing one means
    // clearing the field first.
    if (set & MOUNT_ATTR__ATIME)
        clear |= MOUNT_ATTR__ATIME;
    struct mount_attr attributes = {.attr_set = set, .attr_clr = clear};
    if (!sys_mount_setattr(mount, recursive ? AT_RECURSIVE : 0u, &attributes))
        return 0;
    // In a user namespace the read-only, nosuid, nodev, noexec and atime flags of a mount that
    // came from outside are locked: they can be set, never cleared.
    bool locked = errno == EPERM && clear;
    return fail_because(run, "mount_setattr", path,
                        locked ? "its flags are locked in a user namespace" : "");
}

int set_mount_propagation(struct run *run, int mount, uint64_t flags, const char *path)
{
    if (!flags)
        return 0;
    struct mount_attr attributes = {.propagation = flags & ~(uint64_t)MS_REC};
    if (sys_mount_setattr(mount, flags & MS_REC ? AT_RECURSIVE : 0u, &attributes))
        return fail(run, "mount_setattr", path);
    return 0;
}

int take_slot(struct run *run, int64_t slot)
{
    if (slot < 0 || slot >= SLOTS || run->slots[slot] < 0) {
        errno = EBADF;
        return fail(run, "open_tree", NULL);
    }
    return take_fd(&run->slots[slot]);
}

static bool is_path(const char *dest, const char *name)
{
    dest += strspn(dest, "/");
    size_t length = strlen(name);
    return !strncmp(dest, name, length) && dest[length + strspn(dest + length, "/")] == '\0';
}

static int look_at_place(int place, struct statx *status)
{
    return statx(place, "", AT_EMPTY_PATH, STATX_TYPE | STATX_INO | STATX_MNT_ID, status);
}

static int check_place(const struct run *run, int mount, const struct statx *place)
{
    struct statx root;
    struct stat source;
    if (look_at_place(run->root, &root) || fstat(mount, &source))
        return -1;
    if (root.stx_mnt_id == place->stx_mnt_id && root.stx_ino == place->stx_ino)
        errno = EBUSY;
    else if (S_ISDIR(source.st_mode) && !S_ISDIR(place->stx_mode))
        errno = ENOTDIR;
    else if (!S_ISDIR(source.st_mode) && S_ISDIR(place->stx_mode))
        errno = EISDIR;
    else
        return 0;
    return -1;
}

int attach(struct run *run, int mount, int place, const char *dest)
{
    struct statx status;
    if (look_at_place(place, &status) || check_place(run, mount, &status) ||
        sys_move_mount(mount, place))
        return fail(run, "move_mount", dest);
    return 0;
}

// Keeps the procfs or sysfs that masks and the like are looked up in; see open_in_root.
static int keep(struct run *run, int mount, long magic, int *place, const char *dest)
{
    struct statfs filesystem;
    close_fd(place);
    *place = -1;
    if (fstatfs(mount, &filesystem))
        return fail(run, "fstatfs", dest);
    if (filesystem.f_type != magic)
        return 0;
    *place = fcntl(mount, F_DUPFD_CLOEXEC, 3);
    return *place >= 0 ? 0 : fail(run, "fcntl", dest);
}

static int keep_proc_mount(struct run *run, int mount, const char *dest)
{
    struct statx status;
    if (keep(run, mount, PROC_SUPER_MAGIC, &run->mounted_proc, dest))
        return -1;
    if (statx(mount, "", AT_EMPTY_PATH, STATX_MNT_ID, &status))
        return fail(run, "statx", dest);
    run->mounted_proc_id = status.stx_mnt_id;
    return 0;
}

static bool is_place(int fd, const struct statx *place)
{
    struct statx found;
    return !statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_MNT_ID, &found) &&
           found.stx_mnt_id == place->stx_mnt_id && found.stx_ino == place->stx_ino;
}

// Whether a place is the container's /proc.
static bool is_proc(const struct run *run, const struct statx *place)
{
    cleanup_fd int proc = run->mounted_proc < 0 ? open_in_root(run, "/proc", 0) : -1;
    return is_place(proc < 0 ? run->mounted_proc : proc, place);
}

// What is mounted at /proc must be a procfs, and in it only the files may be covered that
// programs such as lxcfs write for a container: who believes what it reads there, as any runtime
// that sets labels, would else be deceived (CVE-2019-16884). However the path leads there.
static int check_proc(struct run *run, int mount, const struct statx *place, const char *dest)
{
    static const char *const files[] = {
        "cpuinfo",
        "diskstats",
        "loadavg",
        "meminfo",
        "slabinfo",
        "stat",
        "swaps",
        "uptime",
        "sys/crypto/fips_enabled",
        "sys/kernel/ns_last_pid",
    };
    struct statfs filesystem;
    bool inside = run->mounted_proc >= 0 && place->stx_mnt_id == run->mounted_proc_id;
    if (!inside && run->mounted_proc >= 0)
        return 0;
    if (is_proc(run, place)) {
        if (fstatfs(mount, &filesystem) == 0 && filesystem.f_type == PROC_SUPER_MAGIC)
            return 0;
        errno = EPERM;
        return fail_because(run, "move_mount", dest, "only a procfs can be mounted there");
    }
    if (!inside)
        return 0;
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        cleanup_fd int file = sys_openat2(run->mounted_proc, files[i], O_PATH, RESOLVE_BENEATH);
        if (file >= 0 && is_place(file, place))
            return 0;
    }
    errno = EPERM;
    return fail_because(run, "move_mount", dest, "it would hide a part of /proc");
}

int attach_in_root(struct run *run, int mount, const char *dest)
{
    struct stat status;
    struct statx found;
    if (fstat(mount, &status))
        return fail(run, "fstat", dest);
    cleanup_fd int place = open_mount_point(run, dest, S_ISDIR(status.st_mode));
    if (place < 0)
        return -1;
    if (look_at_place(place, &found))
        return fail(run, "statx", dest);
    if (check_proc(run, mount, &found, dest))
        return -1;
    if (check_place(run, mount, &found) || sys_move_mount(mount, place))
        return fail(run, "move_mount", dest);
    if (is_path(dest, "proc"))
        return keep_proc_mount(run, mount, dest);
    if (is_path(dest, "sys"))
        return keep(run, mount, SYSFS_MAGIC, &run->mounted_sys, dest);
    return 0;
}
