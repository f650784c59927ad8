// The container's pseudo-terminal.
//
// Nothing here is opened by a name that the image could have chosen: the devpts is recognized
// by its type, the slave end comes from the kernel by TIOCGPTPEER instead of from /dev/pts/N
// (CVE-2025-52565), and what it is bound on is a file that isn't a symbolic link
// (CVE-2025-52565 and, for a /dev that is a link, CVE-2026-41579).
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include "in_root.h"
#include "mounts.h"
#include "steps.h"
#include "syscalls.h"

static const char pts[] = "/dev/pts";
static const char ptmx[] = "/dev/pts/ptmx";

static int open_master(struct run *run)
{
    struct statfs filesystem;
    struct stat status;
    cleanup_fd int directory = open_in_root(run, pts, O_DIRECTORY);
    if (directory < 0)
        return fail(run, "openat2", pts);
    if (fstatfs(directory, &filesystem))
        return fail(run, "fstatfs", pts);
    if (filesystem.f_type != DEVPTS_SUPER_MAGIC) {
        errno = ENODEV;
        return fail_because(run, "fstatfs", pts, "isn't a devpts");
    }
    // Opening a device has effects, so what is opened is first made sure: in a devpts the kernel
    // alone makes files, and nothing is mounted upon this one.
    cleanup_fd int master = sys_openat2(directory, "ptmx", O_RDWR | O_NOCTTY,
                                        RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
    if (master < 0)
        return fail(run, "openat2", ptmx);
    if (fstat(master, &status))
        return fail(run, "fstat", ptmx);
    if (!S_ISCHR(status.st_mode) || status.st_rdev != makedev(5, 2)) {
        errno = ENODEV;
        return fail(run, "fstat", ptmx);
    }
    return take_fd(&master);
}

static int open_slave(struct run *run, int master)
{
    int unlocked = 0;
    if (ioctl(master, TIOCSPTLCK, &unlocked))
        return fail(run, "TIOCSPTLCK", ptmx);
    int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    return slave >= 0 ? slave : fail(run, "TIOCGPTPEER", ptmx);
}

static int bind_slave(struct run *run, int slave, const char *dest)
{
    struct component last;
    struct stat status;
    cleanup_fd int parent = open_parent_in_root(run, dest, &last);
    if (parent < 0)
        return -1;
    if (mknodat(parent, last.name, S_IFREG | 0600, 0) && errno != EEXIST)
        return fail(run, "mknodat", dest);
    cleanup_fd int place = openat(parent, last.name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (place < 0)
        return fail(run, "openat", dest);
    if (fstat(place, &status))
        return fail(run, "fstat", dest);
    if (!S_ISREG(status.st_mode) && !S_ISCHR(status.st_mode)) {
        errno = S_ISLNK(status.st_mode) ? ELOOP : EEXIST;
        return fail(run, "openat", dest);
    }
    cleanup_fd int mount = clone_mount(run, slave, false, dest);
    return mount < 0 ? -1 : attach(run, mount, place, dest);
}

int step_console(struct run *run, const struct step *step)
{
    const char *dest = string_argument(step, 0);
    const struct winsize size = {
        .ws_row = (unsigned short)number_argument(step, 1),
        .ws_col = (unsigned short)number_argument(step, 2),
    };
    cleanup_fd int master = open_master(run);
    if (master < 0)
        return -1;
    cleanup_fd int slave = open_slave(run, master);
    if (slave < 0)
        return -1;
    if (size.ws_row && ioctl(slave, TIOCSWINSZ, &size))
        return fail(run, "TIOCSWINSZ", dest);
    // The group stays that of the devpts (its gid= option).
    if (fchown(slave, (uid_t)number_argument(step, 3), (gid_t)-1))
        return fail(run, "fchown", dest);
    if (*dest && bind_slave(run, slave, dest))
        return -1;
    run->terminal_master = take_fd(&master);
    run->terminal = take_fd(&slave);
    return 0;
}

int step_session(struct run *run, const struct step *step)
{
    (void)step;
    // A process that leads its group can't start a session, unless it already has.
    if (setsid() < 0 && getsid(0) != getpid())
        return fail(run, "setsid", NULL);
    if (run->terminal >= 0 && ioctl(run->terminal, TIOCSCTTY, 0))
        return fail(run, "TIOCSCTTY", NULL);
    return 0;
}
