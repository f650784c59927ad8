"""From what a user asks for to a runtime spec: ``cloche run`` only writes such a spec.

Docker's meanings throughout; where they depend on the daemon's set-up, those of a fresh one.
What the spec can't say is in ``files`` and ``seccomp_profile``.
"""

from __future__ import annotations

import os

from cloche.engine import accounts, defaults, devices, users
from cloche.engine.mounts import mounts
from cloche.engine.options import HOST, UNCONFINED, RunOptions, check
from cloche.engine.resources import resources
from cloche.errors import InvalidArgument, PermissionDenied, Unsupported
from cloche.kernel import capabilities
from cloche.oci import sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Set

    from cloche.engine.image import Image
    from cloche.kernel.features import Features
    from cloche.oci.spec import Linux, Namespace, Process, Spec

OCI_VERSION = "1.3.0"
CGROUP_PARENT = "cloche"

_MANAGED = ("hosts", "hostname", "resolv.conf")
"""Files of /etc that are made anew for each container."""
_LOCALHOST = (
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::\tip6-localnet\n"
    "ff00::\tip6-mcastprefix\n"
    "ff02::1\tip6-allnodes\n"
    "ff02::2\tip6-allrouters\n"
)


def spec(
    options: RunOptions,
    image: Image,
    features: Features,
    identifier: str,
    directory: str,
    *,
    terminal_size: tuple[int, int] = (0, 0),
) -> Spec:
    """Return the runtime spec of a container.

    ``directory`` is where the launcher puts ``files``; ``terminal_size`` is columns and lines.
    What is looked up on the host: the root's account files, devices that are asked for, which
    bind sources exist.

    Raises InvalidArgument, NotFound, PermissionDenied and Unsupported for what can't be had.
    """
    check(options)
    private_users = users.is_private(options.userns, features)
    account = accounts.lookup(image.root, options.user, options.group_add)
    namespaces = _namespaces(options, private_users)
    _check_sysctls(options, {namespace["type"] for namespace in namespaces})
    given = _devices(options)
    linux: Linux = {
        "namespaces": namespaces,
        "cgroupsPath": f"{options.cgroup_parent or CGROUP_PARENT}/{identifier}",
        "resources": resources(options, given, features),
        "sysctl": {
            **_default_sysctls(options, private_users or features.in_user_namespace),
            **dict(options.sysctls),
        },
        "maskedPaths": [],
        "readonlyPaths": [],
    }
    if private_users:
        maps = users.mappings(features)
        users.require_mapped(account.uid, maps.uids, "user")
        for gid in account.groups:
            users.require_mapped(gid, maps.gids, "group")
        linux["uidMappings"], linux["gidMappings"] = maps
    else:
        linux["devices"] = [found.device for found in given]
    if not (options.privileged or options.unmasked_paths):
        linux["maskedPaths"] = _masked_paths(features.cpus)
        linux["readonlyPaths"] = list(defaults.READONLY_PATHS)
    result: Spec = {
        "ociVersion": OCI_VERSION,
        "root": {"path": image.root, "readonly": options.read_only},
        "process": _process(options, image, account, features, private_users, identifier),
        "mounts": mounts(
            options,
            image,
            {f"/etc/{name}": f"{directory}/{name}" for name in _MANAGED},
            given if private_users else [],
        ),
        "annotations": _annotations(options, image),
        "linux": linux,
    }
    if options.terminal and all(terminal_size):
        columns, lines = terminal_size
        result["process"]["consoleSize"] = {"height": lines, "width": columns}
    if options.uts != HOST:
        result["hostname"] = hostname(options, identifier)
        if options.domainname:
            result["domainname"] = options.domainname
    return result


def hostname(options: RunOptions, identifier: str) -> str:
    """Return the container's hostname: its id's beginning unless another one is asked for."""
    if options.hostname:
        return options.hostname
    if HOST in (options.uts, options.network):
        return os.uname().nodename
    return identifier[:12]


def files(options: RunOptions, identifier: str) -> tuple[tuple[str, bytes], ...]:
    """Return name and content of the files that the spec's mounts of /etc are about."""
    name = hostname(options, identifier)
    if options.network == HOST:
        hosts = _host_file("/etc/hosts")
        resolver = _host_file("/etc/resolv.conf")
    else:
        full = f"{name}.{options.domainname} {name}" if options.domainname else name
        hosts = os.fsencode(f"{_LOCALHOST}127.0.1.1\t{full}\n")
        resolver = b"# no network, no name servers\n"
    contents = (hosts, os.fsencode(name) + b"\n", resolver)
    return tuple(zip(_MANAGED, contents, strict=True))


def seccomp_profile(options: RunOptions) -> str | None:
    """Return the profile to be loaded: a path, ``unconfined``, or None for the default one."""
    if options.privileged and options.seccomp is None:
        return UNCONFINED
    return options.seccomp


def _host_file(path: str) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(1 << 20)
    except OSError:
        return b""


# --- the process -------------------------------------------------------------------------------


def _process(
    options: RunOptions,
    image: Image,
    account: accounts.Account,
    features: Features,
    private_users: bool,
    identifier: str,
) -> Process:
    cwd = options.workdir or "/"
    if not cwd.startswith("/"):
        raise InvalidArgument(f"--workdir {cwd}: must be an absolute path in the container")
    granted = list(_capabilities(options, features, private_users))
    process: Process = {
        "terminal": options.terminal,
        "user": {"uid": account.uid, "gid": account.gid, "additionalGids": list(account.groups)},
        "args": list(_command(options, image)),
        "env": _environment(options, image, account.home, hostname(options, identifier)),
        "cwd": os.path.normpath(cwd),
        # Docker leaves the inheritable set empty (CVE-2022-24769), and with it the ambient one.
        "capabilities": {
            "bounding": granted,
            "permitted": granted,
            "effective": granted,
        },
        "noNewPrivileges": options.no_new_privileges,
    }
    if options.ulimits:
        unlimited = 2**64 - 1
        process["rlimits"] = [
            {
                "type": limit.name,
                "soft": unlimited if limit.soft < 0 else limit.soft,
                "hard": unlimited if limit.hard < 0 else limit.hard,
            }
            for limit in {limit.name: limit for limit in options.ulimits}.values()
        ]
    if options.oom_score_adj is not None:
        process["oomScoreAdj"] = options.oom_score_adj
    return process


def _command(options: RunOptions, image: Image) -> tuple[str, ...]:
    if options.entrypoint:
        return (options.entrypoint, *options.command)
    return options.command or image.command


def _environment(options: RunOptions, image: Image, home: str, name: str) -> list[str]:
    variables = {"PATH": defaults.PATH, "HOSTNAME": name}
    if options.terminal:
        variables["TERM"] = defaults.TERM
    variables["HOME"] = home
    for entry in (*image.env, *options.env):
        key, _, value = entry.partition("=")
        variables[key] = value
    return [f"{key}={value}" for key, value in variables.items()]


def _capabilities(options: RunOptions, features: Features, private_users: bool) -> tuple[str, ...]:
    """Return the names of what the container gets of what there is to get.

    In a user namespace of its own it may have them all; else no more than the caller has.
    """
    full = capabilities.full(features.last_cap)
    available = full if private_users else features.capabilities
    added = 0
    for name in options.cap_add:
        if name.upper() not in ("ALL", "CAP_ALL"):
            added |= 1 << capabilities.number(name)
    dropped = capabilities.mask(options.cap_drop)
    everything = any(name.upper() in ("ALL", "CAP_ALL") for name in options.cap_add)
    missing = capabilities.names(added & ~available)
    if missing and not options.privileged:
        raise PermissionDenied(
            f"--cap-add {missing[0]}: the caller doesn't have it and so can't give it",
            hint="--userns private gives the container capabilities over its own namespaces",
        )
    if options.privileged:
        granted = available
    elif everything:
        granted = available & ~dropped
    else:
        granted = capabilities.DEFAULT & ~dropped | added
    if not (options.privileged or private_users or features.devices_enforceable):
        # No cgroup would keep it from a node of the host's disk that it made itself.
        mknod = 1 << capabilities.number("CAP_MKNOD")
        if added & mknod:
            raise Unsupported(
                "--cap-add MKNOD: no cgroup here can restrict which devices a container opens",
                hint="give it the devices that it needs with --device",
            )
        granted &= ~mknod
    return capabilities.names(granted & available)


# --- namespaces --------------------------------------------------------------------------------


def _namespaces(options: RunOptions, private_users: bool) -> list[Namespace]:
    namespaces: list[Namespace] = [{"type": "mount"}]
    if options.network != HOST:
        namespaces.append({"type": "network"})
    if options.uts != HOST:
        namespaces.append({"type": "uts"})
    if options.pid != HOST:
        namespaces.append({"type": "pid"})
    if options.ipc != HOST:
        namespaces.append({"type": "ipc"})
    if options.cgroupns != HOST:
        namespaces.append({"type": "cgroup"})
    if private_users:
        namespaces.append({"type": "user"})
    return namespaces


def _check_sysctls(options: RunOptions, new: Set[str]) -> None:
    for name, _ in options.sysctls:
        problem = sysctl.problem(name, new)
        if problem:
            raise InvalidArgument(f"--sysctl {name}: {problem}")


def _default_sysctls(options: RunOptions, in_user_namespace: bool) -> dict[str, str]:
    if options.network == HOST:
        return {}
    wanted = dict(defaults.SYSCTLS)
    if in_user_namespace:
        # The range may hold only groups that the user namespace maps (EINVAL).
        del wanted["net.ipv4.ping_group_range"]
    return {
        name: value
        for name, value in wanted.items()
        if os.path.exists(f"/proc/sys/{name.replace('.', '/')}")
    }


def _devices(options: RunOptions) -> list[devices.Found]:
    """Return the devices that are asked for; of two with the same path the later one counts."""
    found = devices.of_host() if options.privileged else []
    for request in options.devices:
        found += devices.find(request)
    return list({entry.device["path"]: entry for entry in found}.values())


def _masked_paths(cpus: int) -> list[str]:
    thermal = (defaults.THERMAL_PATHS.format(cpu) for cpu in range(cpus))
    return [*defaults.MASKED_PATHS, *(path for path in thermal if os.path.exists(path))]


def _annotations(options: RunOptions, image: Image) -> dict[str, str]:
    annotations = dict(options.annotations)
    if image.overlay:
        annotations["cloche.root"] = "overlay"
    if options.init:
        annotations["cloche.init"] = "true"
    return annotations
