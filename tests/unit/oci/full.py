"""A valid spec that has every field, for tests that change one thing at a time."""

import json
from typing import Any

from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
"""Any JSON value."""

_MAPPINGS = [{"containerID": 0, "hostID": 100000, "size": 65536}]
_HOOK = {"path": "/bin/hook", "args": ["hook", "-v"], "env": ["A=b"], "timeout": 5}
_RATE = [{"major": 8, "minor": 0, "rate": 1048576}]
_CAPABILITIES = ["CAP_CHOWN", "CAP_KILL"]

_FULL: dict[str, Any] = {
    "ociVersion": "1.3.0",
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "bell",
    "domainname": "garden",
    "process": {
        "terminal": True,
        "consoleSize": {"height": 25, "width": 80},
        "cwd": "/",
        "env": ["PATH=/bin", "EMPTY="],
        "args": ["sh", "-c", ""],
        "user": {"uid": 1, "gid": 1, "umask": 63, "additionalGids": [5, 6]},
        "capabilities": {
            "bounding": _CAPABILITIES,
            "permitted": _CAPABILITIES,
            "effective": _CAPABILITIES,
            "inheritable": ["CAP_KILL"],
            "ambient": ["CAP_KILL"],
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 2**64 - 1}],
        "noNewPrivileges": True,
        "oomScoreAdj": -5,
        "scheduler": {
            "policy": "SCHED_DEADLINE",
            "nice": -20,
            "priority": 0,
            "flags": ["SCHED_FLAG_RECLAIM"],
            "runtime": 1,
            "deadline": 2,
            "period": 3,
        },
        "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 4},
        "execCPUAffinity": {"initial": "7", "final": "0-3,7"},
        "apparmorProfile": "profile",
        "selinuxLabel": "label",
    },
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"]},
        {
            "destination": "data",
            "source": "/srv",
            "options": ["rbind", "idmap"],
            "uidMappings": _MAPPINGS,
            "gidMappings": _MAPPINGS,
        },
    ],
    "hooks": {
        "prestart": [_HOOK],
        "createRuntime": [_HOOK],
        "createContainer": [_HOOK],
        "startContainer": [_HOOK],
        "poststart": [_HOOK],
        "poststop": [_HOOK],
    },
    "annotations": {"org.example/a~b": "c"},
    "linux": {
        "namespaces": [
            {"type": "mount"},
            {"type": "pid", "path": "/proc/1234/ns/pid"},
            {"type": "network"},
            {"type": "uts"},
            {"type": "ipc"},
            {"type": "user"},
            {"type": "cgroup"},
            {"type": "time"},
        ],
        "uidMappings": _MAPPINGS,
        "gidMappings": _MAPPINGS,
        "timeOffsets": {
            "boottime": {"secs": -5, "nanosecs": 1},
            "monotonic": {"secs": 5, "nanosecs": 999_999_999},
        },
        "devices": [
            {
                "type": "c",
                "path": "/dev/fuse",
                "major": 10,
                "minor": 229,
                "fileMode": 438,
                "uid": 0,
                "gid": 0,
            },
            {"type": "p", "path": "/run/fifo"},
        ],
        "netDevices": {"eth0": {"name": "eth%d"}},
        "cgroupsPath": "/cloche/one",
        "resources": {
            "devices": [
                {"allow": False, "access": "rwm"},
                {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
            ],
            "memory": {
                "limit": 1 << 29,
                "reservation": -1,
                "swap": 1 << 30,
                "kernel": -1,
                "kernelTCP": -1,
                "swappiness": 0,
                "disableOOMKiller": False,
                "useHierarchy": True,
                "checkBeforeUpdate": True,
            },
            "cpu": {
                "shares": 1024,
                "quota": 1000000,
                "burst": 1000000,
                "period": 500000,
                "realtimeRuntime": 950000,
                "realtimePeriod": 1000000,
                "cpus": "2-3",
                "mems": "0-7",
                "idle": 0,
            },
            "pids": {"limit": 32},
            "blockIO": {
                "weight": 10,
                "leafWeight": 10,
                "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
                "throttleReadBpsDevice": _RATE,
                "throttleWriteBpsDevice": _RATE,
                "throttleReadIOPSDevice": _RATE,
                "throttleWriteIOPSDevice": _RATE,
            },
            "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
            "network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 5}]},
            "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}},
            "unified": {"hugetlb.1GB.max": "1073741824"},
        },
        "sysctl": {
            "net.ipv4.ip_forward": "1",
            "kernel.shmmax": "4096",
            "fs/mqueue/msg_max": "10",
            "kernel.domainname": "garden",
        },
        "seccomp": {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 38,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "listenerPath": "/run/agent",
            "listenerMetadata": "opaque",
            "syscalls": [
                {
                    "names": ["personality"],
                    "action": "SCMP_ACT_TRACE",
                    "errnoRet": 1,
                    "args": [
                        {"index": 0, "value": 8, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"},
                    ],
                }
            ],
        },
        "rootfsPropagation": "rslave",
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "mountLabel": "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811",
        "personality": {"domain": "LINUX32", "flags": []},
        "intelRdt": {
            "closID": "group",
            "schemata": ["L2:0=f"],
            "l3CacheSchema": "L3:0=7f0",
            "memBwSchema": "MB:0=20",
            "enableMonitoring": True,
        },
        "memoryPolicy": {
            "mode": "MPOL_INTERLEAVE",
            "nodes": "2-3",
            "flags": ["MPOL_F_STATIC_NODES"],
        },
    },
}


def full() -> Any:
    """Return a copy of its own."""
    return json.loads(json.dumps(_FULL))


def replaced(document: Any, pointer: str, value: Any) -> Any:
    """Return the document with another value at a JSON pointer."""
    keys = [key.replace("~1", "/").replace("~0", "~") for key in pointer.split("/")[1:]]
    if not keys:
        return value
    changed = json.loads(json.dumps(document))
    place = changed
    for key in keys[:-1]:
        place = place[int(key)] if isinstance(place, list) else place[key]
    place[int(keys[-1]) if isinstance(place, list) else keys[-1]] = value
    return changed


def escaped(key: str) -> str:
    """Return an object's key as it stands in a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def at(document: Any, pointer: str) -> Any:
    """Return the value at a JSON pointer."""
    value = document
    for key in pointer.split("/")[1:]:
        name = key.replace("~1", "/").replace("~0", "~")
        value = value[int(name)] if isinstance(value, list) else value[name]
    return value


def pointers(value: Any, pointer: str = "") -> list[str]:
    """Return the JSON pointer of every value in a document."""
    found = [pointer]
    members: Any = ()
    if isinstance(value, dict):
        members = value.items()
    elif isinstance(value, list):
        members = enumerate(value)
    for key, member in members:
        found += pointers(member, f"{pointer}/{escaped(str(key))}")
    return found
