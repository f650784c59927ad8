"""The fields of a ``config.json`` as plain data, for ``cloche.oci.schema``.

Made by ``tools/oci_fields.py`` from the types of ``cloche.oci.spec``, where they are explained.  To
read the types themselves takes ``typing``, whose import takes longer than checking a document.
"""

from __future__ import annotations

from cloche.oci.schema import Array, Integer, Map, Object, Word

Root = Object(
    {
        "path": str,
        "readonly": bool,
    },
    ("path",),
)
Uint16 = Integer(0, 2**16 - 1)
ConsoleSize = Object(
    {
        "height": Uint16,
        "width": Uint16,
    },
    ("height", "width"),
)
Uint32 = Integer(0, 2**32 - 1)
User = Object(
    {
        "uid": Uint32,
        "gid": Uint32,
        "umask": Uint32,
        "additionalGids": Array(Uint32),
    },
    (),
)
Capabilities = Object(
    {
        "bounding": Array(str),
        "permitted": Array(str),
        "effective": Array(str),
        "inheritable": Array(str),
        "ambient": Array(str),
    },
    (),
)
RlimitValue = Integer(-1, 2**64 - 1)
Rlimit = Object(
    {
        "type": str,
        "soft": RlimitValue,
        "hard": RlimitValue,
    },
    ("type", "soft", "hard"),
)
SchedulerPolicy = Word(
    (
        "SCHED_OTHER",
        "SCHED_FIFO",
        "SCHED_RR",
        "SCHED_BATCH",
        "SCHED_ISO",
        "SCHED_IDLE",
        "SCHED_DEADLINE",
    )
)
SchedulerFlag = Word(
    (
        "SCHED_FLAG_RESET_ON_FORK",
        "SCHED_FLAG_RECLAIM",
        "SCHED_FLAG_DL_OVERRUN",
        "SCHED_FLAG_KEEP_POLICY",
        "SCHED_FLAG_KEEP_PARAMS",
        "SCHED_FLAG_UTIL_CLAMP_MIN",
        "SCHED_FLAG_UTIL_CLAMP_MAX",
    )
)
Uint64 = Integer(0, 2**64 - 1)
Scheduler = Object(
    {
        "policy": SchedulerPolicy,
        "nice": Integer(-20, 19),
        "priority": Integer(0, 99),
        "flags": Array(SchedulerFlag),
        "runtime": Uint64,
        "deadline": Uint64,
        "period": Uint64,
    },
    ("policy",),
)
IoPriority = Object(
    {
        "class": Word(("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE")),
        "priority": Integer(0, 7),
    },
    ("class",),
)
CpuAffinity = Object(
    {
        "initial": str,
        "final": str,
    },
    (),
)
Process = Object(
    {
        "terminal": bool,
        "consoleSize": ConsoleSize,
        "cwd": str,
        "env": Array(str),
        "args": Array(str),
        "user": User,
        "capabilities": Capabilities,
        "rlimits": Array(Rlimit),
        "noNewPrivileges": bool,
        "oomScoreAdj": Integer(-1000, 1000),
        "scheduler": Scheduler,
        "ioPriority": IoPriority,
        "execCPUAffinity": CpuAffinity,
        "apparmorProfile": str,
        "selinuxLabel": str,
    },
    ("cwd",),
)
IDMapping = Object(
    {
        "containerID": Uint32,
        "hostID": Uint32,
        "size": Uint32,
    },
    ("containerID", "hostID", "size"),
)
Mount = Object(
    {
        "destination": str,
        "type": str,
        "source": str,
        "options": Array(str),
        "uidMappings": Array(IDMapping),
        "gidMappings": Array(IDMapping),
    },
    ("destination",),
)
Hook = Object(
    {
        "path": str,
        "args": Array(str),
        "env": Array(str),
        "timeout": Integer(1, 2**31 - 1),
    },
    ("path",),
)
Hooks = Object(
    {
        "prestart": Array(Hook),
        "createRuntime": Array(Hook),
        "createContainer": Array(Hook),
        "startContainer": Array(Hook),
        "poststart": Array(Hook),
        "poststop": Array(Hook),
    },
    (),
)
NamespaceType = Word(("mount", "pid", "network", "uts", "ipc", "user", "cgroup", "time"))
Namespace = Object(
    {
        "type": NamespaceType,
        "path": str,
    },
    ("type",),
)
Int64 = Integer(-(2**63), 2**63 - 1)
TimeOffset = Object(
    {
        "secs": Int64,
        "nanosecs": Integer(0, 999_999_999),
    },
    (),
)
TimeOffsets = Object(
    {
        "boottime": TimeOffset,
        "monotonic": TimeOffset,
    },
    (),
)
Device = Object(
    {
        "type": Word(("c", "b", "u", "p")),
        "path": str,
        "major": Int64,
        "minor": Int64,
        "fileMode": Uint32,
        "uid": Uint32,
        "gid": Uint32,
    },
    ("type", "path"),
)
NetDevice = Object(
    {
        "name": str,
    },
    (),
)
DeviceRule = Object(
    {
        "allow": bool,
        "type": Word(("", "a", "b", "c")),
        "major": Int64,
        "minor": Int64,
        "access": str,
    },
    ("allow",),
)
Memory = Object(
    {
        "limit": Int64,
        "reservation": Int64,
        "swap": Int64,
        "kernel": Int64,
        "kernelTCP": Int64,
        "swappiness": Integer(0, 100),
        "disableOOMKiller": bool,
        "useHierarchy": bool,
        "checkBeforeUpdate": bool,
    },
    (),
)
Cpu = Object(
    {
        "shares": Uint64,
        "quota": Int64,
        "burst": Uint64,
        "period": Uint64,
        "realtimeRuntime": Int64,
        "realtimePeriod": Uint64,
        "cpus": str,
        "mems": str,
        "idle": Int64,
    },
    (),
)
Pids = Object(
    {
        "limit": Int64,
    },
    ("limit",),
)
WeightDevice = Object(
    {
        "major": Int64,
        "minor": Int64,
        "weight": Uint16,
        "leafWeight": Uint16,
    },
    ("major", "minor"),
)
ThrottleDevice = Object(
    {
        "major": Int64,
        "minor": Int64,
        "rate": Uint64,
    },
    ("major", "minor"),
)
BlockIo = Object(
    {
        "weight": Uint16,
        "leafWeight": Uint16,
        "weightDevice": Array(WeightDevice),
        "throttleReadBpsDevice": Array(ThrottleDevice),
        "throttleWriteBpsDevice": Array(ThrottleDevice),
        "throttleReadIOPSDevice": Array(ThrottleDevice),
        "throttleWriteIOPSDevice": Array(ThrottleDevice),
    },
    (),
)
HugepageLimit = Object(
    {
        "pageSize": str,
        "limit": Uint64,
    },
    ("pageSize", "limit"),
)
InterfacePriority = Object(
    {
        "name": str,
        "priority": Uint32,
    },
    ("name", "priority"),
)
Network = Object(
    {
        "classID": Uint32,
        "priorities": Array(InterfacePriority),
    },
    (),
)
Rdma = Object(
    {
        "hcaHandles": Uint32,
        "hcaObjects": Uint32,
    },
    (),
)
Resources = Object(
    {
        "devices": Array(DeviceRule),
        "memory": Memory,
        "cpu": Cpu,
        "pids": Pids,
        "blockIO": BlockIo,
        "hugepageLimits": Array(HugepageLimit),
        "network": Network,
        "rdma": Map(Rdma),
        "unified": Map(str),
    },
    (),
)
SeccompAction = Word(
    (
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_TRAP",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_TRACE",
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_LOG",
        "SCMP_ACT_NOTIFY",
    )
)
SeccompArch = Word(
    (
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
    )
)
SeccompFlag = Word(
    (
        "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    )
)
SeccompOperator = Word(
    (
        "SCMP_CMP_NE",
        "SCMP_CMP_LT",
        "SCMP_CMP_LE",
        "SCMP_CMP_EQ",
        "SCMP_CMP_GE",
        "SCMP_CMP_GT",
        "SCMP_CMP_MASKED_EQ",
    )
)
SeccompArgument = Object(
    {
        "index": Integer(0, 5),
        "value": Uint64,
        "valueTwo": Uint64,
        "op": SeccompOperator,
    },
    ("index", "value", "op"),
)
SeccompRule = Object(
    {
        "names": Array(str),
        "action": SeccompAction,
        "errnoRet": Uint32,
        "args": Array(SeccompArgument),
    },
    ("names", "action"),
)
Seccomp = Object(
    {
        "defaultAction": SeccompAction,
        "defaultErrnoRet": Uint32,
        "architectures": Array(SeccompArch),
        "flags": Array(SeccompFlag),
        "listenerPath": str,
        "listenerMetadata": str,
        "syscalls": Array(SeccompRule),
    },
    ("defaultAction",),
)
Propagation = Word(
    ("", "private", "shared", "slave", "unbindable", "rprivate", "rshared", "rslave", "runbindable")
)
Personality = Object(
    {
        "domain": Word(("LINUX", "LINUX32")),
        "flags": Array(str),
    },
    ("domain",),
)
IntelRdt = Object(
    {
        "closID": str,
        "schemata": Array(str),
        "l3CacheSchema": str,
        "memBwSchema": str,
        "enableMonitoring": bool,
    },
    (),
)
MemoryPolicy = Object(
    {
        "mode": Word(
            (
                "MPOL_DEFAULT",
                "MPOL_BIND",
                "MPOL_INTERLEAVE",
                "MPOL_WEIGHTED_INTERLEAVE",
                "MPOL_PREFERRED",
                "MPOL_PREFERRED_MANY",
                "MPOL_LOCAL",
            )
        ),
        "nodes": str,
        "flags": Array(
            Word(("MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"))
        ),
    },
    ("mode",),
)
Linux = Object(
    {
        "namespaces": Array(Namespace),
        "uidMappings": Array(IDMapping),
        "gidMappings": Array(IDMapping),
        "timeOffsets": TimeOffsets,
        "devices": Array(Device),
        "netDevices": Map(NetDevice),
        "cgroupsPath": str,
        "resources": Resources,
        "sysctl": Map(str),
        "seccomp": Seccomp,
        "rootfsPropagation": Propagation,
        "maskedPaths": Array(str),
        "readonlyPaths": Array(str),
        "mountLabel": str,
        "personality": Personality,
        "intelRdt": IntelRdt,
        "memoryPolicy": MemoryPolicy,
    },
    (),
)
Spec = Object(
    {
        "ociVersion": str,
        "root": Root,
        "process": Process,
        "hostname": str,
        "domainname": str,
        "mounts": Array(Mount),
        "hooks": Hooks,
        "annotations": Map(str),
        "linux": Linux,
    },
    ("ociVersion", "root"),
)
