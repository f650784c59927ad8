"""The wall of privileges: what the container's process may do.

The order is the kernel's:

- dropping from the bounding set needs CAP_SETPCAP, so it comes before the identity changes;
- a filter is the very last step, so that it may be narrow: it has to allow execve(2) alone.  It
  needs no_new_privs or CAP_SYS_ADMIN (seccomp(2), landlock_restrict_self(2)).  Where the spec
  doesn't want no_new_privs that capability is kept for it.  Exec takes it away: what a program is
  permitted comes from the other sets and its file alone (capabilities(7));
- the parent death signal is cleared when the process's ids change (PR_SET_PDEATHSIG(2const)).
"""

from __future__ import annotations

from collections.abc import Iterable

from cloche.errors import InvalidSpec, Unsupported
from cloche.kernel import flags
from cloche.kernel.capabilities import mask
from cloche.plan import steps
from cloche.plan.situation import Situation
from cloche.plan.steps import Step

LANDLOCK_ANNOTATION = "cloche.landlock"
"""JSON: ``{"readonly": [path ...], "writable": [path ...]}``, paths in the container."""
_SIGKILL = 9


def limits(situation: Situation) -> list[Step]:
    """Set what the process inherits whoever it becomes: keyring, limits, labels."""
    process = situation.spec["process"]
    linux = situation.spec.get("linux", {})
    plan = [
        steps.keyring(
            situation.launch.id, why="keys of the host's session are out of the container's reach"
        )
    ]
    for index, limit in enumerate(process.get("rlimits", [])):
        name = limit["type"]
        if name not in flags.RLIMITS:
            raise InvalidSpec(f"/process/rlimits/{index}/type", f"no such limit: {name}")
        plan.append(
            steps.rlimit(
                flags.RLIMITS[name],
                _rlimit(limit["soft"]),
                _rlimit(limit["hard"]),
                why=f"{name} for this process and its children",
            )
        )
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
    sets = process.get("capabilities", {})
    held = situation.features.capabilities
    if situation.in_user_namespace:
        held = (1 << situation.features.last_cap + 1) - 1
    if situation.devices_are_open:
        held &= ~mask(["CAP_MKNOD"])
    bounding = mask(sets.get("bounding", [])) & held
    permitted = mask(sets.get("permitted", [])) & held
    effective = mask(sets.get("effective", [])) & permitted
    inheritable = mask(sets.get("inheritable", [])) & held
    ambient = mask(sets.get("ambient", [])) & permitted & inheritable
    no_new_privs = process.get("noNewPrivileges", False)
    why = "the parts of root's power that the program keeps"
    missing = mask(["CAP_SYS_ADMIN"]) & held & ~effective
    if missing and not no_new_privs and filters(situation):
        effective |= missing
        permitted |= missing
        why += ", and until exec what takes a filter"
    plan = [
        steps.bounding_set(
            bounding, why="no program, setuid root or not, ever gains a capability outside it"
        ),
        steps.identity(
            user.get("uid", 0),
            user.get("gid", 0),
            _groups(situation),
            why="the user that the program runs as",
        ),
        steps.capabilities(effective, permitted, inheritable, ambient, why=why),
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


def filters(situation: Situation) -> list[Step]:
    """Return the filters that come last, just before the program, or nothing."""
    plan = []
    text = situation.spec.get("annotations", {}).get(LANDLOCK_ANNOTATION)
    if text is not None:
        readonly, writable = _landlock_paths(text)
        abi = situation.features.landlock_abi
        if abi < 1:
            raise Unsupported(
                "this kernel has no Landlock, and the container asks for it",
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
                why="system calls that a container has no use for never reach the kernel's code",
            )
        )
    return plan


def _landlock_paths(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    import json

    pointer = f"/annotations/{LANDLOCK_ANNOTATION}"
    try:
        rules = json.loads(text)
    except ValueError as error:
        raise InvalidSpec(pointer, f"not JSON: {error}") from error
    if not isinstance(rules, dict) or rules.keys() - {"readonly", "writable"}:
        raise InvalidSpec(pointer, 'not an object with "readonly" and "writable"')
    lists = []
    for name in ("readonly", "writable"):
        paths = rules.get(name, [])
        if not isinstance(paths, list) or not all(
            isinstance(path, str) and path.startswith("/") for path in paths
        ):
            raise InvalidSpec(pointer, f"{name} isn't a list of absolute paths")
        lists.append(tuple(paths))
    return lists[0], lists[1]


def _labels(situation: Situation) -> Iterable[Step]:
    process = situation.spec["process"]
    profile = process.get("apparmorProfile", "")
    if profile:
        if "apparmor" not in situation.features.lsm:
            raise Unsupported("the spec names an AppArmor profile and this kernel has no AppArmor")
        yield steps.lsm_label(
            "apparmor/exec", f"exec {profile}", why=f"the AppArmor profile {profile} confines it"
        )
    label = process.get("selinuxLabel", "")
    if label:
        if "selinux" not in situation.features.lsm:
            raise Unsupported("the spec names an SELinux label and SELinux isn't active here")
        yield steps.lsm_label("exec", label, why=f"the SELinux label {label} confines it")


def _groups(situation: Situation) -> tuple[int, ...] | None:
    groups = tuple(situation.spec["process"].get("user", {}).get("additionalGids", []))
    own_map_only = (
        situation.makes(flags.CLONE_NEWUSER)
        and not situation.host_maps_any_id
        and len(situation.gid_mappings) == 1
        and situation.gid_mappings[0]["size"] == 1
    )
    if not own_map_only:
        return groups
    if set(groups) - {situation.spec["process"].get("user", {}).get("gid", 0)}:
        raise Unsupported(
            "other groups can't be had where only the caller's own id is mapped",
            hint="have a range of ids granted in /etc/subuid and /etc/subgid",
        )
    return None


def _rlimit(value: int) -> int:
    # The spec writes RLIM_INFINITY as the unsigned number that the kernel has for it.
    return flags.RLIM_INFINITY if value >= (1 << 64) - 1 or value < 0 else value
