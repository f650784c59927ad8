"""Devices of the host."""

from pathlib import Path

import pytest

from cloche.engine import devices
from cloche.engine.values import DeviceRate, DeviceRequest
from cloche.errors import InvalidArgument, NotFound


def test_device_is_found() -> None:
    """A device has the host's numbers, the path that was asked for, and a rule."""
    (found,) = devices.find(DeviceRequest("/dev/null", "/dev/nothing", "r"))
    assert found.device["path"] == "/dev/nothing"
    assert (found.device["type"], found.device["major"], found.device["minor"]) == ("c", 1, 3)
    assert found.rule() == {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "r"}


def test_link_to_a_device_is_followed(tmp_path: Path) -> None:
    """The host's links are the user's own: /dev/disk/by-id/... works."""
    (tmp_path / "link").symlink_to("/dev/zero")
    (found,) = devices.find(DeviceRequest(str(tmp_path / "link"), "/dev/z"))
    assert found.device["minor"] == 5


def test_what_is_no_device(tmp_path: Path) -> None:
    """A file, an empty directory and nothing at all are told apart."""
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgument, match="isn't a device"):
        devices.find(DeviceRequest(str(tmp_path / "file"), "/dev/x"))
    with pytest.raises(NotFound, match="no device is in"):
        devices.find(DeviceRequest(str(tmp_path), "/dev/x"))
    with pytest.raises(NotFound, match="doesn't exist"):
        devices.find(DeviceRequest("/dev/no-such-device", "/dev/x"))


def test_all_devices_of_the_host() -> None:
    """A privileged container gets them all, but for the terminals and console of others."""
    paths = {found.device["path"] for found in devices.of_host()}
    assert {"/dev/null", "/dev/zero", "/dev/tty"} <= paths
    assert "/dev/console" not in paths
    assert not any(path.startswith(("/dev/pts/", "/dev/shm/")) for path in paths)


def test_limits_are_for_block_devices() -> None:
    """A rate for a character device is a mistake."""
    with pytest.raises(InvalidArgument, match="isn't a block device"):
        devices.throttles([DeviceRate("/dev/null", 5)])
    with pytest.raises(NotFound):
        devices.throttles([DeviceRate("/dev/no-such-device", 5)])
