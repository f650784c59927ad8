"""As much of D-Bus as it takes to ask systemd for something and to wait until it has done it.

Source: https://dbus.freedesktop.org/doc/dbus-specification.html.
"""

from __future__ import annotations

import os
import socket
import struct

from cloche.errors import ClocheError, Unavailable
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CALL, _REPLY, _ERROR, _SIGNAL = 1, 2, 3, 4
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = (
    1, 2, 3, 4, 5, 6, 8,
)  # fmt: skip
_NUMBERS = {"y": "B", "b": "I", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q"}
_LONGEST = 1 << 27
"""Bytes of a message, as the specification has it."""
_SECONDS = 30.0
"""How long systemd may take for an answer."""


class Message(Record):
    """A message that has come."""

    kind: int
    fields: dict[int, Any]
    body: list[Any]


class CallError(ClocheError):
    """Raised when the other side answers with an error; ``name`` is D-Bus's."""

    code = "unavailable"

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class Bus:
    """A connection to a bus, by the path of its socket.

    Raises OSError when nobody listens there, Unavailable when it lets us not in.
    """

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(_SECONDS)
        self._serial = 0
        self._waiting: list[Message] = []
        try:
            self._socket.connect(path)
            self._authenticate(path)
            self.call(
                "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "Hello"
            )
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Bus:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *values: Any,
    ) -> list[Any]:
        """Call a method and return the values of its answer.

        Raises CallError for an error that the other side answers, Unavailable for none in time.
        """
        self._serial += 1
        fields = [
            (_PATH, ("o", path)),
            (_INTERFACE, ("s", interface)),
            (_MEMBER, ("s", member)),
            (_DESTINATION, ("s", destination)),
        ]
        if signature:
            fields.append((_SIGNATURE, ("g", signature)))
        body = bytearray()
        for kind, value in zip(split(signature), values, strict=True):
            put(body, kind, value)
        head = bytearray(struct.pack("<BBBBII", ord("l"), _CALL, 0, 1, len(body), self._serial))
        put(head, "a(yv)", fields)
        _pad(head, 8)
        self._send(bytes(head + body))
        while True:
            message = self._receive()
            if message.fields.get(_REPLY_SERIAL) != self._serial:
                self._waiting.append(message)
            elif message.kind == _ERROR:
                text = str(message.body[0]) if message.body else ""
                raise CallError(str(message.fields[_ERROR_NAME]), text)
            else:
                return message.body

    def signal(self, member: str) -> list[Any]:
        """Wait for a signal, which must have been subscribed to, and return its values.

        Raises Unavailable when it doesn't come in time.
        """
        while True:
            message = self._waiting.pop(0) if self._waiting else self._receive()
            if message.kind == _SIGNAL and message.fields.get(_MEMBER) == member:
                return message.body

    def _authenticate(self, path: str) -> None:
        uid = str(os.geteuid()).encode().hex()
        self._send(f"\0AUTH EXTERNAL {uid}\r\n".encode())
        answer = self._exactly(1)
        while not answer.endswith(b"\r\n"):
            answer += self._exactly(1)
        if not answer.startswith(b"OK "):
            raise Unavailable(f"{path}: the bus refuses the caller: {answer.decode().strip()}")
        self._send(b"BEGIN\r\n")

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except TimeoutError as error:
            raise _silent() from error

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                more = self._socket.recv(size - len(data))
            except TimeoutError as error:
                raise _silent() from error
            if not more:
                raise Unavailable("the bus has closed the connection")
            data += more
        return data

    def _receive(self) -> Message:
        start = self._exactly(16)
        order = "<" if start[:1] == b"l" else ">"
        _, kind, _, _, size, _, fields = struct.unpack(f"{order}BBBBIII", start)
        if size > _LONGEST or fields > _LONGEST:
            raise Unavailable("the bus sends a message that is too long")
        rest = start + self._exactly((fields + 7) // 8 * 8 + size)
        at, pairs = take(rest, 12, "a(yv)", order)
        at = (at + 7) // 8 * 8
        found = dict(pairs)
        body = []
        for each in split(str(found.get(_SIGNATURE, ""))):
            at, value = take(rest, at, each, order, start=16 + (fields + 7) // 8 * 8)
            body.append(value)
        return Message(kind, found, body)


def _silent() -> Unavailable:
    return Unavailable(f"systemd doesn't answer within {_SECONDS:g} s")


# --- the wire form -----------------------------------------------------------------------------


def split(signature: str) -> list[str]:
    """Return the complete types that a signature is made of."""
    types = []
    at = 0
    while at < len(signature):
        end = _end(signature, at)
        types.append(signature[at:end])
        at = end
    return types


def _end(signature: str, at: int) -> int:
    while signature[at] == "a":
        at += 1
    if signature[at] not in "({":
        return at + 1
    depth = 0
    while True:
        depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(signature[at], 0)
        at += 1
        if depth == 0:
            return at


def _alignment(kind: str) -> int:
    first = kind[0]
    if first in _NUMBERS:
        return struct.calcsize(_NUMBERS[first])
    return {"a": 4, "s": 4, "o": 4, "g": 1, "v": 1}.get(first, 8)


def _pad(data: bytearray, alignment: int) -> None:
    data.extend(bytes(-len(data) % alignment))


def put(data: bytearray, kind: str, value: Any) -> None:
    """Add a value to a message; one of any type (``v``) is a pair of type and value."""
    _pad(data, _alignment(kind))
    first = kind[0]
    if first in _NUMBERS:
        data += struct.pack(f"<{_NUMBERS[first]}", value)
    elif first in "so":
        text = value.encode()
        data += struct.pack("<I", len(text)) + text + b"\0"
    elif first == "g":
        data += bytes([len(value)]) + value.encode() + b"\0"
    elif first == "v":
        put(data, "g", value[0])
        put(data, value[0], value[1])
    elif first == "a":
        at = len(data)
        data += bytes(4)
        _pad(data, _alignment(kind[1:]))
        start = len(data)
        for item in value:
            put(data, kind[1:], item)
        data[at : at + 4] = struct.pack("<I", len(data) - start)
    else:
        for each, item in zip(split(kind[1:-1]), value, strict=True):
            put(data, each, item)


def take(data: bytes, at: int, kind: str, order: str, *, start: int = 0) -> tuple[int, Any]:
    """Return the value of a type at a place of a message, and the place behind it.

    Padding counts from ``start``.
    """
    alignment = _alignment(kind)
    at += -(at - start) % alignment
    first = kind[0]
    if first in _NUMBERS:
        number = struct.unpack_from(order + _NUMBERS[first], data, at)[0]
        return at + alignment, bool(number) if first == "b" else number
    if first in "sog":
        width = 1 if first == "g" else 4
        size = data[at] if width == 1 else struct.unpack_from(f"{order}I", data, at)[0]
        text = data[at + width : at + width + size].decode("utf-8", "replace")
        return at + width + size + 1, text
    if first == "v":
        at, inner = take(data, at, "g", order, start=start)
        return take(data, at, inner, order, start=start)
    if first == "a":
        size = struct.unpack_from(f"{order}I", data, at)[0]
        at += 4
        at += -(at - start) % _alignment(kind[1:])
        end = at + size
        items = []
        while at < end:
            at, item = take(data, at, kind[1:], order, start=start)
            items.append(item)
        return at, items
    values = []
    for each in split(kind[1:-1]):
        at, value = take(data, at, each, order, start=start)
        values.append(value)
    return at, tuple(values)
