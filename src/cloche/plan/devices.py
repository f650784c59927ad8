"""The devices in /dev: standard ones every program expects, those of the spec, the console.

Nodes are made with mknod where that is allowed.  In a user namespace it never is, so there the
host's nodes are bound one by one.
"""

from __future__ import annotations

from cloche.errors import InvalidSpec
from cloche.plan import steps
from cloche.plan.situation import Situation
from cloche.plan.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.oci.spec import Device

_STANDARD: tuple[tuple[str, int, int], ...] = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)
"""OCI runtime spec, config-linux.md, "Default Devices"; numbers of devices.txt in the kernel."""

_LINKS = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
)
"""OCI runtime spec, runtime-linux.md, "Dev symbolic links"."""

_TYPES = {"c": 0o020000, "u": 0o020000, "b": 0o060000, "p": 0o010000}


def devices(situation: Situation) -> list[Step]:
    """Fill the container's /dev; one that is bound from the host is left as it is."""
    if _is_bound(situation):
        return []
    wanted = situation.spec.get("linux", {}).get("devices", [])
    named = {device["path"] for device in wanted}
    plan = [
        _node(situation, path, 0o020666, major, minor, 0, 0, "one of the devices that all expect")
        for path, major, minor in _STANDARD
        if path not in named
    ]
    for index, device in enumerate(wanted):
        plan.append(_asked(situation, device, index))
    plan += [
        steps.make_link_in_root(target, path, why="programs find their streams by this name")
        for path, target in _LINKS
        if path not in named
    ]
    if situation.spec["process"].get("terminal", False):
        size = situation.spec["process"].get("consoleSize", {"height": 0, "width": 0})
        plan.append(
            steps.console(
                "/dev/console",
                rows=size["height"],
                columns=size["width"],
                uid=situation.spec["process"].get("user", {}).get("uid", 0),
                why="a terminal of the container's own; only its other end is the host's",
            )
        )
    return plan


def _is_bound(situation: Situation) -> bool:
    return any(
        mount["destination"].rstrip("/") == "/dev"
        and (mount.get("type") == "bind" or {"bind", "rbind"} & set(mount.get("options", ())))
        for mount in situation.spec.get("mounts", [])
    )


def _asked(situation: Situation, device: Device, index: int) -> Step:
    kind = device["type"]
    if kind not in _TYPES:
        raise InvalidSpec(
            f"/linux/devices/{index}/type", f"is {kind!r} but must be a type of device"
        )
    if kind != "p" and not ("major" in device and "minor" in device):
        raise InvalidSpec(
            f"/linux/devices/{index}", "is without numbers but must have a major and a minor one"
        )
    return _node(
        situation,
        device["path"],
        _TYPES[kind] | device.get("fileMode", 0o666) & 0o7777,
        device.get("major", 0),
        device.get("minor", 0),
        device.get("uid", 0),
        device.get("gid", 0),
        "a device that was asked for",
    )


def _node(
    situation: Situation,
    path: str,
    mode: int,
    major: int,
    minor: int,
    uid: int,
    gid: int,
    why: str,
) -> Step:
    # In a user namespace, be it the launcher's own, mknod is refused whatever the capabilities.
    nested = situation.in_user_namespace or situation.features.in_user_namespace
    allowed = situation.features.may("CAP_MKNOD") and not nested
    if allowed or mode & 0o170000 == _TYPES["p"]:
        return steps.make_node(path, mode, major, minor, uid=uid, gid=gid, why=why)
    return steps.bind(path, path, recursive=False, why=f"{why}; mknod isn't allowed here")
