"""An experiment: how long a start would take with a planner that runs already.

``front.c`` stands in for ``cloche-oci``: it sends its arguments over a Unix socket to a planner in
which everything is imported, gets back the sealed launcher, the plan and the records as file
descriptors, and becomes the launcher.  Nothing of this is shipped: such a planner would be a
daemon.  ``python -m bench.warm`` measures the parts, beside the runtimes.

Two planners: one plans in the process that listens, and is as quick as can be; the other forks for
each request, as one would that must not carry anything over from one caller to the next.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

from bench.measure import Failed, Result, result
from bench.runtimes import Runtime, Spawner, executables, memory_group, without_cgroup2
from bench.spec import make_root
from cloche.kernel.cgroup import layout  # noqa: F401 - the commands import it when they run
from cloche.runtime import launcher, main
from cloche.runtime.commands import create  # noqa: F401


class _Planned(Exception):
    """Raised in place of becoming the launcher."""


def _plan(words: list[str]) -> tuple[bytes, list[int]]:
    """Carry out a command line up to the launcher; return the answer and its file descriptors."""
    if words == ["ping"]:
        return b"\0", []
    begun = time.process_time_ns()
    try:
        code = main.main(words)
    except _Planned as planned:
        program, plan, records = planned.args
        with open(os.environ["FRONT_TIMES"], "a", encoding="ascii") as times:
            times.write(f"{(time.process_time_ns() - begun) / 1e6}\n")
        return b"\0", [program, plan, records]
    return bytes([code]), []


def serve(path: str, forks: bool) -> NoReturn:
    """Answer requests until killed."""
    program = launcher._sealed_copy(launcher.path())  # noqa: SLF001 - once, for all: it is sealed

    def become(_: object, argv: list[str], __: object) -> NoReturn:
        raise _Planned(program, int(argv[1]), int(argv[2]))

    launcher._sealed_copy = lambda file: program  # noqa: SLF001
    os.execve = become  # type: ignore[assignment]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen(64)
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        if not forks or os.fork() == 0:
            _answer(connection)
            if forks:
                os._exit(0)
        connection.close()


def _answer(connection: socket.socket) -> None:
    directory, *words = connection.recv(65536).decode().split("\0")[:-1]
    os.chdir(directory)
    answer, fds = _plan(words)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
    connection.sendmsg([answer], rights)
    for fd in fds[1:]:
        os.close(fd)


@contextmanager
def _planner(directory: Path, name: str) -> Iterator[None]:
    """Run a planner, and have the fronts that are started meanwhile ask it."""
    path = str(directory / name)
    os.environ["FRONT_TIMES"] = f"{path}-times"
    words = [sys.executable, "-m", "bench.warm", "--serve", path]
    process = subprocess.Popen(
        words + ["--forks"] * (name == "forking"), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()


def measure(directory: Path, runs: int) -> dict[str, Result]:
    """Return what each way takes, and its parts."""
    os.environ["CLOCHE_LAUNCHER"] = launcher.path()
    make_root(directory)
    source = Path(__file__).with_name("front.c")
    values: dict[str, list[float]] = {}
    with ExitStack() as stack:
        group, files = stack.enter_context(memory_group())
        spawner = Spawner(directory, group, files)
        contestants: dict[str, Runtime] = {}
        for name in ("warm", "forking"):
            stack.enter_context(_planner(directory, name))
            front = directory / f"front-{name}"
            subprocess.run(
                ["cc", "-D_GNU_SOURCE", "-O2", "-static", "-o", front, source], check=True
            )
            contestants[name] = Runtime(str(front), directory, spawner)
        for executable in executables():
            runtime = Runtime(executable, directory, spawner)
            try:
                runtime.run()
            except Failed as error:
                print(f"{runtime.name}: skipped: {error}")
                continue
            contestants[runtime.name] = runtime
        for _ in range(runs):
            for name, runtime in contestants.items():
                os.environ["FRONT_SOCKET"] = str(directory / name)
                taken = runtime.run()
                values.setdefault(f"run: {name}", []).append(taken["run, ms"])
                busy = taken["processor time of run, ms"]
                values.setdefault(f"processor time, but for a planner's: {name}", []).append(busy)
            for name in ("warm", "forking"):
                os.environ["FRONT_SOCKET"] = str(directory / name)
                ping = spawner.run([str(directory / f"front-{name}"), "ping"], 1, 1)
                title = f"part: {name}: front, and an empty answer"
                values.setdefault(title, []).append(ping.milliseconds)
    for name in ("warm", "forking"):
        times = (directory / f"{name}-times").read_text().split()
        values[f"part: {name}: the planning, processor time"] = [float(text) for text in times][1:]
    return {title: result(found) for title, found in values.items()}


def _main() -> int:
    parser = argparse.ArgumentParser(prog="warm", description=__doc__)
    parser.add_argument("--serve", metavar="SOCKET", help="be the planner")
    parser.add_argument("--forks", action="store_true", help="plan in a new process each time")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--without-cgroup2", action="store_true", help="as of bench.run")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.forks)
    if options.without_cgroup2:
        without_cgroup2("bench.warm")
    with tempfile.TemporaryDirectory(prefix="cloche-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        found = measure(directory, options.runs)
    for title, taken in found.items():
        spread = f"{taken.quartiles[0]:.2f}-{taken.quartiles[1]:.2f}"
        print(f"  {title:54}{taken.median:9.2f}{spread:>16}{taken.least:9.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(_main())
