"""The shell script of a spec's plan builds the same container as the launcher."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cloche.kernel import mountinfo
from cloche.plan.shell import as_shell
from tests.kernel.specs import Bundle

pytestmark = pytest.mark.needs("root", "busybox", "ip", "nsenter", "setpriv", "unshare")
LOOK = (
    "cat /proc/self/timens_offsets; ls -lad /place /place/.file; ip -o addr show dev in | grep -o "
    "'inet .* scope'; echo; cat /proc/self/mountinfo"
)
DEVICES = (
    "ip link add out type veth peer name other; ip address add 10.9.8.7/24 brd + dev out; "
    'ip address add 10.9.8.1 peer 10.9.8.9/32 dev out; exec "$@"'
)


def test_same_container(workspace: Path) -> None:
    """Clocks, mounts and network devices are as the launcher makes them."""
    bundle = Bundle(workspace)
    bundle.linux["namespaces"].append({"type": "time"})
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 86400}}
    bundle.linux["netDevices"] = {"out": {"name": "in"}}
    (bundle.root / "place/sub").mkdir(parents=True)
    (bundle.root / "place").chmod(0o711)
    (bundle.root / "place/.file").write_text("content\n")
    bundle.mount("/place", "tmpcopyup", "ro")
    bundle.mount("/x", "noexec")
    bundle.mount("/x", "remount", "size=1m", "nosuid", "shared")
    bundle.mount("/y", "slave", "shared")
    bundle.mount("/v", "bind", "ro", source=str(workspace))
    network = ["unshare", "--net", "sh", "-c", DEVICES, "sh"]
    launched = bundle.run(LOOK, wrapper=network)
    assert launched.failure is None, launched.failure
    script = workspace / "container.sh"
    script.write_text(as_shell(bundle.plan(LOOK)))
    done = subprocess.run(
        [*network, "bash", str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    (text, table), (expected, expected_table) = (
        output.split("\n\n") for output in (done.stdout, launched.stdout)
    )
    assert "content" not in text
    assert text == expected
    for mount, other in zip(mountinfo.parse(table), mountinfo.parse(expected_table), strict=True):
        assert (mount.path, mount.attributes) == (other.path, other.attributes)
        assert (mount.options, len(mount.optional)) == (other.options, len(other.optional))
