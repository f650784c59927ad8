"""The wall of privileges: what the container's process may do.

The order is the kernel's:

- dropping from the bounding set needs CAP_SETPCAP, so it comes before the identity changes;
- a filter is the very last step, so that it may be narrow: it has to allow execve(2) alone.  It
  needs no_new_privs or CAP_SYS_ADMIN (seccomp(2), landlock_restrict_self(2)).  Where the spec
  doesn't want no_new_privs that capability is kept for it.  Exec takes it away: what a program is
  permitted comes from the other sets and its file alone (capabilities(7)).  Processes that don't
  come to the end of the plan, a tiny init and hooks inside, install the same filters themselves;
- the parent death signal is cleared when the process's ids change (PR_SET_PDEATHSIG(2const)).
"""

from __future__ import annotations

from cloche.errors import InvalidSpec, Unsupported
from cloche.kernel import flags
from cloche.kernel.capabilities import NUMBERS, Sets, full, names
from cloche.plan import steps
from cloche.plan.situation import Situation
from cloche.plan.steps import NO_SLOT, SLOTS, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

LANDLOCK_ANNOTATION = "cloche.landlock"
"""JSON: ``{"readonly": [path ...], "writable": [path ...]}``, paths in the container."""
_SIGKILL = 9
_LISTENER_SLOT = SLOTS - 1
"""A slot of the layers of a root that is thrown away: these are attached by then."""


def limits(situation: Situation) -> list[Step]:
    """Set what the process inherits whoever it becomes: keyring, limits, labels."""
    process = situation.spec["process"]
    linux = situation.spec.get("linux", {})
    plan = []
    if not situation.launch.no_new_keyring:
        why = "keys of the host's session are out of the container's reach"
        plan.append(steps.keyring(situation.launch.id, why=why))
    for index, limit in enumerate(process.get("rlimits", [])):
        name = limit["type"]
        if name not in flags.RLIMITS:
            raise InvalidSpec(
                f"/process/rlimits/{index}/type", f"is {name} but must be a resource limit"
            )
        plan.append(
            steps.rlimit(
                flags.RLIMITS[name],
                _rlimit(limit["soft"]),
                _rlimit(limit["hard"]),
                why=f"{name} for this process and its children",
                stage=situation.stage_with("CAP_SYS_RESOURCE"),
            )
        )
    if "scheduler" in process or "ioPriority" in process or "memoryPolicy" in linux:
        from cloche.plan.scheduling import scheduling

        plan += scheduling(situation)
    if "oomScoreAdj" in process:
        plan.append(
            steps.oom_score_adj(
                process["oomScoreAdj"], why="how soon the kernel kills it when memory is short"
            )
        )
    personality = linux.get("personality")
    if personality:
        plan.append(
            steps.personality(
                flags.PERSONALITIES[personality["domain"]],
                why="what kind of machine the process believes to run on",
            )
        )
    umask = process.get("user", {}).get("umask")
    plan.append(
        steps.umask(
            0o022 if umask is None else umask, why="not the caller's, which nobody inside knows"
        )
    )
    plan += _labels(situation)
    return plan


def drop(situation: Situation) -> list[Step]:
    """Become the container's user with its capabilities, behind its filter."""
    process = situation.spec["process"]
    user = process.get("user", {})
    sets, _ = _capabilities(situation)
    no_new_privs = process.get("noNewPrivileges", False)
    kept = 0
    why = "the parts of root's power that the program keeps"
    if not no_new_privs and _filters(situation):
        kept = (1 << NUMBERS["CAP_SYS_ADMIN"]) & _held(situation)
        why += "; what installs a filter goes with exec"
    groups = _groups(situation)
    _require_ids(situation)
    plan = [
        steps.bounding_set(
            sets.bounding, why="no program, setuid root or not, ever gains a capability outside it"
        ),
        steps.identity(
            user.get("uid", 0),
            user.get("gid", 0),
            groups,
            why="the user that the program runs as",
        ),
        steps.capabilities(
            sets.effective | kept, sets.permitted | kept, sets.inheritable, sets.ambient, why=why
        ),
    ]
    if situation.launch.lifecycle is None:
        plan.append(
            steps.parent_death_signal(
                _SIGKILL, why="without its launcher nobody would clean up after the container"
            )
        )
    if no_new_privs:
        plan.append(
            steps.no_new_privs(why="setuid bits and file capabilities count for nothing now")
        )
    return plan


def filters_before_waiting(situation: Situation) -> list[Step]:
    """Return the filters that need the launcher, which may leave while the child waits."""
    return _filters(situation) if _has_listener(situation) else []


def filters_at_the_end(situation: Situation) -> list[Step]:
    """Return the filters that come last, just before the program, or nothing."""
    return [] if _has_listener(situation) else _filters(situation)


def _has_listener(situation: Situation) -> bool:
    return bool(situation.launch.seccomp_flags & flags.SECCOMP_FILTER_FLAG_NEW_LISTENER)


def _filters(situation: Situation) -> list[Step]:
    """Return the filters that the program gets."""
    plan = []
    text = situation.spec.get("annotations", {}).get(LANDLOCK_ANNOTATION)
    if text is not None:
        readonly, writable = _landlock_paths(text)
        abi = situation.features.landlock_abi
        if abi < 1:
            raise Unsupported(
                "this kernel has no Landlock, and the container asks for it",
                pointer=f"/annotations/{LANDLOCK_ANNOTATION}",
                hint="boot with lsm=landlock,... or a kernel with CONFIG_SECURITY_LANDLOCK",
            )
        plan.append(
            steps.landlock(
                abi,
                readonly,
                writable,
                why="no file outside these paths can be opened, root or not",
            )
        )
    if situation.launch.seccomp:
        plan.append(
            steps.seccomp(
                situation.launch.seccomp,
                situation.launch.seccomp_flags,
                slot=_LISTENER_SLOT if _has_listener(situation) else NO_SLOT,
                why="system calls that a container has no use for never reach the kernel's code",
            )
        )
    if _has_listener(situation):
        plan.append(_send_listener(situation))
    return plan


def _send_listener(situation: Situation) -> Step:
    from cloche.plan import listener

    launch = situation.launch
    bundle = launch.lifecycle.bundle if launch.lifecycle else ""
    return steps.send_listener(
        _LISTENER_SLOT,
        situation.spec["linux"]["seccomp"]["listenerPath"],
        listener.state(situation.spec, launch.id, bundle, launch.first_pid),
        why="who listens there answers the system calls that the filter leaves to it",
    )


def _landlock_paths(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    from cloche import json

    pointer = f"/annotations/{LANDLOCK_ANNOTATION}"
    try:
        rules = json.loads(text)
    except ValueError as error:
        raise InvalidSpec(pointer, f"is something else but must be JSON: {error}") from error
    if not isinstance(rules, dict) or rules.keys() - {"readonly", "writable"}:
        raise InvalidSpec(pointer, 'is something else but must have "readonly" and "writable"')
    lists = []
    for name in ("readonly", "writable"):
        paths = rules.get(name, [])
        if not isinstance(paths, list) or not all(
            isinstance(path, str) and path.startswith("/") for path in paths
        ):
            raise InvalidSpec(
                pointer, f"is something else but must have a list of absolute paths: {name}"
            )
        lists.append(tuple(paths))
    return lists[0], lists[1]


def _labels(situation: Situation) -> Iterable[Step]:
    process = situation.spec["process"]
    profile = process.get("apparmorProfile", "")
    # Without AppArmor everything is unconfined.
    if profile and not (profile == "unconfined" and "apparmor" not in situation.features.lsm):
        if "apparmor" not in situation.features.lsm:
            raise Unsupported(
                f"{profile} can't confine anything, as AppArmor isn't active here",
                hint="leave it out, or boot with apparmor in lsm=",
                pointer="/process/apparmorProfile",
            )
        yield steps.lsm_label(
            "apparmor/exec", f"exec {profile}", why=f"the AppArmor profile {profile} confines it"
        )
    label = process.get("selinuxLabel", "")
    if label:
        if "selinux" not in situation.features.lsm:
            raise Unsupported(
                f"{label} can't confine anything, as SELinux isn't active here",
                hint="leave it out, or boot with selinux in lsm=",
                pointer="/process/selinuxLabel",
            )
        yield steps.lsm_label("exec", label, why=f"the SELinux label {label} confines it")


def warnings(situation: Situation) -> tuple[str, ...]:
    """Return what of the spec is left out, as it says, with a warning and no error."""
    _, found = _capabilities(situation)
    if situation.spec.get("linux", {}).get("personality", {}).get("flags"):
        found.append("config.json: /linux/personality/flags: there are none, so they are left out")
    return tuple(found)


def _capabilities(situation: Situation) -> tuple[Sets, list[str]]:
    """Return the sets that the container gets, and what is left out of those that it should.

    Each set is only what the kernel allows with the others: capabilities(7).
    """
    wanted: dict[str, Any] = {**situation.spec["process"].get("capabilities", {})}
    known = full(situation.features.last_cap)
    held = _held(situation)
    if situation.devices_are_open:
        held &= ~(1 << NUMBERS["CAP_MKNOD"])
    unknown: list[str] = []
    left_out: list[str] = []

    def reduced(kind: str, allowed: int, reason: str) -> int:
        bits = 0
        for name in wanted.get(kind, []):
            bit = 1 << NUMBERS.get(name, 64) & known
            if not bit and name not in unknown:
                unknown.append(name)
            bits |= bit
        if bits & ~allowed:
            words = " ".join(names(bits & ~allowed))
            left_out.append(f"config.json: /process/capabilities/{kind}: without {words}: {reason}")
        return bits & allowed

    lacking = "the runtime can't give what it lacks"
    bounding = reduced("bounding", held, lacking)
    permitted = reduced("permitted", held, lacking)
    effective = reduced("effective", permitted, "only what is permitted can be effective")
    inheritable = reduced("inheritable", bounding & held, "only what is bounding is inherited")
    ambient = reduced(
        "ambient", permitted & inheritable, "only what is permitted and inheritable can be ambient"
    )
    if unknown:
        words = " ".join(unknown)
        left_out.append(f"config.json: /process/capabilities: unknown to this kernel: {words}")
    return Sets(inheritable, permitted, effective, bounding, ambient), left_out


def _held(situation: Situation) -> int:
    """Return the capabilities that the child has, before it drops any."""
    if situation.in_user_namespace:
        return full(situation.features.last_cap)
    return situation.features.capabilities


def _require_ids(situation: Situation) -> None:
    """Refuse ids that don't exist in the container's user namespace."""
    user = situation.spec["process"].get("user", {})
    ids = [("uid", user.get("uid", 0)), ("gid", user.get("gid", 0))]
    ids += [(f"additionalGids/{n}", gid) for n, gid in enumerate(user.get("additionalGids", []))]
    for name, id in ids:
        exists = situation.maps_uid(id) if name == "uid" else situation.maps_gid(id)
        if not exists:
            raise InvalidSpec(
                f"/process/user/{name}",
                f"is {id} but must be mapped in the container's user namespace",
            )


def _groups(situation: Situation) -> tuple[int, ...] | None:
    user = situation.spec["process"].get("user", {})
    groups = tuple(user.get("additionalGids", []))
    if not _has_one_group(situation):
        return groups
    if set(groups) - {user.get("gid", 0)}:
        raise Unsupported(
            "other groups can't be had where only the caller's own id is mapped",
            pointer="/process/user/additionalGids",
            hint="have a range of ids granted in /etc/subuid and /etc/subgid",
        )
    return None


def _has_one_group(situation: Situation) -> bool:
    """Whether the container's user namespace has the caller's group alone, without setgroups."""
    if not situation.makes(flags.CLONE_NEWUSER):
        return [size for _, size in situation.features.gids] == [1]
    maps = situation.gid_mappings
    return not situation.host_maps_any_id and [entry["size"] for entry in maps] == [1]


def _rlimit(value: int) -> int:
    # The kernel's number is unsigned, a plan's is not; RLIM_INFINITY is -1 in both ways.
    return value - (1 << 64) if value >= 1 << 63 else value
