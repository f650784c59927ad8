"""``create`` and ``run``: build a container from a bundle."""

from __future__ import annotations

import os

from cloche.errors import AlreadyExists
from cloche.kernel import features as host
from cloche.oci.identifier import check_id
from cloche.plan import cgroups
from cloche.plan.compile import compile
from cloche.plan.launch import Launch, Lifecycle
from cloche.plan.situation import situation
from cloche.runtime import bundle, start
from cloche.runtime.arguments import Option
from cloche.runtime.clock import now
from cloche.runtime.container import CONFIG_FILE, STATE_FILE, require_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from cloche.kernel.features import Features
    from cloche.oci.spec import Spec
    from cloche.plan.steps import Plan
    from cloche.runtime.arguments import Values
    from cloche.runtime.main import Settings

_BOTH = (
    Option(("bundle", "b"), "text", "the bundle's directory", "."),
    Option(("console-socket",), "text", "socket that gets the terminal's master end"),
    Option(("pidfd-socket",), "text", "socket that gets a pidfd of the container's process"),
    Option(("pid-file",), "text", "file that gets the pid of the container's process"),
    Option(("no-pivot",), "flag", "enter the root without pivot_root, as on an initramfs"),
    Option(("no-new-keyring",), "flag", "let the container keep the caller's session keyring"),
    Option(("preserve-fds",), "number", "how many more file descriptors the container gets"),
)
OPTIONS = {
    "create": _BOTH,
    "run": (
        *_BOTH,
        Option(("detach", "d"), "flag", "leave when the program runs"),
        Option(("keep",), "flag", "don't delete the container when its process has ended"),
        Option(("no-subreaper",), "flag", "has no effect: orphans go to the container's init"),
    ),
}


def run_create(settings: Settings, values: Values) -> int:
    """Become the launcher that builds the container, and leaves it waiting for its start."""
    _launch(settings, values, Lifecycle(gate=True))


def run_run(settings: Settings, values: Values) -> int:
    """Become the launcher that builds the container and runs its program."""
    detached = values.flag("detach")
    _launch(settings, values, Lifecycle(foreground=not detached, keep=values.flag("keep")))


def _launch(settings: Settings, values: Values, lifecycle: Lifecycle) -> NoReturn:
    id = check_id(values.rest[0])
    directory = f"{settings.root}/{id}"
    if os.path.lexists(directory):
        raise AlreadyExists(f"container with given ID already exists: {id}")
    place = os.path.abspath(values.text("bundle"))
    spec = bundle.load(place)
    if not lifecycle.gate:
        require_program(spec)
    process = spec["process"]
    console_socket = values.path("console-socket")
    detached = not lifecycle.foreground
    launch = Launch(
        id,
        directory,
        stdio=start.streams(process, console_socket, detached),
        lifecycle=lifecycle._replace(
            bundle=place,
            pid_file=values.path("pid-file"),
            console_socket=console_socket,
            pidfd_socket=values.path("pidfd-socket"),
            preserve_fds=start.inherited(process, values.number("preserve-fds")),
        ),
        no_new_keyring=values.flag("no-new-keyring"),
        no_pivot=values.flag("no-pivot"),
    )
    launch = start.with_filter(launch, spec, settings)
    launch = start.with_resctrl(launch, spec)
    features = host.detect()
    if settings.systemd_cgroup:
        _become_in_scope(settings, spec, launch, features)
    start.become(_plan(spec, launch, features), settings, 1)


def _become_in_scope(
    settings: Settings, spec: Spec, launch: Launch, features: Features
) -> NoReturn:
    """Have systemd make the cgroup, then go on as without it."""
    from cloche.kernel.cgroup import layout
    from cloche.runtime.systemd import properties, scope

    scope.require_unified(features.cgroups.version)
    linux = spec["linux"]
    user = features.in_user_namespace or features.uid != 0
    parent, unit = properties.unit(linux.get("cgroupsPath", ""), launch.id, rootless=user)
    limits = properties.properties(linux.get("resources", {}))
    made = scope.start(unit, parent, f"container {launch.id}", limits, user=user)
    try:
        inside = layout.detect(f"/proc/{made.placeholder or 'self'}")
        programs = features.cgroups.device_programs
        features = features._replace(cgroups=inside._replace(device_programs=programs))
        launch = launch._replace(adopted=True, placeholder=made.placeholder)
        start.become(_plan(spec, launch, features, unit, user=user), settings, 1)
    finally:
        scope.end(made.placeholder)


def _plan(
    spec: Spec, launch: Launch, features: Features, unit: str = "", *, user: bool = False
) -> Plan:
    """Return the plan, with the files by which other commands find the container."""
    groups = cgroups.directories(situation(spec, features, launch))
    launch = launch._replace(files=files(spec, launch, groups, unit, user=user))
    return compile(spec, features, launch)


def files(
    spec: Spec, launch: Launch, groups: list[str], unit: str = "", *, user: bool = False
) -> tuple[tuple[str, bytes], ...]:
    """Return the files by which later commands know the container."""
    from cloche import json

    state = {
        "id": launch.id,
        "bundle": launch.lifecycle.bundle if launch.lifecycle else "",
        "rootfs": spec["root"]["path"],
        "created": now(),
        "ociVersion": spec["ociVersion"],
        "annotations": spec.get("annotations", {}),
        "cgroups": groups,
        "unit": unit,
        "userUnit": user,
        "noNewKeyring": launch.no_new_keyring,
    }
    return (
        (STATE_FILE, json.dumps(state).encode()),
        (CONFIG_FILE, json.dumps(spec).encode()),
    )
