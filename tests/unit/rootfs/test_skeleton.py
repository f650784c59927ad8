"""The skeleton of the image ``host``: what is in it, and that it is whole or not there."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from cloche.rootfs import skeleton
from cloche.rootfs.host import prepare

KEY = "-----BEGIN PRIVATE KEY-----\nsecret\n"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The root directory of a machine that keeps secrets in many places."""
    root = tmp_path / "machine"
    for name in ("usr/bin", "usr/lib", "etc/ssl/certs/sub", "etc/ssl/private", "root/.ssh"):
        (root / name).mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    certs = root / "etc" / "ssl" / "certs"
    (certs / "ca.pem").write_text("CERTIFICATE")
    (certs / "1234.0").symlink_to("ca.pem")
    (certs / "sub" / "more.pem").write_text("MORE")
    (certs / "server.pem").write_text(KEY)
    (certs / "closed.pem").write_text("secret")
    (certs / "closed.pem").chmod(0o640)
    (certs / "closed").mkdir()
    (certs / "closed" / "x.pem").write_text("secret")
    (certs / "closed").chmod(0o750)
    os.mkfifo(certs / "fifo")
    (root / "etc" / "ssl" / "private" / "key.pem").write_text("secret")
    (root / "etc" / "shadow").write_text("root:secret:::")
    (root / "etc" / "passwd").write_text("alice:x:1000:1000::/home/alice:/bin/sh\n")
    (root / "etc" / "services").write_text("ssh 22/tcp\n")
    (root / "root" / ".ssh" / "id_ed25519").write_text("secret")
    return root


@pytest.fixture
def root(machine: Path, tmp_path: Path) -> Path:
    """The skeleton of that machine."""
    return Path(prepare(str(tmp_path / "data"), str(machine)).root)


def contents(root: Path) -> dict[str, str]:
    """Return every path beneath a directory with what it is, without following links."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        text = os.readlink(path) if path.is_symlink() else ""
        if stat.S_ISREG(status.st_mode):
            text = path.read_text()
        found[str(path.relative_to(root))] = f"{stat.filemode(status.st_mode)} {text}"
    return found


def test_places(root: Path) -> None:
    """The usual places are there, empty, with the usual permissions."""
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in root.iterdir()}
    assert modes["root"] == 0o700
    assert modes["tmp"] == 0o1777
    assert modes["etc"] == modes["home"] == modes["var"] == 0o755
    for name in ("home", "root", "tmp", "var/tmp", "var/log", "opt", "srv", "usr", "dev"):
        assert list((root / name).iterdir()) == []
    assert os.readlink(root / "bin") == "usr/bin"


def test_permissions_do_not_depend_on_the_umask(machine: Path, tmp_path: Path) -> None:
    """A strict umask of the caller doesn't close the container's directories."""
    old = os.umask(0o077)
    try:
        root = Path(prepare(str(tmp_path / "strict"), str(machine)).root)
    finally:
        os.umask(old)
    for path in (root, root / "etc", root / "etc" / "ssl" / "certs", root.parent, root.parents[1]):
        assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert stat.S_IMODE((root / "etc" / "passwd").stat().st_mode) == 0o644


def test_users(root: Path) -> None:
    """The users are the system's own, none of the host's."""
    users = [line.split(":")[0] for line in (root / "etc/passwd").read_text().splitlines()]
    assert users == ["root", "daemon", "bin", "nobody"]
    groups = dict(line.split(":")[::2] for line in (root / "etc/group").read_text().splitlines())
    assert (groups["root"], groups["tty"], groups["nogroup"]) == ("0", "5", "65534")


def test_public_configuration(root: Path) -> None:
    """Certificates and names of services are taken over, with their links."""
    certs = root / "etc" / "ssl" / "certs"
    assert (certs / "ca.pem").read_text() == "CERTIFICATE"
    assert os.readlink(certs / "1234.0") == "ca.pem"
    assert (certs / "sub" / "more.pem").read_text() == "MORE"
    assert (root / "etc" / "services").read_text() == "ssh 22/tcp\n"


def test_no_secrets(root: Path) -> None:
    """Nothing that is closed to others, and no private key, is taken over."""
    found = contents(root)
    assert not [path for path, content in found.items() if "secret" in content]
    assert not [path for path, content in found.items() if "alice" in content]
    for path in ("etc/shadow", "etc/ssl/private", "etc/ssl/certs/closed", "etc/ssl/certs/fifo"):
        assert path not in found
    assert list((root / "root").iterdir()) == []


def test_hidden_places(root: Path) -> None:
    """Configuration and homes beneath /usr are hidden by whiteouts."""
    layer = root.parent / "usr"
    hidden = {
        str(path.relative_to(layer)): path.stat().st_rdev
        for path in layer.rglob("*")
        if stat.S_ISCHR(path.stat().st_mode)
    }
    assert hidden == dict.fromkeys(("etc", "home", "local/etc", "local/home", "local/var"), 0)


def test_many_at_once(machine: Path, tmp_path: Path) -> None:
    """Processes that prepare the image at the same time get the same whole skeleton."""
    context = multiprocessing.get_context("fork")
    with context.Pool(8) as pool:
        arguments = [(str(tmp_path / "data"), str(machine))] * 16
        images = pool.starmap(prepare, arguments)
    assert len(set(images)) == 1
    assert len(contents(Path(images[0].root))) > 30
    assert len(list((tmp_path / "data" / "host").iterdir())) == 1


@pytest.mark.parametrize(
    ("where", "calls"),
    [("_make_dir", 0), ("_make_dir", 20), ("_make_file", 0), ("_make_file", 5), ("rename", 0)],
)
def test_killed_builder(machine: Path, tmp_path: Path, where: str, calls: int) -> None:
    """A builder that is killed leaves no skeleton, and the next one builds it whole."""
    data = str(tmp_path / "data")
    child = multiprocessing.get_context("fork").Process(
        target=_build_and_die, args=(data, str(machine), where, calls)
    )
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    left = [entry.name for entry in (tmp_path / "data").glob("host/*")]
    assert left == ([] if (where, calls) == ("_make_dir", 0) else [".new"])
    root = Path(prepare(data, str(machine)).root)
    whole = Path(prepare(str(tmp_path / "undisturbed"), str(machine)).root)
    assert contents(root) == contents(whole)
    assert [entry.name for entry in (tmp_path / "data" / "host").iterdir()] == [root.parent.name]


def _build_and_die(data: str, machine: str, where: str, calls: int) -> None:
    owner = os if where == "rename" else skeleton
    original: Callable[..., None] = getattr(owner, where)
    seen = 0

    def dying(*arguments: object) -> None:
        nonlocal seen
        if seen == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1
        original(*arguments)

    setattr(owner, where, dying)
    prepare(data, machine)
