"""The default profile: what a container may ask of the kernel.

An allow-list.  What isn't named is refused with EPERM, what is newer than the list with ENOSYS
(``fallback``), so that programs fall back on older calls.  The list follows the default of
Docker (moby/profiles), with the same dependence on capabilities, and is stricter in one place
(``_socket_rules``).

Refused on purpose: new namespaces by clone(2) and unshare(2) (without CAP_SYS_ADMIN); to
everyone, whatever the capabilities, the kernel's keyrings, io_uring, userfaultfd, kexec, swap,
and sockets of the families AF_VSOCK (to the hypervisor) and AF_ALG (the kernel's cryptography).

Known gap, as in Docker: a 32-bit x86 program reaches socket(2) through socketcall(2), whose
arguments lie behind a pointer that no filter can follow, and refusing it altogether breaks the
32-bit programs of most distributions.
"""

from __future__ import annotations

import errno

from cloche.errors import Unsupported
from cloche.kernel import flags
from cloche.kernel.capabilities import NUMBERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
}
"""By machine: its own architecture and those whose programs it runs too."""

ALWAYS = """
_llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir
chmod chown chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64
clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect
copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod
fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock
fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate
ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat
get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid
geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid
getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage
getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr getxattrat
inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents
io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill
landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link
linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat
lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat
mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open
mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal
msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep
newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc
pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64
process_mrelease process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64
pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg
recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2
restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity
sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop
semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list
set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32
setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr
setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask
sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink
symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete
timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate
truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64
utimes vfork vmsplice wait4 waitid waitpid write writev
"""
"""Allowed to everyone, with any arguments.

ptrace(2) and its like are safe to allow since Linux 4.8, where a tracer can no longer change a
system call after the filter has passed it.
"""

BY_MACHINE = {
    "x86_64": "arch_prctl modify_ldt",
    "aarch64": "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls "
    "sync_file_range2",
}

BY_CAPABILITY = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie
        lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount
        open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog
        umount umount2 unshare""",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "ioperm iopl",
    "CAP_SYS_TIME": "clock_settime clock_settime64 settimeofday stime",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}
"""Allowed, with any arguments, to who holds the capability: without it the kernel's own check
would refuse them anyway, or they would open up too much of the kernel."""

PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFF_FFFF)
"""PER_LINUX and PER_LINUX32, each with or without UNAME26, and the question for the current
one.  Not ADDR_NO_RANDOMIZE or READ_IMPLIES_EXEC, which weaken every program run afterwards."""

AF_ALG = 38
AF_VSOCK = 40
_FAMILIES = 64
"""A power of two above AF_MAX (46 in Linux 6.18)."""

_NEW_NAMESPACES = (
    flags.CLONE_NEWNS
    | flags.CLONE_NEWUTS
    | flags.CLONE_NEWIPC
    | flags.CLONE_NEWUSER
    | flags.CLONE_NEWPID
    | flags.CLONE_NEWNET
    | flags.CLONE_NEWCGROUP
)


def profile(capabilities: int, machine: str) -> dict[str, Any]:
    """Return the profile in the OCI runtime spec's form, for a mask of capabilities."""
    if machine not in ARCHITECTURES:
        raise Unsupported(
            f"there is no default seccomp profile for {machine}",
            hint="give one with --security-opt seccomp=FILE, or seccomp=unconfined",
        )
    names = set(f"{ALWAYS} {BY_MACHINE[machine]}".split())
    for capability, granted in BY_CAPABILITY.items():
        if capabilities >> NUMBERS[capability] & 1:
            names.update(granted.split())
    rules = [{"names": sorted(names), "action": "SCMP_ACT_ALLOW"}]
    rules += _socket_rules()
    rules += [_allow_if("personality", 0, "SCMP_CMP_EQ", value) for value in PERSONALITIES]
    if not capabilities >> NUMBERS["CAP_SYS_ADMIN"] & 1:
        rules += _clone_rules()
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "architectures": list(ARCHITECTURES[machine]),
        "syscalls": rules,
    }


def _socket_rules() -> list[dict[str, Any]]:
    """Allow socket(2) for every address family but AF_ALG and AF_VSOCK.

    A filter sees arguments of 64 bits, but socket(2) takes an ``int``: the kernel drops the
    upper half.  A rule such as "greater than 40" therefore lets 2**32 + 40 pass, and the kernel
    then makes an AF_VSOCK socket.  So only masked comparisons of the lower half are used here:
    the allowed families as aligned blocks, like networks in CIDR notation.
    """
    return [
        _allow_if("socket", 0, "SCMP_CMP_MASKED_EQ", 0xFFFF_FFFF & ~(size - 1), first)
        for first, size in _aligned_blocks(_FAMILIES, (AF_ALG, AF_VSOCK))
    ]


def _aligned_blocks(end: int, holes: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Cut the numbers below ``end``, without the holes, into blocks of a power of two."""
    first = 0
    while first < end:
        size = first & -first or end
        while any(first <= hole < first + size for hole in holes) and size:
            size //= 2
        if size:
            yield first, size
        first += size or 1


def _clone_rules() -> list[dict[str, Any]]:
    """Allow clone(2) without new namespaces, and pretend that clone3(2) doesn't exist.

    clone3's flags lie behind a pointer, out of a filter's sight.  ENOSYS makes the C library
    use clone instead, EPERM would make it give up.
    """
    return [
        _allow_if("clone", 0, "SCMP_CMP_MASKED_EQ", _NEW_NAMESPACES, 0),
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS},
    ]


def _allow_if(name: str, index: int, operator: str, *values: int) -> dict[str, Any]:
    argument: dict[str, Any] = {"index": index, "value": values[0], "op": operator}
    if len(values) > 1:
        argument["valueTwo"] = values[1]
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]}
