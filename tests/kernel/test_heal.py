"""SIGKILL at any moment: the container dies too, and a later command leaves nothing of it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cloche.engine.heal import heal
from cloche.kernel.cgroup import layout
from cloche.plan import wire
from cloche.plan.steps import Plan, id_map_program
from tests import leaks
from tests.conftest import Cloche
from tests.kernel.planning import launcher_of, planned
from tests.native.launching import Launch

pytestmark = [pytest.mark.needs("root", "userns"), pytest.mark.orphans]

LIMITED = ("--memory", "64m", "--pids-limit", "64", "--name", "killed", "host")
KINDS = {
    "limits": ("cloche", LIMITED),
    "private users": ("cloche", ("--userns", "private", "--init", *LIMITED)),
    "single id": ("unprivileged", ("--name", "killed", "host")),
}


def wait_until(condition: Callable[[], bool], meanwhile: Callable[[], None]) -> None:
    """Wait for something that other processes do; fail when it never happens."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it never happened"
        meanwhile()
        time.sleep(0.002)


class Killing:
    """A plan that is carried out again and again, and healed after."""

    def __init__(self, run: Cloche, workspace: Path, options: tuple[str, ...]) -> None:
        self.run = run
        self.state = workspace / "state"
        self.uid = run.user.uid if run.user else None
        self.plan = planned(run, *options, "sh", "-c", "sleep 60")
        self.before = leaks.snapshot(self.state)
        self.layout = layout.detect()
        self.script = workspace / "kill"

    def kills(self, whom: str, before: int) -> Plan:
        """Return the plan with a step more, in which one of its two processes is killed."""
        self.script.write_text(f"#!/bin/sh\nkill -9 {whom}\nsleep 0.01\n")
        self.script.chmod(0o755)
        steps = list(self.plan.steps)
        steps.insert(before, id_map_program((str(self.script),), why="to kill"))
        return Plan(tuple(steps))

    def launch(self, plan: Plan) -> Launch:
        """Start the launcher on a plan."""
        return Launch(plan.steps, wire.Options(), uid=self.uid)

    def heal(self) -> list[str]:
        """Clean up, as every command does first."""
        return heal(str(self.run.state), self.layout)

    def wait_for_processes(self) -> None:
        """Wait until whatever is dying is dead: until then it holds the lock that it inherited."""
        known = self.before.processes.keys()
        wait_until(lambda: leaks.snapshot(self.state).processes.keys() <= known, self.reap)

    def reap(self) -> None:
        """Do init's work for orphans."""
        leaks.reap(self.before)

    def left(self) -> list[leaks.Leak]:
        """Return what is there that wasn't in the beginning."""
        names = [leaks.Leak("name", path.name) for path in self.run.state.glob("names/*")]
        return names + leaks.find(self.before, self.state, orphans=True)


@pytest.fixture(params=KINDS)
def killing(
    request: pytest.FixtureRequest, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> Killing:
    """Each kind of plan."""
    who, options = KINDS[request.param]
    run = request.getfixturevalue(who)
    monkeypatch.setenv("CLOCHE_LAUNCHER", str(launcher_of(run)))
    return Killing(run, workspace, options)


def test_launcher_killed_before_each_step(killing: Killing) -> None:
    """Wherever the launcher dies, its child does too; files, name and cgroups are cleaned up."""
    for number, step in enumerate(killing.plan.steps):
        result = killing.launch(killing.kills("$PPID", number)).wait()
        assert result.code == -signal.SIGKILL, result
        killing.wait_for_processes()
        killing.heal()
        assert killing.left() == [], f"before step {number}, {step.operation.name}"


def test_child_killed_before_each_step(killing: Killing) -> None:
    """Wherever the child dies, the launcher undoes everything itself and says so."""
    names = [step.operation.name for step in killing.plan.steps]
    for number in range(names.index("spawn") + 1, len(names)):
        result = killing.launch(killing.kills("$1", number)).wait()
        where = f"before step {number}, {names[number]}"
        assert result.code == (137 if names[number] == "supervise" else 125), where
        assert killing.left() == [], where
        assert killing.heal() == []


def test_launcher_killed_at_random_moments(killing: Killing) -> None:
    """No moment is special, be it in a start, while the container runs, or in the clean-up."""
    chance = random.Random(1)
    plan = planned(killing.run, *KINDS["limits" if killing.uid is None else "single id"][1], "true")
    begun = time.monotonic()
    assert killing.launch(plan).wait().code == 0
    lasts = time.monotonic() - begun
    for _ in range(60):
        running = killing.launch(plan)
        time.sleep(chance.uniform(0, lasts))
        running.signal(signal.SIGKILL)
        running.process.communicate()
        running.forget()
        killing.wait_for_processes()
        killing.heal()
        assert killing.left() == []


SURVIVOR = """
import ctypes, time
ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)  # PR_SET_PDEATHSIG
print("up", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("who", ["cloche", "unprivileged"])
def test_program_that_wishes_to_survive(
    who: str, workspace: Path, request: pytest.FixtureRequest
) -> None:
    """A program that has waived its parent death signal is found by a later command."""
    run: Cloche = request.getfixturevalue(who)
    before = leaks.snapshot(workspace / "state")
    argv = [str(run.executable), "run", "host", "python3", "-c", SURVIVOR]
    with run.start(argv) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.kill()
        process.wait()
        run("run", "host", "true", check=True)
    assert leaks.find(before, workspace / "state", orphans=True) == []


# --- several commands at once -----------------------------------------------------------------


def test_name_is_given_to_one_of_many(cloche: Cloche) -> None:
    """Of commands that want one name at the same time one gets it, and the others are told."""
    argv = [str(cloche.executable), "run", "-i", "--name", "wanted", "host", "sh", "-c", "read x"]
    processes = [cloche.start(argv, stdin=subprocess.PIPE) for _ in range(6)]
    wait_until(lambda: sum(process.poll() is None for process in processes) == 1, lambda: None)
    for process in processes:
        code = 125 if process.poll() is not None else 0
        _, stderr = process.communicate("\n", timeout=20)
        assert (process.returncode, "in use" in stderr) == (code, code == 125), stderr


def test_names_of_the_dead_are_free_at_once(cloche: Cloche) -> None:
    """While several commands clean up after the dead, each gets the name of one, and starts."""
    names = [f"again{number}" for number in range(8)]
    cloche("run", "host", "true", check=True)
    for name in names:
        argv = [str(cloche.executable), "run", "-m", "64m", "--name", name, "host", "sh", "-c"]
        with cloche.start([*argv, "echo up; sleep 60"]) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.kill()
    argv = [str(cloche.executable), "run", "-m", "64m", "host", "echo", "ok"]
    processes = [cloche.start([*argv[:2], "--name", name, *argv[2:]]) for name in names]
    processes += [cloche.start(argv) for _ in range(8)]
    outputs = [process.communicate(timeout=60) for process in processes]
    assert outputs == [("ok\n", "")] * 16
    assert os.listdir(cloche.state / "containers") == []


def test_starting_while_others_clean_up(
    cloche: Cloche, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory that has just been made is never taken for a dead launcher's."""
    monkeypatch.setenv("CLOCHE_LAUNCHER", str(launcher_of(cloche)))
    plans = [planned(cloche, "-m", "64m", "host", "true") for _ in range(4)]
    healers = []
    for _ in range(2):
        healer = os.fork()
        if healer == 0:
            while True:
                heal(str(cloche.state), layout.detect())
        healers.append(healer)
    try:
        for _ in range(15):
            running = [Launch(plan.steps, wire.Options()) for plan in plans]
            for launch in running:
                result = launch.wait()
                assert (result.code, result.records.failure) == (0, None)
    finally:
        for healer in healers:
            os.kill(healer, signal.SIGKILL)
            os.waitpid(healer, 0)
