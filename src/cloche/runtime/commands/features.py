"""``features``: what this runtime can do, whatever the machine that it runs on can.

Names come from the tables that a ``config.json`` is checked with and planned by.  Where such a
table has more than can be planned, the answer is found by planning a small container that asks for
it: on a machine that has everything, as root.  So nothing is listed that would be refused.

Source: OCI runtime-spec, ``features.md`` and ``features-linux.md``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from cloche.runtime.arguments import Option, Values
    from cloche.runtime.main import Settings

OPTIONS: dict[str, tuple[Option, ...]] = {"features": ()}

_OLDEST = "1.0.0"
_MAPPINGS = [{"containerID": 0, "hostID": 1, "size": 1}]


def run_features(_settings: Settings, _values: Values) -> int:
    """Print the document."""
    from cloche import json

    print(json.dumps(document(), indent="    "))
    return 0


def document() -> dict[str, Any]:
    """Return the features structure."""
    from cloche.oci import fields
    from cloche.runtime.checkpoint import CONFIG_ANNOTATION
    from cloche.runtime.main import SPEC_VERSION

    return {
        "ociVersionMin": _OLDEST,
        "ociVersionMax": SPEC_VERSION,
        "hooks": list(fields.Hooks.fields),
        "mountOptions": _mount_options(),
        "linux": _linux(),
        "annotations": _annotations(),
        # Of the annotations that begin so some choose the kind of root, or the first process.
        "potentiallyUnsafeConfigAnnotations": ["cloche.", CONFIG_ANNOTATION],
    }


def _linux() -> dict[str, Any]:
    from cloche.kernel import capabilities, flags

    owner = {"uidMappings": _MAPPINGS, "gidMappings": _MAPPINGS}
    kinds = [
        kind
        for kind in flags.NAMESPACE_KINDS
        if _plans({"namespaces": _namespaces(kind), **(owner if kind == "user" else {})})
    ]
    return {
        "namespaces": sorted(kinds),
        "capabilities": list(capabilities.NAMES),
        "cgroup": _cgroup(),
        "seccomp": _seccomp(),
        "apparmor": {"enabled": _plans({}, process={"apparmorProfile": "unconfined"})},
        "selinux": {"enabled": _plans({}, process={"selinuxLabel": "label"})},
        "memoryPolicy": _memory_policy(),
        "intelRdt": {
            "enabled": _plans({"intelRdt": {"closID": "group"}}),
            "schemata": _plans({"intelRdt": {"schemata": ["L3:0=f"]}}),
            "monitoring": _plans({"intelRdt": {"enableMonitoring": True}}),
        },
        "mountExtensions": {"idmap": {"enabled": _plans({}, mount=_bind([], mapped=True))}},
        "netDevices": {"enabled": _plans({"netDevices": {"eth0": {}}})},
    }


def _namespaces(*more: str) -> list[dict[str, str]]:
    return [{"type": kind} for kind in dict.fromkeys(("mount", "network", *more))]


def _mount_options() -> list[str]:
    from cloche.kernel import flags

    found = []
    for name, option in flags.MOUNT_OPTIONS.items():
        tmpfs = {"destination": "/mnt", "type": "tmpfs", "options": [name]}
        tries = (tmpfs, _bind([name]), _bind([name], mapped=True))
        if not option.action or any(_plans({}, mount=mount) for mount in tries):
            found.append(name)
    return sorted(found)


def _bind(options: Sequence[str], *, mapped: bool = False) -> dict[str, Any]:
    mount = {"destination": "/mnt", "source": "/mnt", "options": ["bind", *options]}
    mappings = {"uidMappings": _MAPPINGS, "gidMappings": _MAPPINGS} if mapped else {}
    return {**mount, **mappings}


def _cgroup() -> dict[str, bool]:
    memory = {"resources": {"memory": {"limit": 1 << 20}}, "cgroupsPath": "/group"}
    rdma = {"resources": {"rdma": {"device": {"hcaHandles": 1}}}, "cgroupsPath": "/group"}
    return {
        "v1": _plans(memory, cgroups="v1"),
        "v2": _plans(memory, cgroups="v2"),
        "systemd": _has_scopes(rootless=False),
        "systemdUser": _has_scopes(rootless=True),
        "rdma": _plans(rdma, cgroups="v1") and _plans(rdma, cgroups="v2"),
    }


def _has_scopes(*, rootless: bool) -> bool:
    from cloche.runtime.systemd import properties

    return properties.unit("", "features", rootless=rootless)[1].endswith(".scope")


def _seccomp() -> dict[str, Any]:
    from cloche.errors import ClocheError
    from cloche.kernel import flags
    from cloche.kernel.seccomp import compiler, profile
    from cloche.oci import fields

    def is_taken(action: str) -> bool:
        rule = {"names": ["personality"], "action": action}
        rules = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule], "listenerPath": "/listener"}
        try:
            profile.check_spec(rules)
        except ClocheError:
            return False
        return True

    try:
        architectures = compiler.known(fields.SeccompArch.words)
    except ClocheError:  # libseccomp isn't installed
        return {"enabled": False}
    names = sorted(flags.SECCOMP_FILTER_FLAGS)
    return {
        "enabled": True,
        "actions": sorted(action for action in profile.ACTIONS if is_taken(action)),
        "operators": sorted(profile.OPERATORS),
        "archs": sorted(architectures),
        "knownFlags": names,
        "supportedFlags": names,
    }


def _memory_policy() -> dict[str, list[str]]:
    from cloche.oci import fields
    from cloche.oci.schema import Array, Word

    mode, flags = (fields.MemoryPolicy.fields[name] for name in ("mode", "flags"))
    assert isinstance(mode, Word)
    assert isinstance(flags, Array)
    assert isinstance(flags.item, Word)

    def is_taken(**policy: Any) -> bool:
        return any(_plans({"memoryPolicy": {**policy, **nodes}}) for nodes in ({}, {"nodes": "0"}))

    return {
        "modes": [word for word in mode.words if is_taken(mode=word)],
        "flags": [
            word
            for word in flags.item.words
            if any(is_taken(mode=mode, flags=[word]) for mode in ("MPOL_BIND", "MPOL_INTERLEAVE"))
        ],
    }


def _annotations() -> dict[str, str]:
    from cloche import __version__
    from cloche.errors import MissingDependency
    from cloche.kernel.seccomp import compiler
    from cloche.runtime.main import COMMANDS

    found = {
        "cloche.version": __version__,
        # What runc calls it, engines ask every runtime for.
        "org.opencontainers.runc.checkpoint.enabled": str("checkpoint" in COMMANDS).lower(),
    }
    try:
        version = ".".join(str(number) for number in compiler.version())
    except MissingDependency:
        return found
    return {**found, "io.github.seccomp.libseccomp.version": version}


def _plans(
    linux: Mapping[str, Any],
    *,
    process: Mapping[str, Any] = {},
    mount: Mapping[str, Any] | None = None,
    cgroups: str = "v2",
) -> bool:
    """Whether a container that asks for something can be planned."""
    from cloche.errors import ClocheError
    from cloche.kernel.resctrl import Resctrl
    from cloche.oci.validate import validate
    from cloche.plan.compile import compile
    from cloche.plan.launch import Launch

    spec = {
        "ociVersion": _OLDEST,
        "root": {"path": "/root"},
        "process": {"args": ["true"], "cwd": "/", **process},
        "mounts": [mount] if mount else [],
        "linux": {"namespaces": _namespaces(), **linux},
    }
    launch = Launch("features", "/features", resctrl=Resctrl("/sys/fs/resctrl", "L3:0=f"))
    try:
        compile(validate(spec), _machine(cgroups), launch)
    except ClocheError:
        return False
    return True


def _machine(version: str) -> Any:
    """Return this machine as it would be if it had all that plans ask for."""
    from cloche.kernel import capabilities
    from cloche.kernel import features as host
    from cloche.kernel.cgroup.layout import Hierarchy, Layout

    place = "/sys/fs/cgroup"
    controllers = ("memory", "rdma")
    hierarchy = Hierarchy(
        1 if version == "v1" else 2, controllers, place, place, place, controllers
    )
    return host.detect()._replace(
        kernel=(99, 0),
        uid=0,
        gid=0,
        capabilities=capabilities.full(capabilities.LAST),
        in_user_namespace=False,
        cgroups=Layout(version, (hierarchy,), device_programs=True),
        lsm=("apparmor", "selinux"),
        landlock_abi=9,
    )
