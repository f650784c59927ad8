"""OCI runtimes side by side, on one bundle: each command, and what it takes of memory.

``cloche-oci``, and the runtimes ``runc`` and ``crun`` of PATH, and more by
``BENCH_RUNTIMES="/path/one /path/two"``.  All of them do one round in turn, then the next.

The program is started by ``spawn.c``, which also tells its peak memory: the resident set of the
runtime's process (wait4(2), that of its children that it has waited for included), and the peak of
the memory cgroup that it was called from, in which the kernel counts what it had to keep for it.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from bench.measure import Failed, Result, result
from bench.spec import container
from cloche.kernel.cgroup import layout

SEQUENTIAL = 100
PARALLEL = 20
YARDSTICK = "runc"
_PR_SET_CHILD_SUBREAPER = 36


class Measure(NamedTuple):
    """One table: what each runtime took, by its name."""

    title: str
    unit: str
    results: dict[str, Result]

    def ratios(self, name: str) -> tuple[float, float] | None:
        """Return the ratios of the medians and of the least values to the yardstick's."""
        yardstick = self.results.get(YARDSTICK)
        if yardstick is None:
            return None
        found = self.results[name]
        return found.median / yardstick.median, found.least / yardstick.least


class Spawned(NamedTuple):
    """What running a program took."""

    milliseconds: float
    busy_ms: float
    """Processor time, of the program and all that were waited for."""
    resident_kib: int
    charged_kib: int


class Runtime:
    """One runtime, with bundles and a state directory of its own."""

    def __init__(self, executable: str, directory: Path, spawner: Spawner) -> None:
        self.name = Path(executable).name
        self._executable = executable
        self._directory = directory / f"runtime-{self.name}"
        self._spawner = spawner
        self._id = f"cloche-bench-{self.name}"
        for name, arguments in (("true", ["/bin/true"]), ("sleep", ["/bin/sleep", "1000"])):
            bundle = self._directory / name
            bundle.mkdir(parents=True)
            spec = container(directory / "root", "")
            del spec["linux"]["cgroupsPath"]  # the id is taken: one for each container
            spec["process"]["args"] = arguments
            (bundle / "config.json").write_text(json.dumps(spec))

    def _call(self, *words: str, times: int = 1, parallel: int = 1) -> Spawned:
        argv = [self._executable, "--root", f"{self._spawner.state}/{self.name}", *words]
        return self._spawner.run(argv, times, parallel)

    def _run(self, times: int = 1, parallel: int = 1) -> Spawned:
        bundle = str(self._directory / "true")
        return self._call(
            "run", "--bundle", bundle, f"{self._id}-%", times=times, parallel=parallel
        )

    def run(self) -> dict[str, float]:
        """Run one container."""
        taken = self._run()
        return {
            "run, ms": taken.milliseconds,
            "processor time of run, ms": taken.busy_ms,
            "memory of run: largest process, KiB": taken.resident_kib,
            "memory of run: charged to the caller's cgroup, KiB": taken.charged_kib,
        }

    def manage(self) -> dict[str, float]:
        """Take a container through its life, command by command."""
        pid_file = self._directory / "pid"
        bundle = str(self._directory / "sleep")
        create = self._call("create", "--bundle", bundle, "--pid-file", str(pid_file), self._id)
        pid = int(pid_file.read_text())
        try:
            start = self._call("start", self._id)
            state = self._call("state", self._id)
            exec = self._call("exec", self._id, "/bin/true")
        finally:
            os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
            delete = self._call("delete", "--force", self._id)
        return {
            "create, ms": create.milliseconds,
            "start, ms": start.milliseconds,
            "delete, ms": delete.milliseconds,
            "create + start + delete, ms": create.milliseconds
            + start.milliseconds
            + delete.milliseconds,
            "state, ms": state.milliseconds,
            "exec, ms": exec.milliseconds,
            "memory of create: largest process, KiB": create.resident_kib,
            "memory of create: charged to the caller's cgroup, KiB": create.charged_kib,
        }

    def sequence(self) -> dict[str, float]:
        """Run many containers, one after the other."""
        taken = self._run(SEQUENTIAL)
        return {f"{SEQUENTIAL} runs, one after the other, ms": taken.milliseconds}

    def crowd(self) -> dict[str, float]:
        """Run many containers at the same time."""
        taken = self._run(PARALLEL, PARALLEL)
        return {f"{PARALLEL} runs at once, ms": taken.milliseconds}


class Spawner:
    """Starts programs from a memory cgroup of their own.

    ``state`` is a directory for what runtimes keep: beneath /run, where it is in earnest, too.
    """

    def __init__(self, directory: Path, group: str, files: tuple[str, str, str]) -> None:
        self._state = tempfile.TemporaryDirectory(prefix="cloche-bench-", dir="/run")
        self.state = self._state.name
        source = Path(__file__).with_name("spawn.c")
        self._executable = directory / "spawn"
        subprocess.run(["cc", "-O2", "-static", "-o", self._executable, source], check=True)
        self._errors = directory / "errors"
        self._group = group
        self._entry, self._peak, self._reset = files

    def run(self, argv: list[str], times: int, parallel: int) -> Spawned:
        """Run a program; raise Failed, with the end of what it said, when its exit code isn't 0."""
        self._write(self._reset, "0")
        words = [str(self._executable), str(times), str(parallel), str(self._errors), *argv]
        done = subprocess.run(
            words, stdout=subprocess.PIPE, check=True, text=True, preexec_fn=self._enter
        )
        nanoseconds, busy, resident, status = map(int, done.stdout.split())
        if status != 0:
            said = self._errors.read_text(errors="replace").strip().splitlines()
            raise Failed(said[-1][:160] if said else f"exit {status}")
        peak = Path(self._group, self._peak).read_text() if self._group else "0"
        return Spawned(nanoseconds / 1e6, busy / 1e6, resident, int(peak) >> 10)

    def _enter(self) -> None:
        self._write(self._entry, "0")

    def _write(self, name: str, value: str) -> None:
        if self._group:
            with open(f"{self._group}/{name}", "w", encoding="ascii") as file:
                file.write(value)


@contextmanager
def memory_group() -> Iterator[tuple[str, tuple[str, str, str]]]:
    """Make a memory cgroup; yield its directory, empty for none, and the names of its files."""
    memory = layout.detect().find("memory")
    v1 = memory is not None and memory.version == 1
    peak = "memory.max_usage_in_bytes" if v1 else "memory.peak"
    files = ("tasks" if v1 else "cgroup.procs", peak, peak)
    if memory is None or not memory.base:
        yield "", files
        return
    group = f"{memory.base}/bench-caller-{os.getpid()}"
    os.mkdir(group)
    try:
        readable = os.path.exists(f"{group}/{peak}")
        yield group if readable else "", files
    finally:
        os.rmdir(group)


def executables() -> list[str]:
    """Return the runtimes to compare."""
    ours = str(Path(sys.executable).with_name("cloche-oci"))
    peers = [shutil.which(name) for name in ("runc", "crun")]
    more = os.environ.get("BENCH_RUNTIMES", "").split()
    return [ours, *(path for path in peers if path), *more]


def measures(directory: Path, runs: int) -> tuple[list[Measure], dict[str, str]]:
    """Measure every runtime that can run a container here; say why the others can't."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what create leaves is ours
    with memory_group() as (group, files):
        spawner = Spawner(directory, group, files)
        ready, skipped = [], {}
        for executable in executables():
            runtime = Runtime(executable, directory, spawner)
            try:
                runtime.run()
                runtime.manage()
            except (Failed, OSError) as error:
                skipped[runtime.name] = str(error)
                continue
            ready.append(runtime)
        found = [
            *_rounds(ready, Runtime.run, runs),
            *_rounds(ready, Runtime.manage, runs),
            *_rounds(ready, Runtime.crowd, max(5, runs // 2)),
            *_rounds(ready, Runtime.sequence, max(2, runs // 10)),
        ]
    return found, skipped


def _rounds(
    runtimes: list[Runtime], act: Callable[[Runtime], dict[str, float]], rounds: int
) -> Iterator[Measure]:
    values: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for runtime in runtimes:
            for title, value in act(runtime).items():
                values.setdefault(title, {}).setdefault(runtime.name, []).append(value)
    for full, by_name in values.items():
        title, _, unit = full.rpartition(", ")
        yield Measure(title, unit, {name: result(found) for name, found in by_name.items()})


def show(found: list[Measure], skipped: dict[str, str]) -> None:
    """Print a table."""
    print(f"\nd: OCI runtimes on one bundle; ratios to {YARDSTICK}: of the medians, of the least")
    for measure in found:
        runs = max(result.runs for result in measure.results.values())
        print(f"  {measure.title} ({measure.unit}, {runs} times)")
        for name, taken in measure.results.items():
            spread = f"{taken.quartiles[0]:.1f}-{taken.quartiles[1]:.1f}"
            ratios = measure.ratios(name)
            text = f"{ratios[0]:8.2f}{ratios[1]:6.2f}" if ratios else ""
            print(f"    {name:14}{taken.median:9.1f}{spread:>18}{taken.least:9.1f}{text}")
    for name, reason in skipped.items():
        print(f"  {name}: skipped: {reason}")


def document(found: list[Measure], skipped: dict[str, str]) -> dict[str, object]:
    """Return the same for the JSON file."""
    return {
        "yardstick": YARDSTICK,
        "measures": [
            {
                "title": measure.title,
                "unit": measure.unit,
                "results": {name: taken._asdict() for name, taken in measure.results.items()},
                "ratios": {name: measure.ratios(name) for name in measure.results},
            }
            for measure in found
        ],
        "skipped": skipped,
    }


def without_cgroup2(program: str) -> None:
    """Start the program anew where no cgroup2 tree is mounted, if there is one beside v1.

    crun refuses a hybrid set-up whose cgroup2 tree offers controllers.  In a mount namespace of
    its own the tree is out of sight, for all that are compared.
    """
    found = layout.detect()
    if found.version != "hybrid" or found.unified is None:
        return
    script = 'umount "$1" && shift && exec "$@"'
    words = [sys.executable, "-m", program, *sys.argv[1:]]
    os.execvp("unshare", ["unshare", "-m", "sh", "-c", script, "sh", found.unified.mount, *words])
