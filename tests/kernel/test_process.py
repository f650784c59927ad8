"""What a spec says about the process, as it finds itself in a real container."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.conftest import Cloche
from tests.kernel.bundles import Bundle, own_users

pytestmark = pytest.mark.needs("root", "busybox", "setpriv")
USERS = pytest.mark.parametrize("linux", [{}, own_users()], ids=["host", "private"])


@pytest.fixture
def bundle(cloche: Cloche, workspace: Path) -> Bundle:
    """A bundle of the test's own."""
    return Bundle(cloche, workspace)


def test_session_keyring(bundle: Bundle) -> None:
    """It is a new one, of the container's id, unless the caller's is to stay."""
    bundle.configure("cat /proc/keys")
    run = ("run", "--bundle", str(bundle.path))
    assert f" {bundle.id}: " in bundle(*run, bundle.id, check=True).stdout
    other = f"{bundle.id}-other"  # the kernel takes its time to forget the keyring of the first
    kept = bundle(*run, "--no-new-keyring", other, check=True)
    assert other not in kept.stdout


@USERS
def test_capabilities(bundle: Bundle, linux: dict[str, object]) -> None:
    """Those that can be given are; of the others there is a warning on the log and to people."""
    listed = ["CAP_CHOWN", "CAP_KILL"]
    sets = dict.fromkeys(("bounding", "permitted", "effective", "inheritable"), listed)
    sets["ambient"] = ["CAP_KILL", "CAP_SYSLOG"]
    sets["bounding"] = [*listed, "CAP_TIME_TRAVEL"]
    user = {"uid": 7, "gid": 7}
    script = "grep Cap /proc/self/status"
    done = bundle.run(script, {"capabilities": sets, "user": user}, linux, check=True)
    kill, both = f"{1 << 5:016x}", f"{1 << 5 | 1:016x}"
    assert done.stdout.split()[1::2] == [both, kill, kill, both, kill]
    warnings = done.stderr.splitlines()
    assert len(warnings) == 2
    assert "without CAP_SYSLOG" in warnings[0]
    assert "unknown to this kernel: CAP_TIME_TRAVEL" in warnings[1]
    log = bundle.path / "log"
    command = ("run", "--bundle", str(bundle.path), bundle.id)
    bundle("--log", str(log), "--log-format", "json", *command, check=True)
    levels = [json.loads(line)["level"] for line in log.read_text().splitlines()]
    assert levels == ["warning", "warning"]


@USERS
def test_limits(bundle: Bundle, linux: dict[str, object]) -> None:
    """Limits are set, whoever's namespaces they are; -1 is RLIM_INFINITY too."""
    rlimits = [
        {"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128},
        {"type": "RLIMIT_CPU", "soft": 100, "hard": -1},
        {"type": "RLIMIT_STACK", "soft": 2**64 - 1, "hard": 2**64 - 1},
    ]
    script = "ulimit -n; ulimit -Hn; ulimit -t; ulimit -Ht; ulimit -s"
    done = bundle.run(script, {"rlimits": rlimits}, linux, check=True)
    assert done.stdout.split() == ["64", "128", "100", "unlimited", "unlimited"]


def test_limit_above_the_callers(bundle: Bundle) -> None:
    """Without CAP_SYS_RESOURCE it is refused, and the error points at it."""
    rlimits = [
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2},
    ]
    bundle.configure("true", {"rlimits": rlimits})
    text = (bundle.path / "config.json").read_text()
    (bundle.path / "config.json").write_text(text.replace('"hard": 2', f'"hard": {2**30}'))
    argv = bundle.command("run", "--bundle", str(bundle.path), bundle.id)
    limited = ["setpriv", "--bounding-set", "-sys_resource", "--", "sh", "-c", 'exec "$@"', "sh"]
    done = bundle.cloche.run([*limited, *argv])
    assert done.returncode == 1
    assert "prlimit: operation not permitted" in done.stderr
    assert "/process/rlimits/1" in done.stderr


@USERS
@pytest.mark.parametrize("value", [0, 1000])
def test_oom_score(bundle: Bundle, linux: dict[str, object], value: int) -> None:
    """The adjustment is the spec's, and without one the caller's."""
    script = "cat /proc/self/oom_score_adj"
    done = bundle.run(script, {"oomScoreAdj": value}, linux, check=True)
    assert done.stdout == f"{value}\n"
    own = Path("/proc/self/oom_score_adj").read_text()
    assert bundle.run(script, {}, linux, check=True).stdout == own


def test_oom_score_below_the_callers(bundle: Bundle) -> None:
    """Without CAP_SYS_RESOURCE it is refused."""
    bundle.configure("true", {"oomScoreAdj": -999})
    argv = bundle.command("run", "--bundle", str(bundle.path), bundle.id)
    limited = ["setpriv", "--bounding-set", "-sys_resource", "--", "sh", "-c", 'exec "$@"', "sh"]
    done = bundle.cloche.run([*limited, *argv])
    assert done.returncode == 1
    assert "oom_score_adj: permission denied" in done.stderr
    assert "CAP_SYS_RESOURCE" in done.stderr


@USERS
def test_user(bundle: Bundle, linux: dict[str, object]) -> None:
    """User, groups and umask are the spec's; a missing umask is 022, whatever the caller's."""
    user = {"uid": 7, "gid": 8, "additionalGids": [9, 999], "umask": 0o27}
    done = bundle.run("id; umask", {"user": user}, linux, check=True)
    assert done.stdout == "uid=7 gid=8 groups=9,999\n0027\n"
    old = os.umask(0o77)
    try:
        done = bundle.run("umask", {}, linux, check=True)
    finally:
        os.umask(old)
    assert done.stdout == "0022\n"


@pytest.mark.parametrize("name", ["uid", "gid", "additionalGids"])
def test_user_that_is_not_mapped(bundle: Bundle, name: str) -> None:
    """Nobody can become a user that the namespace doesn't have, and the error says who it was."""
    user = {name: [1000] if name == "additionalGids" else 1000}
    done = bundle.run("true", {"user": user}, own_users())
    assert done.returncode == 1
    assert f"/process/user/{name}" in done.stderr
    assert "is 1000 but must be mapped" in done.stderr


@pytest.mark.skipif(os.path.exists("/sys/fs/resctrl/schemata"), reason="resctrl is mounted")
def test_share_of_caches_that_cannot_be_had(bundle: Bundle) -> None:
    """On a machine without resctrl the error says so, and how to get it."""
    done = bundle.run("true", {}, {"intelRdt": {"closID": "gold"}})
    assert done.returncode == 1
    assert "/linux/intelRdt: the file system resctrl isn't mounted" in done.stderr
    assert "mount -t resctrl" in done.stderr


@pytest.mark.parametrize("wanted", [False, True])
def test_no_new_privileges(bundle: Bundle, wanted: bool) -> None:
    """The attribute is as the spec has it."""
    script = "grep NoNewPrivs /proc/self/status"
    done = bundle.run(script, {"noNewPrivileges": wanted}, check=True)
    assert done.stdout.split()[1] == str(int(wanted))


@pytest.mark.parametrize(("domain", "expected"), [("LINUX", "00000000"), ("LINUX32", "00000008")])
def test_personality(bundle: Bundle, domain: str, expected: str) -> None:
    """The execution domain is the spec's."""
    linux = {"personality": {"domain": domain}}
    done = bundle.run("cat /proc/self/personality", {}, linux, check=True)
    assert done.stdout == f"{expected}\n"
