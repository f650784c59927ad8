"""The options of cloche run, from the command line to their values."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cloche.cli.arguments import add_run_options, run_options
from cloche.cli.parser import Parser
from cloche.cli.run import read
from cloche.engine.options import RunOptions
from cloche.engine.values import DeviceRate, DeviceRequest, DeviceRule, Ulimit
from cloche.engine.volumes import Volume
from cloche.errors import InvalidArgument, NotFound, Unsupported

MiB = 1 << 20


def parse(*arguments: str, **caller: str) -> RunOptions:
    """Return the options that a command line gives."""
    parser = Parser(prog="cloche run", short_help=False)
    add_run_options(parser)
    return run_options(parser.parse_args(arguments), caller)


def read_both(words: list[str]) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return what is read without argparse, and with it; None where that isn't done."""
    parser = Parser(prog="cloche run", short_help=False)
    add_run_options(parser)
    try:
        slow = vars(parser.parse_args(words))
    except (InvalidArgument, SystemExit):
        slow = None
    quick = read(words)
    if quick is None:
        return None, slow
    return {k: list(v) if isinstance(v, tuple) else v for k, v in vars(quick).items()}, slow


def test_image_alone() -> None:
    """An image without options and command gives the defaults."""
    assert parse("host") == RunOptions(image="host")


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["host", "ls", "-l", "--all"], ("ls", "-l", "--all")),
        (["-i", "host", "ls", "-i"], ("ls", "-i")),
        (["-e", "A=1", "host", "-e", "B=2"], ("-e", "B=2")),
        (["--", "host", "ls"], ("ls",)),
        (["-i", "--", "host", "--", "ls"], ("--", "ls")),
        (["host", "sh", "-c", "exit 3"], ("sh", "-c", "exit 3")),
        (["host", "--help"], ("--help",)),
        (["host", ""], ("",)),
    ],
)
def test_all_after_the_image_is_the_command(arguments: list[str], command: Any) -> None:
    """Options end at the image, or at --; what follows the image is never looked at."""
    options = parse(*arguments)
    assert options.image == "host"
    assert options.command == command


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rootfs", "/r", "ls", "-l"],
        ["--rootfs=/r", "ls", "-l"],
        ["--rootfs", "/r", "--", "ls", "-l"],
    ],
)
def test_rootfs_has_no_image(arguments: list[str]) -> None:
    """With a root directory all that follows the options is the command."""
    options = parse(*arguments)
    assert (options.image, options.rootfs, options.command) == ("", "/r", ("ls", "-l"))


def test_short_options_combine() -> None:
    """-it is -i -t, and a value may follow its option directly."""
    options = parse("-ite", "A=1", "-eB=2", "-m512m", "-u1000", "-hbell", "host")
    assert options.interactive
    assert options.terminal
    assert options.env == ("A=1", "B=2")
    assert (options.memory, options.user, options.hostname) == (512 * MiB, "1000", "bell")


VALUES: list[tuple[list[str], str, Any]] = [
    (["--rm"], "remove", True),
    (["--init"], "init", True),
    (["--trace"], "trace", True),
    (["--read-only"], "read_only", True),
    (["--privileged"], "privileged", True),
    (["--name", "web"], "name", "web"),
    (["--timeout", "1m"], "timeout_ms", 60_000),
    (["--entrypoint", ""], "entrypoint", ""),
    (["-w", "/srv"], "workdir", "/srv"),
    (["--group-add", "5", "--group-add=video"], "group_add", ("5", "video")),
    (["--ulimit", "core=0"], "ulimits", (Ulimit("RLIMIT_CORE", 0, 0),)),
    (["--oom-score-adj", "-5"], "oom_score_adj", -5),
    (["--annotation", "a=b=c"], "annotations", (("a", "b=c"),)),
    (["--rootfs", "/r:O"], "rootfs_overlay", True),
    (["-v", "/a:/b"], "volumes", (Volume("bind", "/a", "/b", ("rbind",), True),)),
    (["--mount", "type=bind,src=/a,dst=/b"], "volumes", (Volume("bind", "/a", "/b", ("rbind",)),)),
    (["--tmpfs", "/t:exec,suid,dev"], "volumes", (Volume("tmpfs", "", "/t"),)),
    (["--shm-size", "1m"], "shm_size", MiB),
    (["--device", "/dev/x:r"], "devices", (DeviceRequest("/dev/x", "/dev/x", "r"),)),
    (["--device-cgroup-rule", "c 1:* r"], "device_rules", (DeviceRule("c", 1, -1, "r"),)),
    (["--domainname", "d"], "domainname", "d"),
    (["--network", "host"], "network", "host"),
    (["--net=none"], "network", "none"),
    (["--pid", "host"], "pid", "host"),
    (["--ipc", "none"], "ipc", "none"),
    (["--uts", "host"], "uts", "host"),
    (["--userns", "private"], "userns", "private"),
    (["--cgroupns", "host"], "cgroupns", "host"),
    (["--sysctl", "net.a=1"], "sysctls", (("net.a", "1"),)),
    (["--memory-reservation", "1g"], "memory_reservation", 1 << 30),
    (["--memory-swap", "-1"], "memory_swap", -1),
    (["--memory-swap=-1"], "memory_swap", -1),
    (["--memory-swappiness", "0"], "memory_swappiness", 0),
    (["--cpus", "0.5"], "cpu_quota", 50_000),
    (["--cpus", "0.5"], "cpu_period", 100_000),
    (["--cpu-quota", "5000"], "cpu_quota", 5_000),
    (["--cpu-period", "5000"], "cpu_period", 5_000),
    (["-c", "512"], "cpu_shares", 512),
    (["--cpuset-cpus", "0,1"], "cpuset_cpus", "0,1"),
    (["--cpuset-mems", "0"], "cpuset_mems", "0"),
    (["--pids-limit", "-1"], "pids_limit", -1),
    (["--blkio-weight", "10"], "blkio_weight", 10),
    (["--blkio-weight-device", "/dev/a:9"], "blkio_weight_devices", (DeviceRate("/dev/a", 9),)),
    (["--device-read-bps", "/dev/a:1k"], "device_read_bps", (DeviceRate("/dev/a", 1024),)),
    (["--device-write-bps", "/dev/a:1"], "device_write_bps", (DeviceRate("/dev/a", 1),)),
    (["--device-read-iops", "/dev/a:1"], "device_read_iops", (DeviceRate("/dev/a", 1),)),
    (["--device-write-iops", "/dev/a:1"], "device_write_iops", (DeviceRate("/dev/a", 1),)),
    (["--cgroup-parent", "/p"], "cgroup_parent", "/p"),
    (["--cap-add", "ALL"], "cap_add", ("ALL",)),
    (["--cap-drop", "ALL"], "cap_drop", ("ALL",)),
    (["--security-opt", "no-new-privileges"], "no_new_privileges", True),
    (["--security-opt", "no-new-privileges:true"], "no_new_privileges", True),
    (["--security-opt", "no-new-privileges=false"], "no_new_privileges", False),
    (["--security-opt", "seccomp=unconfined"], "seccomp", "unconfined"),
    (["--security-opt", "seccomp:/p=q"], "seccomp", "/p=q"),
    (["--security-opt", "seccomp=builtin"], "seccomp", None),
    (["--security-opt", "apparmor=unconfined"], "seccomp", None),
    (["--security-opt", "systempaths=unconfined"], "unmasked_paths", True),
]


@pytest.mark.parametrize(("arguments", "field", "value"), VALUES)
def test_option_has_its_value(arguments: list[str], field: str, value: Any) -> None:
    """Each option reaches its field, parsed."""
    assert getattr(parse(*arguments, "host"), field) == value


@pytest.mark.parametrize("arguments", [arguments for arguments, _, _ in VALUES])
def test_most_is_read_without_argparse(arguments: list[str]) -> None:
    """Each option is read alike, but for an empty value, or one like an option."""
    quick, slow = read_both([*arguments, "host", "ls", "-l"])
    assert quick == slow or (quick is None and arguments[-1] in ("", "-1", "-5"))


_WORDS = st.lists(
    st.sampled_from(
        "-i -t -it -ti -e -m -u -eA=1 -m1g -ite -itm1g -h -hx -i=1 -e=A --init --init=1 --rm --env "
        "--env=A=1 --env= --memory --memory=-1 --network --net --net=none --mem --help -x -xi -ix "
        "--unknown - -- --rootfs --rootfs=/r host ls -l -1 -5m -e-i -c -c5 A=1 --=".split()
    )
    | st.sampled_from(("", "a b", "-e a", "-eA=b c", "--env=a b", "-i t", "-é", "--é=1", "-e\n"))
    | st.text("-=ie 1\n", max_size=5),
    max_size=6,
)


@given(_WORDS)
@example(["--env", "a b", "host"])
@example(["-eA=b c", "host"])
@example(["-it", "-", "host"])
def test_what_is_read_without_argparse_is_what_argparse_reads(words: list[str]) -> None:
    """Whatever stands in the line, the two agree, or only argparse looks."""
    quick, slow = read_both(words)
    assert quick is None or quick == slow


def test_every_field_can_be_asked_for() -> None:
    """No option of RunOptions is out of the command line's reach."""
    tested = {field for _, field, _ in VALUES}
    others = {"image", "rootfs", "command", "interactive", "terminal", "env", "user", "hostname"}
    assert tested | others | {"memory"} == set(RunOptions._fields)


def test_percentage_of_the_machine() -> None:
    """A tenth of the machine's memory and CPUs can be asked for as such."""
    options = parse("-m", "10%", "--cpus", "50%", "host")
    assert options.memory is not None
    assert options.memory > MiB
    assert options.cpu_quota is not None
    assert options.cpu_quota >= 50_000


def test_environment(tmp_path: Path) -> None:
    """Files come before options, and names alone copy the caller's."""
    file = tmp_path / "env"
    file.write_bytes(b"\xef\xbb\xbfA=1\nB=\xff\n")
    options = parse("-e", "A", "-e", "C", "--env-file", str(file), "host", A="2")
    assert options.env == ("A=2", "B=\udcff")
    with pytest.raises(NotFound, match=r"--env-file .*: no such file"):
        parse("--env-file", "/no/such/file", "host")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["-m", "5x", "host"], "--memory: invalid size '5x'"),
        (["--cpus", "0", "host"], "--cpus"),
        (["--cpus", "1", "--cpu-quota", "5000", "host"], "--cpus can't be used"),
        (["--ulimit", "x", "host"], "--ulimit"),
        (["--sysctl", "x", "host"], "--sysctl: 'x' isn't NAME=VALUE"),
        (["--pids-limit", "many", "host"], "--pids-limit"),
        (["--frobnicate", "host"], "--frobnicate"),
        (["--memory"], "--memory"),
        ([], "no image"),
        (["--"], "no image"),
        ([""], "no image"),
    ],
)
def test_mistake_names_its_option(arguments: list[str], named: str) -> None:
    """Whatever is wrong is said with the option's name."""
    with pytest.raises(InvalidArgument) as caught:
        parse(*arguments)
    assert named in caught.value.message


@pytest.mark.parametrize(
    "arguments",
    [
        ["--network", "bridge"],
        ["--pid", "container:x"],
        ["--userns", "keep-id"],
        ["--security-opt", "apparmor=profile"],
        ["--security-opt", "seccomp="],
        ["--security-opt", "no-new-privileges:perhaps"],
        ["-v", "name:/b"],
    ],
)
def test_what_is_not_supported_yet(arguments: list[str]) -> None:
    """What Docker knows and Cloche doesn't is refused, never taken for something else."""
    with pytest.raises(Unsupported):
        parse(*arguments, "host")
