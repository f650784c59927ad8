"""Mounts of a spec, turned into steps."""

from __future__ import annotations

from typing import Any

import pytest

from cloche.errors import ClocheError, InvalidSpec, Unsupported
from cloche.kernel import flags
from cloche.kernel.features import Features
from cloche.plan import steps
from cloche.plan.compile import compile
from cloche.plan.launch import Launch
from cloche.plan.steps import NO_SLOT

from .conftest import V1
from .plans import every, names, only, unprivileged, with_own_user


@pytest.mark.parametrize(
    "mount",
    [
        {"destination": "/x", "type": "bind", "source": "relative"},
        {"destination": "/x", "type": "bind", "source": "/x", "options": ["bind", "nosuch=1"]},
        {"destination": "/x", "type": "bind", "source": "/x", "options": ["bind", "idmap"]},
        {"destination": "/x", "type": "proc", "options": ["tmpcopyup"]},
        {"destination": "/x", "type": "tmpfs", "options": ["idmap"]},
        {"destination": "/x", "source": "/x", "options": ["bind", "remount", "nosuch=1"]},
        {"destination": "/x", "source": "/x", "options": ["bind", "lazytime"]},
        {"destination": "/x"},
    ],
)
def test_mounts_that_cannot_be_made(
    spec: Any, features: Features, launch: Launch, mount: dict[str, object]
) -> None:
    """A mount whose options can't be honoured is refused as a whole."""
    spec["mounts"].append(mount)
    with pytest.raises(ClocheError):
        compile(spec, features, launch)


def test_root_that_is_a_slave(spec: Any, features: Features, launch: Launch) -> None:
    """What the host mounts later appears in the container, where the spec says nothing else."""
    with_own_user(spec)["linux"]["rootfsPropagation"] = "slave"
    spec["mounts"] += [
        {"destination": "/v", "source": "/v", "options": ["bind"]},
        {"destination": "/w", "source": "/w", "options": ["bind", "private"]},
    ]
    plan = compile(spec, features, launch)
    assert only(plan, "propagation").argument("flags") == flags.MS_SLAVE | flags.MS_REC
    kinds = {step.argument("dest"): step.argument("propagation") for step in every(plan, "bind")}
    assert kinds["/v"] == flags.MS_SLAVE | flags.MS_REC
    assert kinds["/w"] == flags.MS_PRIVATE


@pytest.mark.parametrize("kind", ["shared", "rshared", "unbindable", "runbindable"])
def test_root_that_is_shared(spec: Any, features: Features, launch: Launch, kind: str) -> None:
    """What is mounted in the container spreads there once it is cut off from the host."""
    spec["linux"]["rootfsPropagation"] = kind
    plan = compile(spec, features, launch)
    first, last = every(plan, "propagation")
    assert first.argument("flags") == flags.MS_PRIVATE | flags.MS_REC
    assert last.argument("flags") == flags.PROPAGATIONS[kind]
    assert plan.steps.index(last) > plan.steps.index(only(plan, "pivot_root"))


def test_propagations_in_order(spec: Any, features: Features, launch: Launch) -> None:
    """Several propagations are applied one after the other."""
    spec["mounts"] += [
        {"destination": "/v", "source": "/v", "options": ["rbind", "slave", "shared"]},
        {"destination": "t", "type": "tmpfs", "options": ["unbindable", "shared"]},
    ]
    plan = compile(spec, features, launch)
    kinds = [
        (step.argument("dest"), step.argument("propagation"))
        for step in plan.steps
        if step.operation.name in ("mount", "bind", "mount_attributes")
        and step.argument("propagation")
    ]
    assert kinds == [
        ("/v", flags.MS_SLAVE),
        ("/v", flags.MS_SHARED),
        ("/t", flags.MS_UNBINDABLE),
        ("/t", flags.MS_SHARED),
    ]


def test_remount(spec: Any, features: Features, launch: Launch) -> None:
    """A remount changes the mount and its file system, a remount of a bind the mount alone."""
    spec["linux"]["cgroupsPath"] = "/cloche/abc"
    spec["linux"]["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}
    spec["mounts"] += [
        {"destination": "/dev", "options": ["remount", "ro", "size=1m", "noexec", "async"]},
        {"destination": "/dev", "source": "/dev", "options": ["bind", "remount", "rw", "async"]},
    ]
    plan = compile(spec, features._replace(cgroups=V1), launch)
    assert only(plan, "reconfigure").arguments == ("/dev", ("size=1m", "async"))
    first, second = every(plan, "mount_attributes")
    assert first.argument("set") == flags.MOUNT_ATTR_RDONLY | flags.MOUNT_ATTR_NOEXEC
    assert (second.argument("set"), second.argument("clear")) == (0, flags.MOUNT_ATTR_RDONLY)


def test_device_is_never_written(spec: Any, features: Features, launch: Launch) -> None:
    """A file system on a device that is mounted read-only isn't to be repaired either."""
    spec["mounts"].append(
        {"destination": "/d", "type": "ext4", "source": "/dev/sdb", "options": ["rro"]}
    )
    (mount,) = (s for s in every(compile(spec, features, launch), "mount") if "ext4" in s.arguments)
    assert mount.argument("options") == ("ro",)
    assert int(str(mount.argument("attributes"))) & flags.MOUNT_ATTR_RDONLY


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ([], steps.BENEATH_MODE),
        (["mode=700"], 0),
        (["tmpcopyup"], steps.BENEATH_MODE | steps.BENEATH_OWNER | steps.BENEATH_CONTENT),
        (["tmpcopyup", "mode=700", "uid=5"], steps.BENEATH_CONTENT),
    ],
)
def test_tmpfs_takes_over(
    spec: Any, features: Features, launch: Launch, options: list[str], taken: int
) -> None:
    """A tmpfs takes over from its mount point what its options don't say."""
    spec["mounts"].append({"destination": "x", "type": "tmpfs", "options": options})
    mounts = every(compile(spec, features, launch), "mount")
    (made,) = (mount for mount in mounts if mount.argument("dest") == "/x")
    assert made.argument("beneath") == taken


def test_mount_label(spec: Any, features: Features, launch: Launch) -> None:
    """File systems of the container's own carry its label; those of the kernel don't."""
    spec["linux"]["mountLabel"] = "system_u:object_r:container_file_t:s0:c1,c2"
    spec["mounts"].append({"destination": "/v", "source": "/v", "options": ["bind"]})
    plan = compile(spec, features._replace(lsm=("selinux",)), launch)
    labelled = {
        step.argument("fstype")
        for step in every(plan, "mount")
        if f"context={spec['linux']['mountLabel']}" in step.argument("options")  # type: ignore[operator]
    }
    assert labelled == {"tmpfs", "devpts"}


def test_what_has_no_effect_is_warned_of(spec: Any, features: Features, launch: Launch) -> None:
    """A label without SELinux, and options of a tmpfs on a bind mount, are left out and told."""
    spec["linux"]["mountLabel"] = "a:b:c:s0"
    options = ["bind", "mode=755", "ro"]
    spec["mounts"].append({"destination": "/v", "source": "/v", "options": options})
    plan = compile(spec, features, launch)
    index = len(spec["mounts"]) - 1
    assert plan.warnings == (
        "config.json: /linux/mountLabel: nothing is labelled, as SELinux isn't active",
        f"config.json: /mounts/{index}/options: without 'mode=755': a bind mount can't have it",
    )
    assert not any("context" in str(step.arguments) for step in plan.steps)


def test_many_trees(spec: Any, features: Features, launch: Launch) -> None:
    """With more trees of the host than slots, slots are filled anew once they are empty."""
    with_own_user(spec)
    spec["mounts"] += [
        {"destination": f"/v{n}", "source": f"/s{n}", "options": ["bind"]} for n in range(100)
    ]
    plan = compile(spec, features, launch)
    slots: dict[object, object] = {}
    for step in plan.steps:
        if step.operation.name == "open_tree":
            assert step.argument("slot") not in slots
            slots[step.argument("slot")] = step.argument("source")
        if step.operation.name == "bind" and step.argument("slot") != NO_SLOT:
            assert slots.pop(step.argument("slot")) == step.argument("source")
    assert not slots
    assert len(every(plan, "open_tree")) == 100


def test_mapped_owners(spec: Any, features: Features, launch: Launch) -> None:
    """A mount's own mappings are used, or the container's where it has none."""
    mapping = [
        {"containerID": 0, "hostID": 5, "size": 9},
        {"containerID": 9, "hostID": 0, "size": 1},
    ]
    mount = {
        "destination": "/v", "source": "/v", "options": ["rbind", "ridmap"],
        "uidMappings": mapping, "gidMappings": mapping[:1],
    }  # fmt: skip
    spec["mounts"] += [mount]
    tree = only(compile(spec, features, launch), "idmap_tree")
    assert tree.arguments[1:] == ("/v", 1, 1, "0 5 9\n9 0 1\n", "0 5 9\n")

    del mount["uidMappings"], mount["gidMappings"]
    with pytest.raises(InvalidSpec, match="/mounts/5/options"):
        compile(spec, features, launch)
    mount["options"] = ["bind", "idmap"]
    plan = compile(with_own_user(spec), features, launch)
    tree = only(plan, "idmap_tree")
    assert tree.arguments[1:] == ("/v", 0, 0, "", "")
    assert plan.steps.index(tree) > plan.steps.index(every(plan, "id_map")[-1])
    with pytest.raises(Unsupported):
        compile(spec, unprivileged(features), launch)


def test_without_pivot(spec: Any, features: Features, launch: Launch) -> None:
    """Where it is asked for, the root is moved onto the host's instead."""
    spec["linux"]["rootfsPropagation"] = "shared"
    order = names(compile(spec, features, launch._replace(no_pivot=True)))
    assert "pivot_root" not in order
    assert order[order.index("move_root") + 1] == "propagation"
    assert "move_root" not in names(compile(spec, features, launch))
