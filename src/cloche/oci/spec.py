"""The data model of ``config.json``, OCI runtime-spec 1.3, as far as it concerns Linux.

A spec *is* the dictionary that ``json.loads`` gives, and ``json.dumps`` writes it back: these
classes are its types and nothing at run time.  What checks a document, ``cloche.oci.schema``,
reads ``cloche.oci.fields``, which ``tools/oci_fields.py`` makes from the annotations here: they
are real objects therefore (no ``from __future__ import annotations``).  A module on the start path
imports this one under ``TYPE_CHECKING`` only, since it needs ``typing``.

A field is ``Required`` where the specification's JSON schema says so.  What other platforms
own (solaris, windows, vm, zos, freebsd) is left out: unknown fields are ignored, as the
specification wants (config.md, "Extensibility").

Source: https://github.com/opencontainers/runtime-spec, ``config.md``, ``config-linux.md`` and
``schema/``.
"""

from typing import Annotated, Literal, NamedTuple, Required, TypeAlias, TypedDict

VERSION = "1.3.0"
"""The version of the specification that Cloche writes."""


class Bounds(NamedTuple):
    """The least and the greatest value of an integer, both allowed."""

    least: int
    greatest: int


Int64: TypeAlias = Annotated[int, Bounds(-(2**63), 2**63 - 1)]
Uint16: TypeAlias = Annotated[int, Bounds(0, 2**16 - 1)]
Uint32: TypeAlias = Annotated[int, Bounds(0, 2**32 - 1)]
Uint64: TypeAlias = Annotated[int, Bounds(0, 2**64 - 1)]
FileMode: TypeAlias = Annotated[int, Bounds(0, 2**32 - 1)]
"""Permission bits.  The JSON schema stops at 0777; engines copy all of a device's ``st_mode``."""


# --- the process -------------------------------------------------------------------------------


class ConsoleSize(TypedDict):
    """The size of the terminal in characters; ``struct winsize`` holds 16 bits for each."""

    height: Uint16
    width: Uint16


class User(TypedDict, total=False):
    """Ids as seen in the container; a missing uid or gid is 0."""

    uid: Uint32
    gid: Uint32
    umask: Uint32
    additionalGids: list[Uint32]


class Capabilities(TypedDict, total=False):
    """The five capability sets, each a list of names such as ``CAP_CHOWN``."""

    bounding: list[str]
    permitted: list[str]
    effective: list[str]
    inheritable: list[str]
    ambient: list[str]


RlimitValue: TypeAlias = Annotated[int, Bounds(-1, 2**64 - 1)]
"""A limit; ``RLIM_INFINITY`` is 2**64 - 1, which some write as -1."""


class Rlimit(TypedDict):
    """A resource limit: the one that counts, and the one up to which it may be raised."""

    type: str
    soft: RlimitValue
    hard: RlimitValue


SchedulerPolicy: TypeAlias = Literal[
    "SCHED_OTHER",
    "SCHED_FIFO",
    "SCHED_RR",
    "SCHED_BATCH",
    "SCHED_ISO",
    "SCHED_IDLE",
    "SCHED_DEADLINE",
]
SchedulerFlag: TypeAlias = Literal[
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
]


class Scheduler(TypedDict, total=False):
    """Scheduling attributes; times are nanoseconds, for ``SCHED_DEADLINE``: sched_setattr(2)."""

    policy: Required[SchedulerPolicy]
    nice: Annotated[int, Bounds(-20, 19)]
    priority: Annotated[int, Bounds(0, 99)]
    flags: list[SchedulerFlag]
    runtime: Uint64
    deadline: Uint64
    period: Uint64


IoPriority = TypedDict(  # "class" is no identifier in Python
    "IoPriority",
    {
        "class": Required[Literal["IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"]],
        "priority": Annotated[int, Bounds(0, 7)],
    },
    total=False,
)
"""I/O class and priority, 0 (highest) to 7: ioprio_set(2)."""


class CpuAffinity(TypedDict, total=False):
    """CPUs of a process that enters a container later (exec), as lists such as ``0-3,7``."""

    initial: str
    final: str


class Process(TypedDict, total=False):
    """The process to run.  ``args`` must be there to start it."""

    terminal: bool
    consoleSize: ConsoleSize
    cwd: Required[str]
    env: list[str]
    args: list[str]
    user: User
    capabilities: Capabilities
    rlimits: list[Rlimit]
    noNewPrivileges: bool
    oomScoreAdj: Annotated[int, Bounds(-1000, 1000)]
    scheduler: Scheduler
    ioPriority: IoPriority
    execCPUAffinity: CpuAffinity
    apparmorProfile: str
    selinuxLabel: str


# --- root, mounts, hooks -----------------------------------------------------------------------


class IDMapping(TypedDict):
    """A range of ids in the container and where it begins on the host: user_namespaces(7)."""

    containerID: Uint32
    hostID: Uint32
    size: Uint32


class Root(TypedDict, total=False):
    """The root directory; a relative path is relative to the bundle."""

    path: Required[str]
    readonly: bool


class Mount(TypedDict, total=False):
    """A mount in the container, made in the listed order."""

    destination: Required[str]
    type: str
    source: str
    options: list[str]
    uidMappings: list[IDMapping]
    gidMappings: list[IDMapping]


class Hook(TypedDict, total=False):
    """A program run at one moment of the life cycle; the timeout is in seconds."""

    path: Required[str]
    args: list[str]
    env: list[str]
    timeout: Annotated[int, Bounds(1, 2**31 - 1)]


class Hooks(TypedDict, total=False):
    """Hooks by their moment; ``prestart`` is deprecated but still in use."""

    prestart: list[Hook]
    createRuntime: list[Hook]
    createContainer: list[Hook]
    startContainer: list[Hook]
    poststart: list[Hook]
    poststop: list[Hook]


# --- cgroups -----------------------------------------------------------------------------------


class DeviceRule(TypedDict, total=False):
    """A rule for access to devices; a missing type or number stands for all."""

    allow: Required[bool]
    type: Literal["", "a", "b", "c"]
    major: Int64
    minor: Int64
    access: str


class Memory(TypedDict, total=False):
    """Memory limits in bytes, -1 for none; ``swap`` is memory and swap together."""

    limit: Int64
    reservation: Int64
    swap: Int64
    kernel: Int64
    kernelTCP: Int64
    swappiness: Annotated[int, Bounds(0, 100)]
    disableOOMKiller: bool
    useHierarchy: bool
    checkBeforeUpdate: bool


class Cpu(TypedDict, total=False):
    """CPU limits; quota, burst, period and the realtime values are microseconds."""

    shares: Uint64
    quota: Int64
    burst: Uint64
    period: Uint64
    realtimeRuntime: Int64
    realtimePeriod: Uint64
    cpus: str
    mems: str
    idle: Int64


class Pids(TypedDict):
    """The greatest number of tasks, -1 for no limit."""

    limit: Int64


class WeightDevice(TypedDict, total=False):
    """The share of a block device."""

    major: Required[Int64]
    minor: Required[Int64]
    weight: Uint16
    leafWeight: Uint16


class ThrottleDevice(TypedDict, total=False):
    """The rate limit of a block device, bytes or operations a second."""

    major: Required[Int64]
    minor: Required[Int64]
    rate: Uint64


class BlockIo(TypedDict, total=False):
    """Shares (10 to 1000) and rate limits of block devices."""

    weight: Uint16
    leafWeight: Uint16
    weightDevice: list[WeightDevice]
    throttleReadBpsDevice: list[ThrottleDevice]
    throttleWriteBpsDevice: list[ThrottleDevice]
    throttleReadIOPSDevice: list[ThrottleDevice]
    throttleWriteIOPSDevice: list[ThrottleDevice]


class HugepageLimit(TypedDict):
    """The limit of one size of huge pages (``2MB``), in bytes."""

    pageSize: str
    limit: Uint64


class InterfacePriority(TypedDict):
    """The priority of what is sent through a network interface."""

    name: str
    priority: Uint32


class Network(TypedDict, total=False):
    """The net_cls and net_prio controllers of cgroup v1."""

    classID: Uint32
    priorities: list[InterfacePriority]


class Rdma(TypedDict, total=False):
    """Limits of an RDMA device."""

    hcaHandles: Uint32
    hcaObjects: Uint32


class Resources(TypedDict, total=False):
    """What the container's cgroup limits; ``unified`` are cgroup v2 files by name."""

    devices: list[DeviceRule]
    memory: Memory
    cpu: Cpu
    pids: Pids
    blockIO: BlockIo
    hugepageLimits: list[HugepageLimit]
    network: Network
    rdma: dict[str, Rdma]
    unified: dict[str, str]


# --- seccomp -----------------------------------------------------------------------------------

SeccompAction: TypeAlias = Literal[
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
]
SeccompArch: TypeAlias = Literal[
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
]
SeccompFlag: TypeAlias = Literal[
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
]
SeccompOperator: TypeAlias = Literal[
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
]


class SeccompArgument(TypedDict, total=False):
    """A comparison of one of a system call's six arguments."""

    index: Required[Annotated[int, Bounds(0, 5)]]
    value: Required[Uint64]
    valueTwo: Uint64
    op: Required[SeccompOperator]


class SeccompRule(TypedDict, total=False):
    """What to do at these system calls, where all comparisons hold."""

    names: Required[list[str]]
    action: Required[SeccompAction]
    errnoRet: Uint32
    args: list[SeccompArgument]


class Seccomp(TypedDict, total=False):
    """A system call filter, in libseccomp's words."""

    defaultAction: Required[SeccompAction]
    defaultErrnoRet: Uint32
    architectures: list[SeccompArch]
    flags: list[SeccompFlag]
    listenerPath: str
    listenerMetadata: str
    syscalls: list[SeccompRule]


# --- linux -------------------------------------------------------------------------------------

NamespaceType: TypeAlias = Literal[
    "mount", "pid", "network", "uts", "ipc", "user", "cgroup", "time"
]
Propagation: TypeAlias = Literal[
    "",
    "private",
    "shared",
    "slave",
    "unbindable",
    "rprivate",
    "rshared",
    "rslave",
    "runbindable",
]
"""The specification names four; engines write the recursive forms too."""


class Namespace(TypedDict, total=False):
    """A namespace, new or, with a path, joined."""

    type: Required[NamespaceType]
    path: str


class Device(TypedDict, total=False):
    """A device node; the numbers are needed except for a FIFO (``p``)."""

    type: Required[Literal["c", "b", "u", "p"]]
    path: Required[str]
    major: Int64
    minor: Int64
    fileMode: FileMode
    uid: Uint32
    gid: Uint32


class NetDevice(TypedDict, total=False):
    """A network device moved into the container, with its new name."""

    name: str


class TimeOffset(TypedDict, total=False):
    """What a clock is ahead of the host's: time_namespaces(7)."""

    secs: Int64
    nanosecs: Annotated[int, Bounds(0, 999_999_999)]


class TimeOffsets(TypedDict, total=False):
    """The two clocks that a time namespace shifts."""

    boottime: TimeOffset
    monotonic: TimeOffset


class Personality(TypedDict, total=False):
    """The execution domain; no flags are defined."""

    domain: Required[Literal["LINUX", "LINUX32"]]
    flags: list[str]


class IntelRdt(TypedDict, total=False):
    """Cache and memory bandwidth of Intel's Resource Director Technology (resctrl)."""

    closID: str
    schemata: list[str]
    l3CacheSchema: str
    memBwSchema: str
    enableMonitoring: bool


class MemoryPolicy(TypedDict, total=False):
    """The NUMA memory policy: set_mempolicy(2)."""

    mode: Required[
        Literal[
            "MPOL_DEFAULT",
            "MPOL_BIND",
            "MPOL_INTERLEAVE",
            "MPOL_WEIGHTED_INTERLEAVE",
            "MPOL_PREFERRED",
            "MPOL_PREFERRED_MANY",
            "MPOL_LOCAL",
        ]
    ]
    nodes: str
    flags: list[Literal["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"]]


class Linux(TypedDict, total=False):
    """What only Linux has."""

    namespaces: list[Namespace]
    uidMappings: list[IDMapping]
    gidMappings: list[IDMapping]
    timeOffsets: TimeOffsets
    devices: list[Device]
    netDevices: dict[str, NetDevice]
    cgroupsPath: str
    resources: Resources
    sysctl: dict[str, str]
    seccomp: Seccomp
    rootfsPropagation: Propagation
    maskedPaths: list[str]
    readonlyPaths: list[str]
    mountLabel: str
    personality: Personality
    intelRdt: IntelRdt
    memoryPolicy: MemoryPolicy


class Spec(TypedDict, total=False):
    """A whole ``config.json``."""

    ociVersion: Required[str]
    root: Required[Root]
    process: Process
    hostname: str
    domainname: str
    mounts: list[Mount]
    hooks: Hooks
    annotations: dict[str, str]
    linux: Linux
