"""SIGKILL at any moment: the container dies too, and a later command leaves nothing of it."""

from __future__ import annotations

import random
import signal
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
