"""What a container's root is made from."""

from pathlib import Path

import pytest

from cloche.engine import image
from cloche.engine.image import Image
from cloche.engine.options import RunOptions
from cloche.errors import InvalidArgument, NotFound
from cloche.rootfs.host import HostImage, Overlay


def test_directory(tmp_path: Path) -> None:
    """A directory is taken as it is, its links resolved, with or without a layer."""
    (tmp_path / "root").mkdir()
    (tmp_path / "link").symlink_to("root")
    found = image.find(RunOptions(rootfs=f"{tmp_path}/link"), "/nowhere")
    assert found == Image(f"{tmp_path}/root")
    found = image.find(RunOptions(rootfs=f"{tmp_path}/root", rootfs_overlay=True), "/nowhere")
    assert found.overlay


def test_what_is_no_directory(tmp_path: Path) -> None:
    """A missing directory, a file, and the host's own root are refused."""
    (tmp_path / "file").touch()
    with pytest.raises(NotFound, match="doesn't exist"):
        image.find(RunOptions(rootfs=f"{tmp_path}/none"), "/nowhere")
    with pytest.raises(InvalidArgument, match="isn't a directory"):
        image.find(RunOptions(rootfs=f"{tmp_path}/file"), "/nowhere")
    with pytest.raises(InvalidArgument, match="host's own root"):
        image.find(RunOptions(rootfs="/"), "/nowhere")


def test_unknown_image() -> None:
    """An image that isn't there is named, and the one that is always there is hinted at."""
    with pytest.raises(NotFound, match="image debian") as caught:
        image.find(RunOptions(image="debian"), "/nowhere")
    assert "host" in caught.value.hint


def test_embedded_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded image is an overlay; its shell is bash where the host has one."""
    host = HostImage("/data/root", (Overlay("/usr", ("/usr",)),), (("/a", "/b"),), ("A=b",))
    monkeypatch.setattr("os.access", lambda *_: False)
    found = image.from_host(host)
    assert found == Image("/data/root", True, host.overlays, host.binds, host.env, ("/bin/sh",))
    monkeypatch.setattr("os.access", lambda *_: True)
    assert image.from_host(host).command == ("/bin/bash",)
