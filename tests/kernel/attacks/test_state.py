"""Attacks on what the engine keeps: by other users of the machine, before or between its runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ORDINARY_ID, Cloche

pytestmark = pytest.mark.needs("root", "setpriv")
OTHER = 65532
"""Another ordinary user."""


def refused(cloche: Cloche, **places: Path) -> bool:
    """Whether the command refuses a place, and makes nothing there."""
    before = {path: sorted(path.rglob("*")) for path in places.values() if path.exists()}
    env = {f"CLOCHE_{name.upper()}": str(path) for name, path in places.items()}
    done = cloche("run", "host", "echo", "ran", env=env)
    after = {path: sorted(path.rglob("*")) for path in places.values() if path.exists()}
    assert before == after or done.returncode == 0
    return done.returncode == 125 and "another user" in done.stderr


@pytest.mark.parametrize("what", ["state", "data"])
class TestPlaces:
    """Directories that are named by the environment."""

    def test_of_another_user(self, cloche: Cloche, workspace: Path, what: str) -> None:
        """What belongs to another user isn't used, neither itself nor beneath it."""
        place = workspace / "others"
        place.mkdir()
        os.chown(place, OTHER, OTHER)
        assert refused(cloche, **{what: place})
        assert refused(cloche, **{what: place / "new"})
        (place / "mine").mkdir()
        assert refused(cloche, **{what: place / "mine"})

    def test_that_everybody_may_write_to(self, cloche: Cloche, workspace: Path, what: str) -> None:
        """Nor is what others may put things into; with a sticky bit what is in there is safe."""
        place = workspace / "open"
        (place / "mine").mkdir(parents=True)
        place.chmod(0o777)
        assert refused(cloche, **{what: place})
        assert refused(cloche, **{what: place / "mine"})
        place.chmod(0o1777)
        assert refused(cloche, **{what: place})
        assert refused(cloche, **{what: place / "new"})
        assert not refused(cloche, **{what: place / "mine"})

    def test_behind_a_link(self, cloche: Cloche, workspace: Path, what: str) -> None:
        """A link to such a place is no better; one to a place that is safe is followed once."""
        place = workspace / "others"
        place.mkdir()
        os.chown(place, OTHER, OTHER)
        link = workspace / "link"
        link.symlink_to(place)
        assert refused(cloche, **{what: link})
        link.unlink()
        (workspace / "own").mkdir()
        link.symlink_to(workspace / "own")
        assert not refused(cloche, **{what: link})


class TestTemporary:
    """/tmp/cloche-UID, where there is no login session."""

    @pytest.fixture
    def place(self) -> object:
        """The directory of the ordinary user in /tmp, gone before and after."""
        path = Path(f"/tmp/cloche-{ORDINARY_ID}")
        self._remove(path)
        yield path
        self._remove(path)

    @staticmethod
    def _remove(path: Path) -> None:
        subprocess.run(["rm", "-rf", str(path)], check=True)

    @staticmethod
    def _run(unprivileged: Cloche) -> subprocess.CompletedProcess[str]:
        argv = [
            "env",
            "-u",
            "CLOCHE_STATE",
            str(unprivileged.executable),
            "run",
            "host",
            "echo",
            "ran",
        ]
        return unprivileged.run(argv)

    @pytest.mark.parametrize("kind", ["directory", "link", "link to own", "file"])
    def test_squatted(self, unprivileged: Cloche, place: Path, workspace: Path, kind: str) -> None:
        """Another user who was there first gains nothing, not even by a link to the user's own."""
        own = workspace / "own"
        own.mkdir()
        os.chown(own, ORDINARY_ID, ORDINARY_ID)
        if kind == "directory":
            place.mkdir(mode=0o777)
        elif kind == "file":
            place.touch()
        else:
            place.symlink_to(own if kind == "link to own" else workspace)
        os.chown(place, OTHER, OTHER, follow_symlinks=False)
        done = self._run(unprivileged)
        assert (done.returncode, done.stdout) == (125, "")
        assert list(own.iterdir()) == []

    def test_free(self, unprivileged: Cloche, place: Path) -> None:
        """Where nobody was, it is made, closed to others."""
        assert self._run(unprivileged).stdout == "ran\n"
        assert place.stat().st_mode & 0o777 == 0o700


class TestHealing:
    """What is found among the containers, and is none of a dead launcher's."""

    def test_nothing_else_is_removed(self, cloche: Cloche, workspace: Path) -> None:
        """Links are not followed, and a path that climbs names no cgroup."""
        victim = workspace / "victim"
        victim.mkdir()
        (victim / "file").write_text("kept")
        containers = cloche.state / "containers"
        containers.mkdir(exist_ok=True)
        (containers / "link").symlink_to(victim)
        dead = containers / ("d" * 64)
        dead.mkdir()
        (dead / "hosts").symlink_to(victim / "file")
        (dead / "cgroup").write_text("cloche/../../../../../..")
        names = cloche.state / "names"
        names.mkdir(exist_ok=True)
        (names / "other").symlink_to(victim / "file")
        assert cloche("run", "host", "echo", "ran").stdout == "ran\n"
        assert (victim / "file").read_text() == "kept"
        assert (names / "other").is_symlink()
        subprocess.run(["rm", "-rf", str(containers), str(names)], check=True)

    def test_cgroup_of_others(self, cloche: Cloche) -> None:
        """The file that names a dead container's cgroup can't name another's."""
        containers = cloche.state / "containers"
        dead = containers / ("d" * 64)
        with subprocess.Popen(["sleep", "60"]) as bystander:
            for path in ("/", "..", "", ".", "cloche", "cloche/..", "cloche/../.."):
                dead.mkdir(parents=True)
                (dead / "cgroup").write_text(path)
                cloche("run", "host", "true")
                subprocess.run(["rm", "-rf", str(dead)], check=True)
                assert bystander.poll() is None
            bystander.kill()


def test_filter_of_another_user(cloche: Cloche) -> None:
    """A compiled filter that another user could have written isn't loaded."""
    cloche("run", "host", "true", check=True)
    (cached,) = (cloche.data / "seccomp").iterdir()
    program = cached.read_bytes()
    refused = "grep Seccomp_filters /proc/self/status; unshare --user true"
    for uid, mode in ((OTHER, 0o600), (0, 0o666)):
        cached.write_bytes(b"not a filter")
        os.chown(cached, uid, uid)
        cached.chmod(mode)
        done = cloche("run", "host", "sh", "-c", refused)
        assert "Operation not permitted" in done.stderr
        assert done.returncode != 0
        cached.unlink(missing_ok=True)
        cloche("run", "host", "true", check=True)
    assert cached.read_bytes() == program


def test_files_are_closed_to_others(cloche: Cloche) -> None:
    """What is known of a running container, its options included, other users can't read."""
    argv = [str(cloche.executable), "run", "-i", "-e", "SECRET=1", "host", "sh", "-c"]
    with cloche.start([*argv, "echo up; read end"], stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (directory,) = (cloche.state / "containers").iterdir()
        script = (
            f"ls {directory}; cat {directory}/hosts {directory}/cgroup;"
            f" cd /proc/{process.pid}; cat environ mem; ls fd"
        )
        become = ["setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups"]
        done = cloche.run([*become, "sh", "-c", script])
        process.communicate("\n", timeout=20)
    assert done.stdout == ""
