"""The kernel's numbers for scheduling: processors, disks, memory nodes.

The names are the OCI runtime spec's.  Sources: <linux/sched.h>, <linux/ioprio.h>,
<linux/mempolicy.h>; sched(7), ioprio_set(2), set_mempolicy(2).
"""

from __future__ import annotations

POLICIES: dict[str, int] = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
"""Of these SCHED_ISO is a reserved number: no Linux has it."""

POLICY_FLAGS: dict[str, int] = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}

IO_CLASSES: dict[str, int] = {
    "IOPRIO_CLASS_RT": 1,
    "IOPRIO_CLASS_BE": 2,
    "IOPRIO_CLASS_IDLE": 3,
}

MEMORY_MODES: dict[str, int] = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
"""PREFERRED_MANY came with Linux 5.15, WEIGHTED_INTERLEAVE with 6.9."""

MEMORY_FLAGS: dict[str, int] = {
    "MPOL_F_NUMA_BALANCING": 1 << 13,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_STATIC_NODES": 1 << 15,
}
"""Part of the mode."""


def name(table: dict[str, int], number: int) -> str:
    """Return the name of a number in one of the tables, or the number."""
    return next((word for word, value in table.items() if value == number), str(number))


def names(table: dict[str, int], bits: int) -> list[str]:
    """Return the names of the flags that are set."""
    return [word for word, bit in table.items() if bits & bit]
