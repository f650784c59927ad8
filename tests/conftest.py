"""Fixtures for every test: what a test needs, what it may leave, and the installed command.

``needs(...)``
    marks what the machine must have (``tests/needs.py``).
``leak_proof``
    fails a test that leaves anything behind (``tests/leaks.py``); it holds without being asked
    for in the directories of tests that touch the kernel.
``cloche``, ``unprivileged``, ``subordinate``
    run the installed command: as the user of the tests, as an ordinary user without any
    subordinate ids, and as one with a range of them.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import sysconfig
import tempfile
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import leaks, needs
from tests.terminals import Terminal

LEAK_PROOF_DIRECTORIES = {"conformance", "contract", "kernel", "native"}
ORDINARY_ID = 65533
"""A uid and gid that no passwd file has: neither nobody (65534) nor a person."""
SUBORDINATE_USER = "cloche-test-"
"""The name of the user that is made for the tests, without the pid of the test process."""
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def pytest_configure(config: pytest.Config) -> None:
    """Let orphans and mounts of tests stay with the test process."""
    leaks.isolate()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a word of ``needs`` that nothing stands behind."""
    for item in items:
        for word in _needed(item):
            if word not in needs.PROBES:
                known = ", ".join(sorted(needs.PROBES))
                raise pytest.UsageError(f"{item.nodeid}: needs({word!r}) isn't one of {known}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose needs aren't met, or fail it where they must be."""
    words = _needed(item)
    missing = needs.missing(words)
    if not missing:
        return
    must_work = os.environ.get("CLOCHE_MUST_WORK", "0") not in ("", "0")
    if must_work and not needs.NOT_IN_CI & set(words):
        pytest.fail(f"this machine must have it: {'; '.join(missing)}", pytrace=False)
    pytest.skip("; ".join(missing))


def _needed(item: pytest.Item) -> tuple[str, ...]:
    return tuple(str(word) for mark in item.iter_markers("needs") for word in mark.args)


@pytest.fixture
def workspace() -> Iterator[Path]:
    """A directory that every user may enter (``tmp_path`` is closed to others)."""
    directory = Path(tempfile.mkdtemp(prefix="cloche-test-"))
    directory.chmod(0o755)
    (directory / "state").mkdir()
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal of the user's."""
    found = Terminal()
    yield found
    found.close()


@pytest.fixture(autouse=True)
def leak_proof(request: pytest.FixtureRequest) -> Iterator[None]:
    """Prove that nothing outlives a test that touches the kernel."""
    inside = request.node.path.relative_to(Path(__file__).parent)
    if inside.parts[0] not in LEAK_PROOF_DIRECTORIES:
        yield
        return
    state = request.getfixturevalue("workspace") / "state"
    before = leaks.snapshot(state)
    yield
    orphans = request.node.get_closest_marker("orphans") is not None
    found = leaks.find(before, state, orphans=orphans)
    if found:
        leaks.clean(before, state)
        pytest.fail("left behind: " + "; ".join(map(str, found)), pytrace=False)


class User(NamedTuple):
    """Whom a command runs as."""

    uid: int
    gid: int


class Cloche:
    """The installed command, with state and data directories of its own."""

    def __init__(self, executable: Path, workspace: Path, user: User | None = None) -> None:
        self.executable = executable
        self.user = user
        self.state = workspace / "state" / ("ordinary" if user else "own")
        self.data = workspace / ("data-ordinary" if user else "data")
        self.home = workspace / ("home-ordinary" if user else "home")
        for directory in (self.state, self.data, self.home):
            directory.mkdir(exist_ok=True)
            if user:
                os.chown(directory, user.uid, user.gid)
        self.environ = {
            "PATH": f"{executable.parent}:{SYSTEM_PATH}",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "CLOCHE_STATE": str(self.state),
            "CLOCHE_DATA": str(self.data),
        }
        for name in ("CLOCHE_LAUNCHER", "COVERAGE_PROCESS_CONFIG"):
            if name in os.environ:
                self.environ[name] = os.environ[name]

    def __call__(
        self,
        *arguments: str,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
        check: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``cloche ARGUMENTS...`` to its end; ``check`` fails the test if it fails."""
        argv = [str(self.executable), *arguments]
        return self.run(argv, input=input, env=env, timeout=timeout, check=check)

    def run(
        self,
        argv: list[str],
        *,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
        check: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run any program as the same user in the same environment."""
        process = self.start(argv, env=env, stdin=subprocess.PIPE)
        with process:
            try:
                stdout, stderr = process.communicate(input or "", timeout=timeout)
            except BaseException:
                process.kill()
                raise
        done = subprocess.CompletedProcess(argv, process.returncode, stdout, stderr)
        if check and done.returncode != 0:
            pytest.fail(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def start(
        self,
        argv: list[str],
        *,
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.DEVNULL,
    ) -> subprocess.Popen[str]:
        """Start a program and return at once; its output comes as text through pipes."""
        return subprocess.Popen(
            argv,
            env=self.environ | dict(env or {}),
            cwd="/",
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            user=self.user.uid if self.user else None,
            group=self.user.gid if self.user else None,
            extra_groups=[] if self.user else None,
        )


@pytest.fixture
def cloche(workspace: Path) -> Cloche:
    """The installed command, run as the user of the tests."""
    return Cloche(Path(sysconfig.get_path("scripts"), "cloche"), workspace)


@pytest.fixture
def unprivileged(workspace: Path, readable_installation: Path) -> Cloche:
    """The installed command, run as an ordinary user without subordinate ids."""
    user = User(ORDINARY_ID, ORDINARY_ID) if os.geteuid() == 0 else None
    return Cloche(readable_installation, workspace, user)


@pytest.fixture
def subordinate(workspace: Path, readable_installation: Path, subordinate_user: User) -> Cloche:
    """The installed command, run as an ordinary user with subordinate ids."""
    user = subordinate_user if os.geteuid() == 0 else None
    return Cloche(readable_installation, workspace, user)


@pytest.fixture(scope="session")
def subordinate_user() -> Iterator[User]:
    """A user of this machine with a range in /etc/subuid, made for the time of the tests."""
    if os.geteuid() != 0:
        yield User(os.getuid(), os.getgid())
        return
    for entry in pwd.getpwall():
        maker = entry.pw_name.removeprefix(SUBORDINATE_USER)
        if maker.isdigit() and not Path(f"/proc/{maker}").exists():
            subprocess.run(["userdel", "--force", entry.pw_name], check=True)
    name = f"{SUBORDINATE_USER}{os.getpid()}"
    # No home directory and no shell; the passwd entry is what newuidmap asks for.
    subprocess.run(["useradd", "--shell", "/bin/false", name], check=True)
    try:
        ids = pwd.getpwnam(name)
        for option, file in (("--add-subuids", "/etc/subuid"), ("--add-subgids", "/etc/subgid")):
            if f"{name}:" not in Path(file).read_text():  # as useradd is set up, it is there
                subprocess.run(["usermod", option, "300000-365535", name], check=True)
        yield User(ids.pw_uid, ids.pw_gid)
    finally:
        subprocess.run(["userdel", "--force", name], check=True)


@pytest.fixture(scope="session")
def readable_installation() -> Iterator[Path]:
    """The installed package copied to where every user can read it; yields the command.

    The virtual environment of the tests may lie beneath a directory that only its owner enters.
    """
    if os.geteuid() != 0:
        yield Path(sysconfig.get_path("scripts"), "cloche")
        return
    directory = Path(tempfile.mkdtemp(prefix="cloche-install-"))
    directory.chmod(0o755)
    venv.create(directory, symlinks=True)
    packages = next(directory.glob("lib/python*/site-packages"))
    for name in ("cloche", "elftools"):
        spec = importlib.util.find_spec(name)
        assert spec is not None, f"{name} isn't installed"
        assert spec.origin is not None
        shutil.copytree(Path(spec.origin).parent, packages / name)
    command = directory / "bin" / "cloche"
    script = Path(sysconfig.get_path("scripts"), "cloche").read_text()
    command.write_text(f"#!{directory}/bin/python\n{script.partition(chr(10))[2]}")
    command.chmod(0o755)
    yield command
    shutil.rmtree(directory)
