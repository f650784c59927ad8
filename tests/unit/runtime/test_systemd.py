"""Scopes that systemd makes: what it is asked, and how it is asked."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.errors import InvalidSpec, MissingDependency, Unavailable, Unsupported
from cloche.oci.spec import Resources
from cloche.runtime.systemd import bus, properties, scope

# --- the wire form -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signature", "types"),
    [
        ("", []),
        ("ssa(sv)a(sa(sv))", ["s", "s", "a(sv)", "a(sa(sv))"]),
        ("a{sv}u", ["a{sv}", "u"]),
        ("aay", ["aay"]),
        ("(s(uu))b", ["(s(uu))", "b"]),
    ],
)
def test_types_of_a_signature(signature: str, types: list[str]) -> None:
    """A container type ends where its brackets do."""
    assert bus.split(signature) == types


VALUES: list[tuple[str, Any]] = [
    ("y", 255),
    ("b", True),
    ("u", 1 << 31),
    ("t", (1 << 64) - 1),
    ("x", -1),
    ("s", "a.scope"),
    ("o", "/org"),
    ("g", "a(sv)"),
    ("au", [1, 2]),
    ("ay", [1, 2, 3]),
    ("a(st)", [("a", 1), ("bcd", 2)]),
    ("(ys)", (1, "x")),
    ("aas", [["a"], [], ["b", "c"]]),
]


@given(st.lists(st.sampled_from(VALUES), max_size=6))
def test_what_is_put_is_taken(values: list[tuple[str, Any]]) -> None:
    """Alignment counts from the start, whatever comes before."""
    data = bytearray()
    for kind, value in values:
        bus.put(data, kind, value)
    at = 0
    for kind, value in values:
        at, found = bus.take(bytes(data), at, kind, "<")
        assert found == value
    assert at == len(data)


def test_a_value_of_any_type() -> None:
    """It carries its type with it."""
    data = bytearray()
    bus.put(data, "v", ("t", 7))
    assert data == b"\x01t\0" + bytes(5) + struct.pack("<Q", 7)
    assert bus.take(bytes(data), 0, "v", "<") == (len(data), 7)


def _message(kind: int, fields: list[tuple[int, tuple[str, str | int]]], *body: Any) -> bytes:
    signature = "".join(each for each, _ in body)
    content = bytearray()
    for each, value in body:
        bus.put(content, each, value)
    if signature:
        fields = [*fields, (8, ("g", signature))]
    head = bytearray(struct.pack("<BBBBII", ord("l"), kind, 0, 1, len(content), 1))
    bus.put(head, "a(yv)", fields)
    return bytes(head + bytes(-len(head) % 8) + content)


def _reply(serial: int, *body: Any) -> bytes:
    return _message(2, [(5, ("u", serial))], *body)


class Server:
    """The other end of a bus, with answers made up beforehand."""

    def __init__(self, path: Path, *answers: bytes, greeting: bytes = b"OK 1\r\n") -> None:
        self.path = str(path / "bus")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.path)
        self._socket.listen()
        self._answers = answers
        self._greeting = greeting
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(self._greeting)
            for answer in self._answers:
                connection.recv(65536)
                connection.sendall(answer)
            while connection.recv(65536):
                pass

    def end(self) -> None:
        """Wait for the end of the conversation."""
        self._thread.join(10)
        self._socket.close()


@pytest.fixture
def serve(tmp_path: Path) -> Any:
    """Make servers that end with the test."""
    made: list[Server] = []

    def make(*answers: bytes, greeting: bytes = b"OK 1\r\n") -> str:
        made.append(Server(tmp_path, *answers, greeting=greeting))
        return made[-1].path

    yield make
    for server in made:
        server.end()


def test_a_call_and_a_signal_that_came_before_its_answer(serve: Callable[..., str]) -> None:
    """The signal is kept for who waits for it."""
    signal = _message(4, [(3, ("s", "JobRemoved"))], ("u", 5), ("s", "done"))
    # The first exchange after the greeting begins with Hello.
    path = serve(_reply(1, ("s", ":1.1")), signal + _reply(2, ("o", "/job/5")))
    with bus.Bus(path) as connection:
        assert connection.call("a.b", "/a", "a.b", "Start", "s", "x") == ["/job/5"]
        assert connection.signal("JobRemoved") == [5, "done"]


def test_an_answer_that_is_an_error(serve: Callable[..., str]) -> None:
    """Its name tells programs what its text tells people."""
    error = _message(3, [(4, ("s", "a.UnitExists")), (5, ("u", 2))], ("s", "it exists"))
    path = serve(_reply(1, ("s", ":1.1")), error)
    with bus.Bus(path) as connection, pytest.raises(bus.CallError, match="it exists") as caught:
        connection.call("a.b", "/a", "a.b", "Start")
    assert caught.value.name == "a.UnitExists"


def test_a_bus_that_lets_nobody_in(serve: Callable[..., str]) -> None:
    """What it says is passed on."""
    with pytest.raises(Unavailable, match="REJECTED"):
        bus.Bus(serve(greeting=b"REJECTED EXTERNAL\r\n"))


# --- properties --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"memory": {"limit": 1024, "swap": 4096}}, {"MemoryMax": 1024, "MemorySwapMax": 3072}),
        ({"memory": {"limit": -1, "reservation": 5}}, {"MemoryMax": -1, "MemoryLow": 5}),
        ({"memory": {"limit": 8, "swap": 8}}, {"MemoryMax": 8, "MemorySwapMax": 0}),
        ({"cpu": {"shares": 1024}}, {"CPUWeight": 100}),
        ({"cpu": {"quota": 50000}}, {"CPUQuotaPerSecUSec": 500000}),
        (
            {"cpu": {"quota": 12345, "period": 50000}},
            {"CPUQuotaPeriodUSec": 50000, "CPUQuotaPerSecUSec": 250000},
        ),
        ({"cpu": {"quota": -1}}, {"CPUQuotaPerSecUSec": -1}),
        ({"cpu": {"idle": 1, "shares": 5}}, {"CPUWeight": 0}),
        ({"cpu": {"cpus": "0,3"}}, {"AllowedCPUs": b"\x09"}),
        ({"cpu": {"mems": "0-8"}}, {"AllowedMemoryNodes": b"\xff\x01"}),
        ({"pids": {"limit": 0}}, {"TasksMax": 1}),
        ({"pids": {"limit": -1}}, {"TasksMax": -1}),
        ({"memory": {"limit": 0}, "cpu": {"shares": 0, "quota": 0, "cpus": ""}}, {}),
    ],
)  # fmt: skip
def test_properties(wanted: dict[str, Any], found: dict[str, Any]) -> None:
    """Limits in systemd's terms; -1 stands for infinity here."""
    made = properties.properties(cast(Resources, wanted))
    values = {name: value for name, (_, value) in made}
    assert values == {n: properties.INFINITY if v == -1 else v for n, v in found.items()}


@pytest.mark.parametrize(
    ("path", "rootless", "unit"),
    [
        ("machine.slice:libpod:abc", False, ("machine.slice", "libpod-abc.scope")),
        ("", False, ("system.slice", "cloche-abc.scope")),
        (":docker:x", True, ("user.slice", "docker-x.scope")),
        ("a.slice::x", False, ("a.slice", "x.scope")),
    ],
)
def test_units(path: str, rootless: bool, unit: tuple[str, str]) -> None:
    """The three parts of a path name the scope and the slice that it is in."""
    assert properties.unit(path, "abc", rootless=rootless) == unit


@pytest.mark.parametrize("path", ["/a/b", "a", "a:b", "a:b:c:d", "a:b:", "a:b:c.slice", "a:b/c:d"])
def test_paths_that_are_no_units(path: str) -> None:
    """A path of cgroupfs isn't systemd's."""
    with pytest.raises(InvalidSpec, match="cgroupsPath"):
        properties.unit(path, "abc", rootless=False)


def test_without_systemd() -> None:
    """Who asks for it is told that it isn't there."""
    if os.path.isdir("/run/systemd/system"):
        pytest.skip("systemd runs here")
    with pytest.raises(MissingDependency, match="systemd isn't running"):
        scope.start("a.scope", "system.slice", "", [], user=False)


def test_pure_v1() -> None:
    """There a scope is kept in a hierarchy that containers don't join."""
    scope.require_unified("hybrid")
    with pytest.raises(Unsupported, match="v1"):
        scope.require_unified("v1")
