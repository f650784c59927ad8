"""The steps a plan is made of: one immutable record for each kernel operation.

Each operation is declared once, here: its name, the wall it builds, its arguments and its
manual page.  The table of the launcher (``native/``) is generated from this module when the
package is built, so that the planner and the launcher can't disagree about a step.

Argument types, as written in a signature and on the wire:

====  =============================================================
``i``  signed 64-bit integer; flags, modes, ids, -1 for "none"
``s``  string without NUL, a path or a name (bytes on the wire)
``b``  bytes of any value (file content, a seccomp program)
``v``  vector of strings (argv, environment, mount options)
====  =============================================================

A step belongs to a *stage*: ``HOST`` is the launcher process outside the container, ``CHILD``
the process that becomes the container.  Steps run strictly in the order of the plan, whichever
stage they are in: a single baton passes between the two processes.

*Slots* are numbered places for file descriptors (0 to 63) that one step fills and a later
one uses, across the two stages.
"""

from __future__ import annotations

from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

Value: TypeAlias = int | str | bytes | tuple[str, ...]

HOST = 0
CHILD = 1

ROOT = "root"
NAMESPACES = "namespaces"
CGROUPS = "cgroups"
PRIVILEGES = "privileges"
PROCESS = "process"
"""Not a wall: what starts, feeds and watches the process behind the walls."""

WALLS = (ROOT, NAMESPACES, CGROUPS, PRIVILEGES, PROCESS)

NO_SLOT = -1
SLOTS = 64


class Operation(Record):
    """A kind of step: what the launcher has one C function for."""

    name: str
    wall: str
    parameters: tuple[tuple[str, str], ...]
    """Name and type (``i s b v``) of each argument, in order."""
    man: str
    signature: str
    """The types alone, such as ``"si"``."""


class Step(Record):
    """One kernel operation with its arguments, the stage it runs in and why it is there."""

    operation: Operation
    stage: int
    arguments: tuple[Value, ...]
    why: str

    def argument(self, name: str) -> Value:
        """Return an argument by its name in the operation's parameters."""
        for (parameter, _), value in zip(self.operation.parameters, self.arguments, strict=True):
            if parameter == name:
                return value
        raise KeyError(name)


class Plan(Record):
    """The ordered steps that build one container and start its process."""

    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()
    """What of the spec is left out where the specification wants a warning, not an error."""


OPERATIONS: list[Operation] = []
"""Every operation; the index is its number on the wire."""


def _operation(name: str, wall: str, parameters: str, man: str) -> Operation:
    pairs = [parameter.split(":") for parameter in parameters.split()]
    signature = "".join([kind for _, kind in pairs])
    operation = Operation(name, wall, tuple([(pair[0], pair[1]) for pair in pairs]), man, signature)
    OPERATIONS.append(operation)
    return operation


# --- files of the engine itself, outside the container -----------------------------------------

_MAKE_DIR = _operation("make_dir", PROCESS, "path:s mode:i keep:i", "mkdir(2)")
_MAKE_FILE = _operation("make_file", PROCESS, "path:s mode:i data:b", "open(2)")
_MAKE_LINK = _operation("make_link", PROCESS, "target:s path:s", "symlink(2)")
_LOCK = _operation("lock", PROCESS, "path:s mode:i", "flock(2)")
_UNLOCK = _operation("unlock", PROCESS, "", "flock(2)")
_KEEP_RECORDS = _operation("keep_records", PROCESS, "path:s", "mmap(2)")
_KEEP_PLAN = _operation("keep_plan", PROCESS, "path:s", "open(2)")
_TAKE_BACK = _operation("take_back", PROCESS, "", "unlink(2)")
_KEEP = _operation("keep", PROCESS, "", "cgroups(7)")


def make_dir(path: str, mode: int, *, why: str, keep: bool = False) -> Step:
    """Make a directory of the host.

    With ``keep`` its missing parents are made too, it may exist already, and stays afterwards;
    without, it must be new and is removed again at the end.
    """
    return Step(_MAKE_DIR, HOST, (path, mode, int(keep)), why)


def make_file(path: str, mode: int, data: bytes, *, why: str) -> Step:
    """Make a new file of the host with this content; it is removed again at the end."""
    return Step(_MAKE_FILE, HOST, (path, mode, data), why)


def make_link(target: str, path: str, *, why: str) -> Step:
    """Make a new symbolic link on the host; it is removed again at the end."""
    return Step(_MAKE_LINK, HOST, (target, path), why)


def lock(path: str, mode: int, *, why: str) -> Step:
    """Make a new directory of the host, and hold a lock on it for as long as the launcher lives.

    It is removed again at the end.
    """
    return Step(_LOCK, HOST, (path, mode), why)


def unlock(*, why: str) -> Step:
    """Release the lock on the container's directory: other commands may work on it now."""
    return Step(_UNLOCK, HOST, (), why)


def keep_records(path: str, *, why: str) -> Step:
    """Keep what the launcher records in a new file, which other commands read."""
    return Step(_KEEP_RECORDS, HOST, (path,), why)


def keep_plan(path: str, *, why: str) -> Step:
    """Keep the plan itself in a new file, from which the container can be explained."""
    return Step(_KEEP_PLAN, HOST, (path,), why)


def take_back(*, why: str) -> Step:
    """Take back what was made so far, as is done at the end else."""
    return Step(_TAKE_BACK, HOST, (), why)


def keep(*, why: str) -> Step:
    """Let what was made so far stay, whatever comes."""
    return Step(_KEEP, HOST, (), why)


# --- cgroups -----------------------------------------------------------------------------------

_CGROUP_PARENT = _operation("cgroup_parent", CGROUPS, "path:s", "cgroups(7)")
_CGROUP_CREATE = _operation("cgroup_create", CGROUPS, "path:s take:i", "cgroups(7)")
_CGROUP_ADOPT = _operation("cgroup_adopt", CGROUPS, "path:s", "cgroups(7)")
_CGROUP_DELEGATE = _operation("cgroup_delegate", CGROUPS, "path:s uid:i", "cgroups(7)")
_END_PLACEHOLDER = _operation("end_placeholder", CGROUPS, "pid:i", "kill(2)")
_CGROUP_INHERIT = _operation("cgroup_inherit", CGROUPS, "path:s", "cpuset(7)")
_CGROUP_OFFER = _operation("cgroup_offer", CGROUPS, "path:s value:s", "cgroups(7)")
_CGROUP_SET = _operation("cgroup_set", CGROUPS, "path:s value:s expect:s", "cgroups(7)")
_DEVICE_FILTER = _operation("device_filter", CGROUPS, "path:s program:b", "bpf(2)")
_CGROUP_OPEN = _operation("cgroup_open", CGROUPS, "slot:i path:s", "open(2)")
_RESCTRL_JOIN = _operation("resctrl_join", CGROUPS, "path:s", "write(2)")
_CGROUP_JOIN = _operation("cgroup_join", CGROUPS, "path:s", "cgroups(7)")
_CGROUP_TASKS = _operation("cgroup_tasks", CGROUPS, "slot:i path:s", "open(2)")
_CGROUP_ENTER = _operation("cgroup_enter", CGROUPS, "slot:i", "cgroups(7)")


def cgroup_parent(path: str, *, why: str) -> Step:
    """Make a cgroup that other containers share, unless it is there; it stays."""
    return Step(_CGROUP_PARENT, HOST, (path,), why)


def cgroup_create(path: str, *, take: bool = False, why: str) -> Step:
    """Make a cgroup; at the end whatever still runs in it is killed and it is removed.

    With ``take`` it may be there, unless it holds a process (``EBUSY``) or is frozen, which the
    child would then be too (``EDEADLK``).
    """
    return Step(_CGROUP_CREATE, HOST, (path, int(take)), why)


def cgroup_adopt(path: str, *, why: str) -> Step:
    """Take over a cgroup that was made for the container.

    At the end whatever still runs in it is killed; who made it removes it.
    """
    return Step(_CGROUP_ADOPT, HOST, (path,), why)


def cgroup_delegate(path: str, uid: int, *, why: str) -> Step:
    """Give a v2 cgroup to a user, with the files that the kernel says may be: no limits."""
    return Step(_CGROUP_DELEGATE, HOST, (path, uid), why)


def end_placeholder(pid: int, *, why: str) -> Step:
    """Kill a child of the launcher, and wait for its end."""
    return Step(_END_PLACEHOLDER, HOST, (pid,), why)


def cgroup_inherit(path: str, *, why: str) -> Step:
    """Give a v1 cpuset group the CPUs and memory nodes of the one above, unless it has some."""
    return Step(_CGROUP_INHERIT, HOST, (path,), why)


def cgroup_offer(path: str, value: str, *, why: str) -> Step:
    """Pass controllers on to the groups below, those that the kernel lets be passed on.

    ``value`` is words such as ``+memory``.
    """
    return Step(_CGROUP_OFFER, HOST, (path, value), why)


def cgroup_set(path: str, value: str, *, expect: str = "", why: str) -> Step:
    """Write a value into a cgroup file, and read it back.

    ``expect`` is what the file must then hold (white space at the ends aside); empty when what
    the kernel shows can't be foretold.  A difference fails the step with ``ERANGE``.
    """
    return Step(_CGROUP_SET, HOST, (path, value, expect), why)


def device_filter(path: str, program: bytes, *, why: str) -> Step:
    """Have an eBPF program (an array of ``struct bpf_insn``) decide which devices a group opens."""
    return Step(_DEVICE_FILTER, HOST, (path, program), why)


def cgroup_open(slot: int, path: str, *, why: str) -> Step:
    """Open a v2 cgroup for ``spawn`` to place the child in (``CLONE_INTO_CGROUP``)."""
    return Step(_CGROUP_OPEN, HOST, (slot, path), why)


def resctrl_join(path: str, *, why: str) -> Step:
    """Move the child into a group of resctrl."""
    return Step(_RESCTRL_JOIN, HOST, (path,), why)


def cgroup_tasks(slot: int, path: str, *, why: str) -> Step:
    """Open ``tasks`` of a v1 cgroup into a slot, for a child that won't find it by its path."""
    return Step(_CGROUP_TASKS, HOST, (slot, path), why)


def cgroup_enter(slot: int, *, why: str) -> Step:
    """Move the child into the v1 cgroup whose ``tasks`` are in a slot."""
    return Step(_CGROUP_ENTER, CHILD, (slot,), why)


def cgroup_join(path: str, *, why: str) -> Step:
    """Move the child into a v1 cgroup, by writing 0 to its ``tasks``.

    A thread that moves itself needs no lock that the whole system shares; writing a pid to
    ``cgroup.procs`` waits for an RCU grace period instead, about 10 ms (since Linux 5.5).
    """
    return Step(_CGROUP_JOIN, CHILD, (path,), why)


# --- namespaces --------------------------------------------------------------------------------

_OPEN_NAMESPACE = _operation("open_namespace", NAMESPACES, "slot:i kind:i path:s", "namespaces(7)")
_JOIN_NAMESPACE = _operation("join_namespace", NAMESPACES, "kind:i path:s", "setns(2)")
_SPAWN = _operation("spawn", NAMESPACES, "kinds:i cgroup:i joined:i joined_kinds:i", "clone(2)")
_OPEN_PROCESS = _operation("open_process", NAMESPACES, "slot:i pid:i start_time:i", "pidfd_open(2)")
_JOIN = _operation("join", NAMESPACES, "slot:i kinds:i", "setns(2)")
_TIME_NAMESPACE = _operation("time_namespace", NAMESPACES, "offsets:s", "time_namespaces(7)")
_UNSHARE = _operation("unshare", NAMESPACES, "kinds:i", "unshare(2)")
_DENY_SETGROUPS = _operation("deny_setgroups", NAMESPACES, "", "user_namespaces(7)")
_ID_MAP = _operation("id_map", NAMESPACES, "group:i map:s", "user_namespaces(7)")
_ID_MAP_PROGRAM = _operation("id_map_program", NAMESPACES, "argv:v", "newuidmap(1)")
_HOSTNAME = _operation("hostname", NAMESPACES, "name:s", "sethostname(2)")
_DOMAINNAME = _operation("domainname", NAMESPACES, "name:s", "setdomainname(2)")
_LOOPBACK_UP = _operation("loopback_up", NAMESPACES, "", "netdevice(7)")
_NET_DEVICE = _operation("net_device", NAMESPACES, "name:s inside:s path:s", "rtnetlink(7)")


def open_namespace(slot: int, kind: int, path: str, *, why: str) -> Step:
    """Open a namespace of one kind (``CLONE_NEW*``) by its path into a slot."""
    return Step(_OPEN_NAMESPACE, HOST, (slot, kind, path), why)


def join_namespace(kind: int, path: str, *, why: str, stage: int = CHILD) -> Step:
    """Join a namespace by its path (a pid namespace before ``spawn``, in stage ``HOST``)."""
    return Step(_JOIN_NAMESPACE, stage, (kind, path), why)


def spawn(
    kinds: int,
    *,
    cgroup: int = NO_SLOT,
    joined: int = NO_SLOT,
    joined_kinds: int = 0,
    why: str,
) -> Step:
    """Make the child with clone3, in all new namespaces at once.

    ``cgroup`` is the slot of a v2 cgroup to be born in.  ``joined`` is the slot of a namespace, or
    of a process (a pidfd), of which namespaces of ``joined_kinds`` are joined first: a user
    namespace that the new ones shall belong to, a pid namespace to be born in.
    """
    return Step(_SPAWN, HOST, (kinds, cgroup, joined, joined_kinds), why)


def open_process(slot: int, pid: int, start_time: int, *, why: str) -> Step:
    """Open a process's pidfd into a slot, if it is the one that started at this time.

    ``start_time`` is in clock ticks since boot, field 22 of proc_pid_stat(5).
    """
    return Step(_OPEN_PROCESS, HOST, (slot, pid, start_time), why)


def join(slot: int, kinds: int, *, why: str) -> Step:
    """Join namespaces of the process whose pidfd is in a slot."""
    return Step(_JOIN, CHILD, (slot, kinds), why)


def unshare(kinds: int, *, why: str) -> Step:
    """Leave namespaces of the given kinds for new ones."""
    return Step(_UNSHARE, CHILD, (kinds,), why)


def time_namespace(offsets: str, *, why: str) -> Step:
    """Make a new time namespace, which the child is to join as ``/proc/self/ns/time_for_children``.

    ``offsets`` are lines ``clock seconds nanoseconds``: how far its clocks ``monotonic`` and
    ``boottime`` are ahead of the host's.  They can't be changed once a process is in it.
    """
    return Step(_TIME_NAMESPACE, CHILD, (offsets,), why)


def deny_setgroups(*, why: str) -> Step:
    """Forbid setgroups in the child's user namespace, as an unprivileged gid map demands."""
    return Step(_DENY_SETGROUPS, HOST, (), why)


def id_map(mapping: str, *, group: bool, why: str) -> Step:
    """Write the uid (or gid) map of the child's user namespace, lines ``inside outside count``."""
    return Step(_ID_MAP, HOST, (int(group), mapping), why)


def id_map_program(argv: tuple[str, ...], *, why: str) -> Step:
    """Run newuidmap or newgidmap; the child's pid is put in after ``argv[0]``."""
    return Step(_ID_MAP_PROGRAM, HOST, (argv,), why)


def hostname(name: str, *, why: str) -> Step:
    """Set the hostname of the UTS namespace."""
    return Step(_HOSTNAME, CHILD, (name,), why)


def domainname(name: str, *, why: str) -> Step:
    """Set the NIS domain name of the UTS namespace."""
    return Step(_DOMAINNAME, CHILD, (name,), why)


def loopback_up(*, stage: int = CHILD, why: str) -> Step:
    """Bring up ``lo`` in the child's network namespace."""
    return Step(_LOOPBACK_UP, stage, (), why)


def net_device(name: str, inside: str, *, path: str = "", why: str) -> Step:
    """Move a network device of the host to the container, and bring it up there.

    It keeps its permanent addresses of global scope.  ``inside`` is its name there, where "%d" at
    the end stands for the first free number; ``path`` the network namespace, the child's if empty.
    """
    return Step(_NET_DEVICE, HOST, (name, inside, path), why)


# --- the root ----------------------------------------------------------------------------------
#
# Paths named ``dest`` are paths in the container: resolved beneath the root directory with
# openat2(RESOLVE_IN_ROOT), never by string.  ``source`` and ``path`` are the host's.

_PROPAGATION = _operation("propagation", ROOT, "flags:i", "mount_namespaces(7)")
_OPEN_TREE = _operation("open_tree", ROOT, "slot:i source:s recursive:i", "open_tree(2)")
_IDMAP_TREE = _operation(
    "idmap_tree",
    ROOT,
    "slot:i source:s recursive:i all_beneath:i uids:s gids:s",
    "mount_setattr(2)",
)
_ATTACH_TREE = _operation("attach_tree", ROOT, "slot:i path:s", "move_mount(2)")
_MOUNT_ON_HOST = _operation(
    "mount_on_host", ROOT, "fstype:s source:s options:v attributes:i path:s", "fsopen(2)"
)
_MAKE_DIR_ON_MOUNT = _operation("make_dir_on_mount", ROOT, "path:s mode:i", "mkdir(2)")
_OPEN_ROOT = _operation("open_root", ROOT, "path:s slot:i clone:i recursive:i", "openat2(2)")
_MOUNT = _operation(
    "mount",
    ROOT,
    "fstype:s source:s options:v attributes:i dest:s propagation:i beneath:i",
    "fsopen(2)",
)
_BIND = _operation(
    "bind",
    ROOT,
    "source:s slot:i dest:s recursive:i set:i clear:i set_recursive:i clear_recursive:i "
    "propagation:i",
    "open_tree(2)",
)
_MOUNT_ATTRIBUTES = _operation(
    "mount_attributes",
    ROOT,
    "dest:s set:i clear:i recursive:i propagation:i",
    "mount_setattr(2)",
)
_RECONFIGURE = _operation("reconfigure", ROOT, "dest:s options:v", "fspick(2)")
_MAKE_DIR_IN_ROOT = _operation("make_dir_in_root", ROOT, "dest:s mode:i uid:i gid:i", "mkdir(2)")
_MAKE_LINK_IN_ROOT = _operation("make_link_in_root", ROOT, "target:s dest:s", "symlink(2)")
_MAKE_NODE = _operation("make_node", ROOT, "dest:s mode:i major:i minor:i uid:i gid:i", "mknod(2)")
_CONSOLE = _operation("console", ROOT, "dest:s rows:i columns:i uid:i", "pty(7)")
_MASK = _operation("mask", ROOT, "dest:s", "mount(2)")
_READONLY = _operation("readonly", ROOT, "dest:s", "mount_setattr(2)")
_SYSCTL = _operation("sysctl", ROOT, "path:s value:s", "sysctl(8)")
_PIVOT_ROOT = _operation("pivot_root", ROOT, "", "pivot_root(2)")
_MOVE_ROOT = _operation("move_root", ROOT, "", "switch_root(8)")
_CHDIR = _operation("chdir", ROOT, "path:s create:i", "chdir(2)")


BENEATH_MODE = 1
BENEATH_OWNER = 2
BENEATH_CONTENT = 4
"""What a new file system takes over from the directory that it is mounted on, if it is there."""


def propagation(flags: int, *, why: str) -> Step:
    """Set the propagation (``MS_PRIVATE`` ...) of every mount from "/" down."""
    return Step(_PROPAGATION, CHILD, (flags,), why)


def open_tree(slot: int, source: str, *, recursive: bool, why: str) -> Step:
    """Clone a mount of the host into a slot, where only the host may open its source."""
    return Step(_OPEN_TREE, HOST, (slot, source, int(recursive)), why)


def idmap_tree(
    slot: int,
    source: str,
    *,
    recursive: bool = False,
    all_beneath: bool = False,
    uids: str = "",
    gids: str = "",
    why: str,
) -> Step:
    """Clone a mount of the host into a slot, its owners mapped as a user namespace does.

    ``uids`` and ``gids`` are lines ``inside outside count``: a file of the uid ``inside`` belongs
    to ``outside`` of the host in this mount.  Without them it is the child's user namespace, where
    a file of uid 0 on the host belongs to uid 0 of the container.  ``recursive`` clones the mounts
    beneath too, ``all_beneath`` maps them too.
    """
    arguments = (slot, source, int(recursive), int(all_beneath), uids, gids)
    return Step(_IDMAP_TREE, HOST, arguments, why)


def attach_tree(slot: int, path: str, *, why: str) -> Step:
    """Attach a slot's mount at a host path, seen only in the child's mount namespace."""
    return Step(_ATTACH_TREE, CHILD, (slot, path), why)


def mount_on_host(
    fstype: str, source: str, options: tuple[str, ...], attributes: int, path: str, *, why: str
) -> Step:
    """Mount a new file system at a host path, seen only in the child's mount namespace."""
    return Step(_MOUNT_ON_HOST, CHILD, (fstype, source, options, attributes, path), why)


def make_dir_on_mount(path: str, mode: int, *, why: str) -> Step:
    """Make a directory at a host path, on a file system that the child has just mounted."""
    return Step(_MAKE_DIR_ON_MOUNT, CHILD, (path, mode), why)


def open_root(
    path: str, *, slot: int = NO_SLOT, clone: bool, recursive: bool = True, why: str
) -> Step:
    """Open the directory that becomes the container's root.

    With ``clone`` it is first bound onto itself (or the tree of ``slot`` onto it), since
    pivot_root wants a mount point; without, a mount is there already.
    """
    return Step(_OPEN_ROOT, CHILD, (path, slot, int(clone), int(recursive)), why)


def mount(
    fstype: str,
    source: str,
    options: tuple[str, ...],
    attributes: int,
    dest: str,
    *,
    propagation: int = 0,
    beneath: int = 0,
    why: str,
) -> Step:
    """Mount a new file system in the container; a missing mount point is made.

    ``options`` are the file system's own (``key`` or ``key=value``), ``attributes`` are
    ``MOUNT_ATTR_*``, ``beneath`` are ``BENEATH_*``.
    """
    arguments = (fstype, source, options, attributes, dest, propagation, beneath)
    return Step(_MOUNT, CHILD, arguments, why)


def bind(
    source: str,
    dest: str,
    *,
    slot: int = NO_SLOT,
    recursive: bool = True,
    set: int = 0,
    clear: int = 0,
    set_recursive: int = 0,
    clear_recursive: int = 0,
    propagation: int = 0,
    why: str,
) -> Step:
    """Show a file or directory of the host in the container; a missing mount point is made.

    ``set`` and ``clear`` are ``MOUNT_ATTR_*`` of the top mount, ``*_recursive`` of all mounts
    beneath too.  With ``slot`` the tree was cloned before by ``open_tree``.
    """
    arguments = (
        source, slot, dest, int(recursive), set, clear, set_recursive, clear_recursive, propagation,
    )  # fmt: skip
    return Step(_BIND, CHILD, arguments, why)


def mount_attributes(
    dest: str,
    *,
    set: int = 0,
    clear: int = 0,
    recursive: bool = False,
    propagation: int = 0,
    why: str,
) -> Step:
    """Change ``MOUNT_ATTR_*`` and propagation of a mount of the container that is there already.

    ``recursive`` is for the attributes; ``propagation`` has ``MS_REC`` of its own.
    """
    arguments = (dest, set, clear, int(recursive), propagation)
    return Step(_MOUNT_ATTRIBUTES, CHILD, arguments, why)


def reconfigure(dest: str, options: tuple[str, ...], *, why: str) -> Step:
    """Change options of a file system (``key`` or ``key=value``) that is mounted already."""
    return Step(_RECONFIGURE, CHILD, (dest, options), why)


def make_dir_in_root(dest: str, mode: int, *, uid: int = 0, gid: int = 0, why: str) -> Step:
    """Make a directory in the container with its missing parents; it may exist."""
    return Step(_MAKE_DIR_IN_ROOT, CHILD, (dest, mode, uid, gid), why)


def make_link_in_root(target: str, dest: str, *, why: str) -> Step:
    """Make a symbolic link in the container; one that is there already stays."""
    return Step(_MAKE_LINK_IN_ROOT, CHILD, (target, dest), why)


def make_node(
    dest: str, mode: int, major: int, minor: int, *, uid: int = 0, gid: int = 0, why: str
) -> Step:
    """Make a device node (or FIFO); ``mode`` holds type and permissions, as in st_mode."""
    return Step(_MAKE_NODE, CHILD, (dest, mode, major, minor, uid, gid), why)


def console(dest: str, *, rows: int = 0, columns: int = 0, uid: int = 0, why: str) -> Step:
    """Open a pseudo-terminal on the container's own devpts.

    Its slave end is bound at ``dest`` (unless empty) and becomes the child's standard streams
    and controlling terminal; its master end goes to the host.
    """
    return Step(_CONSOLE, CHILD, (dest, rows, columns, uid), why)


def mask(dest: str, *, why: str) -> Step:
    """Hide a path: an empty read-only tmpfs over a directory, /dev/null over a file."""
    return Step(_MASK, CHILD, (dest,), why)


def readonly(dest: str, *, why: str) -> Step:
    """Make a path read-only by binding it onto itself; a path that isn't there is no error."""
    return Step(_READONLY, CHILD, (dest,), why)


def sysctl(path: str, value: str, *, why: str) -> Step:
    """Write a namespaced kernel parameter; ``path`` is relative to /proc/sys."""
    return Step(_SYSCTL, CHILD, (path, value), why)


def pivot_root(*, why: str) -> Step:
    """Make the opened root the root of the mount namespace and detach the old one."""
    return Step(_PIVOT_ROOT, CHILD, (), why)


def move_root(*, why: str) -> Step:
    """Move the opened root onto "/" and chroot into it, and detach what is mounted beneath.

    For machines that run from their initramfs, where there is no way to pivot.
    """
    return Step(_MOVE_ROOT, CHILD, (), why)


def chdir(path: str, *, create: bool, why: str) -> Step:
    """Enter the working directory, made first if missing and ``create``."""
    return Step(_CHDIR, CHILD, (path, int(create)), why)


# --- privileges --------------------------------------------------------------------------------

_KEYRING = _operation("keyring", PRIVILEGES, "name:s", "keyctl(2)")
_RLIMIT = _operation("rlimit", PRIVILEGES, "resource:i soft:i hard:i", "prlimit(2)")
_SCHEDULER = _operation(
    "scheduler",
    PRIVILEGES,
    "policy:i flags:i nice:i priority:i runtime:i deadline:i period:i",
    "sched_setattr(2)",
)
_IO_PRIORITY = _operation("io_priority", PRIVILEGES, "class:i priority:i", "ioprio_set(2)")
_MEMORY_POLICY = _operation("memory_policy", PRIVILEGES, "mode:i nodes:b", "set_mempolicy(2)")
_CPU_AFFINITY = _operation("cpu_affinity", PRIVILEGES, "cpus:b", "sched_setaffinity(2)")
_OOM_SCORE_ADJ = _operation("oom_score_adj", PRIVILEGES, "value:i", "proc_pid_oom_score_adj(5)")
_PERSONALITY = _operation("personality", PRIVILEGES, "persona:i", "personality(2)")
_UMASK = _operation("umask", PRIVILEGES, "mask:i", "umask(2)")
_LSM_LABEL = _operation("lsm_label", PRIVILEGES, "attribute:s label:s", "proc_pid_attr(5)")
_BOUNDING_SET = _operation("bounding_set", PRIVILEGES, "keep:i", "capabilities(7)")
_IDENTITY = _operation("identity", PRIVILEGES, "uid:i gid:i set_groups:i groups:b", "setresuid(2)")
_CAPABILITIES = _operation(
    "capabilities", PRIVILEGES, "effective:i permitted:i inheritable:i ambient:i", "capset(2)"
)
_NO_NEW_PRIVS = _operation("no_new_privs", PRIVILEGES, "", "PR_SET_NO_NEW_PRIVS(2const)")
_LANDLOCK = _operation("landlock", PRIVILEGES, "abi:i readonly:v writable:v", "landlock(7)")
_SECCOMP = _operation("seccomp", PRIVILEGES, "program:b flags:i slot:i", "seccomp(2)")
_SEND_LISTENER = _operation(
    "send_listener", PRIVILEGES, "slot:i path:s before:b between:b after:b", "seccomp_unotify(2)"
)


def keyring(name: str, *, why: str) -> Step:
    """Join a new, empty session keyring."""
    return Step(_KEYRING, CHILD, (name,), why)


def rlimit(resource: int, soft: int, hard: int, *, why: str, stage: int = CHILD) -> Step:
    """Set a resource limit of the child; -1 is ``RLIM_INFINITY``."""
    return Step(_RLIMIT, stage, (resource, soft, hard), why)


def scheduler(
    policy: int,
    flags: int,
    nice: int,
    priority: int,
    deadline: tuple[int, int, int],
    *,
    why: str,
    stage: int = CHILD,
) -> Step:
    """Set the child's scheduling policy (``SCHED_*``) and its parameters.

    ``deadline`` is runtime, deadline and period of SCHED_DEADLINE, nanoseconds.
    """
    return Step(_SCHEDULER, stage, (policy, flags, nice, priority, *deadline), why)


def io_priority(kind: int, priority: int, *, why: str, stage: int = CHILD) -> Step:
    """Set the child's class of I/O scheduling (``IOPRIO_CLASS_*``) and priority in it, 0 to 7."""
    return Step(_IO_PRIORITY, stage, (kind, priority), why)


def memory_policy(mode: int, nodes: int, *, why: str) -> Step:
    """Set on which memory nodes (a bit mask) memory is taken: ``MPOL_*`` with ``MPOL_F_*``."""
    return Step(_MEMORY_POLICY, CHILD, (mode, _mask(nodes)), why)


def cpu_affinity(cpus: int, *, why: str, stage: int = CHILD) -> Step:
    """Set on which CPUs (a bit mask) the child may run; in stage ``HOST`` before it is made."""
    return Step(_CPU_AFFINITY, stage, (_mask(cpus),), why)


def _mask(bits: int) -> bytes:
    """Return a bit mask as the kernel takes it: an array of unsigned long."""
    return bits.to_bytes((bits.bit_length() + 63) // 64 * 8, "little")


def oom_score_adj(value: int, *, why: str) -> Step:
    """Set how likely the OOM killer picks the process, -1000 to 1000."""
    return Step(_OOM_SCORE_ADJ, CHILD, (value,), why)


def personality(persona: int, *, why: str) -> Step:
    """Set the execution domain."""
    return Step(_PERSONALITY, CHILD, (persona,), why)


def umask(mask: int, *, why: str) -> Step:
    """Set the file mode creation mask."""
    return Step(_UMASK, CHILD, (mask,), why)


def lsm_label(attribute: str, label: str, *, why: str) -> Step:
    """Write the label for the next exec to ``/proc/thread-self/attr/<attribute>``."""
    return Step(_LSM_LABEL, CHILD, (attribute, label), why)


def bounding_set(keep: int, *, why: str) -> Step:
    """Drop every capability outside the bit mask ``keep`` from the bounding set."""
    return Step(_BOUNDING_SET, CHILD, (keep,), why)


def identity(uid: int, gid: int, groups: tuple[int, ...] | None, *, why: str) -> Step:
    """Become a user: setgroups (unless None), setresgid, setresuid, permitted caps kept."""
    packed = b"".join(group.to_bytes(4, "little") for group in groups or ())
    return Step(_IDENTITY, CHILD, (uid, gid, int(groups is not None), packed), why)


def capabilities(
    effective: int, permitted: int, inheritable: int, ambient: int, *, why: str
) -> Step:
    """Set the four capability sets of the process, as bit masks."""
    return Step(_CAPABILITIES, CHILD, (effective, permitted, inheritable, ambient), why)


def no_new_privs(*, why: str) -> Step:
    """Forbid gaining privileges by exec (setuid bits, file capabilities)."""
    return Step(_NO_NEW_PRIVS, CHILD, (), why)


def landlock(abi: int, readonly: tuple[str, ...], writable: tuple[str, ...], *, why: str) -> Step:
    """Allow file access beneath these paths only; ``abi`` is the kernel's Landlock version."""
    return Step(_LANDLOCK, CHILD, (abi, readonly, writable), why)


def seccomp(program: bytes, flags: int, *, slot: int = NO_SLOT, why: str) -> Step:
    """Install a system call filter: an array of ``struct sock_filter``.

    ``slot`` gets the listener, where the flags ask for one; the host alone has it then.
    """
    return Step(_SECCOMP, CHILD, (program, flags, slot), why)


def send_listener(slot: int, path: str, state: tuple[bytes, bytes, bytes], *, why: str) -> Step:
    """Send a filter's listener to who listens on a socket at ``path``, and keep it no longer.

    ``state`` is the JSON that goes with it, before, between and after the child's pid, which the
    launcher puts in; only once if there is nothing after.
    """
    return Step(_SEND_LISTENER, HOST, (slot, path, *state), why)


# --- the process -------------------------------------------------------------------------------

_STDIO = _operation("stdio", PROCESS, "stdin:i stdout:i stderr:i", "pipe(2)")
_ADOPT_STDIO = _operation("adopt_stdio", PROCESS, "", "dup(2)")
_SESSION = _operation("session", PROCESS, "", "setsid(2)")
_PARENT_DEATH_SIGNAL = _operation(
    "parent_death_signal", PROCESS, "signal:i", "PR_SET_PDEATHSIG(2const)"
)
_CLOSE_FDS = _operation("close_fds", PROCESS, "first:i", "close_range(2)")
_INIT = _operation("init", PROCESS, "", "pid_namespaces(7)")
_EXEC = _operation("exec", PROCESS, "candidates:v argv:v env:v", "execve(2)")
_FIND_PROGRAM = _operation("find_program", PROCESS, "candidates:v argv:v", "access(2)")
_OWN_STDIO = _operation("own_stdio", PROCESS, "uid:i", "chown(2)")
_SEND_CONSOLE = _operation("send_console", PROCESS, "path:s", "unix(7)")
_SEND_PIDFD = _operation("send_pidfd", PROCESS, "path:s", "unix(7)")
_WRITE_PID = _operation("write_pid", PROCESS, "path:s", "rename(2)")
_HOOK = _operation(
    "hook",
    PROCESS,
    "path:s argv:v env:v timeout_s:i directory:s before:b after:b lenient:i",
    "execve(2)",
)
_MAKE_GATE = _operation("make_gate", PROCESS, "slot:i path:s", "fifo(7)")
_LEAVE = _operation("leave", PROCESS, "", "credentials(7)")
_WAIT_AT_GATE = _operation("wait_at_gate", PROCESS, "slot:i", "fifo(7)")
_SUPERVISE = _operation("supervise", PROCESS, "timeout_ms:i proxy_signals:i", "pidfd_open(2)")

STDIO_INHERIT = 0
STDIO_NULL = 1
STDIO_PIPE = 2
STDIO_TERMINAL = 3


def stdio(stdin: int, stdout: int, stderr: int, *, why: str) -> Step:
    """Choose each standard stream of the container, one of ``STDIO_*``."""
    return Step(_STDIO, HOST, (stdin, stdout, stderr), why)


def adopt_stdio(*, why: str) -> Step:
    """Put the chosen streams in place as file descriptors 0, 1 and 2."""
    return Step(_ADOPT_STDIO, CHILD, (), why)


def session(*, why: str) -> Step:
    """Start a session of its own (and take the pseudo-terminal, if any, as controlling)."""
    return Step(_SESSION, CHILD, (), why)


def parent_death_signal(signal: int, *, why: str) -> Step:
    """Have the kernel send a signal when the launcher dies."""
    return Step(_PARENT_DEATH_SIGNAL, CHILD, (signal,), why)


def close_fds(first: int, *, why: str) -> Step:
    """Mark every file descriptor from ``first`` up close-on-exec."""
    return Step(_CLOSE_FDS, CHILD, (first,), why)


def init(*, why: str) -> Step:
    """Stay as PID 1, a tiny init that forwards signals and reaps; go on as its child."""
    return Step(_INIT, CHILD, (), why)


def exec(
    candidates: tuple[str, ...], argv: tuple[str, ...], env: tuple[str, ...], *, why: str
) -> Step:
    """Become the program: the first of the candidate paths that can be executed."""
    return Step(_EXEC, CHILD, (candidates, argv, env), why)


def supervise(*, timeout_ms: int = 0, proxy_signals: bool = True, why: str) -> Step:
    """Wait for the container: relay signals and streams, kill it at the time limit, record."""
    return Step(_SUPERVISE, HOST, (timeout_ms, int(proxy_signals)), why)


def find_program(candidates: tuple[str, ...], argv: tuple[str, ...], *, why: str) -> Step:
    """Fail, as ``exec`` would, when none of the candidate paths can be executed."""
    return Step(_FIND_PROGRAM, CHILD, (candidates, argv), why)


def own_stdio(uid: int, *, why: str) -> Step:
    """Give standard streams that are pipes, sockets or terminals to the container's user."""
    return Step(_OWN_STDIO, CHILD, (uid,), why)


def send_console(path: str, *, why: str) -> Step:
    """Send the master end of the console to who listens on a socket at ``path``."""
    return Step(_SEND_CONSOLE, HOST, (path,), why)


def send_pidfd(path: str, *, why: str) -> Step:
    """Send the child's pidfd to who listens on a socket at ``path``."""
    return Step(_SEND_PIDFD, HOST, (path,), why)


def write_pid(path: str, *, why: str) -> Step:
    """Write the child's pid into a file, which is there with all of it or not at all."""
    return Step(_WRITE_PID, HOST, (path,), why)


def hook(
    path: str,
    argv: tuple[str, ...],
    env: tuple[str, ...],
    *,
    timeout_s: int,
    directory: str,
    state: tuple[bytes, bytes],
    lenient: bool = False,
    stage: int = HOST,
    why: str,
) -> Step:
    """Run a program outside (``HOST``) or inside the container, and wait for its end.

    ``state`` is what it reads: the JSON before and after the container's pid, which the launcher
    puts in unless there is nothing after.  ``timeout_s`` 0 is no limit, ``directory`` empty the
    current one.  A failure ends the plan, or is only told when ``lenient``.
    """
    arguments = (path, argv, env, timeout_s, directory, *state, int(lenient))
    return Step(_HOOK, stage, arguments, why)


def make_gate(slot: int, path: str, *, why: str) -> Step:
    """Make the FIFO that the child is going to wait at, and open it into a slot."""
    return Step(_MAKE_GATE, HOST, (slot, path), why)


def leave(*, why: str) -> Step:
    """End the launcher; the child carries out what is left, and everything that was made stays."""
    return Step(_LEAVE, HOST, (), why)


def wait_at_gate(slot: int, *, why: str) -> Step:
    """Wait until somebody writes a byte into the gate."""
    return Step(_WAIT_AT_GATE, CHILD, (slot,), why)


# --- a container that is restored ---------------------------------------------------------------
#
# criu(8) makes its processes. It is the child of the plan, and talks with the launcher on a socket.

_SOCKET_PAIR = _operation("socket_pair", PROCESS, "slot:i peer:i", "socketpair(2)")
_PASS_FD = _operation("pass_fd", PROCESS, "slot:i number:i", "dup(2)")
_OPEN_DIRECTORY = _operation("open_directory", PROCESS, "slot:i path:s", "open(2)")
_RESTORE_REQUEST = _operation(
    "restore_request", PROCESS, "slot:i images_slot:i work_slot:i options:b", "criu(8)"
)
_RESTORE_BEGIN = _operation("restore_begin", PROCESS, "slot:i peer:i work:s kinds:i", "criu(8)")
_RESTORE_END = _operation("restore_end", PROCESS, "slot:i work:s", "criu(8)")


def socket_pair(slot: int, peer: int, *, why: str) -> Step:
    """Open two sockets that are connected with each other into two slots."""
    return Step(_SOCKET_PAIR, HOST, (slot, peer), why)


def pass_fd(slot: int, number: int, *, why: str) -> Step:
    """Let a slot's file descriptor be open in the program, with this number."""
    return Step(_PASS_FD, CHILD, (slot, number), why)


def open_directory(slot: int, path: str, *, why: str) -> Step:
    """Open a directory of the host, as the child's mount namespace has it, into a slot."""
    return Step(_OPEN_DIRECTORY, CHILD, (slot, path), why)


def restore_request(slot: int, images: int, work: int, options: bytes, *, why: str) -> Step:
    """Ask criu, which reads it once it runs, to restore a checkpoint.

    ``images`` and ``work`` are slots of directories, ``options`` the ``criu_opts`` of criu's
    protocol but for these two.
    """
    return Step(_RESTORE_REQUEST, HOST, (slot, images, work, options), why)


def restore_begin(slot: int, peer: int, work: str, kinds: int, *, why: str) -> Step:
    """Have criu make the container's processes and namespaces.

    It has the socket in the slot ``peer``, the launcher speaks through that in ``slot``.
    Afterwards the container's first process is the child of the plan, in new namespaces of
    ``kinds``; nothing runs in it yet.  criu's log is in the directory ``work``.
    """
    return Step(_RESTORE_BEGIN, HOST, (slot, peer, work, kinds), why)


def restore_end(slot: int, work: str, *, why: str) -> Step:
    """Have criu bring all else back, and let the processes go on."""
    return Step(_RESTORE_END, HOST, (slot, work), why)
