"""The image ``host``, of this machine and of made-up ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cloche.errors import PermissionDenied, Unsupported
from cloche.rootfs import host, skeleton
from cloche.rootfs.host import Overlay, prepare


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The root directory of a small machine with a merged /usr."""
    root = tmp_path / "machine"
    for name in ("usr/bin", "usr/lib", "usr/lib64", "etc/alternatives", "etc/ssl/certs"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "etc" / "ld.so.cache").touch()
    (root / "usr" / "bin" / "sh").symlink_to("dash")
    return root


def test_merged_machine(machine: Path, tmp_path: Path) -> None:
    """A merged machine needs one overlay, and has the links of its root in the skeleton."""
    image = prepare(str(tmp_path / "data"), str(machine))
    root = Path(image.root)
    usr = str(root.parent / "usr")
    assert image.overlays == (Overlay("/usr", (usr, f"{machine}/usr")),)
    assert [os.readlink(root / name) for name in ("bin", "lib", "lib64")] == [
        "usr/bin", "usr/lib", "usr/lib64",
    ]  # fmt: skip
    assert not (root / "sbin").exists()
    assert image.binds == (
        (f"{machine}/etc/alternatives", "/etc/alternatives"),
        (f"{machine}/etc/ld.so.cache", "/etc/ld.so.cache"),
    )
    assert image.env == ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)


def test_machine_that_is_not_merged(machine: Path, tmp_path: Path) -> None:
    """Directories of the root that are no links get overlays of their own."""
    (machine / "bin").unlink()
    (machine / "bin").mkdir()
    image = prepare(str(tmp_path / "data"), str(machine))
    assert image.overlays[1:] == (Overlay("/bin", (f"{machine}/bin",)),)
    assert (Path(image.root) / "bin").is_dir()
    assert not (Path(image.root) / "bin").is_symlink()


def test_nothing_to_bind(machine: Path, tmp_path: Path) -> None:
    """What the machine doesn't have isn't bound."""
    (machine / "etc" / "alternatives").rmdir()
    (machine / "etc" / "ld.so.cache").unlink()
    assert prepare(str(tmp_path / "data"), str(machine)).binds == ()


def test_store(machine: Path, tmp_path: Path) -> None:
    """A machine whose shell lives in a store shows the store and has its programs in PATH."""
    store = machine / "nix" / "store" / "1-system"
    (store / "sw" / "bin").mkdir(parents=True)
    (machine / "run").mkdir()
    (machine / "run" / "current-system").symlink_to(store)
    (machine / "usr" / "bin" / "sh").unlink()
    (machine / "usr" / "bin" / "sh").symlink_to("/nix/store/1-bash/bin/sh")
    image = prepare(str(tmp_path / "data"), str(machine))
    assert image.overlays[-1] == Overlay("/nix/store", (f"{machine}/nix/store",))
    assert image.env[0].startswith(f"PATH={store}/sw/bin:/usr/local/sbin:")


def test_machine_without_usr(tmp_path: Path) -> None:
    """A machine without /usr can't have the image, and leaves nothing behind."""
    (tmp_path / "machine").mkdir()
    with pytest.raises(Unsupported, match="/usr, which isn't there"):
        prepare(str(tmp_path / "data"), str(tmp_path / "machine"))
    assert not (tmp_path / "data").exists()


def test_prepared_once(machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time nothing is built, and the image is the same."""
    first = prepare(str(tmp_path / "data"), str(machine))
    monkeypatch.setattr(skeleton, "build", None)
    assert prepare(str(tmp_path / "data"), str(machine)) == first


@pytest.mark.parametrize("change", ["layout", "certificates", "version"])
def test_change_gives_another_skeleton(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """A change of the host makes a new skeleton; the old one, maybe in use, stays."""
    first = prepare(str(tmp_path / "data"), str(machine))
    if change == "layout":
        (machine / "sbin").symlink_to("usr/bin")
    elif change == "certificates":
        (machine / "etc" / "ssl" / "certs" / "new.pem").write_text("CERTIFICATE")
    else:
        monkeypatch.setattr(host, "VERSION", host.VERSION + 1)
    second = prepare(str(tmp_path / "data"), str(machine))
    assert second.root != first.root
    assert Path(first.root).is_dir()
    assert Path(second.root).is_dir()


def test_layouts_never_share_a_name(machine: Path, tmp_path: Path) -> None:
    """Links to different places, directories and missing names give different skeletons."""
    roots = set()
    for target in (None, "", "usr/sbin", "usr/bin", "/usr/sbin", "usr%2fsbin"):
        if target is not None:
            if target:
                (machine / "sbin").symlink_to(target)
            else:
                (machine / "sbin").mkdir()
        roots.add(prepare(str(tmp_path / "data"), str(machine)).root)
        if target:
            (machine / "sbin").unlink()
        elif target == "":
            (machine / "sbin").rmdir()
    assert len(roots) == 6


@pytest.mark.needs("unprivileged")
def test_data_directory_of_others(workspace: Path) -> None:
    """Who can't write to the data directory is told so, with its path."""
    source = Path(host.__file__).parents[2]
    program = (
        f"import sys; sys.dont_write_bytecode = True; sys.path.insert(0, {str(source)!r})\n"
        "from cloche.rootfs.host import prepare\n"
        "from cloche.errors import PermissionDenied\n"
        f"try: prepare({str(workspace)!r} + '/data')\n"
        "except PermissionDenied as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        user=65533 if os.geteuid() == 0 else None,
        capture_output=True,
        text=True,
        check=False,
    )
    if os.geteuid() == 0:
        assert done.stderr == ""
        assert done.stdout == (
            f"the image host can't be prepared in {workspace}/data/host: permission denied\n"
        )


def test_place_that_cannot_hold_it() -> None:
    """A data directory that can't be made is named."""
    with pytest.raises((Unsupported, PermissionDenied), match="/proc/nowhere/host"):
        prepare("/proc/nowhere")


def test_imports() -> None:
    """An image that is prepared already costs no imports worth mentioning."""
    program = (
        "import sys; before = set(sys.modules); import cloche.rootfs.host\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    environ = os.environ | {"PYTHONPATH": str(Path(host.__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environ
    )
    for module in ("fcntl", "shutil", "tempfile", "subprocess", "elftools"):
        assert module not in done.stdout.split()
