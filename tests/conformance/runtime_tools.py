"""Run the validation programs of the OCI's runtime-tools on several runtimes, side by side.

    python tests/conformance/runtime_tools.py --programs DIRECTORY [--only NAME]... RUNTIME...

``DIRECTORY`` is a source tree of github.com/opencontainers/runtime-tools in which the programs
have been built: it holds ``runtimetest``, ``rootfs-*.tar.gz`` and ``validation/*/*.t``.  Each
program prints its results in the form of the Test Anything Protocol (TAP).

A ``RUNTIME`` is a name that PATH knows, a path, or ``NAME=COMMAND``, where the command may have
arguments.  Each program runs with a state directory and a directory for bundles of its own.  What
a program or a runtime leaves (containers, cgroups, mounts) is named in the table, and removed.

The programs use the fixed cgroups ``/cgrouptest`` and ``/testdir``: one run at a time on a machine.
It needs root.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

MNT_DETACH = 2
GRACE = 2.0
"""Seconds that a cgroup may stay busy after its last process died."""

WRAPPER = """#!/bin/sh
for word; do :; done
case $1 in create|run) echo "$word" >> {ids};; esac
exec {command} --root {root} "$@"
"""
"""What a program is given as its runtime: the programs know no global options.

It also writes down which containers the program made: the last word is the name."""


class Runtime(NamedTuple):
    """A runtime under test."""

    name: str
    command: list[str]


class Result(NamedTuple):
    """What one program said of one runtime."""

    program: str
    runtime: str
    passed: int
    skipped: int
    failed: list[str]
    """The lines ``not ok``, each with what the program says about it."""
    error: str
    """Why the program itself failed, or an empty string."""
    left: list[str]
    """What was left behind."""
    seconds: float

    @property
    def verdict(self) -> str:
        """The result in a few words."""
        words = []
        if self.error:
            words.append("**error**")
        if self.failed:
            words.append(f"**{len(self.failed)} not ok**")
        if self.passed:
            words.append(f"{self.passed} ok")
        elif self.skipped and not words:
            words.append("skipped")
        elif not words:
            words.append("ok")
        if self.left:
            words.append(f"**{len(self.left)} left**")
        return ", ".join(words)

    @property
    def is_good(self) -> bool:
        """Whether the runtime passed."""
        return not (self.error or self.failed or self.left)


def parse(word: str) -> Runtime:
    """Read a runtime from the command line; raise ValueError if there is no such program."""
    name, equals, command = word.partition("=")
    argv = shlex.split(command) if equals else [word]
    program = shutil.which(argv[0]) if argv else None
    if program is None:
        raise ValueError(f"no program {argv[0] if argv else word!r} is found")
    # A program of a virtual environment must not be resolved: its place tells it its packages.
    return Runtime(os.path.basename(name), [os.path.abspath(program), *argv[1:]])


def find_programs(directory: Path, only: Iterable[str]) -> list[Path]:
    """Return the programs in a directory; raise FileNotFoundError, which says what is missing."""
    found = sorted(directory.glob("validation/*/*.t"))
    for what, have in (
        ("runtimetest", (directory / "runtimetest").exists()),
        ("rootfs-*.tar.gz", any(directory.glob("rootfs-*.tar.gz"))),
        ("validation/*/*.t", bool(found)),
    ):
        if not have:
            raise FileNotFoundError(
                f"there is no {what} in {directory}: it must be a source tree of "
                "opencontainers/runtime-tools whose programs are built, as its README says"
            )
    wanted = set(only)
    unknown = wanted - {path.stem for path in found}
    if unknown:
        raise FileNotFoundError(f"there is no program {', '.join(sorted(unknown))}")
    return [path for path in found if not wanted or path.stem in wanted]


def read_tap(text: str) -> tuple[int, int, list[str]]:
    """Return how many lines of a TAP text are ok and how many skipped, and those not ok.

    Some programs number no result (``1..0``): what they print at all is why they failed.
    """
    passed, skipped = 0, 0
    failed: list[str] = []
    loose: list[str] = []
    said = loose
    for line in text.splitlines():
        if line.startswith("not ok "):
            said = [line]
            failed.append("")
        elif line.startswith("ok "):
            said = []
            skip = "# SKIP" in line.upper()
            skipped, passed = skipped + skip, passed + (not skip)
        elif line.startswith(("TAP version", "1..")) or line.strip() in ("---", "...", "{", "}"):
            continue
        else:
            said.append(line)
        if failed and said and said[0].startswith("not ok "):
            failed[-1] = "\n".join(said)
    if loose and not passed + skipped + len(failed):
        failed.append("\n".join(loose).strip())
    return passed, skipped, failed


def run(program: Path, directory: Path, runtime: Runtime, limit: float) -> Result:
    """Run a program on a runtime for so many seconds at most, and clean up after both."""
    before = _cgroups()
    with tempfile.TemporaryDirectory(prefix="runtime-tools-") as name:
        place = Path(name)
        place.chmod(0o711)  # for the root of a user namespace, who is an ordinary user here
        for part in ("root", "bundles"):
            (place / part).mkdir()
        (place / "ids").touch()
        wrapper = place / runtime.name
        command = shlex.join(runtime.command)
        wrapper.write_text(WRAPPER.format(command=command, root=place / "root", ids=place / "ids"))
        wrapper.chmod(0o755)
        began = time.monotonic()
        output, error = _execute(program, directory, wrapper, place, limit)
        seconds = time.monotonic() - began
        passed, skipped, failed = read_tap(output)
        left = _clean(runtime, place, before)
    return Result(program.stem, runtime.name, passed, skipped, failed, error, left, seconds)


def _execute(
    program: Path, directory: Path, wrapper: Path, place: Path, limit: float
) -> tuple[str, str]:
    """Return what a program printed and why it failed."""
    environ = os.environ | {"RUNTIME": str(wrapper), "TMPDIR": str(place / "bundles")}
    # Files, not pipes: a container that is left keeps them open, and nobody would see an end.
    with open(place / "stdout", "wb") as out, open(place / "stderr", "wb") as err:
        process = subprocess.Popen(
            [program.absolute()],
            cwd=directory,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
            error = f"exit {code}" if code else ""
        except subprocess.TimeoutExpired:
            error = f"not done after {limit:g} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    complaint = (place / "stderr").read_text(errors="replace").strip()
    if error and complaint:
        error += f": {complaint}"
    return (place / "stdout").read_text(errors="replace"), error


def _clean(runtime: Runtime, place: Path, before: set[str]) -> list[str]:
    """Remove what is left of a program's containers; return what there was."""
    left = []
    made = list(dict.fromkeys((place / "ids").read_text().split()))
    command = [*runtime.command, "--root", str(place / "root")]
    for container in made:
        state = subprocess.run([*command, "state", container], capture_output=True, check=False)
        if state.returncode == 0:
            # Many of the programs end with a container that nobody deletes: no fault of its.
            subprocess.run(
                [*command, "delete", "--force", container], capture_output=True, check=False
            )
    end = time.monotonic() + GRACE
    while (groups := _groups(made) - before) and time.monotonic() < end:
        time.sleep(0.05)
    left += [f"cgroup {group}" for group in sorted(groups)]
    for group in groups | _parents() - before:
        for directory, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
    libc = ctypes.CDLL(None)
    for point in reversed(_mounts(place)):
        left.append(f"mount {point.removeprefix(f'{place}/')}")
        libc.umount2(os.fsencode(point), MNT_DETACH)
    return left


def _groups(containers: list[str]) -> set[str]:
    """Return the cgroups that the programs ask for, and those named for containers."""
    names = {*containers, "container"}
    return {
        group
        for group in _cgroups()
        if os.path.basename(group) in names
        or (group.endswith("/cgrouptest") and "/testdir/" not in group)
    }


def _parents() -> set[str]:
    """Return the parents of a relative path: the runtime makes them, and may leave them."""
    return {group for group in _cgroups() if os.path.basename(group) == "testdir"}


def _cgroups() -> set[str]:
    """Return every cgroup of the machine."""
    with open("/proc/self/mountinfo") as file:
        lines = [line.split() for line in file]
    points = [line[4] for line in lines if line[line.index("-") + 1] in ("cgroup", "cgroup2")]
    return {directory for point in points for directory, _, _ in os.walk(point)}


def _mounts(below: Path) -> list[str]:
    with open("/proc/self/mountinfo") as file:
        points = [line.split()[4].encode().decode("unicode_escape") for line in file]
    return [point for point in points if point.startswith(f"{below}/")]


def table(results: list[Result], runtimes: list[Runtime]) -> str:
    """Return the results as a table in Markdown: a line for each program."""
    by = {(result.program, result.runtime): result for result in results}
    names = [runtime.name for runtime in runtimes]
    lines = [f"| program | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for program in dict.fromkeys(result.program for result in results):
        cells = [by[program, name].verdict for name in names]
        lines.append(f"| {program} | {' | '.join(cells)} |")
    good = [sum(result.is_good for result in results if result.runtime == name) for name in names]
    total = len({result.program for result in results})
    lines.append(f"| passed of {total} | {' | '.join(map(str, good))} |")
    return "\n".join(lines)


def details(result: Result) -> str:
    """Return why a program failed."""
    lines = [f"{result.program} on {result.runtime}:", *result.failed]
    if result.error:
        lines.append(result.error)
    lines += [f"left {thing}" for thing in result.left]
    return "\n".join(lines).replace("\n", "\n    ")


def main(argv: list[str]) -> int:
    """Print the table, then what failed on each runtime; return 1 if the last one failed any."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runtimes", nargs="+", metavar="RUNTIME")
    parser.add_argument("--programs", required=True, type=Path, metavar="DIRECTORY")
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--timeout", type=float, default=60, metavar="SECONDS")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    arguments = parser.parse_args(argv)
    try:
        programs = find_programs(arguments.programs, arguments.only)
        runtimes = [parse(word) for word in arguments.runtimes]
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    if os.geteuid() != 0:
        parser.error("the programs need root")
    results = []
    for program in programs:
        for runtime in runtimes:
            results.append(run(program, arguments.programs, runtime, arguments.timeout))
            print(f"{program.stem} on {runtime.name}: {results[-1].verdict}", file=sys.stderr)
    print(table(results, runtimes))
    for result in results:
        if not result.is_good:
            print(f"\n{details(result)}")
    if arguments.json:
        arguments.json.write_text(json.dumps([result._asdict() for result in results], indent=1))
    return int(not all(result.is_good for result in results if result.runtime == runtimes[-1].name))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
