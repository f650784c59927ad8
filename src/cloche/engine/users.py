"""Which ids of the host stand behind the ids of a container with a user namespace of its own."""

from __future__ import annotations

from cloche.engine.options import HOST, PRIVATE
from cloche.errors import InvalidArgument, PermissionDenied, Unsupported
from cloche.kernel import idmap
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cloche.kernel.features import Features
    from cloche.oci.spec import IDMapping

_FIRST = 524_288
"""Where the ids set aside for containers begin: systemd.io/UIDS-GIDS."""
_COUNT = 65_536


class Mappings(Record):
    """The maps of a new user namespace."""

    uids: list[IDMapping]
    gids: list[IDMapping]


def is_private(userns: str, features: Features) -> bool:
    """Whether the container gets a user namespace of its own.

    Raises PermissionDenied when it shall not have one and can't be built without.
    """
    privileged = features.may("CAP_SYS_ADMIN")
    if userns == HOST and not privileged:
        raise PermissionDenied(
            "--userns host needs the privileges of root",
            hint="leave it out: a user namespace gives the container a root of its own",
        )
    return userns == PRIVATE or not privileged


def mappings(features: Features) -> Mappings:
    """Return the maps for a container of this caller.

    An ordinary user is root inside; the ids above are those granted in /etc/subuid and
    /etc/subgid, where newuidmap(1) is there to map them, and else there are none.

    Root's containers get 65536 ids that no user of the host has, so that a process that gets out
    is nobody there.  Raises Unsupported where the caller's own user namespace lacks them.
    """
    if features.may("CAP_SETUID"):
        return Mappings(_set_apart("/proc/self/uid_map"), _set_apart("/proc/self/gid_map"))
    ranged = features.newuidmap and features.newgidmap and features.subuids and features.subgids
    return Mappings(
        _stacked([idmap.Range(features.uid, 1), *(features.subuids if ranged else ())]),
        _stacked([idmap.Range(features.gid, 1), *(features.subgids if ranged else ())]),
    )


def require_mapped(number: int, entries: Sequence[IDMapping], what: str) -> None:
    """Refuse an id that doesn't exist in the user namespace.

    Raises InvalidArgument naming it.
    """
    for entry in entries:
        if entry["containerID"] <= number < entry["containerID"] + entry["size"]:
            return
    raise InvalidArgument(
        f"{what} {number} doesn't exist in the container's user namespace",
        hint="grant a range in /etc/subuid and /etc/subgid and install uidmap, or use --user 0",
    )


def _stacked(ranges: Iterable[idmap.Range]) -> list[IDMapping]:
    entries: list[IDMapping] = []
    inside = 0
    for first, count in ranges:
        entries.append({"containerID": inside, "hostID": first, "size": count})
        inside += count
    return entries


def _set_apart(path: str) -> list[IDMapping]:
    with open(path, "rb", buffering=0) as file:
        lines = file.read().split(b"\n")
    fields = [line.split() for line in lines if line]
    # What isn't mapped into the caller's own namespace can't be mapped further (EPERM).
    for first, _, size in fields:
        start, end = int(first), int(first) + int(size)
        if start <= _FIRST and end >= _FIRST + _COUNT:
            return [{"containerID": 0, "hostID": _FIRST, "size": _COUNT}]
    raise Unsupported(
        f"--userns private needs the ids from {_FIRST} on, and this user namespace has none there",
        hint="leave it out: the caller is in a user namespace already",
    )
