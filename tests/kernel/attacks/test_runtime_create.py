"""Attacks by a root directory on the runtime that builds a container of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.kernel.attacks.conftest import Bundle, Treasure
from tests.runtimes import Runtime, read_spec, write_spec

pytestmark = [pytest.mark.needs("root", "busybox", "gcc"), pytest.mark.orphans]


def without_dev(bundle: Path, **links: Path) -> None:
    """Have a root's own /dev, with links in it, show in the container."""
    spec = read_spec(bundle)
    spec["mounts"] = [mount for mount in spec["mounts"] if mount["destination"] != "/dev"]
    spec["linux"]["maskedPaths"] = ["/proc/kcore", "/proc/keys", "/dev/masked", "/masked"]
    spec["linux"]["readonlyPaths"] = ["/proc/sys", "/dev/readonly"]
    write_spec(bundle, spec)
    (bundle / "rootfs/dev/pts").mkdir(parents=True)
    for name, target in links.items():
        (bundle / "rootfs/dev" / name).symlink_to(target)


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize(
    "name", ["console", "null", "zero", "ptmx", "stdin", "fd", "shm", "masked"]
)
def test_links_in_dev(
    runtime: Runtime, bundle: Bundle, treasure: Treasure, name: str, terminal: bool
) -> None:
    """A device's or console's place that leads to the host changes nothing there.

    CVE-2025-31133, CVE-2025-52565, CVE-2026-88264, CVE-2026-88265.
    """
    for number, target in enumerate((treasure.path / "file", treasure.path / "new")):
        made = bundle("sh", "-c", "echo x > /dev/null", name=f"b{number}", terminal=terminal)
        without_dev(made, **{name: target})
        runtime("run", "--bundle", str(made), runtime.id(str(number)), timeout=20)
        assert treasure.is_safe


def test_root_of_links(runtime: Runtime, bundle: Bundle, treasure: Treasure) -> None:
    """Nor do the places of mounts (CVE-2019-16884, CVE-2023-27561, CVE-2023-28642)."""
    for place in ("proc", "dev", "sys"):
        made = bundle("sh", "-c", "cat /proc/self/status; echo x > /proc/file", name=place)
        (made / "rootfs" / place).symlink_to(treasure.path)
        runtime("run", "--bundle", str(made), runtime.id(place), timeout=20)
        assert treasure.is_safe


def test_own_streams(runtime: Runtime, bundle: Bundle, treasure: Treasure) -> None:
    """A file of the caller's that is a stream keeps its owner, and so does the host's null."""
    made = bundle("sh", "-c", "echo x", user={"uid": 1000, "gid": 1000})
    output = treasure.path.with_name("output")
    for number, path in enumerate((output, Path("/dev/null"))):
        argv = runtime.argv("run", "--bundle", str(made), runtime.id(str(number)))
        with path.open("w") as file:
            subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=file, check=True)
        assert path.stat().st_uid == os.getuid()
    assert Path("/dev/null").stat().st_mode & 0o777 == 0o666
