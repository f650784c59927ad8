"""What a container gets unasked: Docker's defaults, as of moby in 2026.

Source: moby, ``daemon/pkg/oci/defaults.go``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.oci.spec import DeviceRule, Mount

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TERM = "xterm"
SHM = "/dev/shm"  # noqa: S108  # no file is made in it, it is mounted

MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",  # tells of other containers' keystrokes, GHSA-6fw5-f8r9-fgfm
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",  # power measured finely gives keys away, CVE-2020-8694
    "/sys/firmware",
)
"""What tells of the host or lets it be attacked; a path that isn't there is no error."""

THERMAL_PATHS = "/sys/devices/system/cpu/cpu{}/thermal_throttle"
"""Masked for each CPU that has it, for the same reason as /proc/interrupts."""

READONLY_PATHS = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)


def mounts(shm_size: int) -> list[Mount]:
    """Return the file systems of every container, in order; ``shm_size`` is bytes."""
    return [
        {
            "destination": "/proc",
            "type": "proc",
            "source": "proc",
            "options": ["nosuid", "noexec", "nodev"],
        },
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": [
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        },
        {
            "destination": "/sys",
            "type": "sysfs",
            "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"],
        },
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": ["ro", "nosuid", "noexec", "nodev"],
        },
        {
            "destination": "/dev/mqueue",
            "type": "mqueue",
            "source": "mqueue",
            "options": ["nosuid", "noexec", "nodev"],
        },
        {
            "destination": SHM,
            "type": "tmpfs",
            "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", f"size={shm_size}"],
        },
    ]


def device_rules() -> list[DeviceRule]:
    """Return which devices a container may use: none but these, though it may make any node.

    The numbers are those of ``Documentation/admin-guide/devices.txt`` in the kernel.
    """
    rules: list[DeviceRule] = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "access": "m"},
        {"allow": True, "type": "b", "access": "m"},
    ]
    for major, minor in (
        (1, 3),  # null
        (1, 5),  # zero
        (1, 7),  # full
        (1, 8),  # random
        (1, 9),  # urandom
        (5, 0),  # tty
        (5, 1),  # console
        (5, 2),  # ptmx
    ):
        rules.append({"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"})
    rules.append({"allow": True, "type": "c", "major": 136, "access": "rwm"})  # /dev/pts/*
    return rules


SYSCTLS = {
    "net.ipv4.ip_unprivileged_port_start": "0",
    "net.ipv4.ping_group_range": "0 2147483647",
}
"""In a network of its own a container's users may open any port, and ping."""
