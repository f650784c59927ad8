"""The runtime spec that cloche run writes."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloche.engine import container, defaults, volumes
from cloche.engine.image import Image
from cloche.engine.options import RunOptions
from cloche.engine.values import DeviceRequest, DeviceRule, Ulimit
from cloche.errors import InvalidArgument, PermissionDenied, Unsupported
from cloche.kernel.cgroup.layout import Layout
from cloche.kernel.features import Features
from cloche.oci.spec import Mount, Spec
from cloche.oci.validate import validate
from cloche.rootfs.host import Overlay

ID = "0123456789abcdef" * 4
DIRECTORY = f"/run/cloche/containers/{ID}"


def write(image: Image, features: Features, **options: Any) -> Spec:
    """Return the spec of a container, proven to be valid."""
    written = container.spec(
        RunOptions(**{"image": "host", **options}), image, features, ID, DIRECTORY
    )
    assert validate(written) == written
    return written


def mounts(spec: Spec) -> dict[str, Mount]:
    """Return a spec's mounts by their destination."""
    return {mount["destination"]: mount for mount in spec["mounts"]}


def namespaces(spec: Spec) -> set[str]:
    """Return the types of a spec's namespaces."""
    return {namespace["type"] for namespace in spec["linux"]["namespaces"]}


def test_defaults_are_dockers(image: Image, features: Features) -> None:
    """Unasked, a container has Docker's walls."""
    spec = write(image, features)
    assert spec["root"] == {"path": image.root, "readonly": False}
    assert spec["hostname"] == ID[:12]
    assert namespaces(spec) == {"mount", "network", "uts", "pid", "ipc", "cgroup"}
    assert len(spec["process"]["capabilities"]["bounding"]) == 14
    assert "inheritable" not in spec["process"]["capabilities"]
    assert "ambient" not in spec["process"]["capabilities"]
    assert spec["process"]["noNewPrivileges"] is False
    assert set(defaults.MASKED_PATHS) <= set(spec["linux"]["maskedPaths"])
    assert spec["linux"]["readonlyPaths"] == list(defaults.READONLY_PATHS)
    assert spec["linux"]["cgroupsPath"] == f"cloche/{ID}"
    assert spec["linux"]["resources"]["devices"][0] == {"allow": False, "access": "rwm"}
    assert "memory" not in spec["linux"]["resources"]
    assert "seccomp" not in spec["linux"]
    assert "rlimits" not in spec["process"]
    assert [mount["destination"] for mount in spec["mounts"]] == [
        "/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm",
    ]  # fmt: skip


def test_process(image: Image, features: Features) -> None:
    """Command, environment, user, directory and limits reach the process."""
    spec = write(
        image,
        features,
        command=("ls", "-l"),
        entrypoint="/bin/env",
        terminal=True,
        user="kermit",
        workdir="/srv//x/",
        env=("A=1", "PATH=/p", "B=x=y"),
        ulimits=(Ulimit("RLIMIT_NOFILE", 5, 6), Ulimit("RLIMIT_CORE", -1, -1)),
        oom_score_adj=7,
        no_new_privileges=True,
    )
    process = spec["process"]
    assert process["args"] == ["/bin/env", "ls", "-l"]
    assert process["user"] == {"uid": 1000, "gid": 100, "additionalGids": [100, 2000]}
    assert process["cwd"] == "/srv/x"
    assert process["env"] == [
        "PATH=/p", f"HOSTNAME={ID[:12]}", "TERM=xterm", "HOME=/home/kermit", "A=1", "B=x=y",
    ]  # fmt: skip
    assert process["rlimits"] == [
        {"type": "RLIMIT_NOFILE", "soft": 5, "hard": 6},
        {"type": "RLIMIT_CORE", "soft": 2**64 - 1, "hard": 2**64 - 1},
    ]
    assert process["oomScoreAdj"] == 7
    assert process["noNewPrivileges"] is True
    with pytest.raises(InvalidArgument, match="--workdir"):
        write(image, features, workdir="x")


def test_command_of_the_image(image: Image, features: Features) -> None:
    """Without a command the image's own runs, with an entrypoint that alone."""
    assert write(image, features)["process"]["args"] == ["/bin/sh"]
    assert write(image, features, entrypoint="top")["process"]["args"] == ["top"]


def test_terminal_size(image: Image, features: Features) -> None:
    """A terminal has the size of the caller's, where that is known."""
    options = RunOptions(image="host", terminal=True)
    spec = container.spec(options, image, features, ID, DIRECTORY, terminal_size=(80, 25))
    assert spec["process"]["consoleSize"] == {"height": 25, "width": 80}
    assert "consoleSize" not in write(image, features, terminal=True)["process"]


@pytest.mark.parametrize(
    ("option", "kind"),
    [
        ("network", "network"),
        ("pid", "pid"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("cgroupns", "cgroup"),
    ],
)
def test_host_namespace(image: Image, features: Features, option: str, kind: str) -> None:
    """What is shared with the host is no namespace of the container."""
    assert kind not in namespaces(write(image, features, **{option: "host"}))


def test_hostname_follows_the_network(image: Image, features: Features) -> None:
    """With the host's network or names the host's name is used; a name of its own may be given."""
    node = os.uname().nodename
    assert write(image, features, network="host")["hostname"] == node
    assert write(image, features, network="host", hostname="x")["hostname"] == "x"
    spec = write(image, features, uts="host")
    assert "hostname" not in spec
    assert f"HOSTNAME={node}" in spec["process"]["env"]
    assert write(image, features, domainname="d")["domainname"] == "d"


def test_sysctls(image: Image, features: Features) -> None:
    """The usual parameters are for a network of its own; what the user says counts more."""
    start = "net.ipv4.ip_unprivileged_port_start"
    assert write(image, features)["linux"]["sysctl"][start] == "0"
    spec = write(image, features, sysctls=((start, "80"), ("kernel.msgmax", "9")))
    assert spec["linux"]["sysctl"][start] == "80"
    assert spec["linux"]["sysctl"]["kernel.msgmax"] == "9"
    assert write(image, features, network="host")["linux"]["sysctl"] == {}


def granted(image: Image, features: Features, **options: Any) -> set[str]:
    """Return the capabilities of a container, which are the same in its three sets."""
    sets = write(image, features, **options)["process"]["capabilities"]
    assert sets["bounding"] == sets["permitted"] == sets["effective"]
    return set(sets["bounding"])


def test_capabilities(image: Image, features: Features) -> None:
    """Docker's arithmetic of --cap-add, --cap-drop, ALL and --privileged."""
    usual = granted(image, features)
    assert granted(image, features, cap_add=("net_admin",)) == usual | {"CAP_NET_ADMIN"}
    assert granted(image, features, cap_drop=("CAP_CHOWN",)) == usual - {"CAP_CHOWN"}
    assert granted(image, features, cap_drop=("ALL",), cap_add=("KILL",)) == {"CAP_KILL"}
    assert len(granted(image, features, cap_add=("ALL",))) == 41
    without = granted(image, features, cap_add=("all",), cap_drop=("SYS_ADMIN",))
    assert len(without) == 40
    assert "CAP_SYS_ADMIN" not in without
    assert len(granted(image, features, privileged=True)) == 41
    with pytest.raises(InvalidArgument, match="FLY"):
        granted(image, features, cap_add=("FLY",))


def test_capabilities_that_the_caller_lacks(image: Image, features: Features) -> None:
    """What was asked for and can't be given is an error, what is only usual isn't."""
    lacking = features._replace(capabilities=features.capabilities & ~(1 << 24 | 1 << 5))
    assert "CAP_KILL" not in granted(image, lacking)
    assert len(granted(image, lacking, privileged=True)) == 39
    with pytest.raises(PermissionDenied, match="CAP_SYS_RESOURCE"):
        granted(image, lacking, cap_add=("SYS_RESOURCE",))
    assert "CAP_SYS_RESOURCE" in granted(
        image, lacking, cap_add=("SYS_RESOURCE",), userns="private"
    )


def test_no_nodes_where_no_cgroup_guards_them(image: Image, features: Features) -> None:
    """Without a device cgroup a node made inside could be the host's disk."""
    open_devices = features._replace(cgroups=Layout("none"))
    assert "CAP_MKNOD" not in granted(image, open_devices)
    with pytest.raises(Unsupported, match="MKNOD"):
        granted(image, open_devices, cap_add=("MKNOD",))
    assert "CAP_MKNOD" in granted(image, open_devices, userns="private")
    assert "devices" not in write(image, open_devices)["linux"]["resources"]


def test_privileged(image: Image, features: Features) -> None:
    """Nothing is hidden, everything is writable, all devices are there and allowed."""
    spec = write(image, features, privileged=True)
    assert spec["linux"]["maskedPaths"] == spec["linux"]["readonlyPaths"] == []
    assert spec["linux"]["resources"]["devices"] == [{"allow": True, "access": "rwm"}]
    assert "/dev/null" in {device["path"] for device in spec["linux"]["devices"]}
    for path in ("/sys", "/sys/fs/cgroup"):
        assert "ro" not in mounts(spec)[path]["options"]


def test_seccomp_profile() -> None:
    """The default filter holds unless another one, none, or all privileges are asked for."""
    assert container.seccomp_profile(RunOptions()) is None
    assert container.seccomp_profile(RunOptions(seccomp="/p")) == "/p"
    assert container.seccomp_profile(RunOptions(privileged=True)) == "unconfined"
    assert container.seccomp_profile(RunOptions(privileged=True, seccomp="/p")) == "/p"


def test_unmasked_paths(image: Image, features: Features) -> None:
    """systempaths=unconfined uncovers /proc and /sys and changes nothing else."""
    spec = write(image, features, unmasked_paths=True)
    assert spec["linux"]["maskedPaths"] == spec["linux"]["readonlyPaths"] == []
    assert "ro" in mounts(spec)["/sys"]["options"]


def test_limits(image: Image, features: Features) -> None:
    """Limits become resources, and swap is as much as memory where swap is accounted."""
    options = {
        "memory": 64 << 20,
        "memory_reservation": 32 << 20,
        "memory_swappiness": 5,
        "cpu_quota": 50_000,
        "cpu_period": 100_000,
        "cpu_shares": 512,
        "cpuset_cpus": "0-1",
        "cpuset_mems": "0",
        "pids_limit": 9,
        "blkio_weight": 300,
    }
    resources = write(image, features, **options)["linux"]["resources"]
    del resources["devices"]
    assert resources == {
        "memory": {"limit": 64 << 20, "reservation": 32 << 20, "swappiness": 5},
        "cpu": {"quota": 50_000, "period": 100_000, "shares": 512, "cpus": "0-1", "mems": "0"},
        "pids": {"limit": 9},
        "blockIO": {"weight": 300},
    }
    swapping = features._replace(cgroups=features.cgroups._replace(swap=True))
    memory = write(image, swapping, memory=64 << 20)["linux"]["resources"]["memory"]
    assert memory["swap"] == 128 << 20
    memory = write(image, features, memory=64 << 20, memory_swap=-1)["linux"]["resources"]["memory"]
    assert memory["swap"] == -1


def test_device(image: Image, features: Features) -> None:
    """A device that is asked for is made and allowed."""
    spec = write(
        image,
        features,
        devices=(DeviceRequest("/dev/null", "/dev/n", "r"),),
        device_rules=(DeviceRule("b", 8, -1, "r"), DeviceRule("a", -1, -1, "m")),
    )
    assert [device["path"] for device in spec["linux"]["devices"]] == ["/dev/n"]
    assert spec["linux"]["resources"]["devices"][-3:] == [
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "r"},
        {"allow": True, "access": "r", "type": "b", "major": 8},
        {"allow": True, "access": "m"},
    ]


def test_user_namespace(image: Image, ordinary: Features) -> None:
    """An ordinary user's container has users of its own, and devices are bound, not made."""
    spec = write(image, ordinary, devices=(DeviceRequest("/dev/null", "/dev/n"),), user="kermit")
    assert "user" in namespaces(spec)
    assert spec["linux"]["uidMappings"][0] == {"containerID": 0, "hostID": 1000, "size": 1}
    assert "devices" not in spec["linux"]
    assert mounts(spec)["/dev/n"]["source"] == "/dev/null"
    assert "net.ipv4.ping_group_range" not in spec["linux"]["sysctl"]
    with pytest.raises(InvalidArgument, match="user 70000"):
        write(image, ordinary, user="70000")


def test_embedded_image(image: Image, features: Features) -> None:
    """An image's layers and binds come first, then what is made for each container."""
    overlay = Overlay("/usr", ("/a:b", "/usr"))
    embedded = image._replace(overlay=True, overlays=(overlay,), binds=(("/x", "/etc/x"),))
    spec = write(embedded, features)
    assert spec["annotations"] == {"cloche.root": "overlay"}
    usr, bound, *_ = spec["mounts"]
    assert usr == {
        "destination": "/usr",
        "type": "overlay",
        "source": "overlay",
        "options": ["lowerdir=/a\\:b:/usr", "x-cloche.scratch"],
    }
    assert bound["options"] == ["bind", "rprivate", "ro", "nosuid", "nodev"]
    assert mounts(spec)["/etc/hosts"]["source"] == f"{DIRECTORY}/hosts"
    readonly = write(embedded, features, read_only=True)
    assert "ro" in mounts(readonly)["/usr"]["options"]
    assert "ro" in mounts(readonly)["/etc/hosts"]["options"]
    assert readonly["root"]["readonly"] is True


def test_plain_directory_is_left_alone(image: Image, features: Features, root: Path) -> None:
    """In a plain directory only those files of /etc are covered that are there."""
    assert "/etc/hosts" not in mounts(write(image, features))
    (root / "etc/hosts").touch()
    (root / "etc/resolv.conf").symlink_to("/run/nowhere")
    found = mounts(write(image, features))
    assert "/etc/hosts" in found
    assert "/etc/resolv.conf" not in found


def test_files(image: Image) -> None:
    """The three files of /etc name the container, and the host's network where that is used."""
    files = dict(container.files(RunOptions(image="host", domainname="d"), ID))
    assert files["hostname"] == ID[:12].encode() + b"\n"
    assert f"127.0.1.1\t{ID[:12]}.d {ID[:12]}\n".encode() in files["hosts"]
    assert b"nameserver" not in files["resolv.conf"]
    files = dict(container.files(RunOptions(image="host", network="host"), ID))
    assert files["hosts"] == Path("/etc/hosts").read_bytes()


def test_volumes_take_the_place_of_usual_mounts(
    image: Image, features: Features, tmp_path: Path
) -> None:
    """What the user mounts counts; a volume at /dev takes away what is beneath it."""
    spec = write(
        image,
        features,
        volumes=(
            volumes.volume(f"{tmp_path}/new:/a/b/c"),
            volumes.volume(f"{tmp_path}:/a"),
            volumes.tmpfs("/dev:mode=755"),
            volumes.volume(f"{tmp_path}:/o:O"),
        ),
    )
    found = mounts(spec)
    assert list(found) == ["/proc", "/sys", "/sys/fs/cgroup", "/a", "/dev", "/o", "/a/b/c"]
    assert found["/a/b/c"]["options"] == ["rbind", "x-cloche.create"]
    assert found["/a"]["options"] == ["rbind"]
    assert found["/o"]["options"] == [f"lowerdir={tmp_path}", "x-cloche.scratch"]
    with pytest.raises(InvalidArgument, match="/a"):
        write(image, features, volumes=(volumes.tmpfs("/a"), volumes.tmpfs("/a/")))


def test_shared_memory(image: Image, features: Features) -> None:
    """/dev/shm has the wanted size, is the host's, or isn't there."""
    assert "size=4096" in mounts(write(image, features, shm_size=4096))["/dev/shm"]["options"]
    assert mounts(write(image, features, ipc="host"))["/dev/shm"]["source"] == "/dev/shm"
    assert "/dev/shm" not in mounts(write(image, features, ipc="none"))


def test_annotations(image: Image, features: Features) -> None:
    """The user's annotations are kept, and those for the launcher are added."""
    spec = write(image, features, init=True, annotations=(("a", "b"),))
    assert spec["annotations"] == {"a": "b", "cloche.init": "true"}


MODES = st.sampled_from(["private", "host"])


@given(
    options=st.fixed_dictionaries(
        {
            "network": st.sampled_from(["none", "host"]),
            "pid": MODES,
            "ipc": st.sampled_from(["private", "none", "host"]),
            "uts": MODES,
            "cgroupns": MODES,
            "userns": st.sampled_from(["", "private", "host"]),
            "read_only": st.booleans(),
            "privileged": st.booleans(),
            "terminal": st.booleans(),
            "cap_add": st.lists(st.sampled_from(["ALL", "KILL", "BPF"])).map(tuple),
            "cap_drop": st.lists(st.sampled_from(["ALL", "KILL", "MKNOD"])).map(tuple),
            "user": st.sampled_from(["", "kermit", "5:6"]),
            "volumes": st.lists(
                st.sampled_from(["/a", "/dev", "/proc", "/etc/hosts", "/usr"]), unique=True
            ).map(lambda paths: tuple(volumes.tmpfs(path) for path in paths)),
        }
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_every_spec_is_valid(image: Image, features: Features, options: dict[str, Any]) -> None:
    """Whatever options are combined, the spec is valid, or they are refused."""
    embedded = image._replace(overlay=True, overlays=(Overlay("/usr", ("/usr",)),))
    try:
        spec = write(embedded, features, **options)
    except (InvalidArgument, PermissionDenied):
        return
    destinations = [mount["destination"] for mount in spec["mounts"]]
    assert len(destinations) == len(set(destinations))
