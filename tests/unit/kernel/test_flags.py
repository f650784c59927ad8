from __future__ import annotations

import os
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.kernel import flags

OCI_OPTIONS = """
async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev
nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private
ratime rbind rdev rdiratime relatime remount rexec rnoatime rnodiratime rnoexec rnorelatime
rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid
rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable
idmap ridmap
""".split()


def test_every_option_of_the_runtime_spec_is_known() -> None:
    """None of config.md's "Linux mount options" is mistaken for a file system's own."""
    assert flags.mount_flags(OCI_OPTIONS).data == (
        "async", "dirsync", "lazytime", "mand", "nolazytime", "nomand", "sync",
    )  # fmt: skip
    assert set(OCI_OPTIONS) <= set(flags.MOUNT_OPTIONS)


def test_other_options_go_to_the_file_system() -> None:
    """What isn't in the table is kept, in order, with its value."""
    found = flags.mount_flags(["nosuid", "size=64k", "mode=755", "nosuchthing"])
    assert found.data == ("size=64k", "mode=755", "nosuchthing")
    assert found.set == flags.MOUNT_ATTR_NOSUID


def test_the_later_of_two_contradicting_options_counts() -> None:
    """As with mount(8): ro,rw is writable."""
    found = flags.mount_flags(["ro", "nosuid", "rw"])
    assert found.set == flags.MOUNT_ATTR_NOSUID
    assert found.clear == flags.MOUNT_ATTR_RDONLY


def test_access_times_are_a_choice_of_one() -> None:
    """The kernel wants all of the access time's bits cleared, whichever is chosen."""
    found = flags.mount_flags(["noatime", "strictatime"])
    assert found.set == flags.MOUNT_ATTR_STRICTATIME
    assert found.clear == flags.MOUNT_ATTR__ATIME


def test_recursive_options_stay_apart() -> None:
    """``rro`` is for the mounts beneath too, ``rw`` beside it for the top mount only."""
    found = flags.mount_flags(["rro", "rnoexec", "rw"])
    assert found.set_recursive == flags.MOUNT_ATTR_RDONLY | flags.MOUNT_ATTR_NOEXEC
    assert (found.set, found.clear) == (0, flags.MOUNT_ATTR_RDONLY)


def test_binds_propagations_and_actions_are_told_apart() -> None:
    """Each kind of option lands in its own field; propagations keep their order."""
    found = flags.mount_flags(["rbind", "slave", "rshared", "idmap", "tmpcopyup"])
    assert found.bind == flags.MS_BIND | flags.MS_REC
    assert found.propagation == (flags.MS_SLAVE, flags.MS_SHARED | flags.MS_REC)
    assert found.actions == {"idmap", "tmpcopyup"}
    assert found.data == ()


@given(st.lists(st.sampled_from(sorted(flags.MOUNT_OPTIONS))))
def test_set_and_clear_never_contradict(options: list[str]) -> None:
    """mount_setattr(2) refuses a bit in both, the access time aside."""
    found = flags.mount_flags(options)
    for both in (found.set & found.clear, found.set_recursive & found.clear_recursive):
        assert both & ~flags.MOUNT_ATTR__ATIME == 0
    for cleared in (found.clear, found.clear_recursive):
        assert cleared & flags.MOUNT_ATTR__ATIME in (0, flags.MOUNT_ATTR__ATIME)


@pytest.mark.parametrize("name", sorted(set(flags.RLIMITS) - {"RLIMIT_LOCKS"}))
def test_rlimits_are_the_platforms(name: str) -> None:
    """The numbers agree with the C library's headers, which Python was built with."""
    if not hasattr(resource, name):
        pytest.skip(f"this Python has no resource.{name}")
    assert flags.RLIMITS[name] == getattr(resource, name)


@pytest.mark.skipif(not hasattr(os, "CLONE_NEWNS"), reason="os.CLONE_* came with Python 3.12")
def test_namespace_kinds_are_the_platforms() -> None:
    """The numbers agree with those that Python took from the C library's headers."""
    for name, suffix in (("mount", "NS"), ("network", "NET"), ("user", "USER"), ("time", "TIME")):
        assert flags.NAMESPACE_KINDS[name] == getattr(os, f"CLONE_NEW{suffix}")
