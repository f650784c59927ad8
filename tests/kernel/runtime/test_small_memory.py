"""Containers with hardly any memory: building one must not use up what its program is to have."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche.runtime.container import Container
from tests.runtimes import Runtime, make_bundle, read_spec, write_spec

pytestmark = [pytest.mark.needs("root", "busybox"), pytest.mark.orphans]

LIMIT = 1 << 20
CHARGED = 768 << 10
"""Bytes: a created container's, in steps of the 256 KiB that each processor charges ahead."""


@pytest.fixture
def runtime(workspace: Path) -> Iterator[Runtime]:
    """The runtime, with a state directory of its own."""
    runtime = Runtime(str(Path(sysconfig.get_path("scripts"), "cloche-oci")), workspace)
    yield runtime
    runtime.end()


@pytest.fixture
def bundle(workspace: Path) -> Path:
    """A bundle with a limit of 1 MiB."""
    bundle = make_bundle(workspace / "bundle", "true")
    spec = read_spec(bundle)
    spec["linux"]["resources"] = {"memory": {"limit": LIMIT}}
    write_spec(bundle, spec)
    return bundle


def test_run_in_a_mebibyte(runtime: Runtime, bundle: Path) -> None:
    """A small static program runs where there is 1 MiB for all."""
    done = runtime("run", "--bundle", str(bundle), runtime.id())
    assert (done.code, done.stderr) == (0, "")


def test_each_command_in_a_mebibyte(runtime: Runtime, bundle: Path) -> None:
    """Created, started, and with one more program, it has enough too."""
    spec = read_spec(bundle)
    spec["process"]["args"] = ["sleep", "1000"]
    write_spec(bundle, spec)
    id = runtime.id()
    runtime("create", "--bundle", str(bundle), id, check=True)
    runtime("start", id, check=True)
    assert runtime("exec", id, "true").code == 0
    runtime("delete", "--force", id, check=True)


def test_what_a_created_container_is_charged(runtime: Runtime, bundle: Path) -> None:
    """Neither the launcher nor the plan stays on the container's account."""
    id = runtime.id()
    runtime("create", "--bundle", str(bundle), id, check=True)
    group = Container(str(runtime.root), id).group()
    assert group is not None
    memory = Path(group.place("memory"))
    peaks = [memory / name for name in ("memory.max_usage_in_bytes", "memory.peak")]
    found = [peak for peak in peaks if peak.exists()]
    if not found:  # memory.peak is known since Linux 5.19
        pytest.skip("this kernel doesn't tell a cgroup's peak")
    assert int(found[0].read_text()) <= CHARGED
