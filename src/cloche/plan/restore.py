"""Compile a container that comes back from a checkpoint, with criu(8) as the child of the plan.

::

    HOST    directory and files of the container, its cgroups and limits, a pair of sockets
            spawn, in a mount namespace of its own
    CHILD       cgroups of v1 . the root bound onto itself . missing mount points
                exec: criu, which waits at its socket
    HOST    restore_begin: namespaces and processes . loopback . hooks
            restore_end: all else; the processes go on, and criu ends
            supervise, or leave

criu is in the container's cgroups, so that the processes that it makes are born there.  Its mount
namespace is a copy that ends with it: nothing that is mounted for its work has to be taken back.
It makes the container's mounts anew but for those of the host, which ``host_mounts`` tells: of
these each lies ready, with its flags, in a tmpfs that hides the container's directory from criu::

    <directory>/0, 1, ...       the host's files and directories, in the order of host_mounts
    <directory>/null            what masks a file

(criu would bind the host's own, and then leaves out flags of a mount where an earlier one on the
same file system has the same: it takes that one for its source.)

Of the hooks, those run that set up what criu doesn't restore, above all the network: prestart and
createRuntime.
"""

from __future__ import annotations

from cloche.errors import Unsupported
from cloche.kernel import flags
from cloche.plan import cgroups, hooks, namespaces, process, steps
from cloche.plan.compile import cache_shares, compile, directory
from cloche.plan.launch import Launch
from cloche.plan.situation import situation
from cloche.plan.steps import HOST, NO_SLOT, STDIO_TERMINAL, Plan, Step, Value
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.kernel.features import Features
    from cloche.oci.spec import Spec
    from cloche.plan.situation import Situation

SOCKET_NUMBER = 100
"""The file descriptor of criu's socket, in criu.  Few processes have as many open."""
FIRST_NAMESPACE_NUMBER = SOCKET_NUMBER + 1
"""Those of the namespaces that it is to use, in the order of ``external_namespaces``."""

_CGROUP_SLOT = 0
_SOCKET_SLOT = 1
_PEER_SLOT = 2
_IMAGES_SLOT = 3
_WORK_SLOT = 4
_FIRST_NAMESPACE_SLOT = 5
_MASK = flags.MOUNT_ATTR_RDONLY | flags.MOUNT_ATTR_NOSUID | flags.MOUNT_ATTR_NOEXEC
_TEMPORARY = "/tmp"  # noqa: S108  the container's
_EXTERNAL = (flags.CLONE_NEWNET, flags.CLONE_NEWPID)


class Restore(Record):
    """What criu is to restore, and how."""

    program: str
    """criu's path."""
    path: str
    """The PATH in which criu finds the programs that it runs, such as tar and iptables."""
    images: str
    """The directory of the checkpoint."""
    work: str
    """The directory that it writes its log to."""
    options: bytes
    """``criu_opts``, encoded, without the two directories."""


class HostMount(Record):
    """A file or directory of the host that is seen in the container."""

    source: str
    dest: str
    recursive: bool
    ready: str
    """Where criu finds it."""


def host_mounts(spec: Spec, features: Features, launch: Launch) -> list[HostMount]:
    """Return what the container's mounts show of the host, in the order they are made.

    Raises what ``compile`` does.
    """
    return [
        HostMount(
            _text(step, "source"),
            _text(step, "dest"),
            bool(step.argument("recursive")),
            f"{launch.directory}/{index}",
        )
        for index, step in enumerate(_mounts(spec, features, launch, "bind"))
    ]


def ready_null(launch: Launch) -> str:
    """Return where criu finds what masks a file."""
    return f"{launch.directory}/null"


def external_namespaces(spec: Spec) -> list[tuple[int, str]]:
    """Return kind and path of the namespaces that the container joins and criu leaves alone.

    The other kinds criu joins by itself.
    """
    found = []
    for namespace in spec.get("linux", {}).get("namespaces", []):
        kind = flags.NAMESPACE_KINDS[namespace["type"]]
        if namespace.get("path") and kind in _EXTERNAL:
            found.append((kind, namespace["path"]))
    return found


def compile_restore(spec: Spec, features: Features, launch: Launch, restore: Restore) -> Plan:
    """Return the plan that restores a container of a spec.

    Raises InvalidSpec, Unsupported or ControllerUnavailable for what can't be done.
    """
    facts = situation(spec, features, launch)
    if facts.joins(flags.CLONE_NEWCGROUP):
        raise Unsupported("criu can't join a cgroup namespace", pointer="/linux/namespaces")
    group = cgroups.placement(facts)
    shared = external_namespaces(spec)
    plan = directory(facts)
    plan.append(steps.make_dir(restore.work, 0o700, keep=True, why="criu writes its log there"))
    plan += cgroups.create(group, _CGROUP_SLOT, take=launch.complete)
    shares, joined_shares = cache_shares(facts)
    plan += shares
    plan.append(process.streams(facts))
    plan += [
        steps.open_namespace(_FIRST_NAMESPACE_SLOT + index, kind, path, why="it is there already")
        for index, (kind, path) in enumerate(shared)
    ]
    plan.append(steps.socket_pair(_SOCKET_SLOT, _PEER_SLOT, why="criu is told there what to do"))
    plan.append(
        steps.spawn(
            flags.CLONE_NEWNS,
            cgroup=cgroups.birth_slot(group, _CGROUP_SLOT),
            why="becomes criu; what it mounts for its work is gone with it",
        )
    )
    plan += joined_shares
    plan += cgroups.join(group)
    plan += _mount_points(spec, features, launch)
    plan += _ready_mounts(spec, features, launch)
    plan += _request(restore)
    plan += _become_criu(facts, restore, len(shared))
    plan.append(
        steps.restore_begin(
            _SOCKET_SLOT,
            _PEER_SLOT,
            restore.work,
            facts.new,
            why="the container's processes, stopped, in namespaces as before",
        )
    )
    if facts.makes(flags.CLONE_NEWNET):
        why = "criu leaves a new network namespace empty"
        plan.append(steps.loopback_up(stage=HOST, why=why))
        plan += namespaces.net_devices(facts)
    plan += hooks.before_restoring(facts)
    plan.append(steps.restore_end(_SOCKET_SLOT, restore.work, why="memory, files, and all else"))
    plan += process.hand_over(facts)
    plan += process.tell_pid(facts)
    plan.append(steps.unlock(why="other commands may work on the container now"))
    if launch.lifecycle and launch.lifecycle.foreground:
        plan.append(steps.supervise(why="relay signals and streams, then take the exit code"))
        plan += hooks.at_the_end(facts)
    return Plan(tuple(plan))


def _mount_points(spec: Spec, features: Features, launch: Launch) -> list[Step]:
    """Bind the root onto itself, as criu wants it, and make missing mount points in it.

    Those on a file system of the container's own come with that one.
    """
    plan = [
        steps.propagation(
            flags.MS_PRIVATE | flags.MS_REC, why="nothing that is mounted here may reach the host"
        ),
        steps.open_root(
            spec["root"]["path"], clone=True, why="criu wants a mount point for the root"
        ),
    ]
    if spec["root"].get("readonly"):
        why = "criu makes it, if it is missing, where it can't: in a root that is read-only"
        plan.append(steps.make_dir_in_root(_TEMPORARY, 0o1777, why=why))
    own: list[str] = []
    for step in _mounts(spec, features, launch, "mount", "bind"):
        dest = _text(step, "dest")
        if any(_is_beneath(dest, other) for other in own):
            continue
        if step.operation.name == "mount":
            own.append(dest)
            plan.append(
                steps.make_dir_in_root(dest, 0o755, why="a mount point that may be missing")
            )
            continue
        plan.append(
            steps.bind(
                _text(step, "source"),
                dest,
                recursive=bool(step.argument("recursive")),
                why="makes its mount point, and shows those that later mounts have in it",
            )
        )
    if spec["root"].get("readonly"):
        why = "criu binds it, and doesn't always set this again"
        plan.append(steps.mount_attributes("/", set=flags.MOUNT_ATTR_RDONLY, why=why))
    return plan


def _ready_mounts(spec: Spec, features: Features, launch: Launch) -> list[Step]:
    plan = [
        steps.mount_on_host(
            "tmpfs", "tmpfs", ("mode=0711",), 0, launch.directory, why="holds mounts for criu"
        ),
        steps.open_root(launch.directory, clone=False, why="they are made in it"),
    ]
    for index, step in enumerate(_mounts(spec, features, launch, "bind")):
        changed: dict[str, Value] = {"dest": f"/{index}", "slot": NO_SLOT, "propagation": 0}
        arguments = tuple(
            changed.get(name, value)
            for (name, _), value in zip(step.operation.parameters, step.arguments, strict=True)
        )
        why = f"what criu mounts at {_text(step, 'dest')}"
        plan.append(step._replace(arguments=arguments, why=why))
    plan.append(
        steps.bind("/dev/null", "/null", recursive=False, set=_MASK, why="what criu hides files by")
    )
    return plan


def _mounts(spec: Spec, features: Features, launch: Launch, *names: str) -> list[Step]:
    """Return the steps that mount something in a container that is created.

    Raises Unsupported where one maps a mount's owners: criu would lose that.
    """
    plan = compile(spec, features, launch).steps
    for step in plan:
        if step.operation.name == "idmap_tree":
            raise Unsupported(
                f"config.json: the mount of {_text(step, 'source')} has mapped owners, which criu "
                "can't restore"
            )
    return [step for step in plan if step.operation.name in names]


def _request(restore: Restore) -> list[Step]:
    """Ask while criu isn't there yet: the directories come from the child with the baton."""
    why = "criu mounts in it, which it may in its own mount namespace only"
    return [
        steps.open_directory(_IMAGES_SLOT, restore.images, why="criu opens it again from there"),
        steps.open_directory(_WORK_SLOT, restore.work, why=why),
        steps.restore_request(
            _SOCKET_SLOT, _IMAGES_SLOT, _WORK_SLOT, restore.options, why="it is read later"
        ),
    ]


def _become_criu(facts: Situation, restore: Restore, shared: int) -> list[Step]:
    plan = []
    if STDIO_TERMINAL not in facts.launch.stdio:
        plan.append(steps.adopt_stdio(why="streams of the container, for criu to hand on"))
    plan.append(steps.close_fds(3, why="criu gets what it needs, and no more"))
    plan.append(steps.pass_fd(_PEER_SLOT, SOCKET_NUMBER, why="its end of the sockets"))
    plan += [
        steps.pass_fd(
            _FIRST_NAMESPACE_SLOT + index, FIRST_NAMESPACE_NUMBER + index, why="a shared namespace"
        )
        for index in range(shared)
    ]
    argv = ("criu", "swrk", str(SOCKET_NUMBER))
    plan.append(
        steps.exec((restore.program,), argv, (f"PATH={restore.path}",), why="waits at its socket")
    )
    return plan


def _is_beneath(path: str, other: str) -> bool:
    return path.rstrip("/").startswith(other.rstrip("/") + "/")


def _text(step: Step, name: str) -> str:
    value = step.argument(name)
    assert isinstance(value, str)
    return value
