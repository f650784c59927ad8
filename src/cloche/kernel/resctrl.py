"""resctrl: shares of a processor's caches and memory bandwidth, by groups of tasks.

Each directory of the file system is a group; ``schemata`` holds its shares, ``tasks`` its threads,
``mon_groups`` the groups that are only counted.  Intel calls it RDT, AMD QoS.

Source: Linux, Documentation/filesystems/resctrl.rst.
"""

from __future__ import annotations

from cloche.record import Record

ROOT = "/"
"""The group that is there from the start, the directory of the file system itself."""


class Resctrl(Record):
    """What a plan must know of resctrl."""

    mount: str = ""
    """Where it is mounted; empty if it isn't."""
    schemata: str | None = None
    """The shares of the group that was looked for; None if there is no such group."""


def look(group: str, proc: str = "/proc/self") -> Resctrl:
    """Return where resctrl is mounted, and what a group has; ``group`` may be empty for none."""
    from cloche.kernel import mountinfo

    with open(f"{proc}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line for line in file.read().split("\n") if " - resctrl " in line]
    if not lines:
        return Resctrl()
    # The first is as good as any other: all mounts show the same file system.
    mount = mountinfo.parse(lines[0])[0].path
    if not group:
        return Resctrl(mount)
    try:
        with open(f"{place(mount, group)}/schemata", encoding="ascii") as file:
            return Resctrl(mount, file.read())
    except FileNotFoundError:
        return Resctrl(mount)


def place(mount: str, group: str) -> str:
    """Return the directory of a group."""
    return mount if group == ROOT else f"{mount}/{group}"


def differs(schemata: str, wanted: str) -> bool:
    """Whether a group's shares are others than a line such as ``L3:0=7ff;1=1f`` wants.

    Shares that the line doesn't name may be anything; white space and leading zeros don't count.
    """
    resource, _, shares = wanted.partition(":")
    for line in schemata.splitlines():
        name, _, present = line.partition(":")
        if name.strip() == resource.strip():
            return not _shares(shares).items() <= _shares(present).items()
    return True


def _shares(text: str) -> dict[str, str]:
    pairs = [share.partition("=") for share in text.split(";") if share.strip()]
    return {id.strip(): value.strip().lower().lstrip("0") for id, _, value in pairs}
