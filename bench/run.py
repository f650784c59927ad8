"""Compare Cloche with its yardsticks and peers: ``python -m bench.run [--json FILE]``.

What counts is the ratio of two medians out of one run, taken in turns: milliseconds change
from machine to machine and from hour to hour, a ratio hardly does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from bench import launcher, peers, runtimes
from bench.measure import Failed, Result, in_turns
from bench.spec import make_root


class Comparison(NamedTuple):
    """One table: the first contestant against each of the others."""

    title: str
    ours: str
    results: dict[str, Result]
    skipped: dict[str, str]
    targets: dict[str, float]
    """The ratio that the first shall not exceed, by the name of the other."""

    def ratio(self, other: str) -> float:
        """Return how many times as long as the other ours takes."""
        return self.results[self.ours].median / self.results[other].median


def main() -> int:
    """Run what the command line asks for; return 1 when a target is missed."""
    options = _options()
    if not peers.is_root():
        print("bench: run it as root: the yardsticks make containers without user namespaces")
        return 2
    if options.without_cgroup2:
        runtimes.without_cgroup2("bench.run")
    with tempfile.TemporaryDirectory(prefix="cloche-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        root = make_root(directory)
        setting = peers.Setting(root, directory, options.within, options.options)
        comparisons = list(_comparisons(setting, options.runs, options.only))
        commands: tuple[list[runtimes.Measure], dict[str, str]] = ([], {})
        if "d" in options.only:
            commands = runtimes.measures(directory, max(5, options.runs // 4))
    for comparison in comparisons:
        _print(comparison)
    if "d" in options.only:
        runtimes.show(*commands)
    if options.json:
        document = _document(comparisons) | {"runtimes": runtimes.document(*commands)}
        Path(options.json).write_text(json.dumps(document, indent=2) + "\n")
    missed = [
        f"{comparison.title}: {comparison.ratio(other):.2f} times {other}, wanted {target}"
        for comparison in comparisons
        for other, target in comparison.targets.items()
        if other in comparison.results and comparison.ratio(other) > target
    ]
    for line in missed:
        print(f"target missed: {line}", file=sys.stderr)
    return 1 if missed else 0


def _comparisons(setting: peers.Setting, runs: int, only: str) -> Iterable[Comparison]:
    if "a" in only:
        title = "a: the launcher alone, carrying out a plan"
        results = in_turns(launcher.contestants(setting.root, setting.directory), runs)
        yield Comparison(title, "launcher", results, {}, {"minimal.c": 1.3})
    if "b" in only:
        title = "b: a whole command, no network, Python included"
        makers = {"cloche": peers.cloche_command} | peers.ENGINES
        with peers.contestants(makers, setting) as (ready, skipped):
            if "cloche" in skipped:
                raise Failed(f"cloche run: {skipped['cloche']}")
            results = in_turns(ready, max(5, runs // 4))
        yield Comparison(title, "cloche", results, skipped, {"podman": 0.6})
    if "c" in only:
        title = "c: beside runtimes that take a directory"
        makers = {"cloche": peers.cloche_command} | peers.RUNTIMES
        with peers.contestants(makers, setting) as (ready, skipped):
            if "cloche" in skipped:
                raise Failed(f"cloche run: {skipped['cloche']}")
            results = in_turns(ready, max(5, runs // 2))
        yield Comparison(title, "cloche", results, skipped, {})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write the results there too")
    parser.add_argument("--runs", type=int, default=100, help="of the quickest (default: 100)")
    parser.add_argument("--only", default="abcd", metavar="LETTERS", help="which comparisons")
    parser.add_argument(
        "--without-cgroup2",
        action="store_true",
        help="keep the cgroup2 tree of a hybrid machine out of sight: crun wants it so",
    )
    parser.add_argument(
        "--within",
        action="append",
        default=[],
        metavar="NAME=PREFIX",
        help="run a peer by this command line, as in --within 'podman=chroot /srv/newer'",
    )
    parser.add_argument(
        "--options", action="append", default=[], metavar="NAME=WORDS", help="more after `run`"
    )
    options = parser.parse_args()
    for word in (*options.within, *options.options):
        if "=" not in word:
            parser.error(f"not NAME=...: {word}")
    options.within = {
        name: shlex.split(prefix)
        for name, prefix in (word.split("=", 1) for word in options.within)
    }
    options.options = dict(word.split("=", 1) for word in options.options)
    return options


def _print(comparison: Comparison) -> None:
    print(f"\n{comparison.title}")
    print(f"  {'':12}{'median ms':>10}{'quartiles':>16}{'least':>8}{'runs':>6}  ratio")
    for name, result in comparison.results.items():
        lower, upper = result.quartiles
        ratio = ""
        if name != comparison.ours:
            target = comparison.targets.get(name)
            ratio = f"{comparison.ours} takes {comparison.ratio(name):.2f} of it"
            ratio += f" (target: {target})" if target else ""
        print(
            f"  {name:12}{result.median:10.2f}{f'{lower:.2f}-{upper:.2f}':>16}"
            f"{result.least:8.2f}{result.runs:6}  {ratio}"
        )
    for name, reason in comparison.skipped.items():
        print(f"  {name:12}   skipped: {reason}")


def _document(comparisons: list[Comparison]) -> dict[str, Any]:
    return {
        "machine": {
            "kernel": platform.release(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
        },
        "comparisons": [
            {
                "title": comparison.title,
                "ours": comparison.ours,
                "milliseconds": {
                    name: result._asdict() for name, result in comparison.results.items()
                },
                "ratios": {
                    name: comparison.ratio(name)
                    for name in comparison.results
                    if name != comparison.ours
                },
                "targets": comparison.targets,
                "skipped": comparison.skipped,
            }
            for comparison in comparisons
        ],
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failed as failure:
        sys.exit(f"bench: {failure}")
