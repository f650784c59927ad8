"""The kernel's numbers: flags and constants of the system calls that build a container.

Plain integers from the kernel's user-space headers.  All of them are the same on every
architecture, with one exception that is named where it stands.  The manual page of each group
says what the numbers mean.
"""

from __future__ import annotations

from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# --- namespaces: clone(2), namespaces(7), <linux/sched.h> ----------------------------------------

CLONE_NEWTIME = 0x0000_0080
CLONE_NEWNS = 0x0002_0000
CLONE_NEWCGROUP = 0x0200_0000
CLONE_NEWUTS = 0x0400_0000
CLONE_NEWIPC = 0x0800_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWNET = 0x4000_0000

NAMESPACE_KINDS: dict[str, int] = {
    "mount": CLONE_NEWNS,
    "pid": CLONE_NEWPID,
    "network": CLONE_NEWNET,
    "ipc": CLONE_NEWIPC,
    "uts": CLONE_NEWUTS,
    "user": CLONE_NEWUSER,
    "cgroup": CLONE_NEWCGROUP,
    "time": CLONE_NEWTIME,
}
"""The OCI runtime spec's names of the namespaces."""

NAMESPACE_FILES: dict[str, str] = {
    "mount": "mnt",
    "pid": "pid",
    "network": "net",
    "ipc": "ipc",
    "uts": "uts",
    "user": "user",
    "cgroup": "cgroup",
    "time": "time",
}
"""The same namespaces as they are called in ``/proc/<pid>/ns/``."""

CLONE_PIDFD = 0x0000_1000
CLONE_INTO_CGROUP = 0x2_0000_0000

# --- mounts: mount(2), mount_setattr(2), <linux/mount.h> -----------------------------------------

MS_RDONLY = 1 << 0
MS_NOSUID = 1 << 1
MS_NODEV = 1 << 2
MS_NOEXEC = 1 << 3
MS_SYNCHRONOUS = 1 << 4
MS_REMOUNT = 1 << 5
MS_MANDLOCK = 1 << 6
MS_DIRSYNC = 1 << 7
MS_NOSYMFOLLOW = 1 << 8
MS_NOATIME = 1 << 10
MS_NODIRATIME = 1 << 11
MS_BIND = 1 << 12
MS_MOVE = 1 << 13
MS_REC = 1 << 14
MS_SILENT = 1 << 15
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_I_VERSION = 1 << 23
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MNT_DETACH = 2
"""umount2(2): out of sight at once, gone when no longer busy."""

MOUNT_ATTR_RDONLY = 0x0000_0001
MOUNT_ATTR_NOSUID = 0x0000_0002
MOUNT_ATTR_NODEV = 0x0000_0004
MOUNT_ATTR_NOEXEC = 0x0000_0008
MOUNT_ATTR__ATIME = 0x0000_0070
MOUNT_ATTR_RELATIME = 0x0000_0000
MOUNT_ATTR_NOATIME = 0x0000_0010
MOUNT_ATTR_STRICTATIME = 0x0000_0020
MOUNT_ATTR_NODIRATIME = 0x0000_0080
MOUNT_ATTR_IDMAP = 0x0010_0000
MOUNT_ATTR_NOSYMFOLLOW = 0x0020_0000

OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH = 0x0000_0004
MOVE_MOUNT_T_EMPTY_PATH = 0x0000_0040
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
AT_FDCWD = -100
AT_RECURSIVE = 0x8000
AT_EMPTY_PATH = 0x1000
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10
"""openat2(2): the directory is "/" for absolute paths, "..", and symbolic links."""

PROPAGATIONS: dict[str, int] = {
    "private": MS_PRIVATE,
    "rprivate": MS_PRIVATE | MS_REC,
    "slave": MS_SLAVE,
    "rslave": MS_SLAVE | MS_REC,
    "shared": MS_SHARED,
    "rshared": MS_SHARED | MS_REC,
    "unbindable": MS_UNBINDABLE,
    "runbindable": MS_UNBINDABLE | MS_REC,
}
"""mount_namespaces(7), by the OCI runtime spec's names."""


class MountOption(Record):
    """What one mount option of the OCI runtime spec does."""

    set: int = 0
    """``MOUNT_ATTR_*`` to set on the mount."""
    clear: int = 0
    """``MOUNT_ATTR_*`` to clear first.

    The access time is not a set of bits but a choice of one of three, so the kernel demands all
    of ``MOUNT_ATTR__ATIME`` to be cleared with any choice (``EINVAL`` otherwise).
    """
    recursive: bool = False
    """Whether the mounts beneath are meant too (``AT_RECURSIVE``)."""
    superblock: str = ""
    """A parameter that every file system knows, to be given to fsconfig(2)."""
    bind: int = 0
    """``MS_BIND``, with ``MS_REC`` for the mounts beneath too."""
    propagation: int = 0
    """``MS_PRIVATE`` ... with ``MS_REC`` when recursive."""
    action: str = ""
    """What isn't a flag at all: ``remount``, ``tmpcopyup``, ``idmap`` or ``ridmap``."""


def _mount_options() -> dict[str, MountOption]:
    options: dict[str, MountOption] = {"defaults": MountOption()}
    atime = MOUNT_ATTR__ATIME
    # "norelatime" and its like say only what is not wanted, and then the kernel's own default
    # applies, which has been relatime since 2.6.30.
    attributes = {
        "ro": (MOUNT_ATTR_RDONLY, 0),
        "rw": (0, MOUNT_ATTR_RDONLY),
        "nosuid": (MOUNT_ATTR_NOSUID, 0),
        "suid": (0, MOUNT_ATTR_NOSUID),
        "nodev": (MOUNT_ATTR_NODEV, 0),
        "dev": (0, MOUNT_ATTR_NODEV),
        "noexec": (MOUNT_ATTR_NOEXEC, 0),
        "exec": (0, MOUNT_ATTR_NOEXEC),
        "nodiratime": (MOUNT_ATTR_NODIRATIME, 0),
        "diratime": (0, MOUNT_ATTR_NODIRATIME),
        "nosymfollow": (MOUNT_ATTR_NOSYMFOLLOW, 0),
        "symfollow": (0, MOUNT_ATTR_NOSYMFOLLOW),
        "noatime": (MOUNT_ATTR_NOATIME, atime),
        "atime": (MOUNT_ATTR_RELATIME, atime),
        "relatime": (MOUNT_ATTR_RELATIME, atime),
        "norelatime": (MOUNT_ATTR_RELATIME, atime),
        "strictatime": (MOUNT_ATTR_STRICTATIME, atime),
        "nostrictatime": (MOUNT_ATTR_RELATIME, atime),
    }
    for name, (set_bits, clear_bits) in attributes.items():
        options[name] = MountOption(set_bits, clear_bits)
        options["r" + name] = MountOption(set_bits, clear_bits, recursive=True)
    for name in ("sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand"):
        options[name] = MountOption(superblock=name)
    # These have a flag of mount(2), but fsconfig(2) has no word for them.  The first two are about
    # what the kernel logs; change counters are kept unasked by every file system that has them
    # (ext4, the last to need a flag, since 6.1), and "noiversion" can't stop that.
    for name in ("silent", "loud", "noiversion", "iversion"):
        options[name] = MountOption()
    options["bind"] = MountOption(bind=MS_BIND)
    options["rbind"] = MountOption(bind=MS_BIND | MS_REC)
    for name, flags in PROPAGATIONS.items():
        options[name] = MountOption(propagation=flags)
    for name in ("remount", "tmpcopyup", "idmap", "ridmap"):
        options[name] = MountOption(action=name)
    return options


MOUNT_OPTIONS = _mount_options()
"""Every option of "Linux mount options" in the OCI runtime spec's config.md.

What isn't here is the file system's own and goes to it as it stands.
"""


class MountFlags(Record):
    """A list of mount options, sorted by who they are for."""

    set: int
    clear: int
    """``MOUNT_ATTR_*`` of the mount itself; only the access time may be in both."""
    set_recursive: int
    clear_recursive: int
    """``MOUNT_ATTR_*`` of the mount and all mounts beneath it."""
    bind: int
    """``MS_BIND``, ``MS_BIND | MS_REC`` or 0 for a new mount."""
    propagation: tuple[int, ...]
    """``MS_PRIVATE`` ... to be applied in this order."""
    actions: frozenset[str]
    """Of ``remount``, ``tmpcopyup``, ``idmap``, ``ridmap``."""
    data: tuple[str, ...]
    """The file system's own parameters, for fsconfig(2): ``key`` or ``key=value``."""


def mount_flags(options: Iterable[str]) -> MountFlags:
    """Sort mount options by who they are for; of two that contradict, the later one counts."""
    # Set and clear: of the mount itself, then of it and those beneath.
    bits = [0, 0, 0, 0]
    bind = 0
    propagation: list[int] = []
    actions: list[str] = []
    data: list[str] = []
    for text in options:
        option = MOUNT_OPTIONS.get(text)
        if option is None:
            data.append(text)
            continue
        at = 2 if option.recursive else 0
        bits[at] = bits[at] & ~option.clear | option.set
        bits[at + 1] = bits[at + 1] & ~option.set | option.clear
        bind |= option.bind
        if option.propagation:
            propagation.append(option.propagation)
        if option.action:
            actions.append(option.action)
        if option.superblock:
            data.append(option.superblock)
    set_top, clear_top, set_all, clear_all = bits
    return MountFlags(
        set_top,
        clear_top,
        set_all,
        clear_all,
        bind,
        tuple(propagation),
        frozenset(actions),
        tuple(data),
    )


# --- resource limits: getrlimit(2), <asm-generic/resource.h> -------------------------------------

RLIMITS: dict[str, int] = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}
"""By the OCI runtime spec's names; so on x86 and arm64 (alpha, mips and sparc differ)."""

RLIM_INFINITY = -1
"""As the ``rlimit`` step of a plan wants it; the kernel's own is 2**64 - 1."""

# --- execution domains: personality(2), <linux/personality.h> ------------------------------------

PERSONALITIES: dict[str, int] = {"LINUX": 0x0000, "LINUX32": 0x0008}
"""``linux.personality.domain`` of the OCI runtime spec."""

# --- process: prctl(2), <linux/prctl.h> ----------------------------------------------------------

PR_CAPBSET_READ = 23
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_IS_SET = 1

# --- system call filters: seccomp(2), <linux/seccomp.h> ------------------------------------------

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAGS: dict[str, int] = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1 << 0,
    "SECCOMP_FILTER_FLAG_LOG": 1 << 1,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 1 << 2,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 1 << 5,
}
"""``linux.seccomp.flags`` of the OCI runtime spec."""
SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
