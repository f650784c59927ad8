from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys

import pytest

from cloche.cli import features as command
from cloche.kernel import capabilities, features
from cloche.kernel.features import Finding

FINDINGS = [
    Finding("root", "overlayfs", "yes", "mount(overlay): worked"),
    Finding("namespaces", "user namespace", "no", "unshare: EPERM", "sysctl x"),
    Finding("privileges", "capabilities", "partly", "/proc/self/status: 3 of 41"),
]


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.18.44-cloud-amd64", (6, 18)),
        ("5.14.0", (5, 14)),
        ("6.1-rc3", (6, 1)),
        ("5.15-generic", (5, 15)),
        ("7.0+", (7, 0)),
    ],
)
def test_kernel_releases_are_understood(release: str, version: tuple[int, int]) -> None:
    """Only the first two numbers count, whatever a distribution appends."""
    assert features.kernel_version(release) == version


def test_the_host_is_described_as_it_is() -> None:
    """What detect() says agrees with what Python and the kernel say elsewhere."""
    found = features.detect()
    assert found.machine == platform.machine()
    assert (found.uid, found.gid) == (os.geteuid(), os.getegid())
    assert found.cpus == os.sysconf("SC_NPROCESSORS_ONLN")
    assert found.page_size == os.sysconf("SC_PAGESIZE")
    assert found.last_cap >= capabilities.NUMBERS["CAP_AUDIT_READ"]
    assert found.capabilities == capabilities.current().effective
    with open("/proc/meminfo") as file:
        total = int(file.readline().split()[1]) * 1024
    assert found.memory == total


def test_detecting_makes_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start path has no time for children."""

    def refuse() -> int:
        raise AssertionError("forked")

    monkeypatch.setattr(os, "fork", refuse)
    features.detect()


def test_detecting_loads_nothing_heavy() -> None:
    """Neither ctypes nor subprocess nor any probe is imported by detect()."""
    program = (
        "import sys; from cloche.kernel import features, seccomp; features.detect();"
        "print(*sorted(name for name in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {"ctypes", "subprocess", "pathlib", "tempfile", "json", "dataclasses", "inspect"}
    loaded = set(done.stdout.split())
    assert not loaded & heavy
    assert not any(name.startswith("cloche.kernel.probes") for name in loaded)


def test_an_obstacle_to_user_namespaces_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each distribution's switch is told by its name."""
    files = {
        "/proc/sys/user/max_user_namespaces": b"1000\n",
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": b"1\n",
    }
    monkeypatch.setattr(features, "read", lambda path: files.get(path, b""))
    assert features.userns_obstacle() == "kernel.apparmor_restrict_unprivileged_userns = 1"
    files["/proc/sys/kernel/apparmor_restrict_unprivileged_userns"] = b"0\n"
    assert features.userns_obstacle() == ""
    files["/proc/sys/kernel/unprivileged_userns_clone"] = b"0\n"
    assert features.userns_obstacle() == "kernel.unprivileged_userns_clone = 0"
    files.clear()
    assert features.userns_obstacle() == "the kernel has no user namespaces"


def test_security_modules_are_found_without_securityfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the list isn't mounted, AppArmor's own file still tells."""
    files = {"/sys/module/apparmor/parameters/enabled": b"Y\n"}
    monkeypatch.setattr(features, "read", lambda path: files.get(path, b""))
    assert "apparmor" in features.security_modules()
    files["/sys/kernel/security/lsm"] = b"capability,landlock,selinux"
    assert features.security_modules() == ("capability", "landlock", "selinux")


def test_the_table_groups_by_wall_and_shows_hints() -> None:
    """Each wall has a heading; a hint stands beneath what is missing, and no colours unasked."""
    text = command.table(FINDINGS, colours=False)
    lines = text.split("\n")
    assert lines[0] == "ROOT  what can it touch?"
    assert "  no      user namespace  unshare: EPERM" in lines
    assert any(line.strip() == "-> sysctl x" for line in lines)
    assert "\x1b" not in text


def test_the_table_can_be_coloured() -> None:
    """On request, states are coloured and the text stays the same."""
    text = command.table(FINDINGS, colours=True)
    for code in ("\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[1m", "\x1b[2m", "\x1b[0m"):
        assert code in text
        text = text.replace(code, "")
    assert text == command.table(FINDINGS, colours=False)


@pytest.mark.parametrize(
    ("terminal", "no_color", "colours"),
    [(True, "", True), (True, "1", False), (False, "", False)],
)
def test_colours_are_for_terminals(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    terminal: bool,
    no_color: str,
    colours: bool,
) -> None:
    """Neither a pipe nor a user who set NO_COLOR gets them."""
    monkeypatch.setattr(command, "probe", lambda: FINDINGS)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setenv("NO_COLOR", no_color)
    assert _run() == 0
    assert ("\x1b" in capsys.readouterr().out) == colours


def test_json_has_every_field(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program gets the findings as they are."""
    monkeypatch.setattr(command, "probe", lambda: FINDINGS)
    assert _run("--format", "json") == 0
    assert [Finding(**entry) for entry in json.loads(capsys.readouterr().out)] == FINDINGS


def _run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return command.run(parser.parse_args(argv))
