"""Programs that restrict devices, attached to a real group of cgroup v2 and replaced there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche.errors import Unsupported
from cloche.kernel import device_filter
from cloche.kernel.cgroup import layout
from cloche.kernel.device_program import program
from cloche.kernel.device_rules import READ, Access, Rule

pytestmark = pytest.mark.needs("root", "cgroup2", "bpf")

NOTHING = Access(False)
ZERO = Access(False, (Rule(True, "c", 1, 5, READ),))


@pytest.fixture
def group() -> Iterator[str]:
    """Make a group beneath the test's own."""
    unified = layout.detect().unified
    assert unified is not None
    directory = f"{unified.own}/cloche-test-{os.getpid()}"
    os.mkdir(directory)
    yield directory
    os.rmdir(directory)


def opens(group: str, path: str) -> bool:
    """Whether a process of a group opens a device."""
    code = f"open({group + '/cgroup.procs'!r}, 'w').write('0'); open({path!r}, 'rb')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "PermissionError" in done.stderr, done.stderr
    return done.returncode == 0


def test_a_program_takes_the_place_of_another(group: str) -> None:
    """There is one at all times, and the last one decides."""
    device_filter.replace(group, program(NOTHING))
    assert not opens(group, "/dev/zero")
    device_filter.replace(group, program(ZERO))
    assert opens(group, "/dev/zero")
    assert not opens(group, "/dev/full")
    assert len(device_filter.attached(group)) == 1


def test_programs_of_others_stay(group: str) -> None:
    """What somebody else denies stays denied."""
    device_filter.replace(group, program(ZERO), name="sd_devices")
    device_filter.replace(group, program(Access(True)))
    assert len(device_filter.attached(group)) == 2
    assert not opens(group, "/dev/full")


def test_the_launcher_and_later_commands_mean_the_same_program() -> None:
    """It is found again by its name, which both give it."""
    source = Path(__file__).parents[2] / "native" / "device_filter.c"
    assert '"cloche_devices"' in source.read_text()


def test_a_program_that_is_none(group: str) -> None:
    """What the kernel refuses changes nothing."""
    device_filter.replace(group, program(ZERO))
    with pytest.raises(Unsupported, match="refuses the program"):
        device_filter.replace(group, bytes(8))
    assert opens(group, "/dev/zero")
