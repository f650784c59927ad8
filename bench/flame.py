"""A picture of where the time of ``cloche-oci run`` goes: ``python -m bench.flame OUTPUT.svg``.

It isn't a sampled profile: a sampler sees C frames of the interpreter, and nothing of what the
kernel does for a step.  Four measurements are put side by side instead, in the order of time, each
from the quickest of several runs, since on a busy machine the quickest says most:

interpreter  a Python that does nothing, and how much of that is its module ``site``
imports      ``-X importtime``: a module's box holds those that it imports
planning     functions of the planner, timed from inside, everything being imported
launcher     the records of ``cloche-oci --debug run``: every step, in the order of the plan

What is left of a whole run is the last box: the exec of the launcher, exits, what nobody timed.
The whole and the interpreter are processor time, which other programs' work hardly changes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from bench.runtimes import Runtime, Spawner, memory_group
from bench.spec import make_root
from cloche.plan import wire
from cloche.runtime import launcher, main, records

WIDTH = 1180
ROW = 19
COLOURS = {
    "interpreter": "#9bb4c8",
    "imports": "#c8a96b",
    "planning": "#d0805f",
    "launcher": "#8fb996",
    "rest": "#cccccc",
}
FUNCTIONS = """
    cloche.runtime.arguments:parse cloche.runtime.bundle:load cloche.oci.validate:parse
    cloche.kernel.features:detect cloche.kernel.cgroup.layout:detect cloche.plan.compile:compile
    cloche.runtime.commands.create:compile cloche.plan.wire:encode cloche.json:dumps
    cloche.runtime.launcher:_sealed_copy cloche.runtime.launcher:_sealed
""".split()


class Box(NamedTuple):
    """A stretch of time, in milliseconds, and what it is made of; gaps are nobody's."""

    name: str
    begun: float
    ended: float
    parts: list[Box]


def _imports(errors: str) -> list[Box]:
    """Return the tree that ``-X importtime`` prints, children first."""
    waiting: dict[int, list[tuple[str, float, list[Any]]]] = {}
    for line in errors.splitlines():
        if not line.startswith("import time:") or "cumulative" in line:
            continue
        _, cumulative, name = line.removeprefix("import time:").split("|")
        depth = (len(name) - len(name.lstrip()) - 1) // 2
        parts = waiting.pop(depth + 1, [])
        waiting.setdefault(depth, []).append((name.strip(), int(cumulative) / 1e3, parts))
    found = waiting.get(0, [])
    while found and not found[0][0].startswith("cloche"):  # what every interpreter imports
        found.pop(0)
    return _lay_out(found, 0)


def _lay_out(found: list[tuple[str, float, list[Any]]], at: float) -> list[Box]:
    boxes = []
    for name, taken, parts in found:
        boxes.append(Box(name, at, at + taken, _lay_out(parts, at)))
        at += taken
    return boxes


def _planning(words: list[str]) -> list[Box]:
    """Plan in this process, and time what FUNCTIONS names; it must not have planned before."""
    stack: list[list[Box]] = [[]]

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **named: Any) -> Any:
            stack.append([])
            begun = time.perf_counter_ns()
            try:
                return function(*arguments, **named)
            finally:
                ended = time.perf_counter_ns()
                parts = stack.pop()
                stack[-1].append(Box(name, begun / 1e6, ended / 1e6, parts))

        return wrapper

    for entry in FUNCTIONS:
        module_name, _, name = entry.partition(":")
        module = __import__(module_name, fromlist=(name,))
        label = f"{module_name.removeprefix('cloche.').removeprefix('runtime.commands.')}.{name}"
        setattr(module, name, timed(label, getattr(module, name)))

    class Done(Exception):
        pass

    def end(*_: object) -> NoReturn:
        raise Done

    os.execve = end  # type: ignore[assignment]
    begun = time.perf_counter_ns() / 1e6
    try:
        main.main(words)
    except Done:
        pass
    return [Box("planning", begun, time.perf_counter_ns() / 1e6, stack[0])]


def _planning_elsewhere(words: list[str]) -> Box:
    code = "import sys; from bench.flame import _planning; print(_planning(sys.argv[1:]))"
    argv = [sys.executable, "-c", code, *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    found: list[Box] = eval(done.stdout, {"Box": Box})
    return found[0]


def _steps(directory: Path) -> Box:
    """Return the steps that a launcher has recorded."""
    plan, _ = wire.decode((directory / "plan").read_bytes())
    fd = os.open(directory / "records", os.O_RDONLY)
    found = records.read(fd)
    os.close(fd)
    parts = []
    for step, timing in zip(plan.steps, found.steps, strict=True):
        if timing.ended:
            words = [str(value) for value in step.arguments if isinstance(value, (int, str))]
            name = f"{step.operation.name} {' '.join(words)[:100]}"
            parts.append(Box(name, timing.begun / 1e6, timing.ended / 1e6, []))
    return Box("launcher", found.begun / 1e6, found.ended / 1e6, parts)


def measure(directory: Path, runs: int) -> tuple[float, list[Box]]:
    """Return the milliseconds of processor time of a whole run, and its sections."""
    make_root(directory)
    cloche = str(Path(sys.executable).with_name("cloche-oci"))
    bare, siteless, whole = [], [], []
    imports: list[list[Box]] = []
    planning: list[Box] = []
    steps: list[Box] = []
    with memory_group() as (group, files):
        spawner = Spawner(directory, group, files)
        runtime = Runtime(cloche, directory, spawner)
        bundle = str(directory / "runtime-cloche-oci" / "true")
        root = directory / "state"
        for number in range(runs):
            id = f"bench-flame-{os.getpid()}-{number}"
            words = ["--root", str(root), "run", "--bundle", bundle, id]
            bare.append(spawner.run([sys.executable, "-c", "pass"], 1, 1).busy_ms)
            siteless.append(spawner.run([sys.executable, "-S", "-c", "pass"], 1, 1).busy_ms)
            whole.append(runtime.run()["processor time of run, ms"])
            argv = [sys.executable, "-X", "importtime", cloche, *words]
            done = subprocess.run(argv, capture_output=True, text=True, check=True)
            imports.append(_imports(done.stderr))
            planning.append(_planning_elsewhere(words))
            debug = [cloche, "--debug", *words[:3], "--keep", *words[3:]]
            subprocess.run(debug, check=True, stdin=subprocess.DEVNULL)
            steps.append(_steps(root / id))
            subprocess.run([cloche, "--root", str(root), "delete", id], check=True)
    interpreter = min(bare)
    site = max(0.0, interpreter - min(siteless))
    imported = min(imports, key=lambda boxes: boxes[-1].ended)
    sections = [
        Box("interpreter", 0, interpreter, [Box("site", interpreter - site, interpreter, [])]),
        Box("imports", 0, imported[-1].ended, imported),
        min(planning, key=lambda box: box.ended - box.begun),
        min(steps, key=lambda box: box.ended - box.begun),
    ]
    taken = sum(box.ended - box.begun for box in sections)
    sections.append(Box("rest", 0, max(0.0, min(whole) - taken), []))
    return min(whole), sections


def draw(total: float, sections: list[Box]) -> str:
    """Return the picture, as SVG."""
    length = sum(box.ended - box.begun for box in sections)
    scale = WIDTH / length
    shapes: list[str] = []
    depth = 0

    def box(found: Box, offset: float, level: int, colour: str) -> None:
        nonlocal depth
        depth = max(depth, level)
        taken = found.ended - found.begun
        x, width = 10 + (found.begun + offset) * scale, taken * scale
        label = (
            f"{found.name}: {taken:.2f} ms"
            if taken >= 0.1
            else f"{found.name}: {taken * 1e3:.0f} us"
        )
        shapes.append(
            f'<g transform="translate({x:.1f},{{{level}}})"><title>{escape(label)}</title>'
            f'<rect width="{max(width - 0.4, 0.3):.1f}" height="{ROW - 1}" fill="{colour}"/>'
        )
        room = int(width / 6.6)
        if room >= 4:
            text = label if len(label) <= room else found.name[:room]
            shapes.append(f'<text x="3" y="13">{escape(text)}</text>')
        shapes.append("</g>")
        for part in found.parts:
            box(part, offset, level + 1, colour)

    at = 0.0
    for section in sections:
        box(section, at - section.begun, 0, COLOURS[section.name])
        at += section.ended - section.begun
    height = (depth + 1) * ROW + 50
    body = "\n".join(shapes)
    for level in range(depth + 1):
        body = body.replace(f"{{{level}}}", str(height - 10 - (level + 1) * ROW))
    title = (
        f"cloche-oci run: {total:.1f} ms of processor time. Each section is the quickest of "
        "several runs, measured apart: no sampled profile."
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + 20}" height="{height}" '
        'font-family="monospace" font-size="11">\n'
        '<rect width="100%" height="100%" fill="#ffffff"/>'
        f'<text x="10" y="20">{title}</text>\n{body}\n</svg>\n'
    )


def _main() -> int:
    parser = argparse.ArgumentParser(prog="flame", description=__doc__)
    parser.add_argument("output", metavar="OUTPUT.svg")
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    os.environ.setdefault("CLOCHE_LAUNCHER", launcher.path())
    with tempfile.TemporaryDirectory(prefix="cloche-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        total, sections = measure(directory, options.runs)
    Path(options.output).write_text(draw(total, sections))
    print(f"  {'whole':14}{total:8.2f} ms")
    for section in sections:
        print(f"  {section.name:14}{section.ended - section.begun:8.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(_main())
