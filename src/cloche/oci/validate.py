"""Check a ``config.json``: first its schema, then that it doesn't contradict itself.

Pure: nothing of the host is looked at.  What the specification calls an error is one here; what
only the kernel can know (does the device exist, is the limit too high) is left to the kernel.

Source: OCI runtime-spec, ``config.md`` and ``config-linux.md``.
"""

from __future__ import annotations

from cloche import json
from cloche.errors import InvalidSpec
from cloche.oci import fields, schema, sysctl
from cloche.oci.schema import child, json_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from cloche.oci.spec import (
        Device,
        DeviceRule,
        IDMapping,
        IntelRdt,
        Linux,
        Mount,
        Process,
        Seccomp,
        Spec,
    )

RLIMITS = frozenset(
    "RLIMIT_" + name
    for name in (
        "AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME "
        "SIGPENDING STACK"
    ).split()
)
"""getrlimit(2)."""

MAPPINGS = 340
"""The most lines that the kernel takes for a uid or gid map: user_namespaces(7)."""

NAME_LENGTH = 64
"""The most bytes of a host or domain name: uts_namespaces(7), ``__NEW_UTS_LEN``."""

_NO_RESCTRL_GROUPS = ("", ".", "..", "info", "mon_groups", "mon_data")
_CPU_LIST_LETTERS = frozenset("0123456789,- ")


def parse(data: bytes | str) -> Spec:
    """Return the spec in the text of a ``config.json``.

    Raises InvalidSpec when it isn't JSON, or ``validate`` finds something wrong.
    """
    return validate(_document(data))


def parse_process(data: bytes | str) -> Process:
    """Return the process in the text of a file of its own, as for one more program.

    Raises InvalidSpec when it isn't JSON, or something is wrong.
    """
    process: Process = schema.convert(_document(data), fields.Process)
    _process(process)
    return process


def _document(data: bytes | str) -> object:
    """Return the value of a JSON text.

    Raises InvalidSpec when it isn't one, or a name is there twice: what checked it before may have
    taken the other one.
    """
    try:
        text = data if isinstance(data, str) else data.decode()
        return json.loads(text, strict=True)
    except json.DuplicateName as error:
        raise InvalidSpec(error.pointer, "is there twice but must be there only once") from error
    except RecursionError as error:
        raise InvalidSpec("", "is nested too deeply but must be JSON") from error
    except UnicodeDecodeError as error:
        raise InvalidSpec("", f"has no UTF-8 at byte {error.start} but must be JSON") from error
    except ValueError as error:
        problem = str(error)
        if "sys.set_int_max_str_digits" in problem:
            problem = "a number has thousands of digits"
        raise InvalidSpec("", f"is something else but must be JSON: {problem}") from error


def validate(document: object) -> Spec:
    """Return the part of a JSON document that is a spec, checked.

    Unknown fields and nulls are left out, see ``cloche.oci.schema.convert``.

    Raises InvalidSpec at the first thing that is wrong, with its JSON pointer.
    """
    spec: Spec = schema.convert(document, fields.Spec)
    _version(spec["ociVersion"])
    if not spec["root"]["path"]:
        raise InvalidSpec("/root/path", 'is "" but must be a directory')
    if "process" in spec:
        _process(spec["process"])
    for index, mount in enumerate(spec.get("mounts", ())):
        _mount(mount, child("/mounts", index))
    moments: dict[str, Any] = {**spec.get("hooks", {})}
    for moment, hooks in moments.items():
        for index, hook in enumerate(hooks):
            _absolute(hook["path"], f"/hooks/{moment}/{index}/path")
    if "" in spec.get("annotations", {}):
        raise InvalidSpec("/annotations/", "is an empty key but must be a name")
    _namespaces(spec)
    _linux(spec.get("linux", {}))
    return spec


def _version(version: str) -> None:
    """Require a semantic version, https://semver.org, of major version 1."""
    core = version.split("+", 1)[0].split("-", 1)[0].split(".")
    if len(core) != 3 or not all(_is_number(part) for part in core):
        raise InvalidSpec(
            "/ociVersion", f"is {json_name(version)} but must be a version such as 1.3.0"
        )
    if core[0] != "1":
        raise InvalidSpec("/ociVersion", f"is {json_name(version)} but must be 1.x")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and (text == "0" or text[0] != "0")


# --- process -----------------------------------------------------------------------------------


def _process(process: Process) -> None:
    if not process.get("args"):
        raise InvalidSpec("/process/args", f"is {_given(process, 'args')} but must name a program")
    if not process["args"][0]:
        raise InvalidSpec("/process/args/0", 'is "" but must be the name of a program')
    _absolute(process["cwd"], "/process/cwd")
    for index, entry in enumerate(process.get("env", ())):
        if entry.find("=") < 1:
            problem = f"is {json_name(entry)} but must be NAME=value"
            raise InvalidSpec(child("/process/env", index), problem)
    _rlimits(process)
    if "scheduler" in process or "execCPUAffinity" in process:
        from cloche.oci import scheduling

        scheduling.check_process(process)


def _rlimits(process: Process) -> None:
    seen = set()
    for index, limit in enumerate(process.get("rlimits", ())):
        pointer = child("/process/rlimits", index)
        name = limit["type"]
        if name not in RLIMITS:
            raise InvalidSpec(
                f"{pointer}/type", f"is {json_name(name)} but must be a resource limit"
            )
        if name in seen:
            raise InvalidSpec(f"{pointer}/type", f"is {name} again but must be there only once")
        seen.add(name)
        if limit["soft"] % 2**64 > limit["hard"] % 2**64:  # -1 is the greatest
            problem = f"is {limit['soft']} but must be no more than the hard limit, {limit['hard']}"
            raise InvalidSpec(f"{pointer}/soft", problem)


# --- mounts ------------------------------------------------------------------------------------


def _mount(mount: Mount, pointer: str) -> None:
    """Check a mount; a relative destination is deprecated but allowed, and relative to "/"."""
    if not mount["destination"]:
        raise InvalidSpec(f"{pointer}/destination", 'is "" but must be a path')
    options = mount.get("options", ())
    is_bind = "bind" in options or "rbind" in options
    if is_bind and not mount.get("source"):
        problem = f"is {_given(mount, 'source')} but must be what is bound"
        raise InvalidSpec(f"{pointer}/source", problem)
    if not (is_bind or "remount" in options or mount.get("type")):
        problem = f"is {_given(mount, 'type')} but must be a file system, unless it is a bind mount"
        raise InvalidSpec(f"{pointer}/type", problem)
    if bool(mount.get("uidMappings")) != bool(mount.get("gidMappings")):
        missing = "gidMappings" if mount.get("uidMappings") else "uidMappings"
        problem = f"is {_given(mount, missing)} but must come with the other mappings"
        raise InvalidSpec(f"{pointer}/{missing}", problem)
    _mappings(mount.get("uidMappings", ()), f"{pointer}/uidMappings")
    _mappings(mount.get("gidMappings", ()), f"{pointer}/gidMappings")


# --- namespaces --------------------------------------------------------------------------------


def _namespaces(spec: Spec) -> None:
    """Require each setting's namespace, so that nothing meant for a container hits the host."""
    linux = spec.get("linux", {})
    paths: dict[str, str] = {}
    for index, namespace in enumerate(linux.get("namespaces", ())):
        pointer = child("/linux/namespaces", index)
        if namespace["type"] in paths:
            problem = f"is {namespace['type']} again but must be there only once"
            raise InvalidSpec(f"{pointer}/type", problem)
        paths[namespace["type"]] = namespace.get("path", "")
        if namespace.get("path"):
            _absolute(namespace["path"], f"{pointer}/path")

    def require(kind: str, given: object, pointer: str) -> None:
        if given and kind not in paths:
            problem = f'is there but must not be without {{"type": "{kind}"}} in /linux/namespaces'
            raise InvalidSpec(pointer, problem)

    for field, name in (
        ("hostname", spec.get("hostname", "")),
        ("domainname", spec.get("domainname", "")),
    ):
        if len(name.encode("utf-8", "surrogateescape")) > NAME_LENGTH:
            problem = f"is {json_name(name)} but must have at most {NAME_LENGTH} bytes"
            raise InvalidSpec(f"/{field}", problem)
    require("uts", spec.get("hostname"), "/hostname")
    require("uts", spec.get("domainname"), "/domainname")
    require("mount", spec.get("mounts"), "/mounts")
    require("mount", linux.get("maskedPaths"), "/linux/maskedPaths")
    require("mount", linux.get("readonlyPaths"), "/linux/readonlyPaths")
    require("user", linux.get("uidMappings"), "/linux/uidMappings")
    require("user", linux.get("gidMappings"), "/linux/gidMappings")
    require("network", linux.get("netDevices"), "/linux/netDevices")
    require("time", linux.get("timeOffsets"), "/linux/timeOffsets")
    for field, mappings in (
        ("uidMappings", linux.get("uidMappings", ())),
        ("gidMappings", linux.get("gidMappings", ())),
    ):
        if paths.get("user") == "" and not mappings:
            problem = f"is {_given(linux, field)} but must map ids into the new user namespace"
            raise InvalidSpec(f"/linux/{field}", problem)
        _mappings(mappings, f"/linux/{field}")
    if paths.get("time") and linux.get("timeOffsets"):
        raise InvalidSpec(
            "/linux/timeOffsets", "is there but must not be: the time namespace is joined"
        )
    for name in linux.get("sysctl", {}):
        pointer = child("/linux/sysctl", name)
        if name == "kernel.hostname" and spec.get("hostname"):
            raise InvalidSpec(pointer, "is there but must not be beside /hostname")
        problem = sysctl.problem(name, paths.keys())
        if problem:
            raise InvalidSpec(pointer, f"is there but must not be: it {problem}")


def _mappings(mappings: Sequence[IDMapping], pointer: str) -> None:
    if len(mappings) > MAPPINGS:
        raise InvalidSpec(pointer, f"has {len(mappings)} entries but must have at most {MAPPINGS}")
    for index, mapping in enumerate(mappings):
        if mapping["size"] == 0:
            raise InvalidSpec(f"{pointer}/{index}/size", "is 0 but must be at least 1")
    for side in ("containerID", "hostID"):
        _disjoint([(m[side], m["size"]) for m in mappings], pointer, side)


def _disjoint(ranges: Iterable[tuple[int, int]], pointer: str, side: str) -> None:
    """Refuse ranges (first, size) that overlap, or hold 2**32 - 1, which means "no id"."""
    end, before = 0, None
    for first, size, index in sorted((first, size, n) for n, (first, size) in enumerate(ranges)):
        place = f"{pointer}/{index}/{side}"
        if before is not None and first < end:
            raise InvalidSpec(place, f"is {first} but must not be in the range of entry {before}")
        end, before = first + size, index
        if end > 2**32 - 1:
            raise InvalidSpec(place, f"is {first} but must end, with its size, before 4294967295")


# --- linux -------------------------------------------------------------------------------------


def _linux(linux: Linux) -> None:
    if ".." in linux.get("cgroupsPath", "").split("/"):
        problem = f"is {json_name(linux['cgroupsPath'])} but must be without .."
        raise InvalidSpec("/linux/cgroupsPath", problem)
    for field, paths in (
        ("maskedPaths", linux.get("maskedPaths", ())),
        ("readonlyPaths", linux.get("readonlyPaths", ())),
    ):
        for index, path in enumerate(paths):
            _absolute(path, f"/linux/{field}/{index}")
    for index, device in enumerate(linux.get("devices", ())):
        pointer = child("/linux/devices", index)
        _absolute(device["path"], f"{pointer}/path")
        for number in ("major", "minor"):
            if device["type"] != "p" and number not in device:
                raise InvalidSpec(f"{pointer}/{number}", "is missing but must be there")
        _device_numbers(device, 0, pointer)
    _net_devices(linux)
    _resources(linux)
    if "seccomp" in linux:
        _seccomp(linux["seccomp"])
    if "intelRdt" in linux:
        _resctrl(linux["intelRdt"])
    if "memoryPolicy" in linux:
        from cloche.oci import scheduling

        scheduling.check_memory_policy(linux["memoryPolicy"])


def _resctrl(rdt: IntelRdt) -> None:
    pointer = "/linux/intelRdt"
    lines = {
        "memBwSchema": rdt.get("memBwSchema", "MB:"),
        "l3CacheSchema": rdt.get("l3CacheSchema", ""),
        **{f"schemata/{index}": line for index, line in enumerate(rdt.get("schemata", ()))},
    }
    if not lines["memBwSchema"].startswith("MB:"):
        problem = f"is {json_name(lines['memBwSchema'])} but must start with MB:"
        raise InvalidSpec(f"{pointer}/memBwSchema", problem)
    for field, line in lines.items():
        if "\n" in line:
            problem = f"is {json_name(line)} but must be one line"
            raise InvalidSpec(f"{pointer}/{field}", problem)
    group = rdt.get("closID", "/")
    if group != "/" and (group in _NO_RESCTRL_GROUPS or "/" in group):
        problem = f"is {json_name(group)} but must be fit to name a group"
        raise InvalidSpec(f"{pointer}/closID", problem)


def _device_numbers(holder: Device | DeviceRule, least: int, pointer: str) -> None:
    """Refuse numbers that the kernel has no bits for, and would cut: <linux/kdev_t.h>."""
    for name, number, greatest in (
        ("major", holder.get("major", 0), 2**12 - 1),
        ("minor", holder.get("minor", 0), 2**20 - 1),
    ):
        if not least <= number <= greatest:
            raise InvalidSpec(f"{pointer}/{name}", f"is {number} but must be {least} to {greatest}")


def _net_devices(linux: Linux) -> None:
    for name, device in linux.get("netDevices", {}).items():
        for text in (name, device.get("name", name)):
            if not _is_interface_name(text):
                pointer = child("/linux/netDevices", name)
                problem = f"is {json_name(text)} but must be fit to name a network device"
                raise InvalidSpec(pointer, problem)


def _is_interface_name(name: str) -> bool:
    """The kernel's own rule, ``dev_valid_name``: 1 to 15 bytes, no slash, colon or space."""
    encoded = name.encode("utf-8", "surrogateescape")
    bad = name in (".", "..") or any(c in "/:" or c.isspace() for c in name)
    return 1 <= len(encoded) <= 15 and not bad


def _resources(linux: Linux) -> None:
    resources = linux.get("resources", {})
    for index, rule in enumerate(resources.get("devices", ())):
        if not set(rule.get("access", "")) <= set("rwm"):
            pointer = f"/linux/resources/devices/{index}/access"
            raise InvalidSpec(pointer, f"is {json_name(rule['access'])} but must be of r, w, m")
        _device_numbers(rule, -1, f"/linux/resources/devices/{index}")
    cpu = resources.get("cpu", {})
    if 0 < cpu.get("quota", 0) < cpu.get("burst", 0):
        problem = f"is {cpu['burst']} but must be no more than the quota, {cpu['quota']}"
        raise InvalidSpec("/linux/resources/cpu/burst", problem)
    _cpu_list(cpu.get("cpus", ""), "/linux/resources/cpu/cpus")
    _cpu_list(cpu.get("mems", ""), "/linux/resources/cpu/mems")
    for index, limit in enumerate(resources.get("hugepageLimits", ())):
        size = limit["pageSize"]
        if not (_is_number(size[:-2]) and size[0] != "0" and size[-2:] in ("KB", "MB", "GB")):
            pointer = f"/linux/resources/hugepageLimits/{index}/pageSize"
            raise InvalidSpec(pointer, f"is {json_name(size)} but must be a size such as 2MB")
    for name, limits in resources.get("rdma", {}).items():
        if not limits:
            pointer = child("/linux/resources/rdma", name)
            raise InvalidSpec(pointer, "is {} but must have hcaHandles or hcaObjects")
    for name in resources.get("unified", {}):
        if "/" in name or name in ("", ".", ".."):
            pointer = child("/linux/resources/unified", name)
            problem = f"is {json_name(name)} but must be the name of a file in a cgroup"
            raise InvalidSpec(pointer, problem)


def _seccomp(seccomp: Seccomp) -> None:
    pointer = "/linux/seccomp"
    with_errno = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
    if "defaultErrnoRet" in seccomp and seccomp["defaultAction"] not in with_errno:
        problem = f"is there but must not be: {seccomp['defaultAction']} returns no errno"
        raise InvalidSpec(f"{pointer}/defaultErrnoRet", problem)
    if seccomp.get("listenerMetadata") and not seccomp.get("listenerPath"):
        problem = "is there but must not be without a listenerPath"
        raise InvalidSpec(f"{pointer}/listenerMetadata", problem)
    for index, rule in enumerate(seccomp.get("syscalls", ())):
        place = f"{pointer}/syscalls/{index}"
        if not rule["names"]:
            raise InvalidSpec(f"{place}/names", "is [] but must name a system call")
        if "errnoRet" in rule and rule["action"] not in with_errno:
            problem = f"is there but must not be: {rule['action']} returns no errno"
            raise InvalidSpec(f"{place}/errnoRet", problem)


def _given(holder: Any, field: str) -> str:
    """Describe a value that is missing, or empty."""
    return json.dumps(holder[field]) if field in holder else "missing"


def _absolute(path: str, pointer: str) -> None:
    if not path.startswith("/"):
        raise InvalidSpec(pointer, f"is {json_name(path)} but must be an absolute path")


def _cpu_list(text: str, pointer: str) -> None:
    if not _CPU_LIST_LETTERS.issuperset(text):
        raise InvalidSpec(pointer, f"is {json_name(text)} but must be a list such as 0-3,7")
