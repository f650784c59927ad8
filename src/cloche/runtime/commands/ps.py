"""``ps``: a container's processes."""

from __future__ import annotations

from cloche.errors import InvalidArgument, MissingDependency, WrongState
from cloche.runtime.arguments import Option
from cloche.runtime.container import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.runtime.arguments import Values
    from cloche.runtime.main import Settings

OPTIONS = {"ps": (Option(("format", "f"), "text", "table or json", "table"),)}


def run_ps(settings: Settings, values: Values) -> int:
    """Print the pids, or the lines of ps(1) for them."""
    format = values.text("format")
    if format not in ("table", "json"):
        raise InvalidArgument(f"invalid format option: {format!r} is neither table nor json")
    id, *options = values.rest
    container = Container(settings.root, id)
    group = container.group()
    if group is None:
        raise WrongState(f"container {id} has no cgroup, which its processes are found by")
    pids = group.processes()
    if format == "json":
        print("[" + ",".join(str(pid) for pid in pids) + "]")
        return 0
    head, *lines = _ps(options or ["-ef"])
    column = head.split().index("PID") if "PID" in head.split() else -1
    if column < 0:
        raise InvalidArgument("ps options: the output has no column PID")
    print(head)
    wanted = {str(pid) for pid in pids}
    for line in lines:
        if line.split()[column] in wanted:
            print(line)
    return 0


def _ps(options: list[str]) -> list[str]:
    import subprocess

    try:
        done = subprocess.run(["ps", *options], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise MissingDependency(
            "the program ps isn't installed", hint="apt install procps; or use --format json"
        ) from error
    if done.returncode:
        raise InvalidArgument(f"ps: {done.stderr.strip() or done.stdout.strip()}")
    return [line for line in done.stdout.splitlines() if line]
