"""The one container that everything here is measured with: its root directory and its spec.

``bench/minimal.c`` has the same written into its code.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloche.oci.spec import Mount, Spec

MEMORY = 512 << 20
CPU_QUOTA_US = 50_000
CPU_PERIOD_US = 100_000
PIDS = 256

CAPABILITIES = """
    CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP
    CAP_NET_BIND_SERVICE CAP_NET_RAW CAP_SYS_CHROOT CAP_MKNOD CAP_AUDIT_WRITE CAP_SETFCAP
""".split()
MASKED = """
    /proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats
    /proc/sched_debug /proc/scsi /proc/timer_list /proc/timer_stats
    /sys/devices/virtual/powercap /sys/firmware
""".split()
READONLY = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()
NOTHING_SPECIAL = ["nosuid", "noexec", "nodev"]


def make_root(directory: Path) -> Path:
    """Make a root directory with a static busybox as its only program.

    Raises FileNotFoundError when there is no busybox here.
    """
    busybox = shutil.which("busybox")
    if busybox is None:
        raise FileNotFoundError("busybox isn't installed (apt install busybox-static)")
    root = directory / "root"
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin" / "busybox")
    for name in ("sh", "sleep", "true"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    return root


def container(root: Path, name: str) -> Spec:
    """Return the OCI runtime spec of a container on this root that does nothing.

    Its cgroups have its name.
    """
    return {
        "ociVersion": "1.0.2",
        "hostname": "minimal",
        "root": {"path": str(root), "readonly": False},
        "process": {
            "cwd": "/",
            "args": ["/bin/true"],
            "env": ["PATH=/bin"],
            "user": {"uid": 0, "gid": 0},
            "terminal": False,
            "noNewPrivileges": True,
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}],
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": CAPABILITIES,
                "permitted": CAPABILITIES,
            },
        },
        "mounts": [
            _mount("/proc", "proc", "proc", [*NOTHING_SPECIAL]),
            _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
            _mount(
                "/dev/pts",
                "devpts",
                "devpts",
                ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
            ),
            _mount("/dev/shm", "tmpfs", "shm", [*NOTHING_SPECIAL, "mode=1777", "size=65536k"]),
            _mount("/dev/mqueue", "mqueue", "mqueue", [*NOTHING_SPECIAL]),
            _mount("/sys", "sysfs", "sysfs", [*NOTHING_SPECIAL, "ro"]),
        ],
        "linux": {
            "namespaces": [
                {"type": "pid"},
                {"type": "network"},
                {"type": "ipc"},
                {"type": "uts"},
                {"type": "cgroup"},
                {"type": "mount"},
            ],
            "cgroupsPath": f"/{name}",
            "maskedPaths": MASKED,
            "readonlyPaths": READONLY,
            "resources": {
                "memory": {"limit": MEMORY},
                "cpu": {"quota": CPU_QUOTA_US, "period": CPU_PERIOD_US},
                "pids": {"limit": PIDS},
            },
        },
    }


def _mount(destination: str, kind: str, source: str, options: list[str]) -> Mount:
    return {"destination": destination, "type": kind, "source": source, "options": options}
