// What a hostile program in a container tries: one attempt for each command, which prints "ok" or
// the name of the errno. Built static, so that it runs in any root.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int tell(const char *what, long result)
{
    printf("%s%s%s\n", what, *what ? " " : "", result < 0 ? strerrorname_np(errno) : "ok");
    fflush(stdout);
    return result < 0;
}

static long number(const char *text)
{
    return strtol(text, NULL, 0);
}

static int open_mode(const char *mode)
{
    return !strcmp(mode, "r") ? O_RDONLY : !strcmp(mode, "w") ? O_WRONLY : O_RDWR;
}

// open r|w|rw PATH
static int do_open(char **argv)
{
    return tell("", open(argv[1], open_mode(argv[0]) | O_NONBLOCK | O_NOCTTY));
}

// write PATH TEXT: to a file that is there
static int do_write(char **argv)
{
    int fd = open(argv[0], O_WRONLY);
    return tell("", fd < 0 ? fd : write(fd, argv[1], strlen(argv[1])));
}

// overwrite PATH: every way to change the executable that a magic link leads to (CVE-2019-5736)
static int do_overwrite(char **argv)
{
    char path[64];
    int fd = open(argv[0], O_RDONLY);
    if (fd < 0)
        return tell("open", fd);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int writable = open(path, O_WRONLY);
    tell("reopen", writable);
    tell("truncate", truncate(path, 0));
    if (writable >= 0) {
        tell("write", write(writable, "#!/bad", 6));
        tell("shrink", ftruncate(writable, 0));
        tell("grow", ftruncate(writable, 1 << 24));
        tell("punch", fallocate(writable, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    }
    int both = open(path, O_RDWR);
    void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, both, 0);
    return tell("map", map == MAP_FAILED ? -1 : 0);
}

// node c|b MAJOR MINOR: make a node, and open it
static int do_node(char **argv)
{
    dev_t device = makedev((unsigned)number(argv[1]), (unsigned)number(argv[2]));
    unlink("/tmp/node");
    if (mknod("/tmp/node", (*argv[0] == 'b' ? S_IFBLK : S_IFCHR) | 0666, device))
        return tell("mknod", -1);
    return tell("open", open("/tmp/node", O_RDONLY | O_NONBLOCK));
}

// mount TYPE SOURCE TARGET [OPTIONS]
static int do_mount(char **argv)
{
    mkdir(argv[2], 0755);
    return tell("", mount(argv[1], argv[2], argv[0], 0, argv[3]));
}

// remount TARGET: read-write
static int do_remount(char **argv)
{
    return tell("", mount(NULL, argv[0], NULL, MS_REMOUNT | MS_BIND, NULL));
}

// umount TARGET
static int do_umount(char **argv)
{
    return tell("", umount2(argv[0], MNT_DETACH));
}

// in-userns COMMAND...: the same as root of a new user, mount, pid and cgroup namespace
static int do_in_userns(char **argv)
{
    int uid = (int)getuid(), gid = (int)getgid();
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWCGROUP | CLONE_NEWNET))
        return tell("unshare", -1);
    const char *const files[] = {"setgroups", "uid_map", "gid_map"};
    for (int i = 0; i < 3; i++) {
        char path[64], text[64];
        snprintf(path, sizeof path, "/proc/self/%s", files[i]);
        snprintf(text, sizeof text, i ? "0 %d 1" : "deny", i == 1 ? uid : gid);
        int fd = open(path, O_WRONLY);
        if (fd < 0 || write(fd, text, strlen(text)) < 0)
            return tell(files[i], -1);
        close(fd);
    }
    pid_t pid = fork();
    if (pid == 0) {
        execv("/proc/self/exe", argv - 1);
        _exit(1);
    }
    int status;
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
}

// call NUMBER [ARGUMENTS]: any system call
static int do_call(char **argv)
{
    long values[7] = {0};
    for (int i = 0; i < 7 && argv[i]; i++)
        values[i] = number(argv[i]);
    return tell(
        "", syscall(values[0], values[1], values[2], values[3], values[4], values[5], values[6]));
}

#ifdef __x86_64__
// int80 NUMBER [ARGUMENTS]: by the 32-bit entry, which has numbers of its own
static int do_int80(char **argv)
{
    long values[4] = {0};
    for (int i = 0; i < 4 && argv[i]; i++)
        values[i] = number(argv[i]);
    int result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(values[0]), "b"(values[1]), "c"(values[2]), "d"(values[3])
                     : "memory", "r8", "r9", "r10", "r11");
    errno = -result;
    return tell("", result < 0 ? -1 : 0);
}
#endif

// clone3 FLAGS
static int do_clone3(char **argv)
{
    uint64_t arguments[11] = {(uint64_t)number(argv[0]), [4] = SIGCHLD};
    long pid = syscall(SYS_clone3, arguments, sizeof arguments);
    if (pid == 0)
        _exit(0);
    return tell("", pid);
}

// process PID: look into a process, and end it
static int do_process(char **argv)
{
    pid_t pid = (pid_t)number(argv[0]);
    char path[64], byte;
    struct iovec own = {&byte, 1}, other = {(void *)0x400000, 1};
    tell("signal", kill(pid, 0));
    tell("trace", ptrace(PTRACE_SEIZE, pid, 0, 0));
    tell("read", process_vm_readv(pid, &own, 1, &other, 1, 0));
    const char *const names[] = {"environ", "mem",  "root/etc/shadow", "cwd",
                                 "exe",     "fd/0", "ns/mnt"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, names[i]);
        tell(names[i], open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY));
    }
    return 0;
}

// memory PID TEXT: whether a text is in a process's writable memory
static int do_memory(char **argv)
{
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%s/maps", argv[0]);
    FILE *maps = fopen(path, "r");
    for (int i = 0; !maps && i < 100; i++) { // an init is closed until it has forgotten everything
        usleep(10000);
        maps = fopen(path, "r");
    }
    snprintf(path, sizeof path, "/proc/%s/mem", argv[0]);
    int memory = open(path, O_RDONLY);
    if (!maps || memory < 0)
        return tell("open", -1);
    long total = 0, found = 0;
    while (fgets(line, sizeof line, maps)) {
        unsigned long start, end;
        char *content = NULL;
        if (sscanf(line, "%lx-%lx", &start, &end) != 2 || end - start > 1 << 26 ||
            !(content = malloc(end - start)))
            continue;
        ssize_t size = pread(memory, content, end - start, (off_t)start);
        total += size > 0 ? size : 0;
        found += size > 0 && memmem(content, (size_t)size, argv[1], strlen(argv[1]));
        free(content);
    }
    printf("%s %s\n", total ? "read" : "unreadable", found ? "found" : "clean");
    return 0;
}

// handle PATH: open the file system's root by its handle, from a file on it ("shocker")
static int do_handle(char **argv)
{
    struct {
        struct file_handle head;
        unsigned char bytes[MAX_HANDLE_SZ];
    } handle = {.head = {.handle_bytes = 8, .handle_type = 1}, .bytes = {2}};
    int fd = open(argv[0], O_RDONLY);
    return tell("", open_by_handle_at(fd, &handle.head, O_RDONLY));
}

// type FD: put a character into a terminal's input, as if it was typed there
static int do_type(char **argv)
{
    return tell("", ioctl((int)number(argv[0]), TIOCSTI, "x"));
}

// connect NAME: to an abstract socket
static int do_connect(char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path + 1, argv[0]);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(argv[0]));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return tell("", connect(fd, (struct sockaddr *)&address, size));
}

// chroot: the classic way out of a chroot
static int do_chroot(char **argv)
{
    (void)argv;
    int fd = open("/", O_RDONLY);
    mkdir("/tmp/jail", 0755);
    if (chroot("/tmp/jail"))
        return tell("chroot", -1);
    fchdir(fd);
    for (int i = 0; i < 100; i++)
        chdir("..");
    if (chroot("."))
        return tell("chroot", -1);
    printf("shadow ");
    return tell("", access("/etc/shadow", F_OK));
}

// swap ONE OTHER: exchange two names until killed
__attribute__((noreturn)) static int do_swap(char **argv)
{
    puts("swapping");
    fflush(stdout);
    for (;;)
        syscall(SYS_renameat2, AT_FDCWD, argv[0], AT_FDCWD, argv[1], RENAME_EXCHANGE);
}

// linger: leave processes that have left their session, group, parents and death signal
static int do_linger(char **argv)
{
    (void)argv;
    for (int i = 0; i < 5; i++) {
        if (fork() == 0) {
            setsid();
            if (fork() != 0)
                _exit(0);
            prctl(PR_SET_PDEATHSIG, 0);
            signal(SIGTERM, SIG_IGN);
            signal(SIGHUP, SIG_IGN);
            for (int fd = 0; fd < 3; fd++)
                close(fd);
            for (;;)
                pause();
        }
    }
    puts("left");
    return 0;
}

// bomb: processes that fork and end, faster than a list of them can be read
static int do_bomb(char **argv)
{
    (void)argv;
    for (int i = 0; i < 8; i++) {
        if (fork() == 0) {
            setsid();
            for (int fd = 0; fd < 3; fd++)
                close(fd);
            for (;;) {
                if (fork() > 0)
                    _exit(0);
            }
        }
    }
    puts("dropped");
    return 0;
}

static bool is_launcher(pid_t pid)
{
    char path[64], name[16] = "";
    snprintf(path, sizeof path, "/proc/%d/comm", pid);
    int fd = open(path, O_RDONLY);
    (void)!read(fd, name, sizeof name - 1);
    close(fd);
    return !strncmp(name, "cloche-", 7) && strncmp(name, "cloche-init", 11) != 0;
}

// Tries one way into a process that has not become the program yet.
static void intrude(pid_t pid, const char *name)
{
    char path[64], byte;
    struct iovec own = {&byte, 1}, other = {(void *)0x400000, 1};
    long result = -1;
    if (!strcmp(name, "trace")) {
        result = ptrace(PTRACE_SEIZE, pid, 0, 0);
    } else if (!strcmp(name, "read")) {
        result = process_vm_readv(pid, &own, 1, &other, 1, 0);
    } else if (!strcmp(name, "getfd")) {
        int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        for (int fd = 0; fd < 16 && result < 0; fd++)
            result = syscall(SYS_pidfd_getfd, pidfd, fd, 0);
        close(pidfd);
    } else {
        snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
        int mode = strcmp(name, "mem") ? O_RDONLY : O_RDWR;
        result = open(path, mode | O_NONBLOCK | O_NOCTTY);
    }
    if (result >= 0 && is_launcher(pid)) {
        printf("hole %s\n", name);
        fflush(stdout);
    }
    if (result > 2)
        close((int)result);
    if (result < 0 || strcmp(name, "trace"))
        return;
    ptrace(PTRACE_INTERRUPT, pid, 0, 0);
    waitpid(pid, NULL, __WALL);
    ptrace(PTRACE_DETACH, pid, 0, 0);
}

// watch STOP [SIGNAL]: try to look into each launcher that appears, or send it a signal, until
// there is a file STOP
static int do_watch(char **argv)
{
    static const char *const ways[] = {"fd/0", "fd/3",    "fd/4",   "fd/5", "fd/6",  "fd/7",
                                       "root", "cwd",     "exe",    "maps", "trace", "read",
                                       "mem",  "environ", "ns/mnt", "getfd"};
    long seen = 0;
    puts("watching");
    fflush(stdout);
    while (access(argv[0], F_OK)) {
        DIR *proc = opendir("/proc");
        for (struct dirent *entry; (entry = readdir(proc));) {
            pid_t pid = (pid_t)number(entry->d_name);
            if (pid < 2 || pid == getpid() || !is_launcher(pid))
                continue;
            seen++;
            if (argv[1])
                kill(pid, (int)number(argv[1]));
            for (unsigned i = 0; !argv[1] && i < sizeof ways / sizeof *ways; i++)
                intrude(pid, ways[i]);
        }
        closedir(proc);
    }
    printf("seen %ld\n", seen);
    return 0;
}

// hold: trace each process that appears, and never wait for it
__attribute__((noreturn)) static int do_hold(char **argv)
{
    (void)argv;
    puts("holding");
    fflush(stdout);
    for (;;) {
        DIR *proc = opendir("/proc");
        for (struct dirent *entry; (entry = readdir(proc));) {
            pid_t pid = (pid_t)number(entry->d_name);
            if (pid > 1 && pid != getpid())
                ptrace(PTRACE_SEIZE, pid, 0, 0);
        }
        closedir(proc);
    }
}

static void *wait_forever(void *nothing)
{
    for (;;)
        pause();
    return nothing;
}

// headless: the first thread ends, another one goes on
static int do_headless(char **argv)
{
    (void)argv;
    pthread_t thread;
    pthread_create(&thread, NULL, wait_forever, NULL);
    syscall(SYS_exit, 0);
    return 1;
}

// ids: those of the process, and what it can do
static int do_ids(char **argv)
{
    (void)argv;
    printf("%d %d\n", (int)getuid(), (int)geteuid());
    return 0;
}

static const struct command {
    const char *name;
    int (*run)(char **argv);
} commands[] = {
    {"open", do_open},
    {"write", do_write},
    {"overwrite", do_overwrite},
    {"node", do_node},
    {"mount", do_mount},
    {"remount", do_remount},
    {"umount", do_umount},
    {"in-userns", do_in_userns},
    {"call", do_call},
#ifdef __x86_64__
    {"int80", do_int80},
#endif
    {"clone3", do_clone3},
    {"process", do_process},
    {"memory", do_memory},
    {"handle", do_handle},
    {"type", do_type},
    {"connect", do_connect},
    {"chroot", do_chroot},
    {"swap", do_swap},
    {"linger", do_linger},
    {"bomb", do_bomb},
    {"watch", do_watch},
    {"hold", do_hold},
    {"headless", do_headless},
    {"ids", do_ids},
};

int main(int argc, char **argv)
{
    for (unsigned i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++) {
        if (!strcmp(argv[1], commands[i].name))
            return commands[i].run(argv + 2);
    }
    return 2;
}
