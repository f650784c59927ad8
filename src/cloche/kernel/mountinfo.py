"""What is mounted where: a parser of ``/proc/PID/mountinfo``, proc_pid_mountinfo(5).

One line is one mount::

    36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    id |  dev  root  path  attributes optional  | fstype source super options
       parent                                   separator

White space, backslash and ``#`` in a name are written as a backslash and three octal digits,
so that a line can be split at its blanks.
"""

from __future__ import annotations

from cloche.record import Record


class Mount(Record):
    """One mount; every name is decoded."""

    id: int
    parent: int
    major: int
    minor: int
    root: str
    """The directory of the file system that is the root of this mount."""
    path: str
    """Where it is mounted, seen from the reading process's root."""
    attributes: tuple[str, ...]
    optional: tuple[str, ...]
    """Propagation: ``shared:N``, ``master:N``, ``propagate_from:N``, ``unbindable``."""
    fstype: str
    source: str
    options: tuple[str, ...]
    """Options of the file system itself, the same in all of its mounts."""


def parse(text: str) -> list[Mount]:
    """Return the mounts that a mountinfo file lists.

    Raises ValueError when the text isn't of the form described above.
    """
    # Not splitlines(): a name may hold characters, such as U+2028, that it takes for a line end.
    return [_parse_line(line) for line in text.split("\n") if line]


def _parse_line(line: str) -> Mount:
    fields = line.split(" ")
    try:
        separator = fields.index("-", 6)
        # A source may be empty, and old kernels then write two blanks in a row: that is a field
        # like any other to split(" ").
        fstype, source, options = fields[separator + 1 : separator + 4]
        major, minor = fields[2].split(":")
        return Mount(
            int(fields[0]),
            int(fields[1]),
            int(major),
            int(minor),
            unescape(fields[3]),
            unescape(fields[4]),
            tuple(fields[5].split(",")),
            tuple(fields[6:separator]),
            unescape(fstype),
            unescape(source),
            tuple([unescape(option) for option in options.split(",")]),
        )
    except (ValueError, IndexError) as error:
        raise ValueError(f"not a line of mountinfo: {line!r}") from error


def unescape(field: str) -> str:
    r"""Decode the octal escapes of a field: ``\040`` is a blank.

    A backslash before anything else stands for itself.
    """
    if "\\" not in field:
        return field
    first, *rest = field.split("\\")
    parts = [first]
    for part in rest:
        digits = part[:3]
        if len(digits) == 3 and digits[0] in "01" and _octal(digits):
            parts.append(chr(int(digits, 8)) + part[3:])
        else:
            parts.append("\\" + part)
    return "".join(parts)


def _octal(digits: str) -> bool:
    return all(digit in "01234567" for digit in digits)
