"""A bundle with a static busybox, and the runtime that makes containers from it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.conftest import Cloche

APPLETS = ("cat", "echo", "grep", "head", "id", "ionice", "ls", "mkdir", "sh", "sleep", "true")
KINDS = ("pid", "network", "ipc", "uts", "mount", "cgroup")
CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
MAPPING = [{"containerID": 0, "hostID": 700000, "size": 1000}]


class Bundle:
    """A bundle of its own, to be run with one change or another."""

    def __init__(self, cloche: Cloche, directory: Path) -> None:
        self.cloche = cloche
        self.path = directory / "bundle"
        self.id = f"test-{os.getpid()}"
        binaries = self.path / "rootfs/bin"
        binaries.mkdir(parents=True)
        binaries.parent.chmod(0o777)  # for roots of other ids, who make mount points in it
        busybox = shutil.which("busybox")
        assert busybox, "busybox isn't installed"
        shutil.copy(busybox, binaries / "busybox")
        for name in APPLETS:
            (binaries / name).symlink_to("busybox")

    def configure(
        self, script: str, process: Mapping[str, Any] = {}, linux: Mapping[str, Any] = {}
    ) -> None:
        """Write ``config.json`` for a shell script."""
        document = {
            "ociVersion": "1.3.0",
            "root": {"path": "rootfs"},
            "process": {
                "args": ["sh", "-c", script],
                "cwd": "/",
                "env": ["PATH=/bin"],
                "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
                **process,
            },
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"namespaces": [{"type": kind} for kind in KINDS], **linux},
        }
        (self.path / "config.json").write_text(json.dumps(document))

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of one of the runtime's commands."""
        return [
            str(self.cloche.executable),
            "oci",
            "--root",
            f"{self.cloche.state}/oci",
            *arguments,
        ]

    def __call__(self, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run one of the runtime's commands."""
        return self.cloche.run(self.command(*arguments), check=check)

    def manage(self, *arguments: str) -> tuple[int, str]:
        """Run a command that leaves a container behind; return its exit code and all output.

        The container's process holds the files that it was given, so these are no pipes.
        """
        output = self.path / "output"
        with output.open("wb") as file:
            done = subprocess.run(
                self.command(*arguments),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=self.cloche.environ,
                timeout=60,
                check=False,
            )
        return done.returncode, output.read_text()

    def run(
        self,
        script: str,
        process: Mapping[str, Any] = {},
        linux: Mapping[str, Any] = {},
        *,
        check: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell script in a container to its end."""
        self.configure(script, process, linux)
        return self("run", "--bundle", str(self.path), self.id, check=check)


def own_users(linux: Mapping[str, Any] = {}) -> dict[str, Any]:
    """Return a change that gives the container a user namespace."""
    namespaces = [{"type": kind} for kind in (*KINDS, "user")]
    return {"namespaces": namespaces, "uidMappings": MAPPING, "gidMappings": MAPPING, **linux}
