"""A bundle: a directory with a ``config.json``, as an engine hands it to the runtime.

Source: OCI runtime-spec, ``bundle.md``.
"""

from __future__ import annotations

import os
import stat

from cloche.errors import InvalidArgument, InvalidSpec, NotFound
from cloche.oci import sysctl, validate
from cloche.oci.schema import child

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.oci.spec import Linux, Spec

_LIMIT = 16 << 20
"""Bytes: more is no ``config.json`` that anybody has written."""


def load(directory: str) -> Spec:
    """Return the spec of the bundle in a directory.

    Its paths are absolute afterwards: the root's and those of bind mounts are relative to the
    bundle.  Raises NotFound, or InvalidSpec with the place of what is wrong.
    """
    spec = validate.parse(_read(f"{directory}/config.json"))
    if "process" not in spec:  # it isn't needed until the container is started (config.md)
        spec["process"] = {"args": [], "cwd": "/"}
    spec["root"]["path"] = os.path.join(directory, spec["root"]["path"])
    for mount in spec.get("mounts", []):
        source = mount.get("source", "")
        if {"bind", "rbind"} & set(mount.get("options", [])) or mount.get("type") == "bind":
            mount["source"] = os.path.join(directory, source)
    linux = spec.setdefault("linux", {})
    _refuse_sysctls_of_the_host(linux)
    return spec


def _read(path: str) -> bytes:
    """Return the content of the file, unless it is a FIFO, say, at which reading would wait."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(
            f"{path}: no such file or directory",
            hint="a bundle is a directory with a config.json; name it with --bundle, or make one: "
            "cloche oci spec",
        ) from error
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidArgument(f"{path} isn't a regular file")
        if found.st_size > _LIMIT:
            raise InvalidSpec("", f"has {found.st_size} bytes but must have at most {_LIMIT}")
        data = b""
        while len(data) < _LIMIT and (more := os.read(fd, _LIMIT - len(data))):
            data += more
        return data
    except OSError as error:
        raise InvalidArgument(f"{path}: {(error.strerror or str(error)).lower()}") from error
    finally:
        os.close(fd)


def _refuse_sysctls_of_the_host(linux: Linux) -> None:
    """Refuse kernel parameters of a namespace that is joined, and is the host's own."""
    if not linux.get("sysctl"):
        return
    own = set()
    for namespace in linux.get("namespaces", []):
        kind, path = namespace["type"], namespace.get("path", "")
        if not path or not _is_own(path, kind):
            own.add(kind)
    for name in linux["sysctl"]:
        problem = sysctl.problem(name, own)
        if problem:
            problem = f"is there but must not be: it {problem}, and the one joined is the host's"
            raise InvalidSpec(child("/linux/sysctl", name), problem)


def _is_own(path: str, kind: str) -> bool:
    names = {"network": "net", "mount": "mnt"}
    try:
        return os.path.samefile(path, f"/proc/self/ns/{names.get(kind, kind)}")
    except OSError:
        return False
