"""A bundle: a directory with a ``config.json``, as an engine hands it to the runtime.

Source: OCI runtime-spec, ``bundle.md``.
"""

from __future__ import annotations

import os

from cloche.errors import InvalidSpec, NotFound
from cloche.oci import sysctl, validate

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
    path = f"{directory}/config.json"
    try:
        with open(path, "rb") as file:
            data = file.read(_LIMIT + 1)
    except FileNotFoundError as error:
        raise NotFound(
            f"{path}: no such file or directory",
            hint="a bundle is a directory with a config.json; name it with --bundle, or make one: "
            "cloche oci spec",
        ) from error
    if len(data) > _LIMIT:
        raise InvalidSpec("", f"has more than {_LIMIT} bytes")
    spec = validate.parse(data)
    if "process" not in spec:
        raise InvalidSpec("/process", "is missing: a container needs a program")
    spec["root"]["path"] = os.path.join(directory, spec["root"]["path"])
    for mount in spec.get("mounts", []):
        source = mount.get("source", "")
        if {"bind", "rbind"} & set(mount.get("options", [])) or mount.get("type") == "bind":
            mount["source"] = os.path.join(directory, source)
    linux = spec.setdefault("linux", {})
    _refuse_sysctls_of_the_host(linux)
    return spec


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
            problem += ", and the one joined is the host's"
            raise InvalidSpec(f"/linux/sysctl/{name}", problem)


def _is_own(path: str, kind: str) -> bool:
    names = {"network": "net", "mount": "mnt"}
    try:
        return os.path.samefile(path, f"/proc/self/ns/{names.get(kind, kind)}")
    except OSError:
        return False
