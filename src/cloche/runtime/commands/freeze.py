"""``pause`` and ``resume``: stop a container's processes, and let them go on."""

from __future__ import annotations

from cloche.errors import WrongState
from cloche.runtime.container import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.kernel.cgroup.group import Group
    from cloche.runtime.arguments import Option, Values
    from cloche.runtime.main import Settings

OPTIONS: dict[str, tuple[Option, ...]] = {"pause": (), "resume": ()}


def run_pause(settings: Settings, values: Values) -> int:
    """Freeze the container's cgroup."""
    container = Container(settings.root, values.rest[0])
    container.lock()
    container.require("pause")
    _group(container).freeze()
    return 0


def run_resume(settings: Settings, values: Values) -> int:
    """Thaw the container's cgroup."""
    container = Container(settings.root, values.rest[0])
    container.lock()
    container.require("resume")
    _group(container).thaw()
    return 0


def _group(container: Container) -> Group:
    group = container.group()
    if group is None:
        raise WrongState(f"container {container.id} has no cgroup, so it can't be frozen")
    return group
