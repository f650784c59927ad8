"""What this host's kernel and set-up can do.

Two depths, for two readers:

- ``detect()`` is what compiling a plan needs.  It runs at every start of a container, so it
  reads a handful of files and makes no process: well under a millisecond.
- ``probe()`` is what ``cloche features`` shows a person.  It tries each thing for real, in
  short-lived children, and says how it found out.
"""

from __future__ import annotations

import os

from cloche.kernel import capabilities, idmap
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.kernel.cgroup.layout import Layout

UNKNOWN = -1

# include/uapi/linux/nsfs.h: the user namespace that the kernel booted with has had this inode
# number since Linux 3.8.  Better than reading uid_map, where a nested one may look the same.
_INITIAL_USER_NAMESPACE = "user:[4026531837]"


class Features(Record):
    """The facts about the host that plans depend on."""

    kernel: tuple[int, int]
    machine: str
    """As in uname(2): ``x86_64``, ``aarch64``."""
    uid: int
    """Effective, as is ``gid``."""
    gid: int
    user: str
    """The user's name; empty when there is none."""
    capabilities: int
    """The caller's effective set, a bit mask."""
    last_cap: int
    """The number of the kernel's highest capability."""
    in_user_namespace: bool
    """Whether the caller is inside a user namespace other than the initial one."""
    cpus: int
    """Processors of the machine that are online, whether or not the caller may use them."""
    memory: int
    """Bytes of the machine."""
    page_size: int
    cgroups: Layout
    subuids: tuple[idmap.Range, ...]
    """What the caller may map into user namespaces; looked up for unprivileged callers only,
    as are ``subgids``, ``newuidmap`` and ``newgidmap``."""
    subgids: tuple[idmap.Range, ...]
    newuidmap: str | None
    """The program's path if it is there and can do its work."""
    newgidmap: str | None
    lsm: tuple[str, ...]
    """The active security modules."""
    landlock_abi: int
    """The version of Landlock, 0 for none, ``UNKNOWN`` until asked for by ``landlock.abi()``."""
    seccomp: tuple[str, ...]
    """The actions a filter may take, by the kernel's names; empty without seccomp."""
    overlay: bool
    unprivileged_userns: bool
    """Whether the set-up lets unprivileged processes make user namespaces."""
    uids: tuple[idmap.Range, ...] = ()
    """The ids that exist in the caller's user namespace; empty in the initial one, for all."""
    gids: tuple[idmap.Range, ...] = ()

    def may(self, name: str) -> bool:
        """Whether the caller has a capability, such as ``CAP_SYS_ADMIN``."""
        return bool(self.capabilities >> capabilities.NUMBERS[name] & 1)

    @property
    def devices_enforceable(self) -> bool:
        """Whether access to devices can be restricted.

        The kernel lets only root of the machine do that, not of a user namespace.
        """
        return self.cgroups.devices_enforceable and not self.in_user_namespace


class Finding(Record):
    """One thing that containers need, whether it is here, and how that was found out."""

    wall: str
    """``root``, ``namespaces``, ``cgroups``, ``privileges`` or ``process``."""
    name: str
    state: str
    """``yes``, ``partly`` or ``no``."""
    how: str
    """The evidence: the file that was read or the system call that was tried, and its answer."""
    hint: str = ""
    """What to do about it where the state isn't ``yes``."""


def detect() -> Features:
    """Return what compiling a plan needs to know: a few reads, no processes."""
    from cloche.kernel.cgroup import layout

    system = os.uname()
    uid = os.geteuid()
    status = read("/proc/self/status")
    effective = capabilities.parse_status(status).effective
    user = _user_name(uid)
    # Whoever has CAP_SETUID here writes maps without help; nobody else may, whatever the uid.
    unprivileged = not effective >> capabilities.NUMBERS["CAP_SETUID"] & 1
    nested = in_user_namespace()
    # Attaching one to a cgroup takes CAP_BPF and CAP_NET_ADMIN of the initial user namespace, or
    # CAP_SYS_ADMIN there, which stands for both.
    programs = effective >> capabilities.NUMBERS["CAP_SYS_ADMIN"] & 1 and not nested
    helpers = unprivileged and b"\nNoNewPrivs:\t1" not in status
    return Features(
        kernel=kernel_version(system.release),
        machine=system.machine,
        uid=uid,
        gid=os.getegid(),
        user=user,
        capabilities=effective,
        last_cap=int(read("/proc/sys/kernel/cap_last_cap") or capabilities.LAST),
        in_user_namespace=nested,
        cpus=os.sysconf("SC_NPROCESSORS_ONLN"),
        memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        page_size=os.sysconf("SC_PAGE_SIZE"),
        cgroups=layout.detect()._replace(device_programs=bool(programs)),
        subuids=idmap.subordinate_ids(idmap.SUBUID, user, uid) if unprivileged else (),
        subgids=idmap.subordinate_ids(idmap.SUBGID, user, uid) if unprivileged else (),
        newuidmap=idmap.usable_program("newuidmap") if helpers else None,
        newgidmap=idmap.usable_program("newgidmap") if helpers else None,
        lsm=security_modules(),
        landlock_abi=UNKNOWN,
        seccomp=tuple(read("/proc/sys/kernel/seccomp/actions_avail").decode().split()),
        overlay=has_filesystem("overlay", system.release),
        unprivileged_userns=not userns_obstacle(),
        uids=idmap.mapped("/proc/self/uid_map") if nested else (),
        gids=idmap.mapped("/proc/self/gid_map") if nested else (),
    )


def probe() -> list[Finding]:
    """Try everything that containers need, in short-lived children, and tell what was found."""
    from cloche.kernel import probes

    return probes.run()


def kernel_version(release: str) -> tuple[int, int]:
    """Return the two numbers that a kernel release begins with: ``6.18.44-cloud`` is (6, 18)."""
    major, _, rest = release.partition(".")
    digits = ""
    for letter in rest:
        if not letter.isdigit():
            break
        digits += letter
    return int(major), int(digits or 0)


def in_user_namespace() -> bool:
    """Whether the caller is inside a user namespace other than the initial one."""
    try:
        return os.readlink("/proc/self/ns/user") != _INITIAL_USER_NAMESPACE
    except FileNotFoundError:  # a kernel without user namespaces
        return False


def is_registered(filesystem: str) -> bool:
    """Whether the kernel has a file system built in or loaded."""
    return b"\t%s\n" % filesystem.encode() in read("/proc/filesystems")


def has_filesystem(name: str, release: str) -> bool:
    """Whether the kernel knows a file system, or has a module for it to load at first mount."""
    if is_registered(name):
        return True
    directory = "overlayfs" if name == "overlay" else name
    return os.path.isdir(f"/lib/modules/{release}/kernel/fs/{directory}")


def security_modules() -> tuple[str, ...]:
    """Return the active Linux security modules.

    securityfs lists them all, but isn't mounted everywhere.  Without it the two that label
    processes are still recognised, by the files that they alone make.
    """
    listed = read("/sys/kernel/security/lsm")
    if listed:
        return tuple(listed.decode().strip().split(","))
    found = []
    if read("/sys/module/apparmor/parameters/enabled").startswith(b"Y"):
        found.append("apparmor")
    if os.path.exists("/sys/fs/selinux/enforce"):
        found.append("selinux")
    return tuple(found)


def userns_obstacle() -> str:
    """Return the setting that keeps unprivileged processes from user namespaces, or "".

    Debian's and Ubuntu's kernels have switches of their own beside the limit that all have.
    """
    if read("/proc/sys/kernel/unprivileged_userns_clone").strip() == b"0":
        return "kernel.unprivileged_userns_clone = 0"
    if read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").strip() == b"1":
        return "kernel.apparmor_restrict_unprivileged_userns = 1"
    limit = read("/proc/sys/user/max_user_namespaces").strip()
    if limit == b"0":
        return "user.max_user_namespaces = 0"
    return "" if limit else "the kernel has no user namespaces"


def read(path: str) -> bytes:
    """Return the first 8 KiB of a file of the kernel's, empty when it can't be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 8192)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _user_name(uid: int) -> str:
    if uid == 0:
        return "root"
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""
