"""``cloche rootfs``: make root directories."""

from __future__ import annotations

import argparse
import json
import os
import sys

from cloche.rootfs.from_host import FILE, Copied, Wanted, copy, find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_DESCRIPTION = """\
Copy programs of this machine into a directory, each with its loader, the shared libraries it
needs and, for a script, its interpreter. Paths and links stay as they are here, so that
"cloche run --rootfs DIR PROGRAM" finds them. What is there already stays.

Programs are only read, never executed. What they open only while they run isn't seen: plugins
(name services, locales), modules of an interpreter, files of data. Name those with --file.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the sub-commands and their options."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    from_host = commands.add_parser(
        "from-host",
        help="copy programs of this machine, with their libraries, into a directory",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    from_host.add_argument("directory", metavar="DIR", help="the root directory to make or add to")
    from_host.add_argument(
        "programs", metavar="PROGRAM", nargs="+", help="a program's path, or its name in PATH"
    )
    from_host.add_argument(
        "--file",
        dest="files",
        metavar="PATH",
        action="append",
        default=[],
        help="also copy this file (with the libraries it needs) or directory",
    )
    from_host.add_argument("--json", action="store_true", help="print what was copied as JSON")
    from_host.set_defaults(run_rootfs=_from_host)


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen sub-command; return the exit code."""
    code: int = arguments.run_rootfs(arguments)
    return code


def _from_host(arguments: argparse.Namespace) -> int:
    wanted = find(arguments.programs, arguments.files)
    copied = copy(arguments.directory, wanted)
    if arguments.json:
        print(json.dumps([_as_json(one) for one in copied], indent=2))
        return 0
    if sys.stdout.isatty():
        print("\n".join(_tree(wanted)))
    else:
        print("\n".join(f"{one.change}\t{one.stop.path}" for one in copied))
    print(_summary(copied, arguments.directory), file=sys.stderr)
    return 0


def _as_json(one: Copied) -> dict[str, str | int]:
    stop = one.stop
    record: dict[str, str | int] = {"path": stop.path, "change": one.change}
    if stop.is_link:
        record |= {"type": "link", "target": stop.target}
    elif stop.is_directory:
        record |= {"type": "directory"}
    else:
        record |= {"type": "file", "size": stop.status.st_size}
    return record | {"role": one.wanted.role, "needed_by": one.wanted.needed_by}


def _tree(wanted: Sequence[Wanted]) -> list[str]:
    """Draw what needs what; a thing that several need stands with the first."""
    users: dict[str, list[Wanted]] = {}
    for one in wanted:
        users.setdefault(one.needed_by, []).append(one)
    return [line for one in users.get("", []) for line in _branch(one, users, "", "")]


def _branch(one: Wanted, users: dict[str, list[Wanted]], first: str, others: str) -> Iterator[str]:
    end = one.stops[-1]
    needs = [need for path in dict.fromkeys((one.path, end.path)) for need in users.get(path, [])]
    if end.is_directory and one.role == FILE:
        total = sum(need.stops[-1].status.st_size for need in needs if need.stops[-1].is_file)
        yield f"{first + one.path:<60} {_size(total):>9} in {len(needs)} entries"
        return
    yield f"{first + one.path:<60} {_size(end.status.st_size):>9}"
    for number, need in enumerate(needs, 1):
        last = number == len(needs)
        yield from _branch(
            need,
            users,
            others + ("└── " if last else "├── "),
            others + ("    " if last else "│   "),
        )


def _summary(copied: Sequence[Copied], directory: str) -> str:
    files = [one for one in copied if one.stop.is_file]
    fresh = [one for one in files if one.change != "same"]
    total = _size(sum(one.stop.status.st_size for one in fresh))
    there = f", {len(files) - len(fresh)} were there already" if len(fresh) < len(files) else ""
    return f"{os.path.abspath(directory)}: {len(fresh)} files copied, {total}{there}"


def _size(count: int) -> str:
    """Return a number of bytes for people, in powers of 1000."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
