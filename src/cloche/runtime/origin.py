"""Which place of a ``config.json`` a failed step of a plan comes from.

The launcher knows steps only.  But the plan of a container also makes the file with its spec, so
that the place can be found afterwards, from the operation and its arguments; neither the steps nor
their wire form have to carry it.  What no field of the spec asks for has no place.
"""

from __future__ import annotations

import errno
import os

from cloche.kernel import flags
from cloche.oci import sysctl
from cloche.oci.schema import child, json_name
from cloche.plan.describe import Arguments
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from cloche.plan.steps import Plan
    from cloche.runtime.records import Failure


class Origin(Record):
    """A place in a spec, and what the kernel would have taken there."""

    pointer: str
    expected: str


class _Case(Record):
    """What is known of a failure."""

    spec: Any
    plan: Plan
    failure: Failure
    arguments: Arguments


def explain(plan: Plan, failure: Failure) -> str:
    """Return where a failed step comes from, what is there and what must be, or ""."""
    spec = _spec(plan)
    if not spec:
        return ""
    step = plan.steps[failure.step]
    rule = _killed if failure.call == "child died" else _RULES.get(step.operation.name)
    found = rule(_Case(spec, plan, failure, Arguments(step))) if rule else None
    if found is None:
        return ""
    value = _value(spec, found.pointer)
    given = "is missing" if value is None else f"is {_shown(value)}"
    return f"config.json: {found.pointer}: {given} but must be {found.expected}"


def _spec(plan: Plan) -> Any:
    """Return the spec that the plan keeps for other commands; that of ``cloche run`` is no file."""
    from cloche import json

    for step in plan.steps:
        if step.operation.name == "make_file":
            arguments = Arguments(step)
            if os.path.basename(arguments.text("path")) == "config.json":
                return json.loads(arguments.blob("data"))
    return None


def _value(spec: Any, pointer: str) -> Any:
    value = spec
    for key in pointer.split("/")[1:]:
        name = key.replace("~1", "/").replace("~0", "~")
        if isinstance(value, list):
            value = value[int(name)]
        else:
            value = value.get(name) if isinstance(value, dict) else None
    return value


def _shown(value: Any) -> str:
    """Return a value as ``json_name`` does, or the text of what holds several."""
    from cloche import json

    text = json.dumps(value) if isinstance(value, list | dict) else ""
    return text if 0 < len(text) <= 80 else json_name(value)


def _find(entries: Iterable[Any], pointer: str, wanted: Callable[[Any], bool]) -> str:
    """Return the pointer of the first entry that is wanted, or ""."""
    found = (child(pointer, index) for index, entry in enumerate(entries) if wanted(entry))
    return next(found, "")


# --- the root ----------------------------------------------------------------------------------


def _mount(case: _Case) -> Origin | None:
    """Find a mount by its destination; of several the one that as many steps were before."""
    dest = _plain(case.arguments.text("dest"))
    mounts = case.spec.get("mounts", [])
    own = [n for n, mount in enumerate(mounts) if _plain(mount["destination"]) == dest]
    if not own:  # a hierarchy in the directory of all cgroups, say
        own = [n for n, mount in enumerate(mounts) if _is_beneath(dest, mount["destination"])][-1:]
    if not own:
        return None
    kind = case.arguments.step.operation.name
    earlier = [
        step
        for step in case.plan.steps[: case.failure.step]
        if step.operation.name == kind and _plain(str(step.argument("dest"))) == dest
    ]
    pointer = child("/mounts", own[min(len(earlier), len(own) - 1)])
    call = case.failure.call
    if kind == "bind" and case.failure.path == case.arguments.text("source"):
        return Origin(f"{pointer}/source", "a file or directory of the host")
    if kind == "mount" and call.startswith("fs"):
        return _file_system(case, pointer)
    if call == "mount_setattr":
        return Origin(f"{pointer}/options", "options that the mount can have")
    return Origin(f"{pointer}/destination", "a place where it can be mounted")


def _file_system(case: _Case, pointer: str) -> Origin:
    """Tell what the calls of fsopen(2) have failed at."""
    kind = case.arguments.text("fstype")
    if case.failure.call == "fsopen":
        return Origin(f"{pointer}/type", "a file system that this kernel has")
    if case.failure.errno == errno.EINVAL:
        return Origin(f"{pointer}/options", f"options that {kind} takes")
    return Origin(f"{pointer}/source", f"what {kind} can be made of")


def _plain(path: str) -> str:
    return os.path.normpath(f"/{path.lstrip('/')}")


def _is_beneath(path: str, directory: str) -> bool:
    return path.startswith(f"{_plain(directory)}/")


def _tree(case: _Case) -> Origin | None:
    source = case.arguments.text("source")
    pointer = _find(case.spec.get("mounts", []), "/mounts", lambda it: it.get("source") == source)
    if not pointer:
        return None
    if case.failure.call == "mount_setattr":
        return Origin(f"{pointer}/options", "options that the mount can have")
    if case.failure.call == "write":  # "uid_map" or "gid_map"
        field = f"{case.failure.path[:3]}Mappings"
        return Origin(f"{pointer}/{field}", "a mapping that the kernel takes")
    return Origin(f"{pointer}/source", "a file or directory of the host")


def _reconfigure(case: _Case) -> Origin | None:
    dest = _plain(case.arguments.text("dest"))
    pointer = _find(
        case.spec.get("mounts", []),
        "/mounts",
        lambda it: _plain(it["destination"]) == dest and "remount" in it.get("options", []),
    )
    if not pointer:
        return None
    if case.failure.call == "fsconfig":
        return Origin(f"{pointer}/options", "options that the file system takes")
    return Origin(f"{pointer}/destination", "where something is mounted")


def _net_device(case: _Case) -> Origin | None:
    device = child("/linux/netDevices", case.arguments.text("name"))
    if case.failure.errno == errno.EEXIST:
        return Origin(device, "a device whose name isn't taken in the container")
    return Origin(device, "a network device of the host that can be moved")


def _path(field: str) -> Callable[[_Case], Origin | None]:
    def find(case: _Case) -> Origin | None:
        dest = case.arguments.text("dest")
        paths = case.spec.get("linux", {}).get(field, [])
        pointer = _find(paths, f"/linux/{field}", lambda path: path == dest)
        return Origin(pointer, "a path in the container that can be covered") if pointer else None

    return find


def _device(case: _Case) -> Origin | None:
    dest = _plain(case.arguments.text("dest"))
    devices = case.spec.get("linux", {}).get("devices", [])
    pointer = _find(devices, "/linux/devices", lambda it: _plain(it["path"]) == dest)
    return Origin(f"{pointer}/path", "a path where a device can be made") if pointer else None


def _sysctl(case: _Case) -> Origin | None:
    for name in case.spec.get("linux", {}).get("sysctl", {}):
        if sysctl.path(name) == case.arguments.text("path"):
            expected = "a value that the kernel takes"
            if case.failure.call != "write":
                expected = "of a kernel parameter that this kernel has"
            return Origin(child("/linux/sysctl", name), expected)
    return None


# --- namespaces --------------------------------------------------------------------------------


def _namespace(case: _Case) -> Origin | None:
    path = case.arguments.text("path")
    namespaces = case.spec.get("linux", {}).get("namespaces", [])
    pointer = _find(namespaces, "/linux/namespaces", lambda it: it.get("path") == path)
    return Origin(f"{pointer}/path", "a namespace of its type") if pointer else None


def _mapping(case: _Case) -> Origin:
    field = "gidMappings" if case.arguments.number("group") else "uidMappings"
    return Origin(f"/linux/{field}", "ranges that the caller may map")


def _mapping_program(case: _Case) -> Origin:
    group = os.path.basename(case.arguments.words("argv")[0]) == "newgidmap"
    return Origin(f"/linux/{'gid' if group else 'uid'}Mappings", "ranges that the caller may map")


# --- cgroups -----------------------------------------------------------------------------------

_LIMITS = {
    "memory.limit_in_bytes": "memory/limit",
    "memory.max": "memory/limit",
    "memory.soft_limit_in_bytes": "memory/reservation",
    "memory.low": "memory/reservation",
    "memory.memsw.limit_in_bytes": "memory/swap",
    "memory.swap.max": "memory/swap",
    "memory.kmem.tcp.limit_in_bytes": "memory/kernelTCP",
    "memory.swappiness": "memory/swappiness",
    "memory.oom_control": "memory/disableOOMKiller",
    "cpu.shares": "cpu/shares",
    "cpu.weight": "cpu/shares",
    "cpu.cfs_period_us": "cpu/period",
    "cpu.cfs_quota_us": "cpu/quota",
    "cpu.max": "cpu/quota",
    "cpu.cfs_burst_us": "cpu/burst",
    "cpu.max.burst": "cpu/burst",
    "cpu.rt_period_us": "cpu/realtimePeriod",
    "cpu.rt_runtime_us": "cpu/realtimeRuntime",
    "cpu.idle": "cpu/idle",
    "cpuset.cpus": "cpu/cpus",
    "cpuset.mems": "cpu/mems",
    "pids.max": "pids/limit",
    "net_cls.classid": "network/classID",
    "net_prio.ifpriomap": "network/priorities",
}
_CONTROLLERS = {"io": "blockIO", "blkio": "blockIO", "devices": "devices", "rdma": "rdma"}


def _limit(case: _Case) -> Origin | None:
    file = os.path.basename(case.arguments.text("path"))
    if file == "schemata":
        return Origin("/linux/intelRdt", "shares that the processor can measure out")
    resources = case.spec.get("linux", {}).get("resources", {})
    value = json_name(case.arguments.text("value"))
    expected = f"what the kernel takes for {file} (it was given {value})"
    if file in resources.get("unified", {}):
        return Origin(child("/linux/resources/unified", file), expected)
    controller, _, rest = file.partition(".")
    pages = resources.get("hugepageLimits", [])
    if controller == "hugetlb":
        pointer = _find(
            pages, "/linux/resources/hugepageLimits", lambda it: rest.startswith(it["pageSize"])
        )
        return Origin(f"{pointer}/pageSize", "a size of pages that this kernel has")
    field = _LIMITS.get(file) or _CONTROLLERS.get(controller, "")
    pointer = f"/linux/resources/{field}"
    return Origin(pointer, expected) if field and _value(case.spec, pointer) is not None else None


def _group(case: _Case) -> Origin | None:
    if not case.spec.get("linux", {}).get("cgroupsPath"):
        return None
    return Origin("/linux/cgroupsPath", "a cgroup that can be made")


def _killed(case: _Case) -> Origin | None:
    """Tell why a child was killed, at whatever step: for want of memory, where that is limited."""
    pointer = "/linux/resources/memory/limit"
    if case.failure.path != "signal 9" or _value(case.spec, pointer) is None:
        return None
    return Origin(pointer, "enough for the launcher's own process")


# --- privileges and the process ----------------------------------------------------------------


def _user(case: _Case) -> Origin | None:
    field = {"setresuid": "uid", "setresgid": "gid", "setgroups": "additionalGids"}.get(
        case.failure.call
    )
    if field is None:
        return None
    which = "ids" if field == "additionalGids" else "an id"
    linux = case.spec.get("linux", {})
    mapped = any(entry["type"] == "user" for entry in linux.get("namespaces", []))
    where = f" that {'uidMappings' if field == 'uid' else 'gidMappings'} has" if mapped else ""
    return Origin(f"/process/user/{field}", f"{which}{where or ' that the kernel takes'}")


def _rlimit(case: _Case) -> Origin | None:
    number = case.arguments.number("resource")
    limits = case.spec["process"].get("rlimits", [])
    pointer = _find(limits, "/process/rlimits", lambda it: flags.RLIMITS.get(it["type"]) == number)
    if not pointer:
        return None
    name = case.spec["process"]["rlimits"][int(pointer.rsplit("/", 1)[1])]["type"]
    return Origin(f"{pointer}/hard", f"a limit of {name} that the caller may set")


def _label(case: _Case) -> Origin:
    kind = "apparmorProfile" if "apparmor" in case.arguments.text("attribute") else "selinuxLabel"
    return Origin(f"/process/{kind}", "one that this machine has loaded")


def _hook(case: _Case) -> Origin | None:
    path, argv = case.arguments.text("path"), list(case.arguments.words("argv"))
    for moment, hooks in case.spec.get("hooks", {}).items():
        pointer = _find(
            hooks,
            f"/hooks/{moment}",
            lambda it: it["path"] == path and it.get("args", argv) in (argv, []),
        )
        if pointer:
            return Origin(f"{pointer}/path", "a program that runs and succeeds")
    return None


def _field(pointer: str, expected: str) -> Callable[[_Case], Origin | None]:
    return lambda case: (
        Origin(pointer, expected) if _value(case.spec, pointer) is not None else None
    )


_RULES: dict[str, Callable[[_Case], Origin | None]] = {
    "open_root": _field("/root/path", "a directory"),
    "mount": _mount,
    "bind": _mount,
    "mount_attributes": _mount,
    "open_tree": _tree,
    "idmap_tree": _tree,
    "reconfigure": _reconfigure,
    "net_device": _net_device,
    "time_namespace": _field("/linux/timeOffsets", "offsets that leave no clock before 0"),
    "mask": _path("maskedPaths"),
    "readonly": _path("readonlyPaths"),
    "make_node": _device,
    "sysctl": _sysctl,
    "hostname": _field("/hostname", "a name that the kernel takes"),
    "domainname": _field("/domainname", "a name that the kernel takes"),
    "open_namespace": _namespace,
    "join_namespace": _namespace,
    "spawn": _field("/linux/namespaces", "namespaces that this machine lets you make"),
    "unshare": _field("/linux/namespaces", "namespaces that this machine lets you make"),
    "id_map": _mapping,
    "id_map_program": _mapping_program,
    "cgroup_set": _limit,
    "cgroup_parent": _group,
    "cgroup_create": _group,
    "identity": _user,
    "rlimit": _rlimit,
    "oom_score_adj": _field("/process/oomScoreAdj", "a value that the caller may set"),
    "chdir": _field("/process/cwd", "a directory in the container"),
    "lsm_label": _label,
    "personality": _field("/linux/personality", "one that this kernel has"),
    "scheduler": _field("/process/scheduler", "what the kernel takes and the caller may set"),
    "io_priority": _field("/process/ioPriority", "what the kernel takes and the caller may set"),
    "memory_policy": _field("/linux/memoryPolicy", "a policy that the kernel takes"),
    "cpu_affinity": _field("/process/execCPUAffinity", "CPUs that the container may use"),
    "capabilities": _field("/process/capabilities", "capabilities that can be given"),
    "bounding_set": _field("/process/capabilities", "capabilities that can be given"),
    "seccomp": _field("/linux/seccomp", "a filter that the kernel takes"),
    "send_listener": _field("/linux/seccomp/listenerPath", "a socket that somebody listens on"),
    "exec": _field("/process/args/0", "a program that can be executed"),
    "find_program": _field("/process/args/0", "a program that can be executed"),
    "hook": _hook,
}
