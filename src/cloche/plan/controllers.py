"""Whether a limit's controller can be had here, and if not, why and what to do."""

from __future__ import annotations

from cloche.errors import ControllerUnavailable
from cloche.kernel.cgroup.layout import Hierarchy, Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeGuard

_ONLY_V1 = {
    "net_cls": "cgroup v2 doesn't have it",
    "net_prio": "cgroup v2 doesn't have it",
}

_DELEGATE = "systemd-run --user --scope -p Delegate=yes"


def require(layout: Layout, controller: str) -> None:
    """Raise ControllerUnavailable unless a container's group can have a controller."""
    hierarchy = layout.find(controller)
    if hierarchy is None:
        raise ControllerUnavailable(
            controller, _why_missing(layout, controller), hint=_how_to_get(layout, controller)
        )
    if not hierarchy.base:
        hint = "run as root: groups of cgroup v1 can't safely be given to a user"
        if hierarchy.version == 2:
            hint = f"run as root, or in a group of your own: {_DELEGATE}"
        raise ControllerUnavailable(
            controller, f"{hierarchy.own or hierarchy.mount} isn't writable", hint=hint
        )
    if hierarchy.occupied and controller not in hierarchy.enabled:
        raise ControllerUnavailable(
            controller,
            f"{hierarchy.base} holds processes, so that its children can't have the controller",
            hint=f"move them into a group beneath it, or start in a group of your own: {_DELEGATE}",
        )


def _why_missing(layout: Layout, controller: str) -> str:
    if layout.version == "none":
        return "no cgroup hierarchy is mounted"
    if layout.unified is not None and controller in _ONLY_V1:
        return f"no v1 hierarchy has it; {_ONLY_V1[controller]}"
    if _is_delegated(layout.unified):
        return f"it isn't delegated to {layout.unified.base}"
    return "no mounted hierarchy has it"


def _how_to_get(layout: Layout, controller: str) -> str:
    if layout.version == "none":
        return "mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup"
    if layout.unified is not None and controller in _ONLY_V1:
        return "leave this limit out"
    if _is_delegated(layout.unified):
        return f"as root: systemctl edit user@.service, [Service] Delegate={controller} ..."
    name = "blkio" if controller == "io" else controller
    return (
        f"if /proc/cgroups lists {name}, mount it (mount -t cgroup -o {name} ...) or boot with "
        f"cgroup_enable={name}"
    )


def _is_delegated(unified: Hierarchy | None) -> TypeGuard[Hierarchy]:
    """Whether only a part of the unified hierarchy is the caller's."""
    return unified is not None and unified.base not in ("", unified.mount)


def require_unified(layout: Layout, controller: str, file: str) -> None:
    """Raise ControllerUnavailable unless a file of v2 can be had by its name."""
    hierarchy = layout.find(controller)
    if layout.unified is None or (hierarchy is not None and hierarchy.version == 1):
        raise ControllerUnavailable(
            controller,
            f"{file} is a file of cgroup v2, and the controller isn't in a v2 hierarchy here",
            hint="use the resource's own setting instead of linux.resources.unified",
        )
    if controller != "cgroup":
        require(layout, controller)
    elif not layout.unified.base:
        raise ControllerUnavailable(
            controller, f"{layout.unified.mount} isn't writable", hint="run as root"
        )


def require_device_rules(layout: Layout) -> None:
    """Raise ControllerUnavailable unless access to devices can be restricted."""
    unified = layout.unified
    if layout.find("devices") is not None or unified is None:
        require(layout, "devices")
    elif not unified.base:
        raise ControllerUnavailable(
            "devices", f"{unified.mount} isn't writable", hint="run as root"
        )
    elif not layout.device_programs:
        raise ControllerUnavailable(
            "devices",
            "cgroup v2 has it as eBPF programs, which the caller may not load",
            hint="run as root, outside of a user namespace; or leave the device rules out",
        )
