"""Reading and writing the files of a cgroup, their common forms."""

from __future__ import annotations


def keyed(text: str) -> dict[str, int]:
    """Return a flat keyed file, such as ``cpu.stat``: lines of a name and a number."""
    values = {}
    for line in text.splitlines():
        name, _, number = line.rpartition(" ")
        if name and number.isdigit():
            values[name] = int(number)
    return values


def read(path: str) -> str:
    """Return what a cgroup file holds, without the white space around it.

    Raises OSError.
    """
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def read_number(path: str) -> int | None:
    """Return the number in a cgroup file; None for no limit, or where there is no such file."""
    try:
        text = read(path)
    except FileNotFoundError:
        return None
    # Unlimited is "max" on v2, -1 for a v1 quota, and for the memory of v1 the range of the
    # kernel's counter of pages, a little under 2^63.
    if text == "max" or int(text) < 0 or int(text) >= 1 << 62:
        return None
    return int(text)


def write(path: str, value: str) -> None:
    """Write a value into a cgroup file, in one write as the kernel wants.

    Raises OSError.
    """
    with open(path, "wb", buffering=0) as file:
        file.write(value.encode())
