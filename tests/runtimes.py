"""OCI runtimes for tests: run a command of one on containers of its own, and clean up after."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

APPLETS = "cat chmod echo env false hostname id ls mkdir mount ps sh sleep stat stty touch true tty"


class Done(NamedTuple):
    """How a command of a runtime ended."""

    code: int
    stdout: str
    stderr: str


def make_bundle(directory: Path, *args: str, **process: Any) -> Path:
    """Make a bundle whose root has a static busybox, and whose process runs these arguments."""
    root = directory / "rootfs"
    (root / "bin").mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox, "busybox isn't installed"
    shutil.copy(busybox, root / "bin/busybox")
    for name in APPLETS.split():
        (root / "bin" / name).symlink_to("busybox")
    write_spec(directory, spec(*args, **process))
    return directory


def spec(*args: str, **process: Any) -> dict[str, Any]:
    """Return a spec for a root directory beside it; ``process`` changes its process."""
    kinds = ("pid", "network", "ipc", "uts", "mount", "cgroup")
    capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "args": list(args) or ["true"],
            "cwd": "/",
            "env": ["PATH=/bin", "HOME=/"],
            "user": {"uid": 0, "gid": 0},
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            "noNewPrivileges": True,
            **process,
        },
        "root": {"path": "rootfs"},
        "hostname": "glass",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "mode=755"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
        ],
        "linux": {"namespaces": [{"type": kind} for kind in kinds]},
    }


def read_spec(bundle: Path) -> dict[str, Any]:
    """Return a bundle's spec."""
    document: dict[str, Any] = json.loads((bundle / "config.json").read_text())
    return document


def write_spec(bundle: Path, document: dict[str, Any]) -> None:
    """Replace a bundle's spec."""
    (bundle / "config.json").write_text(json.dumps(document))


class Runtime:
    """One runtime, with a state directory of its own."""

    def __init__(self, executable: str, directory: Path) -> None:
        self.executable = executable
        self.name = Path(executable).name
        self.directory = directory
        self.root = directory / "state" / "oci"
        self.log = directory / "runtime.log"
        self.prefix = f"test-{os.getpid()}-{time.monotonic_ns()}-"
        self._children: set[int] = set()

    def id(self, name: str = "a") -> str:
        """Return a container id that no other test has."""
        return self.prefix + name

    def argv(self, *arguments: str) -> list[str]:
        """Return the command line of a command."""
        return [
            self.executable,
            "--root",
            str(self.root),
            "--log",
            str(self.log),
            "--log-format",
            "json",
            *arguments,
        ]

    def __call__(
        self,
        *arguments: str,
        input: str = "",
        check: bool = False,
        timeout: float = 60,
    ) -> Done:
        """Run a command to its end.

        What outlives it, a container's process, holds the files that it was given; so output goes
        to files, and reading them doesn't wait.
        """
        output, errors = self.directory / "stdout", self.directory / "stderr"
        with output.open("wb") as stdout, errors.open("wb") as stderr:
            done = subprocess.run(
                self.argv(*arguments),
                input=input.encode(),
                stdout=stdout,
                stderr=stderr,
                timeout=timeout,
                check=False,
                cwd=self.directory,
            )
        found = Done(done.returncode, output.read_text(), errors.read_text())
        assert not check or found.code == 0, f"{arguments}: {found}"
        return found

    def state(self, id: str) -> dict[str, Any]:
        """Return what the command ``state`` prints."""
        document: dict[str, Any] = json.loads(self("state", id, check=True).stdout)
        return document

    def status(self, id: str) -> str:
        """Return a container's status."""
        self.reap()
        return str(self.state(id)["status"])

    def errors(self) -> list[str]:
        """Return the messages of the log's errors."""
        if not self.log.exists():
            return []
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line["msg"] for line in lines if line["level"] == "error"]

    def output(self) -> str:
        """Return what has come to the standard output of the last command so far."""
        return (self.directory / "stdout").read_text()

    def note(self, pid: int) -> int:
        """Remember a process that becomes a child of this one when its launcher has left."""
        self._children.add(pid)
        return pid

    def reap(self) -> None:
        """Take the exit codes of containers' processes, as their manager does."""
        for entry in self.root.glob(f"{self.prefix}*"):
            with contextlib.suppress(Exception):
                document = json.loads(self("state", entry.name).stdout)
                if document["pid"]:
                    self._children.add(document["pid"])
        self._has_reaped_all()

    def _has_reaped_all(self) -> bool:
        for pid in list(self._children):
            try:
                if os.waitpid(pid, os.WNOHANG)[0]:
                    self._children.discard(pid)
            except ChildProcessError:
                self._children.discard(pid)
        return not self._children

    def end(self) -> None:
        """Delete every container that is left.

        A pid namespace ends only when all its processes have been waited for: those that were
        added to it are children of this one.
        """
        self.reap()
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(self._has_reaped_all)
        for entry in self.root.glob(f"{self.prefix}*"):
            self("delete", "--force", entry.name)
        shutil.rmtree(self.root, ignore_errors=True)


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for something that another process does; fail when it never happens."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)
