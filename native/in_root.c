#include "in_root.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "syscalls.h"

// Returns the length of `name` and the slashes after it, where the path begins with them, else 0.
static size_t skip_directory(const char *path, const char *name)
{
    size_t length = strlen(name);
    return strncmp(path, name, length) ? 0 : length + strspn(path + length, "/");
}

int open_in_root(const struct run *run, const char *path, int flags)
{
    uint64_t how = (uint64_t)flags | O_PATH;
    path += strspn(path, "/");
    size_t proc = run->mounted_proc < 0 ? 0 : skip_directory(path, "proc/");
    size_t sys = run->mounted_sys < 0 ? 0 : skip_directory(path, "sys/");
    path += proc + sys;
    if (proc || sys)
        return sys_openat2(proc ? run->mounted_proc : run->mounted_sys, *path ? path : ".", how,
                           RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
    return sys_openat2(run->root, *path ? path : ".", how, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

// mkdir and mknod with exactly this mode, whatever the umask is. Both refuse an existing name
// with EEXIST and never follow a symbolic link in the last component.
static int make_directory_at(int parent, const char *name)
{
    mode_t mask = umask(0);
    int result = mkdirat(parent, name, 0755);
    umask(mask);
    return result;
}

static int make_file_at(int parent, const char *name)
{
    mode_t mask = umask(0);
    int result = mknodat(parent, name, S_IFREG | 0644, 0);
    umask(mask);
    return result;
}

static int copy_path(char buffer[PATH_MAX], const char *path)
{
    size_t length = strlen(path);
    if (length >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(buffer, path, length + 1);
    return 0;
}

int open_directory_in_root(struct run *run, const char *path)
{
    cleanup_fd int directory = open_in_root(run, path, O_DIRECTORY);
    if (directory >= 0)
        return take_fd(&directory);
    char prefix[PATH_MAX];
    if (errno != ENOENT || copy_path(prefix, path))
        return fail(run, "openat2", path);

    directory = open_in_root(run, "/", O_DIRECTORY);
    for (char *start = prefix + strspn(prefix, "/"); *start;) {
        char *end = start + strcspn(start, "/");
        char separator = *end;
        *end = '\0';
        bool existed = make_directory_at(directory, start) != 0;
        if (existed && errno != EEXIST)
            return fail(run, "mkdirat", prefix);
        close_fd(&directory);
        // Looked up again from the root: only the kernel knows what a symbolic link or a ".."
        // in the middle means there.
        directory = open_in_root(run, prefix, O_DIRECTORY);
        if (directory < 0 && existed && errno == ENOENT) {
            errno = EEXIST; // a dangling symbolic link
            return fail(run, "mkdirat", prefix);
        }
        if (directory < 0)
            return fail(run, "openat2", prefix);
        *end = separator;
        start = end + strspn(end, "/");
    }
    return take_fd(&directory);
}

int open_parent_in_root(struct run *run, const char *path, struct component *last)
{
    char parent[PATH_MAX];
    if (copy_path(parent, path))
        return fail(run, "openat2", path);
    size_t length = strlen(parent);
    while (length > 0 && parent[length - 1] == '/')
        parent[--length] = '\0';
    const char *slash = strrchr(parent, '/');
    size_t start = slash ? (size_t)(slash - parent) + 1 : 0;
    if (length - start > NAME_MAX) {
        errno = ENAMETOOLONG;
        return fail(run, "openat2", path);
    }
    memcpy(last->name, parent + start, length - start + 1);
    if (!*last->name || !strcmp(last->name, ".") || !strcmp(last->name, "..")) {
        errno = EINVAL;
        return fail(run, "openat2", path);
    }
    parent[start] = '\0';
    return open_directory_in_root(run, parent);
}

static int make_file_in_root(struct run *run, const char *path)
{
    struct component last;
    cleanup_fd int parent = open_parent_in_root(run, path, &last);
    if (parent < 0)
        return -1;
    if (make_file_at(parent, last.name))
        return fail(run, "mknodat", path);
    int file = openat(parent, last.name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    return file >= 0 ? file : fail(run, "openat", path);
}

// Puts the target of a symbolic link in its place: the link's name is what stands in `path` before
// `end`. Returns 0, or -1 with errno.
static int put_target(int link, char path[PATH_MAX], size_t end)
{
    char target[PATH_MAX], rest[PATH_MAX];
    ssize_t length = readlinkat(link, "", target, sizeof target);
    if (length < 0)
        return -1;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;
    if (length > 0 && target[0] == '/')
        start = 0;
    strcpy(rest, path + end);
    if (start + (size_t)length + strlen(rest) >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(path + start, target, (size_t)length);
    strcpy(path + start + length, rest);
    return 0;
}

// Replaces the first dangling symbolic link in a path by its target. Returns whether there was one,
// or -1 with errno. What is found here only says what to look up next: should another container
// swap links meanwhile, the result is another place in the root.
static int follow_dangling(const struct run *run, char path[PATH_MAX])
{
    for (size_t end = strspn(path, "/"); path[end]; end += strspn(path + end, "/")) {
        end += strcspn(path + end, "/");
        char separator = path[end];
        path[end] = '\0';
        cleanup_fd int name = open_in_root(run, path, O_NOFOLLOW);
        cleanup_fd int target = name < 0 ? -1 : open_in_root(run, path, 0);
        int error = errno;
        path[end] = separator;
        if (name < 0)
            return error == ENOENT ? 0 : -1;
        if (target < 0)
            return error == ENOENT && !put_target(name, path, end) ? 1 : -1;
    }
    return 0;
}

int open_mount_point(struct run *run, const char *path, bool directory)
{
    enum { MAX_LINKS = 40 }; // as the kernel's
    char real[PATH_MAX];
    if (copy_path(real, path))
        return fail(run, "openat2", path);
    for (int links = 0; links <= MAX_LINKS; links++) {
        int place = open_in_root(run, real, 0);
        if (place >= 0)
            return place;
        if (errno != ENOENT)
            return fail(run, "openat2", path);
        int dangling = follow_dangling(run, real);
        if (dangling < 0)
            return fail(run, "openat2", path);
        if (!dangling)
            return directory ? open_directory_in_root(run, real) : make_file_in_root(run, real);
    }
    errno = ELOOP;
    return fail(run, "openat2", path);
}
