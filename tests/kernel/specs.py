"""Containers from a spec, compiled and run without the engine: what a bundle may ask for."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cloche.kernel import features, mountinfo
from cloche.kernel.mountinfo import Mount
from cloche.plan.compile import compile
from cloche.plan.launch import Launch
from cloche.plan.steps import Plan
from tests.native.launching import Launch as Launched
from tests.native.launching import launch

APPLETS = (
    "cat chmod chroot date echo grep hostname id ls mkdir mount readlink sh stat touch".split()
)
NAMESPACES = ("mount", "pid", "ipc", "uts", "network")
PROC = {"destination": "/proc", "type": "proc", "source": "proc"}


class Outcome(NamedTuple):
    """How a container ended."""

    code: int
    stdout: str
    stderr: str
    failure: tuple[str, str, str, int] | None
    """Operation, call, path and errno of the step that failed."""


class Bundle:
    """A root directory with busybox, and a spec to be changed at will."""

    def __init__(self, workspace: Path) -> None:
        self.root = workspace / "root"
        (self.root / "bin").mkdir(parents=True)
        busybox = shutil.which("busybox")
        assert busybox, "busybox isn't installed"
        shutil.copy(busybox, self.root / "bin/busybox")
        for name in APPLETS:
            (self.root / "bin" / name).symlink_to("busybox")
        self.state = workspace / "state"
        self.options: dict[str, Any] = {}
        """Fields of Launch."""
        self.spec: dict[str, Any] = {
            "ociVersion": "1.3.0",
            "root": {"path": str(self.root)},
            "process": {"cwd": "/", "env": ["PATH=/bin"]},
            "mounts": [PROC],
            "linux": {"namespaces": [{"type": kind} for kind in NAMESPACES]},
        }

    @property
    def linux(self) -> dict[str, Any]:
        """The part of the spec that only Linux has."""
        linux: dict[str, Any] = self.spec["linux"]
        return linux

    def capabilities(self, *names: str) -> None:
        """Let the command have capabilities, and open all devices to it."""
        sets = ("bounding", "effective", "permitted")
        self.spec["process"]["capabilities"] = {name: list(names) for name in sets}

    def own_users(self, first: int = 100000) -> None:
        """Give the container users of its own, and its root directory to them."""
        self.linux["namespaces"].append({"type": "user"})
        mapping = [{"containerID": 0, "hostID": first, "size": 65536}]
        self.linux.update(uidMappings=mapping, gidMappings=mapping)
        for path in (self.root, *self.root.rglob("*")):
            os.chown(path, first, first, follow_symlinks=False)

    def mount(self, destination: str, *options: str, **more: object) -> None:
        """Add a mount, a tmpfs unless ``type`` or ``source`` say otherwise."""
        kind = {} if "source" in more else {"type": "tmpfs", "source": "tmpfs"}
        self.spec["mounts"].append(
            kind | {"destination": destination, "options": list(options)} | more
        )

    def plan(self, command: str) -> Plan:
        """Compile the spec, with a shell command to run."""
        self.spec["process"]["args"] = ["sh", "-c", command]
        prepared = Launch(id="bundle", directory=f"{self.state}/bundle", **self.options)
        return compile(self.spec, features.detect(), prepared)  # type: ignore[arg-type]

    def mounts(self, *paths: str, before: str = "true") -> list[Mount]:
        """Return what is mounted at these paths in the container, after a command."""
        done = self.run(f"{before}; cat /proc/self/mountinfo")
        assert done.failure is None, done.failure
        assert done.stderr == ""
        found = {mount.path: mount for mount in mountinfo.parse(done.stdout)}
        return [found[path] for path in paths]

    def start(self, command: str) -> Launched:
        """Start a shell command that is fed by a pipe."""
        return Launched(self.plan(command).steps, streams=(subprocess.PIPE,) * 3, cwd="/")

    def run(self, command: str = "true", wrapper: Sequence[str] = ()) -> Outcome:
        """Run a shell command in the container; ``wrapper`` is a command that runs the launcher."""
        plan = self.plan(command)
        code, stdout, stderr, records = launch(plan.steps, wrapper=wrapper, cwd="/")
        failed = records.failure
        where = failed and plan.steps[failed.step].operation.name
        return Outcome(
            code,
            stdout,
            stderr,
            failed and (str(where), failed.call, failed.path, failed.errno),
        )
