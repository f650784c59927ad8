"""Every step of real plans fails once: nothing of what came before it stays.

A plan is compiled as ``cloche run`` compiles it, as the user who would run it; then the installed
launcher carries it out as often as it has steps, each time with another failpoint.
"""

from __future__ import annotations

import errno
import os
import pty
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from cloche.plan import wire
from cloche.plan.steps import Plan
from cloche.runtime import failure
from tests import leaks
from tests.conftest import Cloche
from tests.kernel.planning import launcher_of, planned
from tests.native.launching import Launch, Result

pytestmark = pytest.mark.needs("root", "userns", "busybox")


class Kind(NamedTuple):
    """A kind of plan: who runs it, with which options."""

    who: str
    options: tuple[str, ...]
    terminal: bool = False


KINDS = {
    "limits and volumes": Kind(
        "cloche",
        (
            *("--memory", "64m", "--cpus", "0.5", "--pids-limit", "64", "--name", "failing"),
            *(
                "-v",
                "{workspace}/volume:/data",
                "-v",
                "{workspace}/volume:/fixed:ro",
                "--tmpfs",
                "/t",
            ),
            *("--device", "/dev/full", "--ulimit", "nofile=64", "-u", "65534"),
            *("--read-only", "--security-opt", "no-new-privileges", "host"),
        ),
    ),
    "directory": Kind("cloche", ("--rootfs", "{workspace}/root")),
    "directory with a layer": Kind("cloche", ("--rootfs", "{workspace}/root:O")),
    "private users": Kind("cloche", ("--userns", "private", "--init", "host")),
    "terminal": Kind("cloche", ("-it", "host"), terminal=True),
    "init": Kind("cloche", ("--init", "-w", "/new", "host")),
    "shared namespaces": Kind("cloche", ("--pid", "host", "--network", "host", "host")),
    "single id": Kind("unprivileged", ("--name", "failing", "host")),
    "range of ids": Kind("subordinate", ("host",)),
}


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> Kind:
    """The kind that a test is repeated for."""
    return KINDS[request.param]


@pytest.fixture
def run(kind: Kind, request: pytest.FixtureRequest) -> Cloche:
    """The command as the user of the kind."""
    return request.getfixturevalue(kind.who)  # type: ignore[no-any-return]


@pytest.fixture
def plan(kind: Kind, run: Cloche, workspace: Path) -> Plan:
    """The plan, compiled by its user."""
    (workspace / "volume").mkdir()
    (workspace / "root/bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", workspace / "root/bin/sh")
    options = [option.format(workspace=workspace) for option in kind.options]
    return planned(run, *options, "sh", "-c", "sleep 60")


@pytest.fixture
def launch(
    kind: Kind, run: Cloche, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Plan, wire.Options], Result]:
    """Run the user's installed launcher on a plan to its end."""
    monkeypatch.setenv("CLOCHE_LAUNCHER", str(launcher_of(run)))

    def once(plan: Plan, options: wire.Options) -> Result:
        uid = run.user.uid if run.user else None
        if not kind.terminal:
            return Launch(plan.steps, options, uid=uid).wait()
        master, slave = pty.openpty()
        try:
            return Launch(plan.steps, options, streams=(slave,) * 3, start_new_session=True).wait()
        finally:
            os.close(master)
            os.close(slave)

    return once


@pytest.mark.orphans
@pytest.mark.parametrize("kind", KINDS, indirect=True)
def test_whichever_step_fails_everything_is_undone(
    plan: Plan, launch: Callable[[Plan, wire.Options], Result], run: Cloche, workspace: Path
) -> None:
    """No cgroup, mount, process, file or name stays, and the record names the step and errno."""
    assert len(plan.steps) > 40
    before = leaks.snapshot(workspace / "state")
    volumes = sorted(workspace.glob("volume/*"))
    for number, step in enumerate(plan.steps):
        result = launch(plan, wire.Options(fail_step=number, fail_errno=errno.EDOM))
        where = f"step {number}, {step.operation.name}"
        found = result.records.failure
        assert found is not None, where
        assert (found.step, found.stage, found.errno) == (number, step.stage, errno.EDOM), where
        assert result.code == (126 if step.operation.name == "exec" else 125), where
        if step.operation.name != "exec":
            message = failure.error(plan, found).message
            assert message.startswith(f"step {number} failed: "), where
            assert message.endswith("(EDOM)"), where
        assert leaks.find(before, workspace / "state", orphans=True) == [], where
    assert sorted(workspace.glob("volume/*")) == volumes
    assert not list(run.state.glob("names/*"))
