// The yardstick of the launcher: a minimal container in C, written by hand, in one file, with
// everything fixed that the launcher takes from a plan.  No decoder, no error records, no paths
// resolved beneath the root, no clean-up after a failure: only the system calls.
//
//   minimal ROOT SCRATCH FILTER PROGRAM [+CGROUP | FILE=VALUE]...
//
// ROOT      the lower directory of the overlay that becomes the container's root
// SCRATCH   an empty directory of the host, the mount point of the layer that is thrown away
// FILTER    a file with an array of struct sock_filter
// PROGRAM   what is executed in the container, without arguments
// +CGROUP   a cgroup to make, to join and to remove at the end
// FILE=VALUE  a cgroup file to write, between making and joining
//
// Exits with the program's code.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

// chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot
// mknod audit_write setfcap: what Docker leaves to root.
static const uint64_t kept_capabilities = 0xa80425fb;

static const char *const masked[] = {
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/virtual/powercap",
    "sys/firmware",
};

static const char *const readonly[] = {
    "proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger",
};

static const struct {
    const char *path;
    unsigned minor, major;
} nodes[] = {
    {"dev/null", 3, 1},   {"dev/zero", 5, 1},    {"dev/full", 7, 1},
    {"dev/random", 8, 1}, {"dev/urandom", 9, 1}, {"dev/tty", 0, 5},
};

static const char *const links[][2] = {
    {"/proc/self/fd", "dev/fd"},       {"/proc/self/fd/0", "dev/stdin"},
    {"/proc/self/fd/1", "dev/stdout"}, {"/proc/self/fd/2", "dev/stderr"},
    {"pts/ptmx", "dev/ptmx"},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// A call that must succeed; what failed is named by its place in this file.
#define MUST(call)                                                                                 \
    do {                                                                                           \
        if ((call) < 0) {                                                                          \
            fprintf(stderr, "minimal: line %d: %s: %s\n", __LINE__, #call, strerror(errno));       \
            _exit(125);                                                                            \
        }                                                                                          \
    } while (0)

static void write_file(const char *path, const char *text)
{
    int fd;
    MUST(fd = open(path, O_WRONLY | O_CLOEXEC));
    MUST(write(fd, text, strlen(text)));
    close(fd);
}

static void make_cgroups(char **arguments)
{
    for (; *arguments; arguments++) {
        char *equals = strchr(*arguments, '=');
        if (**arguments == '+') {
            MUST(mkdir(*arguments + 1, 0755));
        } else if (equals) {
            *equals = '\0';
            write_file(*arguments, equals + 1);
            *equals = '=';
        }
    }
}

static void join_cgroups(char **arguments, pid_t pid)
{
    char path[512], text[16];
    snprintf(text, sizeof text, "%d", pid);
    for (; *arguments; arguments++) {
        if (**arguments == '+') {
            snprintf(path, sizeof path, "%s/cgroup.procs", *arguments + 1);
            write_file(path, text);
        }
    }
}

static void remove_cgroups(char **arguments)
{
    for (; *arguments; arguments++) {
        // A cgroup may stay busy for a moment after its last process was waited for.
        while (**arguments == '+' && rmdir(*arguments + 1) < 0 && errno == EBUSY)
            sched_yield();
    }
}

static void mount_root(const char *lower, const char *scratch)
{
    char options[2048];
    MUST(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    MUST(mount("tmpfs", scratch, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755"));
    MUST(chdir(scratch));
    MUST(mkdir("upper", 0755));
    MUST(mkdir("work", 0755));
    MUST(mkdir("root", 0755));
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s/upper,workdir=%s/work", lower,
             scratch, scratch);
    MUST(mount("overlay", "root", "overlay", 0, options));
    MUST(chdir("root"));
}

static void mount_inside(void)
{
    MUST(mount("proc", "proc", "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL));
    MUST(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
    MUST(mkdir("dev/pts", 0755));
    MUST(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
               "newinstance,ptmxmode=0666,mode=0620,gid=5"));
    MUST(mkdir("dev/shm", 0755));
    MUST(mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NOEXEC | MS_NODEV,
               "mode=1777,size=65536k"));
    MUST(mkdir("dev/mqueue", 0755));
    MUST(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL));
    MUST(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY, NULL));

    for (unsigned i = 0; i < COUNT(nodes); i++) {
        MUST(mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)));
        MUST(chmod(nodes[i].path, 0666)); // mknod's mode was subject to the umask
    }
    for (unsigned i = 0; i < COUNT(links); i++)
        MUST(symlink(links[i][0], links[i][1]));
}

static void hide(void)
{
    for (unsigned i = 0; i < COUNT(readonly); i++) {
        const char *path = readonly[i];
        if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) < 0)
            continue; // this kernel doesn't have it
        MUST(mount(NULL, path, NULL,
                   MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL));
    }
    for (unsigned i = 0; i < COUNT(masked); i++) {
        if (mount("dev/null", masked[i], NULL, MS_BIND, NULL) < 0 && errno == ENOTDIR)
            MUST(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, "size=0k"));
    }
}

static void pivot(void)
{
    // Stacks the old root over the new one, so that no directory for it is needed
    // (pivot_root(2), "pivot_root(".", ".")").
    MUST(syscall(SYS_pivot_root, ".", "."));
    MUST(umount2(".", MNT_DETACH));
    MUST(chdir("/"));
}

static void loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd;
    MUST(fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    MUST(ioctl(fd, SIOCSIFFLAGS, &request));
    close(fd);
}

static void drop_privileges(void)
{
    struct rlimit files = {1024, 1024};
    MUST(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "minimal"));
    MUST(setrlimit(RLIMIT_NOFILE, &files));
    umask(022);
    MUST(setsid());
    for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++) {
        if (!(kept_capabilities >> capability & 1))
            MUST(prctl(PR_CAPBSET_DROP, capability));
    }
    MUST(setgroups(0, NULL));
    MUST(setresgid(0, 0, 0));
    MUST(setresuid(0, 0, 0));
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2] = {
        {(uint32_t)kept_capabilities, (uint32_t)kept_capabilities, 0},
        {(uint32_t)(kept_capabilities >> 32), (uint32_t)(kept_capabilities >> 32), 0},
    };
    MUST(syscall(SYS_capset, &header, sets));
    MUST(prctl(PR_SET_PDEATHSIG, SIGKILL));
    MUST(syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC));
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

static void child(char **argv, const struct sock_fprog *filter, int gate)
{
    char go;
    MUST(read(gate, &go, 1)); // until this process is in its cgroups
    MUST(unshare(CLONE_NEWCGROUP)); // now, so that they are the root of what it sees
    mount_root(argv[1], argv[2]);
    mount_inside();
    MUST(sethostname("minimal", 7));
    loopback_up();
    hide();
    pivot();
    drop_privileges();
    MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, filter));
    execve(argv[4], (char *[]){argv[4], NULL}, (char *[]){"PATH=/bin", NULL});
    _exit(127);
}

int main(int argc, char **argv)
{
    static struct sock_filter instructions[4096];
    if (argc < 5)
        return 125;

    int filter_file;
    MUST(filter_file = open(argv[3], O_RDONLY | O_CLOEXEC));
    ssize_t size = read(filter_file, instructions, sizeof instructions);
    MUST(size);
    close(filter_file);
    struct sock_fprog filter = {(unsigned short)((size_t)size / sizeof instructions[0]),
                                instructions};

    make_cgroups(argv + 5);
    int gate[2], pidfd = -1;
    MUST(pipe2(gate, O_CLOEXEC));
    struct clone_args arguments = {
        .flags =
            CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_PIDFD,
        .pidfd = (uint64_t)(uintptr_t)&pidfd,
        .exit_signal = SIGCHLD,
    };
    pid_t pid;
    MUST(pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof arguments));
    if (pid == 0)
        child(argv, &filter, gate[0]);
    join_cgroups(argv + 5, pid);
    MUST(write(gate[1], "", 1));

    siginfo_t outcome = {0};
    MUST(waitid(P_PIDFD, (id_t)pidfd, &outcome, WEXITED));
    remove_cgroups(argv + 5);
    return outcome.si_code == CLD_EXITED ? outcome.si_status : 128 + outcome.si_status;
}
