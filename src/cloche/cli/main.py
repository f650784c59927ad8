"""The command ``cloche``: choose a sub-command, load it, and tell errors in one line each.

Exit codes are Docker's: 125 when cloche itself fails, 126 and 127 when the program can't be
executed or isn't there, else the program's own, 128+n when signal n ended it.
"""

from __future__ import annotations

import os
import sys

from cloche.errors import ClocheError, InvalidArgument
from cloche.record import Record
from cloche.runtime import output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED = 125
INTERRUPTED = 130
BROKEN_PIPE = 141


class Command(Record):
    """A sub-command; its module has ``configure(parser)`` and ``run(arguments) -> exit code``.

    It may have ``read(words)`` too, for what can be read without a parser.  One with a command line
    of its own has ``main(argv) -> exit code`` instead.
    """

    family: str
    module: str
    help: str
    has_own_line: bool = False


COMMANDS: dict[str, Command] = {
    "run": Command("Containers", "cloche.cli.run", "run a command in a new container"),
    "explain": Command(
        "Containers", "cloche.cli.explain", "show what a command would do, step by step"
    ),
    "oci": Command(
        "This machine", "cloche.runtime.main", "be an OCI runtime, as cloche-oci is", True
    ),
    "rootfs": Command("Root directories", "cloche.cli.rootfs", "make root directories"),
    "features": Command(
        "This machine", "cloche.cli.features", "show what this machine can do for containers"
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; ``run`` becomes the launcher instead."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    output.fill_standard_streams()
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
    except ClocheError as error:
        output.tell_error(error.message, error.hint)
        return _failed()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        output.drop(sys.stdout)
        return BROKEN_PIPE
    except OSError as error:
        output.drop(sys.stdout)
        name = f"{error.filename}: " if error.filename else ""
        output.tell_error(f"{name}{(error.strerror or str(error)).lower()}")
        return _failed()
    return code


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    name, *rest = arguments
    if name == "--version":
        from cloche import __version__

        print(f"cloche {__version__}")
        return 0
    command = COMMANDS.get(name)
    if command is None:
        raise _unknown(name)
    module = __import__(command.module, fromlist=("run",))  # importlib imports warnings
    if command.has_own_line:
        own: int = module.main(rest)
        return own
    read = getattr(module, "read", None)
    given = read(rest) if read else None
    code: int
    if given is not None:
        code = module.run(given)
        return code

    from cloche.cli.parser import Parser

    # Where the first positional argument ends the options, -h is free for --hostname.
    parser = Parser(prog=f"cloche {name}", short_help=name != "run")
    module.configure(parser)
    try:
        code = module.run(parser.parse_args(rest))
    except SystemExit as end:  # argparse ends so after --help
        sys.stdout.flush()
        return end.code if isinstance(end.code, int) else 0
    return code


def _overview() -> str:
    width = max(len(name) for name in COMMANDS)
    lines = ["Linux containers you can see through.", "", "Usage: cloche COMMAND [OPTIONS] ..."]
    for family in dict.fromkeys(command.family for command in COMMANDS.values()):
        lines += ["", f"{family}:"]
        lines += [
            f"  {name:{width}}  {command.help}"
            for name, command in COMMANDS.items()
            if command.family == family
        ]
    lines += [
        "",
        "cloche COMMAND --help tells more. To begin with: cloche run -it host",
    ]
    return "\n".join(lines)


def _unknown(name: str) -> InvalidArgument:
    import difflib

    what = "option" if name.startswith("-") else "command"
    near = difflib.get_close_matches(name, COMMANDS, 1)
    hint = f"did you mean cloche {near[0]}?" if near else "cloche --help lists the commands"
    return InvalidArgument(f"there is no {what} {name}", hint=hint)


def _failed() -> int:
    """Return the exit code of a failure, after a traceback where one is wanted."""
    if os.environ.get("CLOCHE_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    return FAILED
