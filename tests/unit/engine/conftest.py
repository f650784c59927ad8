"""A host, an image and a root directory to write specs for."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloche.engine.image import Image
from cloche.kernel.cgroup.layout import Hierarchy, Layout
from cloche.kernel.features import Features
from cloche.kernel.idmap import Range

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1::/usr/sbin:/usr/sbin/nologin
kermit:x:1000:100:Kermit:/home/kermit:/bin/sh
# a comment, a broken line, and an id that is none
piggy:x:1001
fozzie:x:many:100::/:/bin/sh
rowlf:x:4294967295:100::/:/bin/sh
scooter:x:1002:::/:/bin/sh
"""
GROUP = """\
root:x:0:
users:x:100:kermit
swamp:x:2000:kermit,daemon
show:x:2001:
"""

V1_WITH_DEVICES = Layout(
    "v1", (Hierarchy(1, ("devices",), "/sys/fs/cgroup/devices", "", "/sys/fs/cgroup/devices"),)
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root directory with accounts."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


@pytest.fixture
def image(root: Path) -> Image:
    """Return a plain directory as image."""
    return Image(str(root))


@pytest.fixture
def features() -> Features:
    """Return a host with everything, seen by root."""
    return Features(
        kernel=(6, 1),
        machine="x86_64",
        uid=0,
        gid=0,
        user="root",
        capabilities=(1 << 41) - 1,
        last_cap=40,
        in_user_namespace=False,
        cpus=4,
        memory=8 << 30,
        page_size=4096,
        cgroups=V1_WITH_DEVICES,
        subuids=(),
        subgids=(),
        newuidmap=None,
        newgidmap=None,
        lsm=(),
        landlock_abi=4,
        seccomp=("errno",),
        overlay=True,
        unprivileged_userns=True,
    )


@pytest.fixture
def ordinary(features: Features) -> Features:
    """Return the same host, seen by a user with ranges of subordinate ids."""
    return features._replace(
        uid=1000,
        gid=1000,
        user="kermit",
        capabilities=0,
        cgroups=Layout("none"),
        subuids=(Range(100_000, 65_536),),
        subgids=(Range(200_000, 65_536),),
        newuidmap="/usr/bin/newuidmap",
        newgidmap="/usr/bin/newgidmap",
    )
