"""Devices of the host that a container is given, and limits on them."""

from __future__ import annotations

import os
import stat

from cloche.engine.values import DeviceRate, DeviceRequest
from cloche.errors import InvalidArgument, NotFound, PermissionDenied
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cloche.oci.spec import Device, DeviceRule, ThrottleDevice

_NOT_DEVICES = frozenset({"pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"})
"""Directories of /dev that hold something else, or a container's own: as in containerd."""


class Found(Record):
    """A device of the host, with the path that it gets in the container."""

    source: str
    device: Device
    access: str

    def rule(self) -> DeviceRule:
        """Return the rule that lets the container use it."""
        major, minor = self.device["major"], self.device["minor"]
        return {
            "allow": True,
            "type": "b" if self.device["type"] == "b" else "c",
            "major": major,
            "minor": minor,
            "access": self.access,
        }


def find(request: DeviceRequest) -> list[Found]:
    """Return the device that is asked for, or all in the directory that is.

    Raises NotFound when there is none, PermissionDenied when it can't be looked at, and
    InvalidArgument when it is something else.
    """
    try:
        status = os.stat(request.source)
    except PermissionError as error:
        raise PermissionDenied(f"device {request.source} can't be looked at") from error
    except OSError as error:
        raise NotFound(f"device {request.source} doesn't exist") from error
    if stat.S_ISDIR(status.st_mode):
        found = list(_walk(os.path.realpath(request.source), request))
        if not found:
            raise NotFound(f"no device is in {request.source}")
        return found
    if not _is_device(status):
        hint = "use --volume to show files of the host"
        raise InvalidArgument(f"{request.source} isn't a device", hint=hint)
    return [Found(request.source, _device(status, request.destination), request.access)]


def of_host() -> list[Found]:
    """Return every device in the host's /dev, for a privileged container."""
    return list(_walk("/dev", DeviceRequest("/dev", "/dev")))


def _walk(directory: str, request: DeviceRequest) -> Iterable[Found]:
    for path, directories, names in os.walk(directory):
        directories[:] = sorted(name for name in directories if name not in _NOT_DEVICES)
        for name in sorted(names):
            source = f"{path}/{name}"
            try:
                status = os.lstat(source)
            except OSError:  # gone since it was listed, or not ours to see
                continue
            if _is_device(status) and source != "/dev/console":
                inside = request.destination + source[len(directory) :]
                yield Found(source, _device(status, inside), request.access)


def _is_device(status: os.stat_result) -> bool:
    # A character device 0:0 is no device but a mark of overlayfs (a whiteout).
    return bool(stat.S_ISBLK(status.st_mode) or (stat.S_ISCHR(status.st_mode) and status.st_rdev))


def _device(status: os.stat_result, path: str) -> Device:
    return {
        "type": "b" if stat.S_ISBLK(status.st_mode) else "c",
        "path": path,
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def numbers(rate: DeviceRate) -> tuple[int, int]:
    """Return major and minor number of a block device.

    Raises NotFound when it isn't there, and InvalidArgument when it isn't one.
    """
    try:
        status = os.stat(rate.path)
    except OSError as error:
        raise NotFound(f"device {rate.path} doesn't exist") from error
    if not stat.S_ISBLK(status.st_mode):
        raise InvalidArgument(f"{rate.path} isn't a block device")
    return os.major(status.st_rdev), os.minor(status.st_rdev)


def throttles(rates: Iterable[DeviceRate]) -> list[ThrottleDevice]:
    """Return rate limits with the numbers of their devices."""
    found: list[ThrottleDevice] = []
    for rate in rates:
        major, minor = numbers(rate)
        found.append({"major": major, "minor": minor, "rate": rate.value})
    return found
