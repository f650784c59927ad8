"""``events``: a container's statistics, and the kills of the OOM killer, as lines of JSON."""

from __future__ import annotations

from cloche.errors import InvalidArgument, WrongState
from cloche.runtime.arguments import Option
from cloche.runtime.container import STOPPED, Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloche.runtime.arguments import Values
    from cloche.runtime.main import Settings

OPTIONS = {
    "events": (
        Option(("interval",), "text", "time between statistics, such as 5s or 500ms", "5s"),
        Option(("stats",), "flag", "show the statistics once"),
    )
}
_UNITS = (("ms", 0.001), ("us", 1e-6), ("ns", 1e-9), ("s", 1.0), ("m", 60.0), ("h", 3600.0))


def run_events(settings: Settings, values: Values) -> int:
    """Print statistics once, or statistics and kills until the container ends."""
    interval = seconds(values.text("interval"))
    container = Container(settings.root, values.rest[0])
    if container.status() == STOPPED:
        raise WrongState(f"container with id {container.id} is not running")
    group = container.group()
    if group is None:
        raise WrongState(f"container {container.id} has no cgroup, so there are no statistics")
    from cloche.kernel.cgroup.report import report
    from cloche.kernel.cgroup.watch import OOM, watch

    if values.flag("stats"):
        _print("stats", container.id, report(group))
        return 0
    for event in watch(group, interval):
        if event == OOM:
            _print("oom", container.id, None)
        else:
            _print("stats", container.id, report(group))
    return 0


def seconds(text: str) -> float:
    """Return a duration such as ``5s``, ``1m30s`` or ``500ms``.

    Raises InvalidArgument for one that isn't greater than 0.
    """
    total = 0.0
    rest = text
    while rest:
        digits = rest[: len(rest) - len(rest.lstrip("0123456789."))]
        rest = rest[len(digits) :]
        unit = next((unit for unit in _UNITS if rest.startswith(unit[0])), None)
        if unit is None or not digits.replace(".", "", 1).isdigit():
            raise InvalidArgument(f"invalid duration {text!r}", hint="write 5s, 1m30s or 500ms")
        rest = rest[len(unit[0]) :]
        total += float(digits) * unit[1]
    if total <= 0:
        raise InvalidArgument("duration interval must be greater than 0")
    return total


def _print(kind: str, id: str, data: dict[str, Any] | None) -> None:
    from cloche import json

    document = {"type": kind, "id": id} | ({"data": data} if data is not None else {})
    print(json.dumps(document), flush=True)
