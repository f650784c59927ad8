"""``exec``: one more program in a container."""

from __future__ import annotations

import os

from cloche.errors import InvalidArgument
from cloche.kernel import features as host
from cloche.plan.execute import Target, compile_exec
from cloche.plan.launch import Launch, Lifecycle
from cloche.runtime import start
from cloche.runtime.arguments import Option
from cloche.runtime.container import PAUSED, Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.oci.spec import Process, Spec
    from cloche.runtime.arguments import Values
    from cloche.runtime.main import Settings

OPTIONS = {
    "exec": (
        Option(("process", "p"), "text", "file with the process, as in config.json"),
        Option(("detach", "d"), "flag", "leave when the program runs"),
        Option(("tty", "t"), "flag", "give it a terminal"),
        Option(("console-socket",), "text", "socket that gets the terminal's master end"),
        Option(("pidfd-socket",), "text", "socket that gets a pidfd of the process"),
        Option(("pid-file",), "text", "file that gets the pid of the process"),
        Option(("cwd",), "text", "working directory in the container"),
        Option(("env", "e"), "list", "variable to set: NAME=value"),
        Option(("user", "u"), "text", "user, as UID or UID:GID"),
        Option(("additional-gids", "g"), "list", "one more group id"),
        Option(("cap", "c"), "list", "one more capability"),
        Option(("no-new-privs",), "flag", "forbid gaining privileges by exec"),
        Option(("apparmor",), "text", "AppArmor profile"),
        Option(("process-label",), "text", "SELinux label"),
        Option(("preserve-fds",), "number", "how many more file descriptors it gets"),
        Option(("cgroup",), "list", "cgroup beneath the container's: [CONTROLLER:]PATH"),
        Option(("ignore-paused",), "flag", "allow it in a paused container"),
    )
}


def run_exec(settings: Settings, values: Values) -> int:
    """Become the launcher that runs the program."""
    container = Container(settings.root, values.rest[0])
    status = container.status()
    if status != PAUSED or not values.flag("ignore-paused"):
        container.require("exec")
    first = container.process()
    assert first is not None
    spec = container.spec()
    process = _process(spec, values)
    spec["process"] = process
    console_socket = values.path("console-socket")
    detached = values.flag("detach")
    known = container.state()
    launch = Launch(
        container.id,
        container.directory,
        stdio=start.streams(process, console_socket, detached),
        lifecycle=Lifecycle(
            bundle=known["bundle"],
            foreground=not detached,
            pid_file=values.path("pid-file"),
            console_socket=console_socket,
            pidfd_socket=values.path("pidfd-socket"),
            preserve_fds=start.inherited(process, values.number("preserve-fds")),
        ),
        no_new_keyring=known["noNewKeyring"],
        first_pid=first.pid,
    )
    launch = start.with_filter(launch, spec, settings)
    launch = start.with_resctrl(launch, spec)
    joins, into = _cgroups(container, values)
    # On v1 and hybrid machines the controllers are elsewhere, and nothing is in the way.
    makes_into = bool(into) and not joins and not values.list("cgroup")
    if makes_into:
        into = f"{into}/exec-{os.urandom(4).hex()}"
    target = Target(first.pid, first.start_time, joins, into, makes_into)
    start.become(compile_exec(spec, host.detect(), launch, target), settings, 255)


def _process(spec: Spec, values: Values) -> Process:
    """Return the process to run: that of a file, or the container's own changed by options."""
    path = values.text("process")
    command = values.rest[1:]
    if path:
        return _load(path)
    if not command:
        raise InvalidArgument("exec args cannot be empty", hint="name a program, or --process FILE")
    process = spec["process"]
    process["args"] = command
    process["terminal"] = values.flag("tty")
    process["cwd"] = values.text("cwd") or process["cwd"]
    process["env"] = process.get("env", []) + values.list("env")
    if values.text("apparmor"):
        process["apparmorProfile"] = values.text("apparmor")
    if values.text("process-label"):
        process["selinuxLabel"] = values.text("process-label")
    if "no-new-privs" in values.given:
        process["noNewPrivileges"] = values.flag("no-new-privs")
    _add_capabilities(process, values.list("cap"))
    _set_user(process, values)
    return process


def _load(path: str) -> Process:
    from cloche.errors import InvalidSpec
    from cloche.oci import validate

    with open(path, "rb") as file:
        data = file.read()
    try:
        return validate.parse_process(data)
    except InvalidSpec as error:
        place = error.pointer.removeprefix("/process") or "/"
        raise InvalidArgument(f"{path}: {place}: {error.problem}") from error


def _add_capabilities(process: Process, names: list[str]) -> None:
    if not names:
        return
    sets = process.setdefault("capabilities", {})
    sets["bounding"] = [*sets.get("bounding", []), *names]
    sets["effective"] = [*sets.get("effective", []), *names]
    sets["permitted"] = [*sets.get("permitted", []), *names]
    if sets.get("inheritable"):  # without it a capability can't be ambient
        sets["ambient"] = [*sets.get("ambient", []), *names]


def _set_user(process: Process, values: Values) -> None:
    user = process.setdefault("user", {"uid": 0, "gid": 0})
    text = values.text("user")
    if text:
        uid, colon, gid = text.partition(":")
        user["uid"] = _id(uid, "user")
        if colon:
            user["gid"] = _id(gid, "user")
    for gid in values.list("additional-gids"):
        user["additionalGids"] = [*user.get("additionalGids", []), _id(gid, "additional-gids")]


def _id(text: str, option: str) -> int:
    """Return a user or group id.

    Only plain numbers: names are the image's, to be looked up by who knows the image, and a number
    such as -1 or 4294967295 means "unchanged" to the kernel.
    """
    digits = text.isascii() and text.isdigit() and len(text) <= 10
    if not (digits and int(text) < 2**32 - 1):
        raise InvalidArgument(f"--{option}: {text!r} isn't a number from 0 to 4294967294")
    return int(text)


def _cgroups(container: Container, values: Values) -> tuple[tuple[str, ...], str]:
    """Return the v1 cgroups to join, and the v2 cgroup to be born in."""
    group = container.group()
    if group is None:
        return (), ""
    joins, into = group.joined, group.unified
    for entry in values.list("cgroup"):
        controller, colon, path = entry.rpartition(":")
        if ".." in path.split("/"):
            raise InvalidArgument(f"--cgroup: {path!r} leads out of the container's cgroup")
        if not colon:
            into = _beneath(into, path)
            continue
        for name in controller.split(","):
            place = group.place(name)
            if not place:
                raise InvalidArgument(f"--cgroup: the container has no cgroup of {name!r}")
            joins = tuple(_beneath(place, path) if own == place else own for own in joins)
    return joins, into


def _beneath(group: str, path: str) -> str:
    directory = f"{group}/{path.strip('/')}".rstrip("/")
    if not os.path.isdir(directory):
        raise InvalidArgument(f"--cgroup: there is no cgroup {directory}")
    return directory
