"""A small image made on the spot: one static busybox."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import shutil
import tarfile
from pathlib import Path
from typing import Any

NAME = "docker.io/library/cloche-test:latest"
APPLETS = (
    "cat echo false head hostname id ls mount ps pwd sh sleep stty test touch true tty".split()
)
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
FOREVER = 'trap "exit 7" TERM; trap "echo got USR1" USR1; echo ready; while :; do sleep 0.05; done'
"""A program for ``sh -c`` that runs until it is stopped, and then exits with 7."""


def root(path: Path) -> Path:
    """Write a tar archive of a root with busybox, and return its path."""
    busybox = shutil.which("busybox")
    assert busybox is not None
    with tarfile.open(path, "w") as tar:
        for directory in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        tar.add(busybox, "bin/busybox")
        for applet in APPLETS:
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
        _add(tar, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\n")
        _add(tar, "etc/group", b"root:x:0:\n")
    return path


def oci_archive(path: Path, layer: Path) -> Path:
    """Write an OCI image as a tar archive, and return its path.

    Its command waits forever, so that it may also be the pause container of a pod.
    """
    machine = platform.machine()
    content = layer.read_bytes()
    config = {
        "architecture": ARCHITECTURES.get(machine, machine),
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh", "-c", FOREVER]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(content)]},
    }
    kind = "application/vnd.oci.image"
    with tarfile.open(path, "w") as tar:
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": _blob(tar, f"{kind}.config.v1+json", json.dumps(config).encode()),
            "layers": [_blob(tar, f"{kind}.layer.v1.tar", content)],
        }
        entry = _blob(tar, f"{kind}.manifest.v1+json", json.dumps(manifest).encode())
        entry["annotations"] = {"io.containerd.image.name": NAME}
        index = {"schemaVersion": 2, "manifests": [entry]}
        _add(tar, "index.json", json.dumps(index).encode())
        _add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    return path


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _blob(tar: tarfile.TarFile, media_type: str, data: bytes) -> dict[str, Any]:
    digest = _digest(data)
    _add(tar, f"blobs/{digest.replace(':', '/')}", data)
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
