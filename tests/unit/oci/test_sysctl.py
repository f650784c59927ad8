"""Which kernel parameters a container may set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.oci import sysctl

ALL = frozenset({"ipc", "network", "uts"})


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
        ("net.ipv4.conf.eth0/1.arp_filter", "net/ipv4/conf/eth0.1/arp_filter"),
        ("net/ipv4/conf/eth0.1/arp_filter", "net/ipv4/conf/eth0.1/arp_filter"),
        ("kernel", "kernel"),
        ("", ""),
        (".", ""),
        ("/net/x", ""),
        ("net..x", ""),
        ("net/../kernel/core_pattern", ""),
        ("net.//.kernel.core_pattern", ""),
        ("net./.x", ""),
    ],
)
def test_name_becomes_a_path(name: str, path: str) -> None:
    """The first separator decides, as in sysctl(8), and no name leads out of /proc/sys."""
    assert sysctl.path(name) == path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("kernel.shm_rmid_forced", "ipc"),
        ("kernel/sem", "ipc"),
        ("fs.mqueue.msg_max", "ipc"),
        ("net.core.somaxconn", "network"),
        ("kernel.hostname", "uts"),
    ],
)
def test_namespaced_parameter_needs_its_namespace(name: str, kind: str) -> None:
    """A parameter may be set exactly when its namespace is the container's own."""
    assert sysctl.problem(name, frozenset({kind})) == ""
    assert sysctl.problem(name, ALL - {kind}) == f"needs a {kind} namespace of the container"


@pytest.mark.parametrize(
    "name", ["kernel.core_pattern", "vm.swappiness", "fs.mqueue", "kernel.shm", "net", "netx.y"]
)
def test_parameter_of_the_machine_is_refused(name: str) -> None:
    """What isn't kept per namespace can't be set, whatever namespaces there are."""
    assert "whole machine" in sysctl.problem(name, ALL)


@given(st.text("./abnetk", max_size=30))
def test_no_path_leads_out(name: str) -> None:
    """A path never has an empty part, a dot or two dots, so it stays below /proc/sys."""
    path = sysctl.path(name)
    assert not path or not {"", ".", ".."} & set(path.split("/"))
