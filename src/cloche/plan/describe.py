"""What each step does, in words.

One short function for every operation; a test holds this table against the catalogue.
"""

from __future__ import annotations

import stat

from cloche.kernel import capabilities, flags, scheduling
from cloche.plan.steps import (
    BENEATH_CONTENT,
    BENEATH_MODE,
    BENEATH_OWNER,
    HOST,
    NO_SLOT,
    STDIO_INHERIT,
    STDIO_NULL,
    STDIO_PIPE,
    Step,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def what(step: Step) -> str:
    """Return what a step does, as one clause in the imperative."""
    return _CLAUSES[step.operation.name](Arguments(step))


class Arguments:
    """A step's arguments as attributes, typed for the sentences that use them."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self._values = {
            name: value
            for (name, _), value in zip(step.operation.parameters, step.arguments, strict=True)
        }

    def text(self, name: str) -> str:
        """Return a string, or the words of any other value."""
        return str(self._values[name])

    def number(self, name: str) -> int:
        """Return an integer."""
        value = self._values[name]
        assert isinstance(value, int)
        return value

    def words(self, name: str) -> tuple[str, ...]:
        """Return a vector."""
        value = self._values[name]
        assert isinstance(value, tuple)
        return value

    def blob(self, name: str) -> bytes:
        """Return bytes."""
        value = self._values[name]
        assert isinstance(value, bytes)
        return value


def kinds(bits: int) -> str:
    """Name the namespaces in a set of ``CLONE_NEW*``, or "none"."""
    return ", ".join(name for name, bit in flags.NAMESPACE_KINDS.items() if bits & bit) or "none"


_ATTRIBUTE_WORDS = (
    (flags.MOUNT_ATTR_RDONLY, "ro"),
    (flags.MOUNT_ATTR_NOSUID, "nosuid"),
    (flags.MOUNT_ATTR_NODEV, "nodev"),
    (flags.MOUNT_ATTR_NOEXEC, "noexec"),
    (flags.MOUNT_ATTR_NOATIME, "noatime"),
    (flags.MOUNT_ATTR_STRICTATIME, "strictatime"),
    (flags.MOUNT_ATTR_NODIRATIME, "nodiratime"),
    (flags.MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"),
)


def attribute_words(bits: int) -> list[str]:
    """Name the ``MOUNT_ATTR_*`` in a set, as mount(8) calls them."""
    return [word for bit, word in _ATTRIBUTE_WORDS if bits & bit]


_PROPAGATION_WORDS = (
    (flags.MS_PRIVATE, "private"),
    (flags.MS_SLAVE, "slave"),
    (flags.MS_SHARED, "shared"),
    (flags.MS_UNBINDABLE, "unbindable"),
)


def propagation_word(bits: int) -> str:
    """Name a propagation, with "r" before it when recursive."""
    word = next((word for bit, word in _PROPAGATION_WORDS if bits & bit), "")
    return f"r{word}" if word and bits & flags.MS_REC else word


def _in_brackets(words: list[str]) -> str:
    return f" ({', '.join(words)})" if words else ""


_BENEATH_WORDS = ((BENEATH_MODE, "mode"), (BENEATH_OWNER, "owner"), (BENEATH_CONTENT, "content"))


def _mount(a: Arguments) -> str:
    words = attribute_words(a.number("attributes")) + list(a.words("options"))
    where = a.text("path") if a.step.operation.name == "mount_on_host" else a.text("dest")
    clause = f"mount a new {a.text('fstype')} at {where}{_in_brackets(words)}"
    if a.step.operation.name != "mount":
        return clause
    taken = [word for bit, word in _BENEATH_WORDS if a.number("beneath") & bit]
    return f"{clause} with {' and '.join(taken)} of the directory beneath" if taken else clause


def _bind(a: Arguments) -> str:
    words = attribute_words(a.number("set"))
    words += [f"r{word}" for word in attribute_words(a.number("set_recursive"))]
    propagation = propagation_word(a.number("propagation"))
    words += [propagation] if propagation else []
    beneath = " with all mounts beneath" if a.number("recursive") else ""
    return f"bind {a.text('source')}{beneath} at {a.text('dest')}{_in_brackets(words)}"


def _attributes(a: Arguments) -> str:
    words = [f"+{word}" for word in attribute_words(a.number("set"))]
    words += [f"-{word}" for word in attribute_words(a.number("clear"))]
    words += [propagation_word(a.number("propagation"))] if a.number("propagation") else []
    beneath = " and all mounts beneath" if a.number("recursive") else ""
    return f"change the mount at {a.text('dest')}{beneath}{_in_brackets(words)}"


def _node(a: Arguments) -> str:
    mode = a.number("mode")
    kind = "block" if stat.S_ISBLK(mode) else "FIFO" if stat.S_ISFIFO(mode) else "character"
    number = "" if stat.S_ISFIFO(mode) else f" {a.number('major')}:{a.number('minor')}"
    return f"make the {kind} device{number} at {a.text('dest')} (mode {mode & 0o7777:o})"


def _capabilities(a: Arguments) -> str:
    words = [
        f"{name} {_capability_names(a.number(name))}"
        for name in ("effective", "permitted", "inheritable", "ambient")
    ]
    same = a.number("effective") == a.number("permitted")
    if same:
        words[:2] = [f"effective and permitted {_capability_names(a.number('effective'))}"]
    return f"set the capabilities: {'; '.join(words)}"


def _capability_names(bits: int) -> str:
    names = capabilities.names(bits)
    if len(names) > 30:
        return f"all {len(names)}"
    return " ".join(name.removeprefix("CAP_").lower() for name in names) or "none"


def _stdio(a: Arguments) -> str:
    words = {STDIO_INHERIT: "the caller's", STDIO_NULL: "/dev/null", STDIO_PIPE: "a pipe"}
    streams = [
        f"{name} {words.get(a.number(name), 'the container terminal')}"
        for name in ("stdin", "stdout", "stderr")
    ]
    return f"choose {', '.join(streams)}"


def _identity(a: Arguments) -> str:
    packed = a.blob("groups")
    groups = [int.from_bytes(packed[at : at + 4], "little") for at in range(0, len(packed), 4)]
    extra = ""
    if a.number("set_groups"):
        extra = f", other groups {', '.join(map(str, groups)) or 'none'}"
    return f"become uid {a.number('uid')}, gid {a.number('gid')}{extra}"


def rlimit_word(value: int) -> str:
    """Return a limit as prlimit(1) writes it."""
    return "unlimited" if value == flags.RLIM_INFINITY else str(value % (1 << 64))


def _rlimit(a: Arguments) -> str:
    names = {number: name for name, number in flags.RLIMITS.items()}
    soft, hard = (rlimit_word(a.number(name)) for name in ("soft", "hard"))
    number = a.number("resource")
    return f"limit {names.get(number, str(number))} to {soft}, at most {hard}"


def _scheduler(a: Arguments) -> str:
    words = [scheduling.name(scheduling.POLICIES, a.number("policy"))]
    words += [
        f"{name} {a.number(name)}"
        for name in ("nice", "priority", "runtime", "deadline", "period")
        if a.number(name)
    ]
    words += scheduling.names(scheduling.POLICY_FLAGS, a.number("flags"))
    return f"have it scheduled as {', '.join(words)}"


def _memory_policy(a: Arguments) -> str:
    flags_ = sum(scheduling.MEMORY_FLAGS.values())
    mode = a.number("mode")
    words = [scheduling.name(scheduling.MEMORY_MODES, mode & ~flags_)]
    words += scheduling.names(scheduling.MEMORY_FLAGS, mode)
    nodes = numbers(a.blob("nodes"))
    return f"set the memory policy to {', '.join(words)}{f' of nodes {nodes}' if nodes else ''}"


def numbers(mask: bytes) -> str:
    """Return a bit mask as a list such as 0-3,7."""
    bits = int.from_bytes(mask, "little")
    words = []
    while bits:
        low = (bits & -bits).bit_length() - 1
        high = low
        while bits >> high + 1 & 1:
            high += 1
        words.append(f"{low}-{high}" if high > low else str(low))
        bits &= ~((1 << high + 1) - 1)
    return ",".join(words)


def _spawn(a: Arguments) -> str:
    where = "" if a.number("cgroup") == NO_SLOT else ", born in its cgroup"
    joined = a.number("joined_kinds")
    among = f", in another process's {kinds(joined)} namespace" if joined else ""
    return f"clone a child with new namespaces: {kinds(a.number('kinds'))}{among}{where}"


def _supervise(a: Arguments) -> str:
    timeout = a.number("timeout_ms")
    limit = f", for at most {timeout / 1000:g} s" if timeout else ""
    return f"wait for the container{limit}"


def _landlock(a: Arguments) -> str:
    return (
        f"allow only reading beneath {', '.join(a.words('readonly')) or 'nothing'} "
        f"and writing beneath {', '.join(a.words('writable')) or 'nothing'}"
    )


def _mapping(a: Arguments) -> str:
    ids = "group" if a.number("group") else "user"
    lines = [
        f"{count} from {inside} inside to {outside} outside"
        for inside, outside, count in (line.split() for line in a.text("map").splitlines())
    ]
    return f"map {ids} ids: {'; '.join(lines)}"


def _time_namespace(a: Arguments) -> str:
    offsets = [
        f"{clock} {int(seconds) + int(nanoseconds) / 1e9:+g} s"
        for clock, seconds, nanoseconds in (line.split() for line in a.text("offsets").splitlines())
    ]
    return f"make a new time namespace{_in_brackets(offsets)}"


def _idmap_tree(a: Arguments) -> str:
    whole = " with all mounts beneath" if a.number("recursive") else ""
    ids = "the container's" if not a.text("uids") else "those of its own mappings"
    return f"clone {a.text('source')}{whole}, its owners mapped to {ids}"


def _open_root(a: Arguments) -> str:
    bound = ", bound onto itself" if a.number("clone") else ""
    return f"open {a.text('path')} as the root{bound}"


_CLAUSES: dict[str, Callable[[Arguments], str]] = {
    "make_dir": lambda a: (
        f"make the directory {a.text('path')}" + (" if it isn't there" if a.number("keep") else "")
    ),
    "make_file": lambda a: f"make the file {a.text('path')} ({len(a.blob('data'))} bytes)",
    "make_link": lambda a: f"make the link {a.text('path')} to {a.text('target')}",
    "lock": lambda a: f"make the directory {a.text('path')} and lock it",
    "unlock": lambda a: "unlock the container's directory",
    "keep_records": lambda a: f"keep what is recorded in {a.text('path')}",
    "keep_plan": lambda a: f"keep this plan in {a.text('path')}",
    "take_back": lambda a: "take back what was made",
    "keep": lambda a: "let what was made stay",
    "open_process": lambda a: f"open the process {a.number('pid')}",
    "join": lambda a: f"join its namespaces: {kinds(a.number('kinds'))}",
    "find_program": lambda a: f"look for the program {a.words('argv')[0]}",
    "own_stdio": lambda a: f"give pipes and terminals among the streams to uid {a.number('uid')}",
    "send_console": lambda a: f"send the terminal's master end to {a.text('path')}",
    "send_pidfd": lambda a: f"send a pidfd of the process to {a.text('path')}",
    "write_pid": lambda a: f"write the pid into {a.text('path')}",
    "hook": lambda a: f"run the hook {a.text('path')}",
    "make_gate": lambda a: f"make the start gate {a.text('path')}",
    "leave": lambda a: "leave; the container waits for its start",
    "wait_at_gate": lambda a: "wait at the start gate",
    "cgroup_parent": lambda a: f"make the cgroup {a.text('path')} if it isn't there",
    "cgroup_create": lambda a: (
        f"make the cgroup {a.text('path')}" + (", or take it over" if a.number("take") else "")
    ),
    "cgroup_adopt": lambda a: f"take over the cgroup {a.text('path')}",
    "cgroup_delegate": lambda a: f"give the cgroup {a.text('path')} to uid {a.number('uid')}",
    "end_placeholder": lambda a: f"end process {a.text('pid')}, the placeholder",
    "cgroup_inherit": lambda a: f"give the cgroup {a.text('path')} the CPUs of the one above",
    "cgroup_offer": lambda a: f"offer {a.text('value').replace('+', '')} in {a.text('path')}",
    "cgroup_set": lambda a: f"set {a.text('path')} to {a.text('value')}",
    "device_filter": lambda a: f"restrict which devices {a.text('path')} may open",
    "cgroup_open": lambda a: f"open the cgroup {a.text('path')}",
    "resctrl_join": lambda a: f"move the child into {a.text('path')}",
    "cgroup_tasks": lambda a: f"open the tasks of {a.text('path')}",
    "cgroup_enter": lambda a: "move the child into a cgroup that is open",
    "cgroup_join": lambda a: f"move the child into {a.text('path')}",
    "open_namespace": lambda a: f"open the {kinds(a.number('kind'))} namespace {a.text('path')}",
    "join_namespace": lambda a: f"join the {kinds(a.number('kind'))} namespace {a.text('path')}",
    "spawn": _spawn,
    "time_namespace": _time_namespace,
    "unshare": lambda a: f"make a new {kinds(a.number('kinds'))} namespace",
    "deny_setgroups": lambda a: "forbid setgroups in the user namespace",
    "id_map": _mapping,
    "id_map_program": lambda a: (
        f"map ids with {' PID '.join((a.words('argv')[0], ''))}" + " ".join(a.words("argv")[1:])
    ),
    "hostname": lambda a: f"set the hostname to {a.text('name')}",
    "domainname": lambda a: f"set the domain name to {a.text('name')}",
    "loopback_up": lambda a: "bring up the loopback interface",
    "net_device": lambda a: (
        f"move the network device {a.text('name')} to the container as {a.text('inside')}"
    ),
    "propagation": lambda a: f"make every mount {propagation_word(a.number('flags'))}",
    "open_tree": lambda a: f"take a clone of the mount {a.text('source')}",
    "idmap_tree": _idmap_tree,
    "attach_tree": lambda a: f"attach the clone at {a.text('path')}",
    "mount_on_host": _mount,
    "make_dir_on_mount": lambda a: f"make the directory {a.text('path')}",
    "open_root": _open_root,
    "mount": _mount,
    "bind": _bind,
    "mount_attributes": _attributes,
    "reconfigure": lambda a: (
        f"change the file system at {a.text('dest')}{_in_brackets(list(a.words('options')))}"
    ),
    "make_dir_in_root": lambda a: f"make the directory {a.text('dest')}",
    "make_link_in_root": lambda a: f"make the link {a.text('dest')} to {a.text('target')}",
    "make_node": _node,
    "console": lambda a: f"open a pseudo-terminal as {a.text('dest')}",
    "mask": lambda a: f"hide {a.text('dest')}",
    "readonly": lambda a: f"make {a.text('dest')} read-only",
    "sysctl": lambda a: f"set /proc/sys/{a.text('path')} to {a.text('value')}",
    "pivot_root": lambda a: "make the root the only one: pivot, and detach the host's",
    "move_root": lambda a: "move the root onto the host's, enter it, and detach what lies beneath",
    "chdir": lambda a: f"enter {a.text('path')}",
    "keyring": lambda a: "join a new session keyring",
    "rlimit": _rlimit,
    "scheduler": _scheduler,
    "io_priority": lambda a: (
        f"set the I/O priority to {scheduling.name(scheduling.IO_CLASSES, a.number('class'))}, "
        f"{a.number('priority')}"
    ),
    "memory_policy": _memory_policy,
    "cpu_affinity": lambda a: f"let it run on the CPUs {numbers(a.blob('cpus'))}",
    "oom_score_adj": lambda a: f"set the OOM score adjustment to {a.number('value')}",
    "personality": lambda a: f"set the personality to {a.number('persona'):#x}",
    "umask": lambda a: f"set the umask to {a.number('mask'):04o}",
    "lsm_label": lambda a: f"ask for the security label {a.text('label')} on exec",
    "bounding_set": lambda a: f"bound the capabilities to {_capability_names(a.number('keep'))}",
    "identity": _identity,
    "capabilities": _capabilities,
    "no_new_privs": lambda a: "set no_new_privs",
    "landlock": _landlock,
    "seccomp": lambda a: (
        f"install a system call filter of {len(a.blob('program')) // 8} instructions"
    ),
    "send_listener": lambda a: f"send the filter's listener to {a.text('path')}",
    "stdio": _stdio,
    "adopt_stdio": lambda a: "put the streams in place",
    "session": lambda a: "start a session",
    "parent_death_signal": lambda a: (
        f"have signal {a.number('signal')} sent when the launcher dies"
    ),
    "close_fds": lambda a: f"let no file descriptor from {a.number('first')} up survive exec",
    "init": lambda a: "stay as PID 1, go on as its child",
    "exec": lambda a: f"execute {' '.join(a.words('argv'))}",
    "supervise": _supervise,
    "socket_pair": lambda a: "open a pair of sockets",
    "pass_fd": lambda a: f"leave a file descriptor open as number {a.number('number')}",
    "open_directory": lambda a: f"open the directory {a.text('path')}",
    "restore_request": lambda a: "ask criu to restore the checkpoint",
    "restore_begin": lambda a: "have criu make the processes and namespaces",
    "restore_end": lambda a: "have criu bring back all else and let the processes go on",
}


def stage_word(step: Step) -> str:
    """Return "host" or "child"."""
    return "host" if step.stage == HOST else "child"
