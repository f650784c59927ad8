"""The plan of a container that comes back from a checkpoint."""

from __future__ import annotations

from typing import Any

import pytest

from cloche.errors import Unsupported
from cloche.kernel import flags
from cloche.kernel.features import Features
from cloche.plan import wire
from cloche.plan.launch import Launch, Lifecycle
from cloche.plan.restore import (
    FIRST_NAMESPACE_NUMBER,
    SOCKET_NUMBER,
    Restore,
    compile_restore,
    external_namespaces,
    host_mounts,
)
from cloche.plan.steps import CHILD, HOST, Plan

from .conftest import V1

RESTORE = Restore("/sbin/criu", "/bin", "/images", "/work", b"options")


@pytest.fixture
def features(features: Features) -> Features:
    """Return a host that restricts devices by files."""
    return features._replace(cgroups=V1)


@pytest.fixture
def managed(launch: Launch) -> Launch:
    """A launch for a container that other commands manage."""
    return launch._replace(lifecycle=Lifecycle(bundle="/bundle", pid_file="/pid"))


def names(plan: Plan) -> list[str]:
    """Return the names of a plan's operations, in order."""
    return [step.operation.name for step in plan.steps]


def only(plan: Plan, name: str) -> Any:
    """Return the one step of an operation."""
    (found,) = [step for step in plan.steps if step.operation.name == name]
    return found


def test_order(spec: Any, features: Features, managed: Launch) -> None:
    """criu is executed before it is spoken to; hooks come when there are namespaces, no more."""
    spec["hooks"] = {
        moment: [{"path": f"/{moment}"}] for moment in ("prestart", "createRuntime", "poststart")
    }
    plan = compile_restore(spec, features, managed, RESTORE)
    order = names(plan)
    tail = ["exec", "restore_begin", "loopback_up", "hook", "hook", "restore_end"]
    at = order.index("exec")
    assert order[at:] == [*tail, "write_pid", "unlock"]
    assert order.index("lock") < order.index("socket_pair") < order.index("spawn")
    assert only(plan, "spawn").argument("kinds") == flags.CLONE_NEWNS
    assert only(plan, "loopback_up").stage == HOST
    assert only(plan, "restore_request").argument("options") == b"options"
    assert order.index("open_directory") < order.index("restore_request") < at
    wire.encode(plan)


def test_criu(spec: Any, features: Features, managed: Launch) -> None:
    """criu finds its socket, and the namespaces that it is to use, at fixed numbers."""
    namespaces = spec["linux"]["namespaces"]
    next(entry for entry in namespaces if entry["type"] == "network")["path"] = "/net"
    next(entry for entry in namespaces if entry["type"] == "uts")["path"] = "/uts"
    assert external_namespaces(spec) == [(flags.CLONE_NEWNET, "/net")]
    plan = compile_restore(spec, features, managed, RESTORE)
    passed = [step for step in plan.steps if step.operation.name == "pass_fd"]
    assert [step.argument("number") for step in passed] == [SOCKET_NUMBER, FIRST_NAMESPACE_NUMBER]
    opened = only(plan, "open_namespace")
    assert opened.argument("slot") == passed[1].argument("slot")
    program = only(plan, "exec")
    assert program.argument("candidates") == ("/sbin/criu",)
    assert program.argument("argv") == ("criu", "swrk", str(SOCKET_NUMBER))
    assert "loopback_up" not in names(plan)


def test_mounts(spec: Any, features: Features, managed: Launch) -> None:
    """Mounts of the host are made ready with their flags; mount points beneath others' are not."""
    spec["mounts"] += [
        {"destination": "/one", "type": "bind", "source": "/src/one", "options": ["rbind", "ro"]},
        {"destination": "/dev/two", "type": "bind", "source": "/src/two", "options": ["bind"]},
    ]
    found = host_mounts(spec, features, managed)
    assert [(mount.source, mount.dest, mount.recursive) for mount in found] == [
        ("/src/one", "/one", True),
        ("/src/two", "/dev/two", False),
    ]
    plan = compile_restore(spec, features, managed, RESTORE)
    binds: dict[Any, Any] = {
        step.argument("dest"): step for step in plan.steps if step.operation.name == "bind"
    }
    assert list(binds) == ["/one", "/0", "/1", "/null"]
    ready = [f"{managed.directory}{dest}" for dest in binds if dest in ("/0", "/1")]
    assert ready == [mount.ready for mount in found]
    assert binds["/0"].argument("set") & flags.MOUNT_ATTR_RDONLY
    assert binds["/null"].argument("set") & flags.MOUNT_ATTR_RDONLY
    made = [step for step in plan.steps if step.operation.name == "make_dir_in_root"]
    assert [step.argument("dest") for step in made] == ["/proc", "/dev", "/sys"]
    assert {step.stage for step in made} == {CHILD}


def test_foreground(spec: Any, features: Features, managed: Launch) -> None:
    """In the foreground the launcher waits, and runs the last hooks."""
    spec["hooks"] = {"poststop": [{"path": "/poststop"}]}
    assert managed.lifecycle is not None
    launch = managed._replace(lifecycle=managed.lifecycle._replace(foreground=True))
    plan = compile_restore(spec, features, launch, RESTORE)
    assert names(plan)[-3:] == ["supervise", "take_back", "hook"]


def test_cgroup_namespace(spec: Any, features: Features, managed: Launch) -> None:
    """A cgroup namespace of others is nothing that criu can join."""
    namespaces = spec["linux"]["namespaces"]
    next(entry for entry in namespaces if entry["type"] == "cgroup")["path"] = "/cgroup"
    with pytest.raises(Unsupported, match="cgroup namespace"):
        compile_restore(spec, features, managed, RESTORE)


def test_mapped_owners(spec: Any, features: Features, managed: Launch) -> None:
    """A mount whose owners are mapped would come back without."""
    mapping = [{"containerID": 0, "hostID": 1000, "size": 1}]
    spec["mounts"].append(
        {
            "destination": "/one",
            "type": "bind",
            "source": "/src/one",
            "options": ["bind", "idmap"],
            "uidMappings": mapping,
            "gidMappings": mapping,
        }
    )
    with pytest.raises(Unsupported, match="mapped owners"):
        host_mounts(spec, features, managed)
