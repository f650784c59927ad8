"""Measure things side by side: in turns, A B C A B C, so that all see the same weather."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple


class Failed(Exception):
    """Raised when a contestant doesn't do its work; says why."""


class Result(NamedTuple):
    """What one contestant took, in milliseconds or another unit."""

    median: float
    quartiles: tuple[float, float]
    least: float
    runs: int


def in_turns(contestants: Mapping[str, Callable[[], float]], runs: int) -> dict[str, Result]:
    """Run every contestant in turn, ``runs`` times each; the first round only warms up.

    Each returns the milliseconds that it took.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(runs + 1):
        for name, run in contestants.items():
            taken = run()
            if number > 0:
                times[name].append(taken)
    return {name: result(values) for name, values in times.items()}


def result(values: list[float]) -> Result:
    """Sum up what one contestant took."""
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return Result(statistics.median(values), (lower, upper), min(values), len(values))


class Shell:
    """A shell that runs one command after the other and times each.

    One that lives in another root or namespace (``prefix``) costs its entry once, not at
    each command.
    """

    def __init__(self, prefix: list[str]) -> None:
        self._shell = subprocess.Popen(
            [*prefix, "sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._write("output=$(mktemp /tmp/bench.XXXXXX); trap 'rm -f $output' EXIT")

    def run(self, command: str) -> float:
        """Run a command to its end and return its milliseconds.

        Raises Failed, with the end of what it printed, when its exit code isn't 0.
        """
        begun = time.perf_counter_ns()
        self._write(f'{command} >"$output" 2>&1 </dev/null; echo "exit $?"')
        answer = self._read().split()
        taken = (time.perf_counter_ns() - begun) / 1e6
        if answer != ["exit", "0"]:
            raise Failed(self._complaint(answer))
        return taken

    def _complaint(self, answer: list[str]) -> str:
        if not answer:  # the shell has ended
            return "can't be run here"
        self._write('tail -n 1 "$output" | cut -c 1-160; echo; echo END')
        return "".join(iter(self._read, "END\n")).strip() or " ".join(answer)

    def _write(self, line: str) -> None:
        assert self._shell.stdin is not None
        try:
            self._shell.stdin.write(line + "\n")
        except BrokenPipeError as error:
            raise Failed("can't be run here") from error

    def _read(self) -> str:
        assert self._shell.stdout is not None
        return self._shell.stdout.readline()

    def close(self) -> None:
        """End the shell."""
        self._shell.communicate()
