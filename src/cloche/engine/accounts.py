"""Who the process in the container is: names looked up in the container's own account files.

The meaning of ``--user`` is Docker's (``moby/sys/user``)::

    (nothing)      uid 0, with what passwd and group say of it
    name           its uid, its group, and the groups that it is a member of
    uid            the same if passwd has it; else group 0 and no others
    ...:group      that one group, by name or number, and no others

Sources: passwd(5), group(5).
"""

from __future__ import annotations

from cloche.engine import beneath
from cloche.errors import InvalidArgument, NotFound
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_GREATEST = 2**31 - 1
"""Docker's; beyond it programs that keep ids in an ``int`` go wrong."""


class Account(Record):
    """The ids of a process, as seen in the container, and its home directory."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    """All groups, the first one included."""
    home: str


def lookup(root: str, user: str, group_add: tuple[str, ...] = ()) -> Account:
    """Return the account that ``--user`` and ``--group-add`` mean in a root directory.

    Raises NotFound for a name that isn't in the root's files, and InvalidArgument for a number
    that can't be an id.
    """
    name, colon, group = user.partition(":")
    if colon and not group:
        raise InvalidArgument(f"invalid user {user!r}", hint="write USER or USER:GROUP")
    wanted = _id(name or "0")
    found = None
    for fields in _lines(root, "/etc/passwd", 7):
        number, group_number = _id(fields[2]), _id(fields[3])
        if number is None or group_number is None:
            continue
        if number == wanted or fields[0] == name != "":
            found = fields
            uid, gid, home = number, group_number, fields[5] or "/"
            break
    else:
        if wanted is None:
            raise NotFound(
                f"user {name} isn't in the container's /etc/passwd",
                hint="use a number, such as --user 1000, for a user without an entry",
            )
        uid, gid, home = _checked(wanted, name), 0, "/"
    groups = list(_lines(root, "/etc/group", 4)) if group or found or group_add else []
    members: list[int] = []
    if group:
        gid = _group(group, groups)
    elif found:
        named = [fields for fields in groups if found[0] in fields[3].split(",")]
        members = [number for fields in named if (number := _id(fields[2])) is not None]
    members += [_group(extra, groups) for extra in group_add]
    return Account(uid, gid, tuple(dict.fromkeys([gid, *members])), home)


def _group(name: str, groups: list[list[str]]) -> int:
    wanted = _id(name)
    for fields in groups:
        gid = _id(fields[2])
        if gid is not None and (fields[0] == name or gid == wanted):
            return gid
    if wanted is None:
        raise NotFound(
            f"group {name} isn't in the container's /etc/group",
            hint="use a number for a group without an entry",
        )
    return _checked(wanted, name)


def _lines(root: str, path: str, count: int) -> Iterator[list[str]]:
    """Yield the fields of each line that has enough of them; none when there is no such file."""
    try:
        content = beneath.read(root, path)
    except OSError:  # an image without accounts is a fine image: numbers still work
        return
    for line in content.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.split(":")
        if len(fields) >= count and not line.startswith("#"):
            yield fields


def _id(text: str) -> int | None:
    """Return the number that is written here, if it can be an id; 2**32 - 1 means "none"."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        return None
    return int(text) if int(text) < 2**32 - 1 else None


def _checked(number: int, text: str) -> int:
    if number > _GREATEST:
        raise InvalidArgument(f"id {text} is out of range: 0 to {_GREATEST}")
    return number
