"""Which kernel parameters a container may set: those that the kernel keeps per namespace.

Any other one would be the whole machine's.  The list is the kernel's (``ipc/ipc_sysctl.c``,
``ipc/mq_sysctl.c``, ``kernel/utsname_sysctl.c``, and all of ``/proc/sys/net`` that a network
namespace shows); runc has the same.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Set

_IPC = frozenset(
    "kernel/" + name
    for name in "msgmax msgmnb msgmni sem shmall shmmax shmmni shm_rmid_forced".split()
)
_UTS = frozenset({"kernel/hostname", "kernel/domainname"})


def path(name: str) -> str:
    """Return the path of a parameter below ``/proc/sys``, empty when the name leads elsewhere.

    As sysctl(8) has it, the separator is what comes first in the name, a dot or a slash, and
    the other one is then a letter: ``net.ipv4.conf.eth0/1.arp`` and ``net/ipv4/conf/eth0.1/arp``
    are the same parameter.
    """
    first = next((letter for letter in name if letter in "./"), ".")
    swapped = name if first == "/" else name.translate({ord("."): "/", ord("/"): "."})
    parts = swapped.split("/")
    return "" if any(part in ("", ".", "..") for part in parts) else swapped


def problem(name: str, namespaces: Set[str]) -> str:
    """Return why a container with these namespaces, new or joined, can't set a parameter, or ""."""
    where = path(name)
    if not where:
        return "isn't the name of a kernel parameter"
    if where in _IPC or where.startswith("fs/mqueue/"):
        kind = "ipc"
    elif where.startswith("net/"):
        kind = "network"
    elif where in _UTS:
        kind = "uts"
    else:
        return "isn't kept per namespace, so it would be set for the whole machine"
    return "" if kind in namespaces else f"needs a {kind} namespace of the container"
