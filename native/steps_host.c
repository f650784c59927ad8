// Steps on files of the engine itself, outside of the container.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "steps.h"
#include "undo.h"

// Makes a directory that may be there already, with its missing parents.
static int make_dirs(struct run *run, const char *path, mode_t mode)
{
    struct stat status;
    if (stat(path, &status) == 0) {
        if (S_ISDIR(status.st_mode))
            return 0;
        errno = ENOTDIR;
        return fail(run, "mkdir", path);
    }
    char prefix[PATH_MAX];
    size_t length = strlen(path);
    if (length >= sizeof prefix) {
        errno = ENAMETOOLONG;
        return fail(run, "mkdir", path);
    }
    memcpy(prefix, path, length + 1);
    for (size_t i = 1; i < length; i++) {
        if (path[i] != '/')
            continue;
        prefix[i] = '\0';
        if (mkdir(prefix, 0755) < 0 && errno != EEXIST)
            return fail(run, "mkdir", prefix);
        prefix[i] = '/';
    }
    if (mkdir(path, mode) < 0 && errno != EEXIST) // two at once are fine
        return fail(run, "mkdir", path);
    return 0;
}

int step_make_dir(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 0);
    mode_t mode = (mode_t)number_argument(step, 1);
    if (number_argument(step, 2))
        return make_dirs(run, path, mode);
    if (mkdir(path, mode) < 0)
        return fail(run, "mkdir", path);
    undo_add(run, UNDO_DIRECTORY, path);
    if (chmod(path, mode) < 0) // past the umask
        return fail(run, "chmod", path);
    return 0;
}

int step_make_file(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 0);
    mode_t mode = (mode_t)number_argument(step, 1);
    const struct value *data = &step->arguments[2];
    cleanup_fd int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return fail(run, "open", path);
    undo_add(run, UNDO_FILE, path);
    if (fchmod(fd, mode) < 0) // past the umask
        return fail(run, "fchmod", path);
    for (size_t done = 0; done < data->length;) {
        ssize_t size = write(fd, data->blob + done, data->length - done);
        if (size < 0)
            return fail(run, "write", path);
        done += (size_t)size;
    }
    return 0;
}

int step_make_link(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 1);
    if (symlink(string_argument(step, 0), path) < 0)
        return fail(run, "symlink", path);
    undo_add(run, UNDO_FILE, path);
    return 0;
}

// Whether the directory that has this path is the one that was opened.
static bool is_at(int fd, const char *path)
{
    struct stat opened;
    struct stat found;
    return fstat(fd, &opened) == 0 && stat(path, &found) == 0 && opened.st_ino == found.st_ino &&
           opened.st_dev == found.st_dev;
}

// Between mkdir(2) and flock(2) the directory looks like one whose launcher is dead: empty, and
// free. A later command that finds it so takes the lock itself and removes it. Then it is made
// anew; once the lock is ours and the path still leads there, nobody removes it any more.
int step_lock(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 0);
    mode_t mode = (mode_t)number_argument(step, 1);
    undo_add(run, UNDO_DIRECTORY, path);
    for (;;) {
        if (mkdir(path, mode) < 0) {
            run->undo_count--; // it is somebody else's
            return fail(run, "mkdir", path);
        }
        cleanup_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT)
            continue;
        if (fd < 0)
            return fail(run, "open", path);
        if (flock(fd, LOCK_EX) < 0) // who looks at an empty directory holds it for a moment only
            return fail(run, "flock", path);
        if (!is_at(fd, path))
            continue;
        if (fchmod(fd, mode) < 0) // past the umask
            return fail(run, "fchmod", path);
        run->lock = take_fd(&fd); // never closed: the lock lasts as long as the launcher
        return 0;
    }
}
