"""``spec``: a config.json to start from."""

from __future__ import annotations

import os

from cloche.errors import AlreadyExists
from cloche.runtime.arguments import Option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.runtime.arguments import Values
    from cloche.runtime.main import Settings

OPTIONS = {
    "spec": (
        Option(("bundle", "b"), "text", "the bundle's directory", "."),
        Option(("rootless",), "flag", "make it for a user who isn't root"),
    )
}


def run_spec(_: Settings, values: Values) -> int:
    """Write config.json, unless there is one."""
    from cloche import json
    from cloche.oci.example import example

    document = example()
    if values.flag("rootless"):
        document = example(os.geteuid(), os.getegid())
    path = os.path.join(values.text("bundle"), "config.json")
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(json.dumps(document, indent="\t") + "\n")
    except FileExistsError as error:
        raise AlreadyExists(
            f"file {path} exists", hint="remove it first, if it isn't wanted"
        ) from error
    return 0
