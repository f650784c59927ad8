"""Detection of cgroup hierarchies, on made-up machines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloche.kernel.cgroup.layout import Hierarchy, Layout
from tests import cgroups
from tests.cgroups import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A machine without cgroups."""
    return Tree(tmp_path)


def find(layout: Layout, controller: str) -> Hierarchy:
    """Return a hierarchy that must be there."""
    hierarchy = layout.find(controller)
    assert hierarchy is not None
    return hierarchy


def refuse_writing(monkeypatch: pytest.MonkeyPatch, *directories: Path) -> None:
    """Make directories unwritable, for root too."""
    access = os.access

    def refuse(path: str, mode: int) -> bool:
        return Path(path) not in closed and access(path, mode)

    closed = {path for each in directories for path in (each, each / "cgroup.procs")}
    monkeypatch.setattr(os, "access", refuse)


@pytest.mark.parametrize("kind", ["v1", "v2", "hybrid"])
def test_kinds(kind: str, tmp_path: Path) -> None:
    """The three ways of laying out a machine are told apart."""
    layout = cgroups.machine(kind, tmp_path)
    assert layout.version == kind
    assert find(layout, "memory").version == (2 if kind == "v2" else 1)
    assert (layout.unified is None) == (kind == "v1")
    assert layout.devices_enforceable == (kind != "v2")
    assert (layout.cpus, layout.mems) == ("0-3", "0")
    assert layout.swap


def test_no_cgroups(tree: Tree) -> None:
    """A machine without any is a layout too."""
    assert tree.detect() == Layout("none")


def test_controllers_mounted_together(tree: Tree) -> None:
    """cpu,cpuacct is one hierarchy, found by either name."""
    tree.v1("cpu,cpuacct")
    layout = tree.detect()
    assert len(layout.hierarchies) == 1
    assert find(layout, "cpu") is find(layout, "cpuacct")


def test_options_that_are_no_controllers(tree: Tree) -> None:
    """``xattr`` and ``name=systemd`` among the options name no controller."""
    tree.v1("memory")
    tree.mounts[-1] += ",xattr,release_agent=/run/agent"
    tree.v1("name=systemd")
    layout = tree.detect()
    assert [hierarchy.controllers for hierarchy in layout.hierarchies] == [("memory",)]


def test_blkio_is_io(tree: Tree) -> None:
    """The controller with two names is asked for by the new one."""
    tree.v1("blkio")
    layout = tree.detect()
    assert find(layout, "io").controllers == ("blkio",)
    assert layout.io_weight == "blkio.bfq.weight"


def test_the_own_group(tree: Tree) -> None:
    """The caller's group is a directory beneath the mount; containers go to the root."""
    mount = tree.v1("memory", own="/user.slice/session")
    hierarchy = find(tree.detect(), "memory")
    assert hierarchy.own == f"{mount}/user.slice/session"
    assert hierarchy.base == str(mount)


def test_in_a_container_without_a_cgroup_namespace(tree: Tree) -> None:
    """The mount begins at a group, and the path in /proc/self/cgroup begins above it."""
    mount = tree.v1("memory", own="/docker/abc/inner", root="/docker/abc")
    assert find(tree.detect(), "memory").own == f"{mount}/inner"


@pytest.mark.parametrize("own", ["/../other", "/docker/abcdef", "/elsewhere"])
def test_a_caller_outside_of_the_mount(tree: Tree, own: str) -> None:
    """A group that the mount doesn't show has no directory."""
    tree.v1("memory", own=own, root="/docker/abc")
    assert find(tree.detect(), "memory").own == ""


def test_a_mount_with_blanks_in_its_path(tmp_path: Path) -> None:
    """An escaped mount point is decoded."""
    tree = Tree(tmp_path / "a b\\040c")
    mount = tree.v1("memory")
    assert find(tree.detect(), "memory").mount == str(mount)


def test_mounted_twice(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two mounts of one hierarchy the writable one is taken."""
    first = tree.v1("memory")
    tree.mounts.append(tree.mounts[-1].replace(str(first), f"{first}-2"))
    tree.group(Path(f"{first}-2"))
    tree.write()
    assert find(tree.detect(), "memory").mount == str(first)
    refuse_writing(monkeypatch, first)
    assert find(tree.detect(), "memory").mount == f"{first}-2"


def test_not_writable(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing may be written there is no place for containers."""
    mount = tree.v1("memory")
    refuse_writing(monkeypatch, mount)
    layout = tree.detect()
    assert find(layout, "memory").base == ""


def test_a_delegated_part(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's containers go beneath the highest group that is theirs."""
    service = "/user.slice/user@1000.service"
    mount = tree.v2("", "memory", "pids", own=f"{service}/app.slice/shell.scope", enabled="memory")
    for name in ("", "/app.slice"):
        tree.group(Path(f"{mount}{service}{name}"))
    Path(f"{mount}{service}/cgroup.controllers").write_text("memory pids\n")
    Path(f"{mount}{service}/cgroup.subtree_control").write_text("pids\n")
    refuse_writing(monkeypatch, mount, mount / "user.slice")
    hierarchy = find(tree.detect(), "pids")
    assert hierarchy.base == f"{mount}{service}"
    assert hierarchy.enabled == ("pids",)
    assert not hierarchy.occupied


def test_a_base_with_processes(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base that isn't the real root and holds processes is occupied."""
    mount = tree.v2("", "memory", own="/session")
    Path(f"{mount}/session/cgroup.procs").write_text("1\n")
    refuse_writing(monkeypatch, mount)
    assert find(tree.detect(), "memory").occupied


def test_the_real_root_may_hold_processes(tree: Tree) -> None:
    """The real root of v2 has no cgroup.type, and is free of the rule."""
    mount = tree.v2("", "memory")
    Path(f"{mount}/cgroup.procs").write_text("1\n")
    assert not find(tree.detect(), "memory").occupied


def test_swap_is_not_accounted(tree: Tree) -> None:
    """Without its file there is no limit of swap."""
    mount = tree.v1("memory")
    (mount / "memory.memsw.limit_in_bytes").unlink()
    assert not tree.detect().swap


def test_swap_of_v2(tree: Tree) -> None:
    """On v2 the caller's own group shows whether swap is accounted."""
    mount = tree.v2("", "memory", own="/session")
    own = Path(f"{mount}/session")
    (own / "memory.max").touch()
    assert not tree.detect().swap
    (own / "memory.swap.max").touch()
    assert tree.detect().swap


@pytest.mark.parametrize("name", ["io.bfq.weight", "io.weight", ""])
def test_the_weight_of_v2(tree: Tree, name: str) -> None:
    """On v2 the caller's own group shows which weight there is."""
    mount = tree.v2("", "io", own="/session")
    for file in ("io.max", name):
        if file:
            Path(f"{mount}/session/{file}").touch()
    assert tree.detect().io_weight == name


@pytest.mark.parametrize(
    ("path", "directory"),
    [
        ("/cloche/a", "/sys/fs/cgroup/own/cloche/a"),
        ("cloche/a", "/sys/fs/cgroup/own/cloche/a"),
        ("/own/cloche/a", "/sys/fs/cgroup/own/cloche/a"),
        ("/owner/a", "/sys/fs/cgroup/own/owner/a"),
    ],
)
def test_where_a_group_is(path: str, directory: str) -> None:
    """A path goes on from the base, unless it leads there from the mount itself."""
    mount = "/sys/fs/cgroup"
    hierarchy = Hierarchy(2, ("memory",), mount, f"{mount}/own/session", f"{mount}/own")
    assert hierarchy.directory(path) == directory
