"""What a user asks for with ``cloche run``, parsed but not yet turned into a spec.

The words and their meanings are Docker's.  ``None`` stands for "not given" wherever that differs
from every value that can be given.
"""

from __future__ import annotations

from cloche.engine.values import DeviceRate, DeviceRequest, DeviceRule, Ulimit
from cloche.engine.volumes import Volume
from cloche.errors import InvalidArgument
from cloche.record import Record

MiB = 1 << 20
MINIMUM_MEMORY = 6 * MiB
"""Docker's: below it a container can't even start."""

NONE = "none"
HOST = "host"
PRIVATE = "private"
UNCONFINED = "unconfined"


class RunOptions(Record):
    """Every option of ``cloche run``; sizes are bytes."""

    # what to run, and where
    image: str = ""
    """The name of an image, or empty with a ``rootfs``."""
    rootfs: str = ""
    """An absolute path, or empty with an ``image``."""
    rootfs_overlay: bool = False
    """Whether what is written to ``rootfs`` goes to a throw-away layer."""
    command: tuple[str, ...] = ()
    entrypoint: str | None = None
    """A program to put before the command; empty to take away the image's own."""
    name: str = ""
    interactive: bool = False
    terminal: bool = False
    remove: bool = False
    init: bool = False
    timeout_ms: int = 0
    trace: bool = False
    annotations: tuple[tuple[str, str], ...] = ()

    # the process
    env: tuple[str, ...] = ()
    """``NAME=value``; a later one counts."""
    workdir: str = ""
    user: str = ""
    group_add: tuple[str, ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    oom_score_adj: int | None = None

    # root
    read_only: bool = False
    volumes: tuple[Volume, ...] = ()
    """Of ``--volume``, ``--mount`` and ``--tmpfs``."""
    shm_size: int = 64 * MiB
    devices: tuple[DeviceRequest, ...] = ()
    device_rules: tuple[DeviceRule, ...] = ()

    # namespaces
    hostname: str = ""
    domainname: str = ""
    network: str = NONE
    """``none`` or ``host``."""
    pid: str = PRIVATE
    """``private`` or ``host``, as ``uts`` and ``cgroupns``."""
    ipc: str = PRIVATE
    """``private``, ``host``, or ``none`` for private without /dev/shm."""
    uts: str = PRIVATE
    userns: str = ""
    """``private``, ``host``, or empty: host for root, private for anybody else."""
    cgroupns: str = PRIVATE
    sysctls: tuple[tuple[str, str], ...] = ()

    # cgroups
    memory: int | None = None
    memory_reservation: int | None = None
    memory_swap: int | None = None
    """Memory and swap together; -1 for unlimited swap."""
    memory_swappiness: int | None = None
    cpu_quota: int | None = None
    """Microseconds of CPU time in each ``cpu_period``."""
    cpu_period: int | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int | None = None
    """-1 for unlimited."""
    blkio_weight: int | None = None
    blkio_weight_devices: tuple[DeviceRate, ...] = ()
    device_read_bps: tuple[DeviceRate, ...] = ()
    device_write_bps: tuple[DeviceRate, ...] = ()
    device_read_iops: tuple[DeviceRate, ...] = ()
    device_write_iops: tuple[DeviceRate, ...] = ()
    cgroup_parent: str = ""

    # privileges
    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    no_new_privileges: bool = False
    seccomp: str | None = None
    """The path of a profile, ``unconfined``, or None for the default profile."""
    unmasked_paths: bool = False
    """Leave /proc and /sys as they are (``systempaths=unconfined``)."""


def check(options: RunOptions) -> None:
    """Refuse options that contradict each other or that the kernel can't mean.

    Raises InvalidArgument naming the option.
    """
    if bool(options.image) == bool(options.rootfs):
        raise InvalidArgument(
            "give either an image or --rootfs DIR",
            hint="the image that is always there is called host: cloche run host",
        )
    if options.uts == HOST and (options.hostname or options.domainname):
        raise InvalidArgument("--hostname and --domainname can't be used with --uts host")
    if options.init and options.pid == HOST:
        raise InvalidArgument("--init can't be used with --pid host, where PID 1 is the host's")
    for name, _ in options.annotations:
        if name.startswith("cloche.") and name != "cloche.landlock":
            raise InvalidArgument(f"annotation {name} is reserved for cloche itself")
    _check_memory(options)
    _check_cpu(options)
    weights = [rate.value for rate in options.blkio_weight_devices]
    if options.blkio_weight:
        weights.append(options.blkio_weight)
    for weight in weights:
        _within("--blkio-weight", weight, 10, 1000)
    if options.oom_score_adj is not None:
        _within("--oom-score-adj", options.oom_score_adj, -1000, 1000)
    if options.shm_size <= 0:
        raise InvalidArgument("--shm-size must be greater than 0")


def _check_memory(options: RunOptions) -> None:
    memory = options.memory
    if memory is not None and memory < MINIMUM_MEMORY:
        raise InvalidArgument(f"--memory {memory} bytes is too little: at least 6m is needed")
    swap = options.memory_swap
    if swap is not None and swap >= 0:
        if memory is None:
            hint = "it counts memory and swap together; give --memory too"
            raise InvalidArgument("--memory-swap needs --memory", hint=hint)
        if swap < memory:
            hint = "it counts memory and swap together; -1 is unlimited swap"
            raise InvalidArgument("--memory-swap must not be less than --memory", hint=hint)
    reservation = options.memory_reservation
    if reservation is not None and reservation > (memory or reservation):
        raise InvalidArgument("--memory-reservation must not be greater than --memory")
    if options.memory_swappiness is not None:
        _within("--memory-swappiness", options.memory_swappiness, 0, 100)


def _check_cpu(options: RunOptions) -> None:
    if options.cpu_period is not None:
        _within("--cpu-period", options.cpu_period, 1_000, 1_000_000)
    if options.cpu_quota is not None and 0 <= options.cpu_quota < 1_000:
        raise InvalidArgument("--cpu-quota must be at least 1000 (microseconds), or -1 for none")
    if options.cpu_shares is not None:
        # cpu.shares: MIN_SHARES and MAX_SHARES of the kernel's scheduler
        _within("--cpu-shares", options.cpu_shares, 2, 262_144)
    if options.pids_limit == 0 or (options.pids_limit or 1) < -1:
        raise InvalidArgument("--pids-limit must be at least 1, or -1 for unlimited")


def _within(option: str, value: int, least: int, greatest: int) -> None:
    if not least <= value <= greatest:
        raise InvalidArgument(f"{option} is {value} but must be {least} to {greatest}")
