"""Container ids: what may be one.

Source: OCI runtime-spec, ``runtime.md`` "State", which leaves the form to the runtime.
"""

from __future__ import annotations

from cloche.errors import InvalidArgument

LENGTH = 255
"""``NAME_MAX``, the most bytes of a file's name: the container's directory has it."""
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+_.-")


def check_id(identifier: str) -> str:
    """Return a container id that is fit to be a file name everywhere.

    Raises InvalidArgument unless it is 1 to 255 of ``A-Z a-z 0-9 + _ . -``, and neither ``.`` nor
    ``..``.
    """
    if not identifier or len(identifier) > LENGTH:
        raise InvalidArgument(f"container id must have 1 to {LENGTH} letters")
    if identifier in (".", "..") or not _LETTERS.issuperset(identifier):
        raise InvalidArgument(
            f"invalid container id format: {identifier!r} isn't fit to be a name",
            hint="use the letters A-Z a-z 0-9 + _ . - only",
        )
    return identifier
