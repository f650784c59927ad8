"""``state`` and ``list``: what there is."""

from __future__ import annotations

import os

from cloche.errors import ClocheError, InvalidArgument
from cloche.runtime import output
from cloche.runtime.arguments import Option
from cloche.runtime.container import STOPPED, Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloche.runtime.arguments import Values
    from cloche.runtime.main import Settings

OPTIONS: dict[str, tuple[Option, ...]] = {
    "state": (),
    "list": (
        Option(("format", "f"), "text", "table or json", "table"),
        Option(("quiet", "q"), "flag", "show the ids only"),
    ),
}


def run_state(settings: Settings, values: Values) -> int:
    """Print a container's state, as JSON."""
    from cloche import json

    print(json.dumps(_describe(Container(settings.root, values.rest[0])), indent="  "))
    return 0


def run_list(settings: Settings, values: Values) -> int:
    """Print a line for each container, or JSON."""
    format = values.text("format")
    if format not in ("table", "json"):
        raise InvalidArgument(f"invalid format option: {format!r} is neither table nor json")
    try:
        names = sorted(os.listdir(settings.root))
    except FileNotFoundError:
        names = []
    if values.flag("quiet"):
        for name in names:
            print(name)
        return 0
    found = []
    for name in names:
        try:
            found.append(_describe(Container(settings.root, name)))
        except ClocheError as error:
            output.tell_error(f"container {name}: {error.message}")
    if format == "json":
        from cloche import json

        print(json.dumps(found or None))
    else:
        _print_table(found)
    return 0


def _describe(container: Container) -> dict[str, Any]:
    state = container.state()
    status = container.status()
    process = container.process()
    document = {
        "ociVersion": state["ociVersion"],
        "id": container.id,
        "pid": process.pid if process and status != STOPPED else 0,
        "status": status,
        "bundle": state["bundle"],
        "rootfs": state["rootfs"],
        "created": state["created"],
        "owner": _owner(os.stat(container.directory).st_uid),
    }
    if state["annotations"]:
        document["annotations"] = state["annotations"]
    return document


def _owner(uid: int) -> str:
    if uid == 0:
        return "root"
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def _print_table(found: list[dict[str, Any]]) -> None:
    columns = ("id", "pid", "status", "bundle", "created", "owner")
    rows = [[name.upper() for name in columns]]
    rows += [[str(entry[name]) for name in columns] for entry in found]
    widths = [max(12, *(len(row[column]) + 3 for row in rows)) for column in range(5)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("".join(cells) + row[5])
