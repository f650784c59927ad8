"""From a spec to a plan: order, stages, and nothing that is asked for left out."""

from __future__ import annotations

from typing import Any

import pytest

from cloche.errors import ClocheError, InvalidSpec, MissingDependency, Unsupported
from cloche.kernel import flags
from cloche.kernel.features import Features
from cloche.kernel.idmap import Range
from cloche.plan import wire
from cloche.plan.compile import compile
from cloche.plan.launch import Launch
from cloche.plan.steps import CHILD, HOST, NO_SLOT

from .conftest import V1
from .plans import every, names, only, unprivileged, with_own_user


def test_order(spec: Any, features: Features, launch: Launch) -> None:
    """The host prepares, one spawn, the child builds and execs, the host supervises."""
    plan = compile(spec, features, launch)
    order = names(plan)
    spawn = order.index("spawn")
    assert all(step.stage == HOST for step in plan.steps[: spawn + 1])
    assert order.count("spawn") == 1
    assert order[-2:] == ["exec", "supervise"]
    assert plan.steps[-2].stage == CHILD
    assert order.index("lock") < spawn < order.index("open_root") < order.index("pivot_root")
    assert order.index("pivot_root") < order.index("identity")
    wire.encode(plan)


def test_filter_last(spec: Any, features: Features, launch: Launch) -> None:
    """A filter may be as narrow as it likes: nothing but exec comes after it."""
    for no_new_privs in (False, True):
        spec["process"]["noNewPrivileges"] = no_new_privs
        order = names(compile(spec, features, launch))
        assert order[-3:] == ["seccomp", "exec", "supervise"]
        assert ("no_new_privs" in order) == no_new_privs


def test_filter_without_no_new_privs_needs_a_capability(
    spec: Any, features: Features, launch: Launch
) -> None:
    """CAP_SYS_ADMIN is kept for the filter and for nothing else; exec takes it away."""

    def kept() -> list[bool]:
        step = only(compile(spec, features, launch), "capabilities")
        return [bool(int(str(value)) & 1 << 21) for value in step.arguments]

    spec["process"]["noNewPrivileges"] = False
    assert kept() == [True, True, False, False]
    spec["process"]["noNewPrivileges"] = True
    assert kept() == [False] * 4
    spec["process"]["noNewPrivileges"] = False
    launch = launch._replace(seccomp=b"")
    assert kept() == [False] * 4


def test_v2_child_is_born_in_its_cgroup(spec: Any, features: Features, launch: Launch) -> None:
    """On v2 there is no moment in which the child runs outside its limits."""
    spec["linux"]["cgroupsPath"] = "/cloche/abc"
    spec["linux"]["resources"] = {"memory": {"limit": 64 << 20}}
    plan = compile(spec, features, launch)
    assert only(plan, "spawn").argument("cgroup") == only(plan, "cgroup_open").argument("slot")
    values = {step.argument("path"): step for step in every(plan, "cgroup_set")}
    limit = values["/sys/fs/cgroup/cloche/abc/memory.max"]
    assert limit.argument("value") == limit.argument("expect") == str(64 << 20)
    assert not every(plan, "cgroup_join")


def test_v1_child_joins_before_its_cgroup_namespace(
    spec: Any, features: Features, launch: Launch
) -> None:
    """A cgroup namespace is rooted where its maker is, so joining comes first."""
    spec["linux"]["cgroupsPath"] = "/cloche/abc"
    plan = compile(spec, features._replace(cgroups=V1), launch)
    order = names(plan)
    assert order.index("cgroup_join") < order.index("unshare")
    assert only(plan, "unshare").argument("kinds") == flags.CLONE_NEWCGROUP
    assert not int(only(plan, "spawn").arguments[0]) & flags.CLONE_NEWCGROUP  # type: ignore[arg-type]


def test_unprivileged(spec: Any, features: Features, launch: Launch) -> None:
    """Without privileges: own id mapped, setgroups denied, devices bound, gid=5 left out."""
    plan = compile(with_own_user(spec), unprivileged(features), launch)
    order = names(plan)
    assert order.index("deny_setgroups") < order.index("id_map") < order.index("identity")
    assert not every(plan, "make_node")
    sources = {step.argument("source") for step in every(plan, "bind")}
    assert {"/dev/null", "/dev/zero", "/dev/tty"} <= sources
    (devpts,) = (step for step in every(plan, "mount") if step.argument("fstype") == "devpts")
    assert devpts.argument("options") == ("newinstance",)
    last = every(plan, "identity")[-1]
    assert last.argument("set_groups") == 0


def test_directory_is_closed_to_users_of_the_host(
    spec: Any, features: Features, launch: Launch
) -> None:
    """Only a root inside that is another user outside gets through the container's directory."""

    def mode(features: Features) -> object:
        return only(compile(spec, features, launch), "lock").argument("mode")

    assert mode(features) == 0o700
    with_own_user(spec)
    assert mode(unprivileged(features)) == 0o700
    assert mode(features) == 0o711


def test_own_groups_cannot_be_set_without_range(
    spec: Any, features: Features, launch: Launch
) -> None:
    """Groups that can't be had are an error, not left out."""
    with_own_user(spec)["process"]["user"] = {"additionalGids": [4]}
    with pytest.raises(Unsupported, match="groups"):
        compile(spec, unprivileged(features), launch)


def test_root_of_a_user_namespace(spec: Any, features: Features, launch: Launch) -> None:
    """What calls itself root by ``unshare -r`` can't make devices, nor set groups."""
    fake = features._replace(in_user_namespace=True, uids=(Range(0, 1),), gids=(Range(0, 1),))
    plan = compile(spec, fake, launch)
    assert not every(plan, "make_node")
    (devpts,) = (step for step in every(plan, "mount") if step.argument("fstype") == "devpts")
    assert devpts.argument("options") == ("newinstance",)
    assert only(plan, "identity").argument("set_groups") == 0
    spec["process"]["user"] = {"additionalGids": [4]}
    with pytest.raises(Unsupported, match="groups"):
        compile(spec, fake, launch)


@pytest.mark.parametrize("name", ["uid", "gid", "additionalGids"])
def test_ids_that_are_not_mapped(spec: Any, features: Features, launch: Launch, name: str) -> None:
    """A user or group that the container's user namespace doesn't have is named."""
    mapping = [{"containerID": 0, "hostID": 5000, "size": 10}]
    with_own_user(spec)["linux"].update(uidMappings=mapping, gidMappings=mapping)
    many = name == "additionalGids"
    spec["process"]["user"] = {name: [3, 9] if many else 9}
    compile(spec, features, launch)
    spec["process"]["user"] = {name: [3, 10] if many else 10}
    with pytest.raises(InvalidSpec, match="is 10 but must be mapped") as caught:
        compile(spec, features, launch)
    assert caught.value.pointer == f"/process/user/{name}" + ("/1" if many else "")


def test_range_without_newuidmap(spec: Any, features: Features, launch: Launch) -> None:
    """A range of ids without privileges needs the helpers, and the error says how to get them."""
    with_own_user(spec)["linux"]["uidMappings"] = [
        {"containerID": 0, "hostID": 100000, "size": 65536}
    ]
    with pytest.raises(MissingDependency, match="newuidmap"):
        compile(spec, unprivileged(features), launch)


def test_host_namespaces_in_user_namespace(spec: Any, features: Features, launch: Launch) -> None:
    """What only the owner of a shared namespace may mount is bound from the host instead."""
    with_own_user(spec)["linux"]["namespaces"] = [
        {"type": kind} for kind in ("mount", "user", "uts")
    ]
    plan = compile(spec, unprivileged(features), launch)
    binds = {step.argument("dest"): step for step in every(plan, "bind")}
    for path in ("/proc", "/sys", "/dev/mqueue"):
        assert binds[path].argument("source") == path
        assert binds[path].argument("recursive") == 1
    assert binds["/sys"].argument("set_recursive") == flags.MOUNT_ATTR_RDONLY


def test_joined_namespaces(spec: Any, features: Features, launch: Launch) -> None:
    """Shared namespaces are joined: pid by the host, user by the way of spawn, others inside."""
    spec["linux"]["namespaces"] = [
        {"type": "mount"},
        {"type": "pid", "path": "/proc/7/ns/pid"},
        {"type": "network", "path": "/proc/7/ns/net"},
        {"type": "user", "path": "/proc/7/ns/user"},
    ]
    plan = compile(spec, features, launch)
    joins = {step.argument("path"): step.stage for step in every(plan, "join_namespace")}
    assert joins == {"/proc/7/ns/pid": HOST, "/proc/7/ns/net": CHILD}
    assert only(plan, "spawn").argument("joined") == only(plan, "open_namespace").argument("slot")
    assert only(plan, "spawn").argument("joined") != NO_SLOT


def test_time_namespace(spec: Any, features: Features, launch: Launch) -> None:
    """A time namespace is made with its offsets, then joined; the spawn has no part in it."""
    spec["linux"]["namespaces"].append({"type": "time"})
    spec["linux"]["timeOffsets"] = {"monotonic": {"secs": -5}, "boottime": {"nanosecs": 7}}
    plan = compile(spec, features, launch)
    made = only(plan, "time_namespace")
    assert made.argument("offsets") == "boottime 0 7\nmonotonic -5 0\n"
    join = only(plan, "join_namespace")
    assert (join.stage, join.argument("kind")) == (CHILD, flags.CLONE_NEWTIME)
    assert plan.steps.index(made) < plan.steps.index(join)
    assert not int(str(only(plan, "spawn").argument("kinds"))) & flags.CLONE_NEWTIME

    spec["linux"]["namespaces"][-1]["path"] = "/proc/7/ns/time"
    joined = compile(spec, features, launch)
    assert only(joined, "join_namespace").argument("path") == "/proc/7/ns/time"
    assert not every(joined, "time_namespace")


def test_network_devices(spec: Any, features: Features, launch: Launch) -> None:
    """A device of the host moves once the container's network namespace is there."""
    spec["linux"]["netDevices"] = {"eth1": {}, "eth2": {"name": "net%d"}}
    plan = compile(spec, features, launch)
    moves = every(plan, "net_device")
    assert [step.arguments for step in moves] == [("eth1", "eth1", ""), ("eth2", "net%d", "")]
    assert plan.steps.index(moves[0]) > plan.steps.index(only(plan, "spawn"))
    with pytest.raises(Unsupported, match="network devices"):
        compile(with_own_user(spec), unprivileged(features), launch)

    for namespace in spec["linux"]["namespaces"]:
        if namespace["type"] == "network":
            namespace["path"] = "/run/netns/x"
    move = every(compile(spec, features, launch), "net_device")[0]
    assert move.argument("path") == "/run/netns/x"


def test_throw_away_root(spec: Any, features: Features, launch: Launch) -> None:
    """The overlay's layers are in the scratch tmpfs, numbered, none used twice."""
    spec["annotations"] = {"cloche.root": "overlay"}
    spec["mounts"].append(
        {
            "destination": "/usr",
            "type": "overlay",
            "source": "overlay",
            "options": ["lowerdir=/usr", "x-cloche.scratch"],
        }
    )
    plan = compile(spec, features, launch)
    options = [
        option
        for step in plan.steps
        if "overlay" in step.arguments
        for option in step.argument("options")  # type: ignore[union-attr]
    ]
    scratch = "/run/test/containers/abc/scratch"
    assert f"upperdir={scratch}/upper0" in options
    assert f"upperdir={scratch}/upper1" in options
    assert "userxattr" not in options
    made = [step.argument("path") for step in every(plan, "make_dir_on_mount")]
    assert sorted(set(made)) == sorted(made)
    assert only(plan, "open_root").argument("path") == f"{scratch}/root"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("process.scheduler", {"policy": "SCHED_ISO"}),
        ("process.apparmorProfile", "x"),
        ("process.selinuxLabel", "x"),
        ("linux.namespaces", [{"type": "pid"}]),
        ("linux.namespaces", [{"type": "mount", "path": "/proc/1/ns/mnt"}]),
        ("annotations", {"cloche.root": "floating"}),
        ("annotations", {"cloche.init": "maybe"}),
        ("annotations", {"cloche.landlock": "[]"}),
        ("annotations", {"cloche.landlock": '{"readonly": ["x"]}'}),
        ("linux.resources", {"memory": {"limit": 1 << 20}}),
    ],
)
def test_what_cannot_be_done_is_refused(
    spec: Any, features: Features, launch: Launch, path: str, value: object
) -> None:
    """A field that no step is made for stops the compilation: nothing is silently ignored."""
    place = spec
    *parents, name = path.split(".")
    for parent in parents:
        place = place.setdefault(parent, {})
    place[name] = value
    with pytest.raises(ClocheError) as caught:
        compile(spec, features, launch)
    assert isinstance(caught.value, (InvalidSpec, Unsupported))


def test_capabilities_no_more_than_there_are(spec: Any, features: Features, launch: Launch) -> None:
    """The sets stay within the caller's, and effective within permitted."""
    spec["process"]["capabilities"] = {
        "bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE"],
        "permitted": ["CAP_CHOWN"],
        "effective": ["CAP_CHOWN", "CAP_KILL"],
        "ambient": ["CAP_KILL"],
    }
    limited = features._replace(capabilities=features.capabilities & ~(1 << 24))
    launch = launch._replace(seccomp=b"")
    step = only(compile(spec, limited, launch), "capabilities")
    assert step.arguments == (1, 1, 0, 0)
    assert only(compile(spec, limited, launch), "bounding_set").arguments == (1,)


def test_capabilities_that_cannot_be_given_are_warned_of(
    spec: Any, features: Features, launch: Launch
) -> None:
    """What is unknown, not there, or of no effect is left out, and each is told once."""
    spec["process"]["noNewPrivileges"] = True
    both = ["CAP_CHOWN", "CAP_SYS_RESOURCE", "CAP_TIME_TRAVEL", "chown"]
    spec["process"]["capabilities"] = {
        "bounding": both,
        "permitted": both,
        "effective": ["CAP_CHOWN", "CAP_KILL"],
        "inheritable": ["CAP_CHOWN", "CAP_KILL"],
        "ambient": ["CAP_CHOWN", "CAP_KILL"],
    }
    limited = features._replace(capabilities=features.capabilities & ~(1 << 24))
    plan = compile(spec, limited, launch)
    assert only(plan, "capabilities").arguments == (1, 1, 1, 1)
    kinds = ("bounding", "permitted", "effective", "inheritable", "ambient")
    for kind, warning in zip(kinds, plan.warnings, strict=False):
        name = "CAP_SYS_RESOURCE" if kind in kinds[:2] else "CAP_KILL"
        assert warning.startswith(f"config.json: /process/capabilities/{kind}: without {name}: ")
    assert plan.warnings[5:] == (
        "config.json: /process/capabilities: unknown to this kernel: CAP_TIME_TRAVEL chown",
    )


def test_labels_of_security_modules(spec: Any, features: Features, launch: Launch) -> None:
    """They are asked for where their module is active, and an error where it isn't."""
    spec["process"].update(apparmorProfile="docker-default", selinuxLabel="a:b:c:s0")
    active = features._replace(lsm=("apparmor", "selinux"))
    labels = [step.arguments for step in every(compile(spec, active, launch), "lsm_label")]
    assert labels == [("apparmor/exec", "exec docker-default"), ("exec", "a:b:c:s0")]
    for field, module in (("apparmorProfile", "AppArmor"), ("selinuxLabel", "SELinux")):
        del spec["process"]["apparmorProfile" if module == "SELinux" else "selinuxLabel"]
        with pytest.raises(Unsupported, match=f"{module} isn't active") as caught:
            compile(spec, features, launch)
        assert caught.value.pointer == f"/process/{field}"
        spec["process"].update(apparmorProfile="docker-default", selinuxLabel="a:b:c:s0")


def test_unconfined_by_apparmor(spec: Any, features: Features, launch: Launch) -> None:
    """What isn't to be confined isn't, where there is nothing to confine it."""
    spec["process"]["apparmorProfile"] = "unconfined"
    assert not every(compile(spec, features, launch), "lsm_label")
    active = compile(spec, features._replace(lsm=("apparmor",)), launch)
    assert only(active, "lsm_label").argument("label") == "exec unconfined"


def test_personality_flags_are_warned_of(spec: Any, features: Features, launch: Launch) -> None:
    """The specification has none yet."""
    spec["linux"]["personality"] = {"domain": "LINUX32", "flags": ["X"]}
    plan = compile(spec, features, launch)
    assert only(plan, "personality").arguments == (8,)
    assert "/linux/personality/flags" in plan.warnings[0]
    spec["linux"]["personality"]["flags"] = []
    assert not compile(spec, features, launch).warnings


def test_rlimits(spec: Any, features: Features, launch: Launch) -> None:
    """Every number that the kernel has for a limit comes through, the unsigned ones too."""
    values = [0, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1, -1]
    kinds = ("CORE", "CPU", "DATA", "FSIZE", "NOFILE", "STACK")
    spec["process"]["rlimits"] = [
        {"type": f"RLIMIT_{kind}", "soft": value, "hard": value}
        for kind, value in zip(kinds, values, strict=True)
    ]
    plan = compile(spec, features, launch)
    wire.encode(plan)
    found = [int(str(step.argument("hard"))) % 2**64 for step in every(plan, "rlimit")]
    assert found == [value % 2**64 for value in values]
    assert {step.stage for step in every(plan, "rlimit")} == {CHILD}
    # In a user namespace the host alone may raise one, if it has that right itself.
    plan = compile(with_own_user(spec), features, launch)
    assert {step.stage for step in every(plan, "rlimit")} == {HOST}
    plan = compile(spec, unprivileged(features), launch)
    assert {step.stage for step in every(plan, "rlimit")} == {CHILD}


def test_keyring_can_be_left(spec: Any, features: Features, launch: Launch) -> None:
    """The session keyring is a new one unless the caller wants none."""
    assert only(compile(spec, features, launch), "keyring")
    assert not every(compile(spec, features, launch._replace(no_new_keyring=True)), "keyring")


def test_shared_propagation_is_taken_from_the_host(
    spec: Any, features: Features, launch: Launch
) -> None:
    """A volume that stays connected is cloned before the child's mounts are made private."""
    spec["mounts"].append(
        {"destination": "/v", "type": "bind", "source": "/v", "options": ["rbind", "rshared"]}
    )
    plan = compile(spec, features, launch)
    tree = only(plan, "open_tree")
    assert tree.stage == HOST
    (bind,) = (step for step in every(plan, "bind") if step.argument("dest") == "/v")
    assert bind.argument("slot") == tree.argument("slot")
    with pytest.raises(Unsupported):
        compile(with_own_user(spec), unprivileged(features), launch)


def test_devices_stay_closed_without_device_cgroup(
    spec: Any, features: Features, launch: Launch
) -> None:
    """Where no rule guards the devices, no node can be made, and none counts outside /dev."""
    spec["process"]["capabilities"]["bounding"].append("CAP_MKNOD")
    spec["mounts"].append({"destination": "/v", "type": "bind", "source": "/v"})
    plan = compile(spec, features, launch)
    mknod = 1 << 27
    assert not int(str(only(plan, "bounding_set").argument("keep"))) & mknod
    attributes = {step.argument("dest"): step for step in every(plan, "mount_attributes")}
    assert attributes["/"].argument("set") == flags.MOUNT_ATTR_NODEV
    assert attributes["/"].argument("recursive")
    (volume,) = (step for step in every(plan, "bind") if step.argument("dest") == "/v")
    assert volume.argument("set") == flags.MOUNT_ATTR_NODEV
    assert volume.argument("set_recursive") == flags.MOUNT_ATTR_NODEV
    (dev,) = (step for step in every(plan, "mount") if step.argument("dest") == "/dev")
    assert not int(str(dev.argument("attributes"))) & flags.MOUNT_ATTR_NODEV

    spec["linux"]["cgroupsPath"] = "/cloche/abc"
    spec["linux"]["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    guarded = compile(spec, features._replace(cgroups=V1), launch)
    assert int(str(only(guarded, "bounding_set").argument("keep"))) & mknod
    assert not every(guarded, "mount_attributes")
