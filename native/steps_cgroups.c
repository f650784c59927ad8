// Steps that build the wall of cgroups. Paths are those of the host, whichever hierarchy or
// version: a cgroup is a directory, a limit a file in it.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "steps.h"
#include "text.h"
#include "undo.h"

int step_cgroup_parent(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 0);
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return fail(run, "mkdir", path);
    return 0;
}

// Reads the beginning of a cgroup's file, as text; returns its length, or -1. A file that this
// version or hierarchy doesn't have is empty.
static ssize_t read_start(int cgroup, const char *name, char *content, size_t size)
{
    cleanup_fd int fd = openat(cgroup, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t length = fd < 0 ? -1 : read(fd, content, size - 1);
    if (length < 0 && errno != ENOENT)
        return -1;
    length = length < 0 ? 0 : length;
    content[length] = '\0';
    return length;
}

// A cgroup that is there already is as good as a new one, unless something is in it or would be
// held up in it.
static int take_over(struct run *run, const char *path)
{
    char content[64];
    cleanup_fd int cgroup = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (cgroup < 0)
        return fail(run, "open", path);
    ssize_t length = read_start(cgroup, "cgroup.procs", content, sizeof content);
    if (length != 0) {
        errno = length > 0 ? EBUSY : errno;
        return fail(run, "take over", path);
    }
    ssize_t v1 = read_start(cgroup, "freezer.state", content, sizeof content);
    bool frozen = v1 > 0 && strcmp(content, "THAWED\n") != 0;
    ssize_t v2 = read_start(cgroup, "cgroup.freeze", content, sizeof content);
    if (v1 < 0 || v2 < 0 || frozen || content[0] == '1') {
        errno = v1 < 0 || v2 < 0 ? errno : EDEADLK;
        return fail(run, "take over", path);
    }
    return 0;
}

int step_cgroup_create(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 0);
    if (mkdir(path, 0755) < 0) {
        if (errno != EEXIST || !number_argument(step, 1))
            return fail(run, "mkdir", path);
        if (take_over(run, path) < 0)
            return -1;
    }
    undo_add(run, UNDO_CGROUP, path);
    return 0;
}

int step_cgroup_adopt(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 0);
    struct stat status;
    if (stat(path, &status) < 0)
        return fail(run, "stat", path);
    undo_add(run, UNDO_PROCESSES, path);
    return 0;
}

int step_end_placeholder(struct run *run, const struct step *step)
{
    // Its pid is its own until it is waited for, and it is no other's child.
    pid_t pid = (pid_t)number_argument(step, 0);
    siginfo_t info;
    if (kill(pid, SIGKILL) < 0 || waitid(P_PID, (id_t)pid, &info, WEXITED) < 0)
        return fail(run, "kill", NULL);
    return 0;
}

int step_cgroup_delegate(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 0);
    uid_t uid = (uid_t)number_argument(step, 1);
    cleanup_fd int cgroup = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (cgroup < 0)
        return fail(run, "open", path);
    if (fchown(cgroup, uid, (gid_t)-1) < 0)
        return fail(run, "chown", path);
    // A name a line; these three where sysfs is not there to tell.
    char names[4096];
    struct text text = TEXT(names);
    text_add(&text, "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n");
    cleanup_fd int list = open("/sys/kernel/cgroup/delegate", O_RDONLY | O_CLOEXEC);
    ssize_t size = list < 0 ? 0 : read(list, names, sizeof names - 1);
    if (size > 0)
        names[size] = '\0';
    for (char *name = names; *name;) {
        size_t length = strcspn(name, "\n");
        char *next = name + length + (name[length] == '\n');
        name[length] = '\0';
        // Not every group has every file.
        if (fchownat(cgroup, name, uid, (gid_t)-1, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
            return fail(run, "chown", name);
        name = next;
    }
    return 0;
}

int step_cgroup_inherit(struct run *run, const struct step *step)
{
    static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};
    const char *path = string_argument(step, 0);
    cleanup_fd int cgroup = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (cgroup < 0)
        return fail(run, "open", path);
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        char own[16], above[4096], name[32];
        struct text text = TEXT(name);
        text_add(&text, "../");
        text_add(&text, files[i]);
        if (read_start(cgroup, files[i], own, sizeof own) < 0)
            return fail(run, "read", path);
        if (own[0] != '\0' && own[0] != '\n')
            continue;
        if (read_start(cgroup, name, above, sizeof above) < 0)
            return fail(run, "read", path);
        cleanup_fd int fd = openat(cgroup, files[i], O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 || write(fd, above, strlen(above)) < 0)
            return fail(run, "write", path);
    }
    return 0;
}

int step_cgroup_offer(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 0);
    const char *words = string_argument(step, 1);
    cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return fail(run, "open", path);
    if (write(fd, words, strlen(words)) > 0)
        return 0;
    // One that can't be passed on (realtime processes are in the way of cpu, for example) fails
    // them all.
    while (*words) {
        size_t length = strcspn(words, " ");
        ssize_t ignored = write(fd, words, length);
        (void)ignored;
        words += length + strspn(words + length, " ");
    }
    return 0;
}

// Takes white space off both ends. Returns the length of what is between, and where it starts.
static size_t trim(const char **start, size_t length)
{
    const char *blanks = " \t\n";
    while (length > 0 && strchr(blanks, (*start)[0])) {
        ++*start;
        length--;
    }
    while (length > 0 && strchr(blanks, (*start)[length - 1]))
        length--;
    return length;
}

// A kernel may accept a value and keep another: rounded to pages or clamped. What it keeps is
// what the container gets, so that is what counts.
static int read_back(struct run *run, int fd, const char *path, const char *expect)
{
    char content[4096];
    ssize_t size = pread(fd, content, sizeof content, 0);
    if (size < 0)
        return fail(run, "read", path);
    const char *found = content;
    size_t found_length = trim(&found, (size_t)size);
    size_t expected_length = trim(&expect, strlen(expect));
    if (found_length != expected_length || memcmp(found, expect, found_length) != 0) {
        errno = ERANGE;
        return fail(run, "readback", path);
    }
    return 0;
}

int step_cgroup_set(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 0);
    const char *value = string_argument(step, 1);
    const char *expect = string_argument(step, 2);
    // Some files, such as devices.allow, can't be read.
    int mode = *expect ? O_RDWR : O_WRONLY;
    cleanup_fd int fd = open(path, mode | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return fail(run, "open", path);
    if (write(fd, value, step->arguments[1].length) < 0)
        return fail(run, "write", path);
    return *expect ? read_back(run, fd, path, expect) : 0;
}

int step_cgroup_open(struct run *run, const struct step *step)
{
    const char *path = string_argument(step, 1);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail(run, "open", path);
    return fill_slot(run, number_argument(step, 0), fd);
}

int step_resctrl_join(struct run *run, const struct step *step)
{
    char path[PATH_MAX];
    char digits[16];
    struct text text = TEXT(path);
    struct text pid = TEXT(digits);
    text_add(&text, string_argument(step, 0));
    text_add(&text, "/tasks");
    if (child_of(run) <= 0) // the kernel takes 0 for the writer
        return fail(run, "write", path);
    text_add_number(&pid, (uint64_t)run->child);
    cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return fail(run, "open", path);
    return write(fd, digits, pid.length) < 0 ? fail(run, "write", path) : 0;
}

// A file, no directory: from that a way would lead out of the container that the child is born in.
int step_cgroup_tasks(struct run *run, const struct step *step)
{
    char path[PATH_MAX];
    struct text text = TEXT(path);
    text_add(&text, string_argument(step, 1));
    text_add(&text, "/tasks");
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return fail(run, "open", path);
    return fill_slot(run, number_argument(step, 0), fd);
}

int step_cgroup_enter(struct run *run, const struct step *step)
{
    cleanup_fd int fd = take_fd(&run->slots[number_argument(step, 0)]);
    return write(fd, "0", 1) < 0 ? fail(run, "write", "tasks") : 0;
}

// On v1 a process is moved by the child itself, as the single thread that it is: that needs no
// lock of the whole system's, while writing a pid to cgroup.procs waits for an RCU grace period.
int step_cgroup_join(struct run *run, const struct step *step)
{
    char path[PATH_MAX];
    struct text text = TEXT(path);
    text_add(&text, string_argument(step, 0));
    text_add(&text, "/tasks");
    cleanup_fd int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return fail(run, "open", path);
    if (write(fd, "0", 1) < 0)
        return fail(run, "write", path);
    return 0;
}
