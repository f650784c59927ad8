"""What a kubelet says to containerd: Kubernetes' Container Runtime Interface, over gRPC.

A message is a mapping from the numbers of its fields to their values; a few of them need no
library: protobuf's wire format is tags and lengths, gRPC a POST over HTTP/2, which curl speaks.

Source: k8s.io/cri-api, ``pkg/apis/runtime/v1/api.proto``; protobuf.dev "Encoding";
grpc.io "gRPC over HTTP2".
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias, Union

Value: TypeAlias = Union[int, str, bytes, "Message", Sequence[str]]
Message: TypeAlias = dict[int, Value]
POD, NODE = 0, 2
"""Modes of a namespace: the pod's, and the host's."""
RUNNING, EXITED = 1, 2
"""States of a container."""
_VARINT, _LENGTH = 0, 2


class Cri:
    """A connection to a container runtime as a kubelet has it."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    def __call__(self, method: str, message: Message) -> dict[int, list[int | bytes]]:
        """Call a method of the RuntimeService; fail the test if it fails."""
        data = encode(message)
        with tempfile.NamedTemporaryFile() as headers:
            done = subprocess.run(
                [
                    "curl", "--silent", "--show-error", "--http2-prior-knowledge",
                    "--unix-socket", self.socket, "--max-time", "20",
                    "--header", "Content-Type: application/grpc", "--header", "TE: trailers",
                    "--data-binary", "@-", "--dump-header", headers.name,
                    f"http://localhost/runtime.v1.RuntimeService/{method}",
                ],
                input=b"\0" + len(data).to_bytes(4, "big") + data,
                capture_output=True,
                check=False,
            )  # fmt: skip
            said = Path(headers.name).read_text()
        assert "grpc-status: 0" in said, f"{method}: {said}{done.stderr.decode()}"
        return decode(done.stdout[5:])


def encode(message: Message) -> bytes:
    """Return a message in the wire format; a list is a repeated field, zero no field."""
    data = b""
    for number, value in message.items():
        if isinstance(value, int):
            data += _varint(number << 3 | _VARINT) + _varint(value & (1 << 64) - 1)
            continue
        parts = [value] if isinstance(value, (str, bytes, dict)) else value
        for part in parts:
            if isinstance(part, dict):
                field = encode(part)
            else:
                field = part.encode() if isinstance(part, str) else part
            data += _varint(number << 3 | _LENGTH) + _varint(len(field)) + field
    return data


def decode(data: bytes) -> dict[int, list[int | bytes]]:
    """Return the fields of a message; one that is a message itself is left as bytes."""
    found: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(data):
        tag, at = _read(data, at)
        number, at = _read(data, at)
        value: int | bytes = number
        if tag & 7 == _LENGTH:
            value, at = data[at : at + number], at + number
        found.setdefault(tag >> 3, []).append(value)
    return found


def _varint(value: int) -> bytes:
    data = b""
    while value > 0x7F:
        data += bytes((value & 0x7F | 0x80,))
        value >>= 7
    return data + bytes((value,))


def _read(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
