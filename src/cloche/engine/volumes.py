"""The options ``--volume``, ``--mount`` and ``--tmpfs``: what else is shown in the container.

All three say the same kind of thing in grammars of their own; here they become ``Volume``.
"""

from __future__ import annotations

import os

from cloche.engine.values import absolute, size
from cloche.errors import InvalidArgument, Unsupported
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

BIND = "bind"
TMPFS = "tmpfs"
OVERLAY = "overlay"
"""A directory of the host, with a throw-away layer for what is written."""

_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_WITHOUT_EFFECT = ("z", "Z", "cached", "delegated", "consistent", "nocopy", "volume-nocopy")
"""SELinux labels (no policy of ours needs them), hints for other platforms, and what is only
about named volumes."""
_SYNONYMS = {
    "src": "source",
    "dst": "destination",
    "target": "destination",
    "ro": "readonly",
}
_TMPFS_DEFAULTS = ("noexec", "nosuid", "nodev")
_TMPFS_SWITCHES = {
    word: opposite
    for on, off in (("exec", "noexec"), ("suid", "nosuid"), ("dev", "nodev"), ("rw", "ro"))
    for word, opposite in ((on, off), (off, on))
}
_TMPFS_SETTINGS = ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge")
_TMPFS_FLAGS = ("atime", "noatime", "diratime", "nodiratime", "relatime", "strictatime", "sync")


class Volume(Record):
    """A mount that the user asked for."""

    kind: str
    """``bind``, ``tmpfs`` or ``overlay``."""
    source: str
    """The absolute path on the host; empty for tmpfs."""
    destination: str
    """The absolute path in the container, without needless slashes or dots."""
    options: tuple[str, ...] = ()
    """As in a runtime spec."""
    create: bool = False
    """Whether to make the directory on the host when it is missing, as ``--volume`` does."""


def volume(text: str) -> Volume:
    """Return what ``--volume HOST:CONTAINER[:OPTION,...]`` asks for.

    Raises InvalidArgument when it isn't of this form, and Unsupported for named and anonymous
    volumes.
    """
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise _invalid("volume", text, "write /HOST/PATH:/CONTAINER/PATH[:OPTION,...]")
    if len(parts) == 1 or not parts[0].startswith(("/", ".")):
        what = f"volume {parts[0]!r}" if len(parts) > 1 else "anonymous volume"
        hint = "write an absolute path, or one that begins with ./, to show a host directory"
        raise Unsupported(f"{what}: only directories and files of the host can be shown", hint=hint)
    options = parts[2].split(",") if len(parts) == 3 else []
    kind, recursive, chosen = BIND, "rbind", []
    for option in options:
        if option == "O":
            kind = OVERLAY
        elif option == "ro":
            chosen.append("rro")
        elif option in _PROPAGATIONS:
            chosen.append(option)
        elif option not in ("rw", *_WITHOUT_EFFECT):
            raise _invalid("volume", text, f"{option!r} is no option; ro, rw, O, rslave ... are")
    if sum(option in _PROPAGATIONS for option in chosen) > 1 or {"ro", "rw"} <= set(options):
        raise _invalid("volume", text, "two of its options contradict each other")
    source, destination = absolute(parts[0]), _destination(parts[1])
    if kind == OVERLAY:
        if chosen:
            raise _invalid("volume", text, "O can't be combined with ro or a propagation")
        return Volume(OVERLAY, source, destination)
    return Volume(BIND, source, destination, (recursive, *chosen), create=True)


def tmpfs(text: str) -> Volume:
    """Return what ``--tmpfs /PATH[:OPTION,...]`` asks for; options are those of mount(8).

    Raises InvalidArgument when it isn't of this form.
    """
    path, colon, rest = text.partition(":")
    options = [*_TMPFS_DEFAULTS]
    for option in rest.split(",") if colon else ():
        name, equals, value = option.partition("=")
        if option in _TMPFS_SWITCHES:
            opposite = _TMPFS_SWITCHES[option]
            options = [kept for kept in options if kept not in (option, opposite)]
            if option not in ("exec", "suid", "dev", "rw"):  # those are how it is without the word
                options.append(option)
        elif option in _TMPFS_FLAGS or (equals and value and name in _TMPFS_SETTINGS):
            options.append(option)
        elif option not in _PROPAGATIONS:
            raise _invalid("tmpfs", text, f"{option!r} is no option of tmpfs")
    return Volume(TMPFS, "", _destination(path), tuple(options))


def mount(text: str) -> Volume:
    """Return what ``--mount type=...,src=...,dst=...`` asks for.

    Raises InvalidArgument for a key that isn't known, or is missing, or isn't for this type, and
    Unsupported for types other than bind and tmpfs.
    """
    fields: dict[str, str] = {}
    for item in _comma_separated(text):
        word, equals, value = item.partition("=")
        key = _SYNONYMS.get(word.lower(), word.lower())
        if key not in ("readonly", "bind-nonrecursive", "bind-create-src") and not value:
            raise _invalid("mount", text, f"{item!r} isn't KEY=VALUE")
        fields[key] = value if equals else "true"
    kind = fields.pop("type", "volume")
    if kind not in (BIND, TMPFS):
        hint = "write type=bind or type=tmpfs"
        raise Unsupported(f"mount {text!r}: type {kind} isn't supported", hint=hint)
    if "destination" not in fields:
        raise _invalid("mount", text, "it has no destination=")
    destination = _destination(fields.pop("destination"))
    fields.pop("consistency", None)
    made = _bind_mount(fields, text) if kind == BIND else _tmpfs_mount(fields, text)
    if fields:
        raise _invalid("mount", text, f"type={kind} has no {next(iter(fields))}")
    return made._replace(destination=destination)


def _bind_mount(fields: dict[str, str], text: str) -> Volume:
    source = fields.pop("source", "")
    if not source:
        raise _invalid("mount", text, "it has no source=")
    readonly = _switch(fields, "readonly", text)
    recursive = "rbind"
    how = fields.pop("bind-recursive", "enabled")
    if how not in ("enabled", "disabled", "writable", "readonly"):
        raise _invalid("mount", text, "bind-recursive is enabled, disabled, writable or readonly")
    if how == "disabled" or _switch(fields, "bind-nonrecursive", text):
        recursive = "bind"
    options = [recursive]
    if readonly:
        options.append("ro" if how == "writable" or recursive == "bind" else "rro")
    elif how in ("writable", "readonly"):
        raise _invalid("mount", text, f"bind-recursive={how} needs readonly")
    propagation = fields.pop("bind-propagation", "")
    if propagation and propagation not in _PROPAGATIONS:
        raise _invalid("mount", text, f"bind-propagation is one of {', '.join(_PROPAGATIONS)}")
    if propagation:
        options.append(propagation)
    create = _switch(fields, "bind-create-src", text)
    return Volume(BIND, absolute(source), "", tuple(options), create)


def _tmpfs_mount(fields: dict[str, str], text: str) -> Volume:
    if "source" in fields:
        raise _invalid("mount", text, "type=tmpfs has no source")
    options = [*_TMPFS_DEFAULTS]
    if _switch(fields, "readonly", text):
        options.append("ro")
    if "tmpfs-size" in fields:
        options.append(f"size={size(fields.pop('tmpfs-size'))}")
    if "tmpfs-mode" in fields:
        mode = fields.pop("tmpfs-mode")
        if not (mode.isascii() and mode.isdigit() and set(mode) <= set("01234567")):
            raise _invalid("mount", text, "tmpfs-mode is octal, such as 1777")
        options.append(f"mode={mode}")
    return Volume(TMPFS, "", "", tuple(options))


def _switch(fields: dict[str, str], key: str, text: str) -> bool:
    value = fields.pop(key, "false").lower()
    if value not in ("true", "1", "false", "0"):
        raise _invalid("mount", text, f"{key} is true or false")
    return value in ("true", "1")


def _comma_separated(text: str) -> Iterable[str]:
    """Split as CSV: an item in double quotes may hold commas."""
    if '"' not in text:
        return text.split(",")
    import csv

    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as error:
        raise _invalid("mount", text, str(error)) from error


def _destination(path: str) -> str:
    clean = os.path.normpath(path)
    if not path.startswith("/") or clean.strip("/") == "":
        hint = "write an absolute path in the container, other than /"
        raise InvalidArgument(f"invalid mount point {path!r}", hint=hint)
    return "/" + clean.lstrip("/")


def _invalid(option: str, text: str, problem: str) -> InvalidArgument:
    return InvalidArgument(f"invalid --{option} {text!r}", hint=problem)
