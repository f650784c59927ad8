"""System calls that a filter leaves to a listener outside: SCMP_ACT_NOTIFY."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cloche
from tests.kernel.bundles import Bundle, own_users

pytestmark = pytest.mark.needs("root", "busybox", "libseccomp")
USERS = pytest.mark.parametrize("linux", [{}, own_users()], ids=["host", "private"])
PRIVILEGES = pytest.mark.parametrize("no_new_privs", [False, True], ids=["privileges", "none"])

RECEIVE, ANSWER = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND
CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
SIZE = 80  # struct seccomp_notif
MKDIR = {"x86_64": (83, 258), "aarch64": (34,)}[os.uname().machine]


class Agent:
    """A listener that fails mkdir with an errno of its own, and lets all else go on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.states: list[dict[str, Any]] = []
        self.problems: list[str] = []
        self.answered = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def stop(self) -> None:
        """End the service."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                data, fds, _, _ = socket.recv_fds(connection, 1 << 16, 4)
                if connection.recv(1):
                    self.problems.append("more than one message, or in pieces")
            self.states.append(json.loads(data))
            if len(fds) != 1:
                self.problems.append(f"{len(fds)} file descriptors")
            self._listen(fds[0])

    def _listen(self, listener: int) -> None:
        poll = select.poll()
        poll.register(listener, select.POLLIN)
        while not poll.poll()[0][1] & select.POLLHUP:
            notification = bytearray(SIZE)
            try:
                fcntl.ioctl(listener, RECEIVE, notification)
                id, number = struct.unpack_from("=Q8xi", notification)
                error, flags = (-errno.EDOM, 0) if number in MKDIR else (0, CONTINUE)
                fcntl.ioctl(listener, ANSWER, struct.pack("=QqiI", id, 0, error, flags))
            except FileNotFoundError:  # the call was interrupted
                continue
            self.answered += 1
        os.close(listener)


@pytest.fixture
def agent(workspace: Path) -> Iterator[Agent]:
    """A listener on a socket."""
    found = Agent(workspace / "agent")
    yield found
    found.stop()
    assert not found.problems


@pytest.fixture
def bundle(cloche: Cloche, workspace: Path) -> Bundle:
    """A bundle of the test's own."""
    return Bundle(cloche, workspace)


def profile(agent: Agent, *names: str, **more: Any) -> dict[str, Any]:
    """Return a filter that leaves some system calls to the listener."""
    rules = [{"names": list(names), "action": "SCMP_ACT_NOTIFY"}]
    allow = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    return {"seccomp": {**allow, "listenerPath": str(agent.path), **more}}


@USERS
@PRIVILEGES
def test_listener(bundle: Bundle, agent: Agent, linux: Any, no_new_privs: bool) -> None:
    """It gets the calls, and is told whose they are; what it answers is what the program sees."""
    wanted = profile(agent, "mkdir", "mkdirat", listenerMetadata="opaque")
    process = {"noNewPrivileges": no_new_privs}
    done = bundle.run("mkdir /x; echo went on", process, {**linux, **wanted})
    assert done.stdout == "went on\n"
    assert os.strerror(errno.EDOM) in done.stderr
    (state,) = agent.states
    pid = state.pop("pid")
    assert pid > 1
    assert state == {
        "ociVersion": "1.3.0",
        "fds": ["seccompFd"],
        "metadata": "opaque",
        "state": {
            "ociVersion": "1.3.0",
            "id": bundle.id,
            "status": "creating",
            "pid": pid,
            "bundle": str(bundle.path),
        },
    }


@PRIVILEGES
def test_calls_of_the_start_itself(bundle: Bundle, agent: Agent, no_new_privs: bool) -> None:
    """Whatever the launcher still has to call behind the filter may be notified of as well."""
    names = "recvmsg read write close openat execve setuid setresuid capset prctl faccessat fcntl"
    wanted = profile(
        agent, *names.split(), "mkdir", flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]
    )
    process = {"noNewPrivileges": no_new_privs, "user": {"uid": 5, "gid": 5}}
    done = bundle.run("echo went on", process, wanted, check=True)
    assert done.stdout == "went on\n"
    assert agent.answered > 4


@pytest.mark.orphans
@PRIVILEGES
def test_created_container(bundle: Bundle, agent: Agent, no_new_privs: bool) -> None:
    """Of a container that isn't started yet the listener is sent before the command leaves.

    A process that is added to it has a listener of its own.
    """
    process = {"noNewPrivileges": no_new_privs}
    bundle.configure("mkdir /x; exec sleep 1000", process, profile(agent, "mkdir", "mkdirat"))
    created = bundle.manage("create", "--bundle", str(bundle.path), bundle.id)
    assert created == (0, "")
    try:
        first = json.loads(bundle("state", bundle.id, check=True).stdout)["pid"]
        assert [state["pid"] for state in agent.states] == [first]
        bundle("start", bundle.id, check=True)
    finally:
        bundle("delete", "--force", bundle.id)


@pytest.mark.orphans
def test_process_that_is_added(bundle: Bundle, agent: Agent, workspace: Path) -> None:
    """Its state names both pids: its own and that of the container's first process."""
    other = Agent(workspace / "other")
    bundle.configure("exec sleep 1000", {}, profile(other, "mkdirat", "mkdir"))
    run = bundle.manage("run", "--detach", "--bundle", str(bundle.path), bundle.id)
    assert run == (0, "")
    try:
        first = json.loads(bundle("state", bundle.id, check=True).stdout)["pid"]
        # One agent serves one listener at a time; the container's own is still open.
        config = bundle.cloche.state / "oci" / bundle.id / "config.json"
        config.write_text(config.read_text().replace(str(other.path), str(agent.path)))
        done = bundle("exec", bundle.id, "mkdir", "/x")
        assert os.strerror(errno.EDOM) in done.stderr
        (state,) = agent.states
        assert state["state"]["status"] == "running"
        assert state["state"]["pid"] == first != state["pid"]
        assert state["state"]["bundle"] == str(bundle.path)
    finally:
        bundle("delete", "--force", bundle.id)
        other.stop()


def test_nobody_listens(bundle: Bundle, workspace: Path) -> None:
    """A listener that can't be reached ends the start."""
    rules = [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]
    path = str(workspace / "none")
    seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules, "listenerPath": path}
    done = bundle.run("true", {}, {"seccomp": seccomp})
    assert done.returncode == 1
    assert f"connect {path}: no such file or directory" in done.stderr


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"listenerPath": ""}, "/linux/seccomp/listenerPath"),
        ({"defaultAction": "SCMP_ACT_NOTIFY"}, "/linux/seccomp/defaultAction"),
        (
            {"syscalls": [{"names": ["sendmsg"], "action": "SCMP_ACT_NOTIFY"}]},
            "/linux/seccomp/syscalls/0/action",
        ),
    ],
)
def test_filter_that_could_not_work(
    bundle: Bundle, agent: Agent, change: dict[str, Any], pointer: str
) -> None:
    """What would wait for itself is refused, as it is without a place to send the listener to."""
    done = bundle.run("true", {}, profile(agent, "mkdir", **change))
    assert done.returncode == 1
    assert pointer in done.stderr
    assert not agent.states


def test_filter_that_forbids_to_send(bundle: Bundle, agent: Agent) -> None:
    """Where sendmsg is denied the listener can't come out, and the error says what it takes."""
    rules = [
        {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"},
        {"names": ["sendmsg"], "action": "SCMP_ACT_ERRNO"},
    ]
    done = bundle.run("true", {}, profile(agent, "mkdir", syscalls=rules))
    assert done.returncode == 1
    assert "must allow sendmsg" in done.stderr


@pytest.mark.parametrize(
    "options", [(), ("--init",), ("--init", "--security-opt", "no-new-privileges")]
)
def test_profile_of_a_user(
    cloche: Cloche, agent: Agent, workspace: Path, options: tuple[str, ...]
) -> None:
    """A profile for ``cloche run`` can have a listener too, with an init or without."""
    path = workspace / "profile.json"
    path.write_text(json.dumps(profile(agent, "mkdir", "mkdirat")["seccomp"]))
    security = ("--security-opt", f"seccomp={path}")
    done = cloche("run", *options, *security, "host", "mkdir", "/tmp/x")
    assert os.strerror(errno.EDOM) in done.stderr
    assert len(agent.states) == 1
