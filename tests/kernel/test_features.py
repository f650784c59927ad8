from __future__ import annotations

import os
import subprocess
import time

import pytest

from cloche.kernel import features
from cloche.kernel.features import Finding
from cloche.kernel.probes import child

NAMESPACES = sorted(os.listdir("/proc/self/ns"))


def _own_namespaces() -> list[str]:
    return [os.readlink(f"/proc/self/ns/{name}") for name in NAMESPACES]


@pytest.fixture(scope="module")
def findings() -> dict[str, Finding]:
    """Everything that was found out about this host, by name."""
    return {finding.name: finding for finding in features.probe()}


def test_probing_leaves_the_caller_as_it_is() -> None:
    """Neither its namespaces nor its working directory, mounts, files or children change."""

    def state() -> list[object]:
        with open("/proc/self/mountinfo") as file:
            mounts = file.read()
        descriptors = sorted(os.listdir("/proc/self/fd"))
        return [_own_namespaces(), os.getcwd(), mounts, descriptors, os.geteuid()]

    before = state()
    features.probe()
    assert state() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_every_finding_says_how(findings: dict[str, Finding]) -> None:
    """Each belongs to a wall, has one of three states, and tells its evidence."""
    walls = {finding.wall for finding in findings.values()}
    assert walls == {"root", "namespaces", "cgroups", "privileges", "process"}
    for finding in findings.values():
        assert finding.state in {"yes", "partly", "no"}
        assert finding.how
        assert "Error" not in finding.how, finding


def test_names_are_unique() -> None:
    """So that a program can look one up."""
    names = [finding.name for finding in features.probe()]
    assert len(names) == len(set(names))


@pytest.mark.needs("unshare")
@pytest.mark.parametrize(
    ("name", "option"),
    [("mount", "-m"), ("network", "-n"), ("uts", "-u"), ("ipc", "-i"), ("time", "-T")],
)
def test_namespaces_agree_with_unshare(
    findings: dict[str, Finding], name: str, option: str
) -> None:
    """util-linux comes to the same answer about each kind."""
    done = subprocess.run(["unshare", option, "true"], capture_output=True, check=False)
    expected = "yes" if done.returncode == 0 else "no"
    assert findings[f"{name} namespace"].state == expected


@pytest.mark.needs("userns", "overlay")
def test_what_works_here_is_found(findings: dict[str, Finding]) -> None:
    """Where user namespaces and overlayfs are there, the probes that use them succeed."""
    for name in (
        "user namespace",
        "user namespace, unprivileged",
        "private mounts in a user namespace",
        "overlayfs in a user namespace",
        "new mount calls",
        "openat2",
        "clone3 with a pidfd",
        "joining by pidfd",
        "seccomp filter",
        "kernel",
    ):
        assert findings[name].state == "yes", findings[name]


@pytest.mark.needs("root", "cgroup2")
def test_the_unified_hierarchy_is_tried(findings: dict[str, Finding]) -> None:
    """A child is born in a group of its own, and the group is gone afterwards."""
    assert findings["CLONE_INTO_CGROUP"].state == "yes"
    unified = features.detect().cgroups.unified
    assert unified is not None
    assert not [name for name in os.listdir(unified.base) if name.startswith("cloche-probe")]


@pytest.mark.needs("root")
def test_an_ordinary_user_is_described(findings: dict[str, Finding]) -> None:
    """Without privileges: no capabilities, and no cgroup where a group could be made."""

    def describe() -> str:
        found = features.detect()
        return f"{found.uid} {found.capabilities} {found.may('CAP_SYS_ADMIN')}"

    outcome = child.attempt(describe, unprivileged=True)
    assert outcome == child.Outcome(True, f"{child.NOBODY} 0 False")


def test_a_user_namespace_is_recognised() -> None:
    """Inside one, with full capabilities, detect() isn't fooled."""

    def describe() -> str:
        child.enter_user_namespace()
        found = features.detect()
        return f"{found.in_user_namespace} {found.may('CAP_SYS_ADMIN')} {found.uid}"

    outcome = child.attempt(describe, unprivileged=True)
    if not outcome.succeeded:
        pytest.skip(outcome.detail)
    assert outcome.detail == "True True 0"


def test_a_failed_call_is_named() -> None:
    """The evidence of a failure is the call and its errno."""
    outcome = child.attempt(lambda: os.mkdir("/proc/nowhere"))
    assert outcome == child.Outcome(False, "/proc/nowhere: ENOENT")


def test_a_killed_child_is_told() -> None:
    """A probe that a filter kills is a finding too."""
    outcome = child.attempt(lambda: os.kill(os.getpid(), 9))
    assert outcome == child.Outcome(False, "the child died of signal 9")


def test_detecting_is_fast() -> None:
    """The start path's share: half a millisecond where it was measured, five at the very most."""
    times = []
    for _ in range(20):
        begun = time.perf_counter()
        features.detect()
        times.append(time.perf_counter() - begun)
    assert min(times) < 0.005
