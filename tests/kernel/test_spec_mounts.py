"""Mounts that a spec asks for, in real containers: each option as the kernel shows it inside."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.specs import Bundle

pytestmark = pytest.mark.needs("root", "busybox")


@pytest.fixture
def bundle(workspace: Path) -> Bundle:
    """A container with a root directory of its own."""
    return Bundle(workspace)


@pytest.fixture
def shared(workspace: Path) -> Iterator[Path]:
    """A mount of the host that is shared with who takes a copy of it."""
    place = workspace / "shared"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "shared", place], check=True)
    subprocess.run(["mount", "--make-shared", place], check=True)
    (place / "inner").mkdir()
    yield place
    subprocess.run(["umount", "--recursive", place], check=True)


@pytest.fixture
def two(workspace: Path) -> Iterator[Path]:
    """A directory of the host with a mount in it."""
    place = workspace / "two"
    (place / "inner").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "two", place / "inner"], check=True)
    yield place
    subprocess.run(["umount", place / "inner"], check=True)


def with_all_devices(bundle: Bundle) -> Bundle:
    """Let mounts be as their options say: without rules all would be nodev."""
    bundle.own_users()
    return bundle


# --- options -----------------------------------------------------------------------------------

SHOWN = [
    ("ro", "ro"),
    ("nosuid", "nosuid"),
    ("nodev", "nodev"),
    ("noexec", "noexec"),
    ("nodiratime", "nodiratime"),
    ("noatime", "noatime"),
    ("relatime", "relatime"),
    ("nosymfollow", "nosymfollow"),
]
CONTRARY = {
    "ro": "rw",
    "nosuid": "suid",
    "nodev": "dev",
    "noexec": "exec",
    "nodiratime": "diratime",
    "noatime": "atime",
    "nosymfollow": "symfollow",
}
NOTHING = ["defaults", "async", "iversion", "noiversion", "loud", "silent", "nomand", "nolazytime",
           "norelatime", "nostrictatime"]  # fmt: skip


@pytest.mark.parametrize("recursive", ["", "r"])
@pytest.mark.parametrize("how", ["new", "bind", "rbind"])
def test_attributes(bundle: Bundle, two: Path, how: str, recursive: str) -> None:
    """Each option is that of the mount, and with an "r" before it that of all beneath it too."""
    with_all_devices(bundle)
    for option, _ in SHOWN:
        more = {} if how == "new" else {"source": str(two)}
        ways = () if how == "new" else (how,)
        bundle.mount(f"/{option}", *ways, recursive + option, **more)
        if option in CONTRARY:
            # The last word counts.
            both = (recursive + option, recursive + CONTRARY[option])
            bundle.mount(f"/{CONTRARY[option]}", *ways, *both, **more)
    bundle.mount("/strictatime", recursive + "strictatime")
    found = dict(zip(
        [*(option for option, _ in SHOWN), *CONTRARY.values(), "strictatime"],
        bundle.mounts(
            *(f"/{option}" for option, _ in SHOWN),
            *(f"/{option}" for option in CONTRARY.values()),
            "/strictatime",
        ),
        strict=True,
    ))  # fmt: skip
    for option, word in SHOWN:
        assert word in found[option].attributes
    for option, contrary in CONTRARY.items():
        assert option not in found[contrary].attributes
    assert not set(found["strictatime"].attributes) & {"relatime", "noatime"}
    if how == "rbind":
        inner = bundle.mounts(*(f"/{option}/inner" for option, _ in SHOWN))
        for (_, word), mount in zip(SHOWN, inner, strict=True):
            if word != "relatime":  # what a mount is when nothing is said
                assert (word in mount.attributes) == bool(recursive)


def test_superblock_options(bundle: Bundle) -> None:
    """What is the file system's is shown with its other options."""
    with_all_devices(bundle)
    bundle.mount("/sync", "sync")
    bundle.mount("/dirsync", "dirsync", "mode=700", "size=64k")
    bundle.mount("/lazytime", "lazytime")
    bundle.mount("/async", "sync", "async")
    sync, dirsync, lazytime, asynchronous = bundle.mounts(
        "/sync", "/dirsync", "/lazytime", "/async"
    )
    assert "sync" in sync.options
    assert {"dirsync", "mode=700", "size=64k"} <= set(dirsync.options)
    assert "lazytime" in lazytime.options
    assert "sync" not in asynchronous.options


def test_options_that_change_nothing(bundle: Bundle) -> None:
    """What says how a mount is anyway is accepted, for new file systems."""
    bundle.mount("/plain")
    bundle.mount("/all", *NOTHING)
    plain, full = bundle.mounts("/plain", "/all")
    assert (plain.attributes, plain.options) == (full.attributes, full.options)


@pytest.mark.parametrize("option", ["sice=1m", "size=banana", "nosuchflag"])
def test_option_that_the_file_system_refuses(bundle: Bundle, option: str) -> None:
    """An option that isn't in the table goes to the file system, whose refusal names it."""
    bundle.mount("/x", option)
    done = bundle.run()
    assert done.failure is not None
    operation, call, path, error = done.failure
    assert (operation, call, error) == ("mount", "fsconfig", errno.EINVAL)
    assert option.split("=", maxsplit=1)[0] in path


def test_remount(bundle: Bundle) -> None:
    """Mounts that are there are changed, each option alone."""
    with_all_devices(bundle)
    bundle.mount("/x", "noexec", "size=64k")
    bundle.mount("/x", "remount", "size=128k", "nosuid")
    bundle.mount("/y", "nosuid")
    bundle.mount("/y", "bind", "remount", "ro", "rw", "ro", source="/x")
    x, y = bundle.mounts("/x", "/y")
    assert {"noexec", "nosuid"} <= set(x.attributes)
    assert "size=128k" in x.options
    assert {"ro", "nosuid"} <= set(y.attributes)
    assert "rw" in y.options


def test_remount_where_nothing_is_mounted(bundle: Bundle) -> None:
    """Only a mount can be changed."""
    bundle.mount("/bin", "remount", "size=128k")
    assert bundle.run().failure == ("reconfigure", "fspick", "/bin", errno.EINVAL)


# --- propagation -------------------------------------------------------------------------------

KINDS = [
    (["private"], set()),
    (["shared"], {"shared"}),
    (["slave"], {"master"}),
    (["unbindable"], {"unbindable"}),
    (["slave", "shared"], {"shared", "master"}),
    (["unbindable", "rprivate"], set()),
]


@pytest.mark.parametrize(("kinds", "shown"), KINDS, ids="-".join)
def test_propagation_of_a_bind(
    bundle: Bundle, shared: Path, kinds: list[str], shown: set[str]
) -> None:
    """Propagations are applied in their order."""
    bundle.mount("/v", "rbind", *kinds, source=str(shared))
    (mount,) = bundle.mounts("/v")
    assert {word.partition(":")[0] for word in mount.optional} == shown


@pytest.mark.parametrize(("kinds", "shown"), KINDS, ids="-".join)
def test_propagation_of_a_new_mount(bundle: Bundle, kinds: list[str], shown: set[str]) -> None:
    """A new file system has nobody to be the slave of."""
    bundle.mount("/v", *kinds)
    (mount,) = bundle.mounts("/v")
    assert {word.partition(":")[0] for word in mount.optional} == shown - {"master"}


@pytest.mark.parametrize(
    ("kind", "reaches"), [("", False), ("rprivate", False), ("rslave", False), ("rshared", True)]
)
def test_mount_made_in_the_container(
    bundle: Bundle, shared: Path, kind: str, reaches: bool
) -> None:
    """Only where the spec says so, it reaches the host."""
    bundle.capabilities("CAP_SYS_ADMIN")
    bundle.mount("/v", "rbind", *([kind] if kind else []), source=str(shared))
    done = bundle.run("mount -t tmpfs inside /v/inner")
    assert (done.code, done.stderr) == (0, "")
    assert os.path.ismount(shared / "inner") == reaches


@pytest.mark.parametrize("own_users", [False, True])
@pytest.mark.parametrize(
    ("root", "kind", "reaches"),
    [
        ("", "", False),
        ("", "rslave", True),
        ("slave", "", True),
        ("rslave", "rprivate", False),
        ("private", "", False),
        ("shared", "", False),
    ],
)
def test_mount_made_on_the_host(
    bundle: Bundle, shared: Path, root: str, kind: str, reaches: bool, own_users: bool
) -> None:
    """It appears in the container where the mount, or else the root, is a slave."""
    if own_users:
        bundle.own_users()
    bundle.linux["rootfsPropagation"] = root
    bundle.mount("/v", "rbind", *([kind] if kind else []), source=str(shared))
    running = bundle.start("echo ready; read line; cat /proc/self/mountinfo")
    stdout = running.process.stdout
    assert stdout is not None
    assert stdout.read(6) == b"ready\n", running.wait()
    subprocess.run(["mount", "-t", "tmpfs", "later", shared / "inner"], check=True)
    done = running.wait(b"\n")
    assert (" later " in done.stdout) == reaches


@pytest.mark.parametrize(
    ("kind", "shown"),
    [("", set()), ("private", set()), ("shared", {"shared"}), ("unbindable", {"unbindable"}),
     ("slave", {"master"}), ("rslave", {"master"})],
)  # fmt: skip
def test_propagation_of_the_root(bundle: Bundle, shared: Path, kind: str, shown: set[str]) -> None:
    """The root is in a peer group of its own, or the slave of the host's."""
    subprocess.run(["cp", "-a", bundle.root, shared / "root"], check=True)
    bundle.spec["root"]["path"] = str(shared / "root")
    bundle.linux["rootfsPropagation"] = kind
    (mount,) = bundle.mounts("/")
    assert {word.partition(":")[0] for word in mount.optional} == shown
    peers = {
        word
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        for word in line.split(" - ")[0].split()
    }
    assert not {word for word in mount.optional if word.startswith("shared:")} & peers


# --- owners ------------------------------------------------------------------------------------


def owners(bundle: Bundle, *paths: str) -> list[str]:
    """Return uid:gid of files as the container sees them."""
    done = bundle.run(f"stat -c %u:%g {' '.join(paths)}")
    assert done.failure is None, done.failure
    return done.stdout.split()


def mapping(*ranges: tuple[int, int, int]) -> list[dict[str, int]]:
    """Return mappings of inside, outside, count."""
    return [
        {"containerID": inside, "hostID": outside, "size": size} for inside, outside, size in ranges
    ]


@pytest.fixture
def owned(two: Path) -> Path:
    """Files of several owners, one of them in a mount of its own."""
    for name, uid in (("zero", 0), ("seven", 7), ("inner/zero", 0)):
        (two / name).touch()
        os.chown(two / name, uid, uid + 1)
    return two


def test_mappings_of_a_mount(bundle: Bundle, owned: Path) -> None:
    """Owners on the host are shown as others; those that aren't mapped belong to nobody."""
    ids = {"uidMappings": mapping((0, 1000, 1), (7, 0, 1)), "gidMappings": mapping((1, 2000, 9))}
    bundle.mount("/v", "rbind", source=str(owned), **ids)
    found = owners(bundle, "/v/zero", "/v/seven", "/v/inner/zero")
    assert found == ["1000:2000", "0:2007", "0:1"]  # not beneath, without "ridmap"
    done = bundle.run("touch /v/new")
    assert "Value too large" in done.stderr  # root of the container is nobody there
    assert not (owned / "new").exists()


def test_mappings_of_all_beneath(bundle: Bundle, owned: Path) -> None:
    """With "ridmap" the mounts beneath are mapped too."""
    ids = mapping((0, 1000, 10))
    bundle.mount("/v", "rbind", "ridmap", source=str(owned), uidMappings=ids, gidMappings=ids)
    assert owners(bundle, "/v/zero", "/v/inner/zero") == ["1000:1001", "1000:1001"]


def test_mappings_of_the_container(bundle: Bundle, owned: Path) -> None:
    """With "idmap" alone files belong to whom they belong on the host, by number."""
    bundle.own_users()
    bundle.mount("/plain", "bind", source=str(owned))
    bundle.mount("/v", "bind", "idmap", source=str(owned))
    assert owners(bundle, "/plain/seven", "/v/seven", "/v/zero") == ["65534:65534", "7:8", "0:1"]


def test_file_system_that_cannot_map(bundle: Bundle) -> None:
    """An error says that it is the file system."""
    bundle.own_users()
    bundle.mount("/v", "bind", "idmap", source="/proc")
    done = bundle.run()
    path = "/proc: its file system can't map owners"
    assert done.failure == ("idmap_tree", "mount_setattr", path, errno.EINVAL)


def test_mapping_that_the_kernel_refuses(bundle: Bundle, owned: Path) -> None:
    """A mapping that makes no sense is an error, and the process that tried it is gone."""
    ids = mapping((0, 1, 5), (2, 9, 5))
    bundle.mount("/v", "bind", source=str(owned), uidMappings=ids, gidMappings=ids)
    assert bundle.run().failure == ("idmap_tree", "write", "uid_map", errno.EINVAL)


def test_very_many_mounts_from_the_host(bundle: Bundle, workspace: Path) -> None:
    """There is no limit to the mounts of a container with users of its own."""
    bundle.own_users()
    for number in range(90):
        (workspace / f"file{number}").write_text(f"{number}\n")
        bundle.mount(f"/v/{number}", "bind", source=str(workspace / f"file{number}"))
    done = bundle.run("cd /v; cat $(ls | sort -n)")
    assert done.failure is None
    assert done.stdout.split() == [str(number) for number in range(90)]
