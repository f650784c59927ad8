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

// Puts the target of a dangling symbolic link in its place: `path` leads to it up to `end`. Returns
// 0, or -1 with errno. What is found here only says what to look up next: should another container
// swap links meanwhile, the result is another place in the root.
static int follow_dangling(const struct run *run, char path[PATH_MAX], size_t end)
{
    char separator = path[end];
    path[end] = '\0';
    cleanup_fd int link = open_in_root(run, path, O_NOFOLLOW);
    path[end] = separator;
    return link < 0 ? -1 : put_target(link, path, end);
}

// Opens a directory, made with its missing parents. Of dangling symbolic links in `path`, no more
// than `*links` are replaced by what they point to, which is then made. Records failure.
static int make_directories(struct run *run, char path[PATH_MAX], int *links)
{
    cleanup_fd int directory = open_in_root(run, "/", O_DIRECTORY);
    for (char *start = path + strspn(path, "/"); *start;) {
        char *end = start + strcspn(start, "/");
        char separator = *end;
        *end = '\0';
        bool existed = make_directory_at(directory, start) != 0;
        if (existed && errno != EEXIST)
            return fail(run, "mkdirat", path);
        close_fd(&directory);
        // Looked up again from the root: only the kernel knows what a symbolic link or a ".."
        // in the middle means there.
        directory = open_in_root(run, path, O_DIRECTORY);
        bool dangling = directory < 0 && existed && errno == ENOENT;
        if (directory < 0 && !dangling)
            return fail(run, "openat2", path);
        *end = separator;
        if (!dangling) {
            start = end + strspn(end, "/");
            continue;
        }
        if ((*links)-- <= 0 || follow_dangling(run, path, (size_t)(end - path))) {
            errno = EEXIST;
            return fail(run, "mkdirat", path);
        }
        directory = open_in_root(run, "/", O_DIRECTORY);
        start = path + strspn(path, "/");
    }
    return take_fd(&directory);
}

int open_directory_in_root(struct run *run, const char *path)
{
    int directory = open_in_root(run, path, O_DIRECTORY);
    if (directory >= 0)
        return directory;
    char copy[PATH_MAX];
    int links = 0;
    if (errno != ENOENT || copy_path(copy, path))
        return fail(run, "openat2", path);
    return make_directories(run, copy, &links);
}

// Cuts the last component off a path.
static int split(char path[PATH_MAX], struct component *last)
{
    size_t length = strlen(path);
    while (length > 0 && path[length - 1] == '/')
        path[--length] = '\0';
    const char *slash = strrchr(path, '/');
    size_t start = slash ? (size_t)(slash - path) + 1 : 0;
    if (length - start > NAME_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(last->name, path + start, length - start + 1);
    if (!*last->name || !strcmp(last->name, ".") || !strcmp(last->name, "..")) {
        errno = EINVAL;
        return -1;
    }
    path[start] = '\0';
    return 0;
}

int open_parent_in_root(struct run *run, const char *path, struct component *last)
{
    char parent[PATH_MAX];
    if (copy_path(parent, path) || split(parent, last))
        return fail(run, "openat2", path);
    return open_directory_in_root(run, parent);
}

// Makes an empty file, where a dangling symbolic link points to if one is in its way.
static int make_file(struct run *run, char path[PATH_MAX], int *links)
{
    struct component last;
    for (;;) {
        if (split(path, &last))
            return fail(run, "openat2", path);
        cleanup_fd int parent = make_directories(run, path, links);
        if (parent < 0)
            return -1;
        if (!make_file_at(parent, last.name)) {
            int file = openat(parent, last.name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
            return file >= 0 ? file : fail(run, "openat", path);
        }
        size_t length = strlen(path);
        cleanup_fd int link = openat(parent, last.name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (errno != EEXIST || link < 0 || length + strlen(last.name) + 1 >= PATH_MAX)
            return fail(run, "mknodat", path);
        if (length > 0 && path[length - 1] != '/')
            strcpy(path + length++, "/");
        strcpy(path + length, last.name);
        if ((*links)-- <= 0 || put_target(link, path, strlen(path))) {
            errno = EEXIST;
            return fail(run, "mknodat", path);
        }
    }
}

int open_mount_point(struct run *run, const char *path, bool directory)
{
    int links = 40; // as many as the kernel follows
    char copy[PATH_MAX];
    int place = open_in_root(run, path, 0);
    if (place >= 0)
        return place;
    if (errno != ENOENT || copy_path(copy, path))
        return fail(run, "openat2", path);
    return directory ? make_directories(run, copy, &links) : make_file(run, copy, &links);
}
