"""The command ``cloche-oci``, or ``cloche oci``: an OCI runtime with runc's command line.

Global options, a command, its options and arguments.  Exit codes are runc's: 1 when a command
fails, 255 for ``exec``, otherwise the program's own where it was waited for.
"""

from __future__ import annotations

import os
import sys

from cloche.errors import ClocheError, InvalidArgument, Unsupported
from cloche.record import Record
from cloche.runtime import arguments, output
from cloche.runtime.arguments import Option
from cloche.runtime.log import FORMATS, Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SPEC_VERSION = "1.3.0"
"""The version of the OCI runtime-spec that is implemented."""
FAILED = 1

GLOBAL = (
    Option(("root",), "text", "directory of the containers' state, gone at reboot"),
    Option(("log",), "text", "file that errors and warnings are written to, beside standard error"),
    Option(("log-format",), "text", "format of the log: text or json", "text"),
    Option(
        ("systemd-cgroup",), "flag", "have systemd make cgroups: cgroupsPath is slice:prefix:name"
    ),
    Option(
        ("rootless",),
        "text",
        "has no effect: a limit that can't be had is an error, for users too",
        "auto",
    ),
    Option(("debug",), "flag", "time each step of the launcher, and show tracebacks"),
    Option(("help", "h"), "flag", "show this"),
    Option(("version", "v"), "flag", "show the version"),
)


class Command(Record):
    """A command: its module has ``OPTIONS[name]`` and ``run_<name>(settings, values)``."""

    module: str
    arguments: str
    help: str


COMMANDS = {
    "create": Command("create", "ID", "create a container from a bundle; start runs its program"),
    "start": Command("start", "ID", "run the program of a created container"),
    "run": Command("create", "ID", "create a container, and run its program"),
    "exec": Command("exec", "ID [COMMAND ...]", "run one more program in a container"),
    "state": Command("state", "ID", "show a container's state"),
    "list": Command("state", "", "list the containers"),
    "ps": Command("ps", "ID [PS OPTIONS ...]", "show a container's processes"),
    "kill": Command("kill", "ID [SIGNAL]", "send a container's first process a signal"),
    "delete": Command("kill", "ID", "remove what is left of a container"),
    "pause": Command("freeze", "ID", "stop all processes of a container"),
    "resume": Command("freeze", "ID", "let the processes of a paused container go on"),
    "update": Command("update", "ID", "give a container new limits"),
    "events": Command("events", "ID", "show a container's statistics, and when memory ran out"),
    "checkpoint": Command("checkpoint", "ID", "write a container to disk, and end it"),
    "restore": Command("checkpoint", "ID", "bring a container back from a checkpoint"),
    "spec": Command("spec", "", "write a config.json to start from"),
    "features": Command(
        "features", "", "show what this runtime can do, as the specification wants"
    ),
}


class Settings(Record):
    """The global options."""

    root: str
    cache: str
    """Directory of compiled system call filters."""
    log: Log
    systemd_cgroup: bool
    debug: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; some commands become the launcher instead."""
    words = list(sys.argv[1:] if argv is None else argv)
    output.fill_standard_streams()
    log = Log()
    failed = FAILED
    try:
        given = arguments.parse(GLOBAL, words)
        if given.flag("version"):
            print(_version())
            return 0
        if given.flag("help") or not given.rest or given.rest[0] == "help":
            print(_overview())
            return 0
        log = _log(given)
        settings = _settings(given, log)
        if given.rest[0] == "exec":
            failed = 255
        code = _dispatch(settings, given.rest)
        sys.stdout.flush()
        return code
    except ClocheError as error:
        _trace()
        pointer = error.pointer if isinstance(error, Unsupported) else ""
        place = f"config.json: {pointer}: " if pointer else ""
        log.failure(place + error.message, error.hint)
    except BrokenPipeError:
        output.drop(sys.stdout)
    except OSError as error:
        _trace()
        name = f"{error.filename}: " if error.filename else ""
        log.failure(f"{name}{(error.strerror or str(error)).lower()}")
    return failed


def _dispatch(settings: Settings, words: list[str]) -> int:
    name, *rest = words
    command = COMMANDS.get(name)
    if command is None:
        raise InvalidArgument(
            f"there is no command {name}", hint="cloche-oci --help lists the commands"
        )
    path = f"cloche.runtime.commands.{command.module}"
    module = __import__(path, fromlist=("OPTIONS",))  # importlib imports warnings
    options: tuple[Option, ...] = module.OPTIONS[name]
    if rest[:1] in (["--help"], ["-h"]):
        print(f"Usage: cloche-oci [GLOBAL OPTIONS] {name} [OPTIONS] {command.arguments}".rstrip())
        print(f"\n{command.help}\n")
        print(arguments.describe(options))
        return 0
    values = arguments.parse(options, rest)
    _check_count(name, command, values.rest)
    code: int = getattr(module, f"run_{name}")(settings, values)
    return code


def _check_count(name: str, command: Command, given: list[str]) -> None:
    required = command.arguments.split("[")[0].split()
    if len(given) < len(required):
        raise InvalidArgument(f"{name} needs the id of a container")
    optional = "[" in command.arguments
    if len(given) > len(required) and not optional:
        raise InvalidArgument(f"{name} takes no argument {given[len(required)]!r}")


def _log(given: arguments.Values) -> Log:
    format = given.text("log-format") or "text"
    if format not in FORMATS:
        raise InvalidArgument(f"invalid log-format: {format!r} is neither text nor json")
    path = given.text("log")
    return Log("" if path == "/dev/stderr" else os.path.abspath(path) if path else "", format)


def _settings(given: arguments.Values, log: Log) -> Settings:
    rootless = given.text("rootless")
    if rootless not in ("true", "false", "auto", ""):
        raise InvalidArgument(f"--rootless is {rootless!r} but must be true, false or auto")
    return Settings(
        os.path.abspath(given.text("root") or f"{_runtime_directory()}/oci"),
        f"{_runtime_directory()}/seccomp",
        log,
        given.flag("systemd-cgroup"),
        given.flag("debug"),
    )


def _runtime_directory() -> str:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.geteuid() == 0 or not runtime.startswith("/"):
        return "/run/cloche"
    return f"{runtime}/cloche"


def _version() -> str:
    from cloche import __version__

    return f"cloche-oci version {__version__}\nspec: {SPEC_VERSION}"


def _overview() -> str:
    width = max(len(name) for name in COMMANDS)
    commands = "\n".join(f"  {name:{width}}  {command.help}" for name, command in COMMANDS.items())
    return (
        "An OCI runtime whose every step you can see.\n\n"
        "Usage: cloche-oci [GLOBAL OPTIONS] COMMAND [OPTIONS] ...\n\n"
        f"Commands:\n{commands}\n\nGlobal options:\n{arguments.describe(GLOBAL)}\n\n"
        "cloche-oci COMMAND --help tells more."
    )


def _trace() -> None:
    if os.environ.get("CLOCHE_DEBUG") == "1":
        import traceback

        traceback.print_exc()
