"""The options of ``cloche run``: declared as argparse wants them, then turned into ``RunOptions``.

Values stay text until all of them are there, so that each mistake names its option.
"""

from __future__ import annotations

import os

from cloche.engine import values, volumes
from cloche.engine.options import HOST, NONE, PRIVATE, UNCONFINED, RunOptions
from cloche.errors import InvalidArgument, NotFound, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping
    from typing import TypeVar

    from cloche.cli.quick import Given, Reader

    _T = TypeVar("_T")


def add_run_options(parser: argparse.ArgumentParser | Reader) -> None:
    """Declare every option of ``cloche run`` and what follows them."""
    _add_process_options(parser)
    _add_root_options(parser)
    _add_namespace_options(parser)
    _add_cgroup_options(parser)
    _add_privilege_options(parser)
    # One positional that takes all the rest: options after the image are the command's.
    parser.add_argument("rest", nargs="...", help="==SUPPRESS==")


def _add_process_options(parser: argparse.ArgumentParser | Reader) -> None:
    group = parser.add_argument_group("the process")
    flag, text, many = _adders(group)
    flag("-i", "--interactive", help="pass on standard input")
    flag("-t", "--tty", help="give it a terminal")
    flag("--init", help="run a small init as PID 1 that forwards signals and reaps")
    flag("--rm", help="has no effect: every container is removed at its end")
    flag("--trace", help="print each step with the time it took")
    text("--name", help="a name of its own while it runs")
    text("--timeout", metavar="TIME", help="kill it after 90, 10s, 1m30s ...")
    text("--entrypoint", metavar="PROGRAM", help="a program to put before the command")
    many("-e", "--env", metavar="NAME[=VALUE]", help="set a variable, or pass on the caller's")
    many("--env-file", metavar="FILE", help="read variables from a file")
    text("-w", "--workdir", metavar="DIR", help="its working directory, made if missing")
    text("-u", "--user", metavar="USER[:GROUP]", help="its user, by name or number")
    many("--group-add", metavar="GROUP", help="a further group, by name or number")
    many("--ulimit", metavar="NAME=SOFT[:HARD]", help="a resource limit, such as nofile=1024")
    text("--oom-score-adj", metavar="NUMBER", help="-1000 to 1000: how soon it dies of no memory")
    many("--annotation", metavar="NAME=VALUE", help="a note for the runtime")


def _add_root_options(parser: argparse.ArgumentParser | Reader) -> None:
    group = parser.add_argument_group("root (what can it touch?)")
    flag, text, many = _adders(group)
    text("--rootfs", metavar="DIR[:O]", help="a root directory; with :O changes are thrown away")
    flag("--read-only", help="make the root read-only")
    many("-v", "--volume", metavar="HOST:PATH[:OPTS]", help="show something of the host; ro, O ...")
    many("--mount", metavar="KEY=VALUE,...", help="the same, and tmpfs, spelled out")
    many("--tmpfs", metavar="PATH[:OPTS]", help="an empty directory in memory; size=64m ...")
    text("--shm-size", metavar="SIZE", help="the size of /dev/shm, 64m unless given")
    many("--device", metavar="DEV[:PATH][:rwm]", help="show a device of the host")
    many("--device-cgroup-rule", metavar="RULE", help="allow devices, such as 'c 10:* rwm'")


def _add_namespace_options(parser: argparse.ArgumentParser | Reader) -> None:
    group = parser.add_argument_group("namespaces (what can it see?)")
    _, text, many = _adders(group)
    text("-h", "--hostname", metavar="NAME", help="its hostname")
    text("--domainname", metavar="NAME", help="its domain name")
    text("--network", "--net", metavar="MODE", help="none (unless given) or host")
    text("--pid", metavar="MODE", help="private (unless given) or host")
    text("--ipc", metavar="MODE", help="private (unless given), none or host")
    text("--uts", metavar="MODE", help="private (unless given) or host")
    text("--userns", metavar="MODE", help="private or host; unless given, host for root only")
    text("--cgroupns", metavar="MODE", help="private (unless given) or host")
    many("--sysctl", metavar="NAME=VALUE", help="a kernel parameter of its namespaces")


def _add_cgroup_options(parser: argparse.ArgumentParser | Reader) -> None:
    group = parser.add_argument_group("cgroups (what can it use?)")
    _, text, many = _adders(group)
    text("-m", "--memory", metavar="SIZE", help="memory: 512m, 2g, or 10%% of the machine")
    text("--memory-swap", metavar="SIZE", help="memory and swap together; -1 is unlimited")
    text("--memory-reservation", metavar="SIZE", help="memory that it keeps when it is short")
    text("--memory-swappiness", metavar="NUMBER", help="0 to 100: how readily it is swapped out")
    text("--cpus", metavar="NUMBER", help="CPUs: 1.5, or 10%% of the machine")
    text("--cpu-quota", metavar="MICROSECONDS", help="CPU time in each period")
    text("--cpu-period", metavar="MICROSECONDS", help="the period, 100000 unless given")
    text("-c", "--cpu-shares", metavar="NUMBER", help="share of busy CPUs; 1024 is usual")
    text("--cpuset-cpus", metavar="LIST", help="which CPUs: 0-3,7")
    text("--cpuset-mems", metavar="LIST", help="which memory nodes: 0,1")
    text("--pids-limit", metavar="NUMBER", help="how many tasks; -1 is unlimited")
    text("--blkio-weight", metavar="NUMBER", help="10 to 1000: share of busy disks")
    many("--blkio-weight-device", metavar="DEV:NUMBER", help="share of one disk")
    many("--device-read-bps", metavar="DEV:SIZE", help="bytes read from a disk each second")
    many("--device-write-bps", metavar="DEV:SIZE", help="bytes written to a disk each second")
    many("--device-read-iops", metavar="DEV:NUMBER", help="reads from a disk each second")
    many("--device-write-iops", metavar="DEV:NUMBER", help="writes to a disk each second")
    text("--cgroup-parent", metavar="PATH", help="the group that its own is made in")


def _add_privilege_options(parser: argparse.ArgumentParser | Reader) -> None:
    group = parser.add_argument_group("privileges (what may it do?)")
    flag, _, many = _adders(group)
    many("--cap-add", metavar="NAME", help="a capability more, or ALL")
    many("--cap-drop", metavar="NAME", help="a capability less, or ALL")
    flag("--privileged", help="all capabilities and devices, nothing hidden, no filter")
    many(
        "--security-opt",
        metavar="OPTION",
        help="no-new-privileges, seccomp=FILE, seccomp=unconfined, systempaths=unconfined",
    )


def _adders(
    group: argparse._ArgumentGroup | Reader,
) -> tuple[Callable[..., object], Callable[..., object], Callable[..., object]]:
    """Return functions that add a switch, an option with a value, and one that may repeat."""

    def flag(*names: str, **settings: str) -> None:
        group.add_argument(*names, action="store_true", help=settings["help"])

    def text(*names: str, **settings: str) -> None:
        group.add_argument(*names, help=settings["help"], metavar=settings.get("metavar"))

    def many(*names: str, **settings: str) -> None:
        group.add_argument(
            *names, action="append", default=[], help=settings["help"], metavar=settings["metavar"]
        )

    return flag, text, many


# --- from text to values -----------------------------------------------------------------------


def run_options(arguments: argparse.Namespace | Given, caller: Mapping[str, str]) -> RunOptions:
    """Return the parsed options; ``caller`` is the caller's environment.

    Raises InvalidArgument and Unsupported naming the option, and NotFound for a missing env file.
    """
    given = arguments
    image, command = _image_and_command(given)
    rootfs, overlay = _one("--rootfs", given.rootfs, values.rootfs) or ("", False)
    quota, period = _cpu_time(given)
    security = _security(given.security_opt)
    memory_of_machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def machine_size(text: str) -> int:
        return values.size(text, memory_of_machine)

    return RunOptions(
        image=image,
        rootfs=rootfs,
        rootfs_overlay=overlay,
        command=command,
        entrypoint=given.entrypoint,
        name=_one("--name", given.name, values.container_name) or "",
        interactive=given.interactive,
        terminal=given.tty,
        remove=given.rm,
        init=given.init,
        timeout_ms=_one("--timeout", given.timeout, values.duration_ms) or 0,
        trace=given.trace,
        annotations=_many("--annotation", given.annotation, values.assignment),
        env=values.environment(given.env, map(_env_file, given.env_file), caller),
        workdir=given.workdir or "",
        user=given.user or "",
        group_add=tuple(given.group_add),
        ulimits=_many("--ulimit", given.ulimit, values.ulimit),
        oom_score_adj=_one("--oom-score-adj", given.oom_score_adj, values.whole_number),
        read_only=given.read_only,
        volumes=(
            *_many("--volume", given.volume, volumes.volume),
            *_many("--mount", given.mount, volumes.mount),
            *_many("--tmpfs", given.tmpfs, volumes.tmpfs),
        ),
        shm_size=_one("--shm-size", given.shm_size, values.size) or RunOptions().shm_size,
        devices=_many("--device", given.device, values.device),
        device_rules=_many("--device-cgroup-rule", given.device_cgroup_rule, values.device_rule),
        hostname=_one("--hostname", given.hostname, values.host_name) or "",
        domainname=_one("--domainname", given.domainname, values.host_name) or "",
        network=_mode("--network", given.network, (NONE, HOST), NONE),
        pid=_mode("--pid", given.pid, (PRIVATE, HOST), PRIVATE),
        ipc=_mode("--ipc", given.ipc, (PRIVATE, NONE, HOST), PRIVATE),
        uts=_mode("--uts", given.uts, (PRIVATE, HOST), PRIVATE),
        userns=_mode("--userns", given.userns, (PRIVATE, HOST), ""),
        cgroupns=_mode("--cgroupns", given.cgroupns, (PRIVATE, HOST), PRIVATE),
        sysctls=_many("--sysctl", given.sysctl, values.assignment),
        memory=_one("--memory", given.memory, machine_size),
        memory_reservation=_one("--memory-reservation", given.memory_reservation, machine_size),
        memory_swap=_one("--memory-swap", given.memory_swap, values.size_or_unlimited),
        memory_swappiness=_one("--memory-swappiness", given.memory_swappiness, values.whole_number),
        cpu_quota=quota,
        cpu_period=period,
        cpu_shares=_one("--cpu-shares", given.cpu_shares, values.whole_number),
        cpuset_cpus=_one("--cpuset-cpus", given.cpuset_cpus, values.cpu_list) or "",
        cpuset_mems=_one("--cpuset-mems", given.cpuset_mems, values.cpu_list) or "",
        pids_limit=_one("--pids-limit", given.pids_limit, values.whole_number),
        blkio_weight=_one("--blkio-weight", given.blkio_weight, values.whole_number),
        blkio_weight_devices=_rates(given, "--blkio-weight-device", values.whole_number),
        device_read_bps=_rates(given, "--device-read-bps", values.size),
        device_write_bps=_rates(given, "--device-write-bps", values.size),
        device_read_iops=_rates(given, "--device-read-iops", values.whole_number),
        device_write_iops=_rates(given, "--device-write-iops", values.whole_number),
        cgroup_parent=given.cgroup_parent or "",
        privileged=given.privileged,
        cap_add=tuple(given.cap_add),
        cap_drop=tuple(given.cap_drop),
        no_new_privileges=bool(security["no-new-privileges"]),
        seccomp=security["seccomp"],
        unmasked_paths=bool(security["systempaths"]),
    )


def _image_and_command(arguments: argparse.Namespace | Given) -> tuple[str, tuple[str, ...]]:
    rest = list(arguments.rest)
    if rest and rest[0] == "--":
        del rest[0]
    if arguments.rootfs is not None:
        return "", tuple(rest)
    if not rest or not rest[0]:
        raise InvalidArgument(
            "no image and no --rootfs DIR is given",
            hint="the image that is always there is called host: cloche run -it host",
        )
    return rest[0], tuple(rest[1:])


def _one(option: str, text: str | None, parse: Callable[[str], _T]) -> _T | None:
    if text is None:
        return None
    try:
        return parse(text)
    except InvalidArgument as error:
        raise InvalidArgument(f"{option}: {error.message}", hint=error.hint) from error


def _many(option: str, texts: list[str], parse: Callable[[str], _T]) -> tuple[_T, ...]:
    return tuple(value for text in texts if (value := _one(option, text, parse)) is not None)


def _rates(
    arguments: argparse.Namespace | Given, option: str, parse: Callable[[str], int]
) -> tuple[values.DeviceRate, ...]:
    texts = getattr(arguments, option.removeprefix("--").replace("-", "_"))
    return _many(option, texts, lambda text: values.device_rate(text, parse))


def _mode(option: str, text: str | None, modes: tuple[str, ...], default: str) -> str:
    if text is None:
        return default
    if text not in modes:
        raise Unsupported(f"{option} {text}: isn't supported", hint=f"it is {' or '.join(modes)}")
    return text


def _cpu_time(arguments: argparse.Namespace | Given) -> tuple[int | None, int | None]:
    quota = _one("--cpu-quota", arguments.cpu_quota, values.whole_number)
    period = _one("--cpu-period", arguments.cpu_period, values.whole_number)
    if arguments.cpus is None:
        return quota, period
    if quota is not None or period is not None:
        raise InvalidArgument("--cpus can't be used with --cpu-quota or --cpu-period")
    cores = os.sysconf("SC_NPROCESSORS_ONLN")
    quota = _one("--cpus", arguments.cpus, lambda text: values.cpu_quota(text, cores))
    return quota, values.CPU_PERIOD


def _env_file(path: str) -> tuple[str, str]:
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="\n") as file:
            return path, file.read()
    except OSError as error:
        problem = os.strerror(error.errno or 0).lower()
        raise NotFound(f"--env-file {path}: {problem}") from error


def _security(options: list[str]) -> dict[str, str | None]:
    """Return the three things that ``--security-opt`` can say, None where it doesn't."""
    said: dict[str, str | None] = {"no-new-privileges": None, "seccomp": None, "systempaths": None}
    for option in options:
        # Docker's older spelling has a colon.
        at = min((option.find(mark) for mark in "=:" if mark in option), default=len(option))
        key, value = option[:at], option[at + 1 :]
        if key == "no-new-privileges" and value in ("", "true", "false"):
            said[key] = "" if value == "false" else "true"
        elif key == "seccomp" and value:
            said[key] = None if value == "builtin" else value
            if said[key] not in (None, UNCONFINED):
                said[key] = values.absolute(value)
        elif key == "systempaths" and value == UNCONFINED:
            said[key] = value
        elif (key, value) not in (("apparmor", UNCONFINED), ("label", "disable")):
            # Those two ask for what is always so: no profile or label is set.
            raise Unsupported(
                f"--security-opt {option}: isn't supported",
                hint="it is no-new-privileges, seccomp=FILE, seccomp=unconfined or "
                "systempaths=unconfined",
            )
    return said
