"""The wall of the root in a script: mounts, devices, and what is hidden.

Mounts are made by mount(8), which resolves paths as text.  ``place_inside`` and its kin see to
symbolic links, which is enough as long as nobody changes the tree meanwhile; the launcher's
openat2 and mounts by file descriptor don't depend on that.
"""

from __future__ import annotations

import stat

from cloche.kernel import flags
from cloche.plan.describe import Arguments, attribute_words, propagation_word
from cloche.plan.shell.pieces import (
    BEFORE_PIVOT,
    HELPED,
    PIVOT,
    Facts,
    Piece,
    here,
    not_done,
    remark,
)
from cloche.plan.shell.quoting import word, words
from cloche.plan.steps import BENEATH_CONTENT, BENEATH_MODE, BENEATH_OWNER, NO_SLOT

_CLEARED = {
    "ro": "rw",
    "nosuid": "suid",
    "nodev": "dev",
    "noexec": "exec",
    "nodiratime": "diratime",
    "nosymfollow": "symfollow",
}
_MAPS = remark("needs util-linux 2.39, whose mount(8) can map owners")
_BENEATH = (
    (BENEATH_CONTENT, "content"),
    (BENEATH_OWNER, "owner"),
    (BENEATH_MODE, "mode"),
)
_NODE_TYPES = {stat.S_IFCHR: "c", stat.S_IFBLK: "b", stat.S_IFIFO: "p"}


def propagation(a: Arguments, facts: Facts) -> list[Piece]:
    """Change every mount; in the new root from outside, where mount(8) can be reached."""
    kind = propagation_word(a.number("flags") | flags.MS_REC)
    if facts.before_pivot:
        return [here(f"mount --make-{kind} /")]
    return [Piece(PIVOT, (f'"${{enter[@]}}" mount --namespace "$pid" --make-{kind} /',))]


def open_tree(_: Arguments, __: Facts) -> list[Piece]:
    """Leave it to ``bind``, which has the host's help then."""
    return [
        remark("a shell can't hold a mount that is nowhere: the host binds it when its turn comes")
    ]


def idmap_tree(_a: Arguments, _: Facts) -> list[Piece]:
    """Leave it to ``attach_tree``."""
    return [remark("the host makes it when it is attached: a shell can't hold a mount")]


def attach_tree(a: Arguments, facts: Facts) -> list[Piece]:
    """Bind a directory with mapped owners."""
    slot = a.number("slot")
    source = facts.slots[slot]
    words = f"--bind {word(source)} {word(a.text('path'))} {facts.mapped[slot, source]}"
    return [_MAPS, Piece(HELPED, (f"bind_mapped {words}",))]


def mount_on_host(a: Arguments, _: Facts) -> list[Piece]:
    """Mount a file system where the path is the host's."""
    return _new_mount(a, word(a.text("path")))


def make_dir_on_mount(a: Arguments, _: Facts) -> list[Piece]:
    """Make a directory where the path is the host's."""
    return [here(f"mkdir --mode={a.number('mode'):o} -- {word(a.text('path'))}")]


def open_root(a: Arguments, _: Facts) -> list[Piece]:
    """Make the root a mount point; ``$root`` has been its path from the start of the script."""
    if not a.number("clone"):
        return [remark("nothing to do: a shell has no descriptor to open, only the path in $root")]
    bind = "--rbind" if a.number("recursive") else "--bind"
    source = '"$root"'
    slot = a.number("slot")
    if slot == NO_SLOT:
        return [here(f'mount {bind} -- {source} "$root"')]
    return [Piece(HELPED, (f'mount {bind} -- {source} "$root"', 'mount --make-rprivate "$root"'))]


def mount(a: Arguments, _: Facts) -> list[Piece]:
    """Mount a file system in the container."""
    pieces = _new_mount(a, '"$REPLY"')
    lines = [f"directory_inside {word(a.text('dest'))}", *pieces[-1].lines]
    taken = [name for bit, name in _BENEATH if a.number("beneath") & bit]
    if taken:
        lines = [
            f"open_beneath {word(a.text('dest'))}",
            pieces[-1].lines[0],
            f"take_over {' '.join(taken)}",
            *pieces[-1].lines[1:],
        ]
    kind = propagation_word(a.number("propagation"))
    if kind:
        lines.append(f'mount --make-{kind} "$REPLY"')
    return [*pieces[:-1], here(*lines)]


def _new_mount(a: Arguments, place: str) -> list[Piece]:
    attributes = attribute_words(a.number("attributes"))
    # "ro" in the same command would make the file system read-only for all its mounts.
    readonly = "ro" in attributes
    options = [option for option in attributes if option != "ro"] + list(a.words("options"))
    given = f"--options {word(','.join(options))} " if options else ""
    source = word(a.text("source") or "none")
    lines = [f"mount --types {word(a.text('fstype'))} {given}-- {source} {place}"]
    if readonly:
        lines.append(f"mount --options remount,bind,ro {place}")
    pieces = [
        remark(f"mount(8) takes the comma in {option} for the end of the option")
        for option in options
        if "," in option
    ]
    return [*pieces, here(*lines)]


def bind(a: Arguments, facts: Facts) -> list[Piece]:
    """Bind something of the host, then change the mount: mount(2) can't do both at once."""
    how = "--rbind" if a.number("recursive") else "--bind"
    mapped = facts.mapped.get((a.number("slot"), a.text("source")))
    lines = [f"bind_inside {how} {words([a.text('source'), a.text('dest')])}"]
    if mapped:
        lines = [
            f"mount_point {words([a.text('source'), a.text('dest')])}",
            f'bind_mapped {how} {word(a.text("source"))} "$REPLY" {mapped}',
        ]
    for options, recursive in (
        (_changes(a.number("set_recursive"), a.number("clear_recursive")), True),
        (_changes(a.number("set"), a.number("clear")), False),
    ):
        if options:
            lines.append(_remount(options, recursive))
    kind = propagation_word(a.number("propagation"))
    if kind:
        lines.append(f'mount --make-{kind} "$REPLY"')
    if a.number("slot") == NO_SLOT:
        return [here(*lines)]
    pieces = [*([_MAPS] if mapped else []), Piece(HELPED, tuple(lines))]
    if kind.lstrip("r") in ("shared", "slave"):
        pieces.insert(
            0,
            remark(
                "the mount isn't connected with the host's: a shell can only bind the copy in the "
                "child's mount namespace, which was made private"
            ),
        )
    return pieces


def mount_attributes(a: Arguments, facts: Facts) -> list[Piece]:
    """Change a mount of the container, before the pivot since later mount(8) can't find it."""
    options = _changes(a.number("set"), a.number("clear"))
    lines = [f"place_inside {word(a.text('dest'))}"]
    if options:
        lines.append(_remount(options, bool(a.number("recursive"))))
    kind = propagation_word(a.number("propagation"))
    if kind:
        lines.append(f'mount --make-{kind} "$REPLY"')
    if facts.before_pivot:
        return [here(*lines)]
    return [Piece(BEFORE_PIVOT, tuple(lines))]


def reconfigure(a: Arguments, facts: Facts) -> list[Piece]:
    """Change options of a file system; without "bind" mount(8) means the file system."""
    options = word(",".join(("remount", *a.words("options"))))
    lines = (f"place_inside {word(a.text('dest'))}", f'mount --options {options} "$REPLY"')
    if facts.before_pivot:
        return [here(*lines)]
    return [Piece(BEFORE_PIVOT, lines)]


def _remount(options: str, recursive: bool) -> str:
    if recursive:
        return f'remount_beneath "$REPLY" {options}'
    return f'mount --options remount,bind,{options} "$REPLY"'


def _changes(set_bits: int, clear_bits: int) -> str:
    """Return ``MOUNT_ATTR_*`` to set and clear as options that mount(8) adds to those there are."""
    wanted = attribute_words(set_bits)
    cleared = [_CLEARED[name] for name in attribute_words(clear_bits) if name in _CLEARED]
    if clear_bits & flags.MOUNT_ATTR__ATIME and not set_bits & flags.MOUNT_ATTR__ATIME:
        cleared.append("relatime")
    return ",".join(cleared + wanted)


def make_dir_in_root(a: Arguments, _: Facts) -> list[Piece]:
    """Make a directory in the container unless it is there."""
    owner = f"{a.number('uid')}:{a.number('gid')}"
    return [
        here(
            f"place_inside {word(a.text('dest'))}",
            "if [[ ! -d $REPLY ]]; then",
            '    mkdir --parents -- "${REPLY%/*}"',
            f'    mkdir --mode={a.number("mode"):o} -- "$REPLY"',
            f'    chown --no-dereference -- {owner} "$REPLY"',
            "fi",
        )
    ]


def make_link_in_root(a: Arguments, _: Facts) -> list[Piece]:
    """Make a symbolic link in the container unless there is something by its name."""
    return [
        here(
            f"entry_inside {word(a.text('dest').rstrip('/'))}",
            f'[[ -e $REPLY || -L $REPLY ]] || ln --symbolic -- {word(a.text("target"))} "$REPLY"',
        )
    ]


def make_node(a: Arguments, _: Facts) -> list[Piece]:
    """Make a device node in the container."""
    mode = a.number("mode")
    kind = _NODE_TYPES[stat.S_IFMT(mode)]
    numbers = [] if kind == "p" else [a.number("major"), a.number("minor")]
    owner = f"{a.number('uid')}:{a.number('gid')}"
    path = a.text("dest").rstrip("/")
    return [here(f"make_node {words([path, f'{mode & 0o7777:o}', owner, kind, *numbers])}")]


def mask(a: Arguments, _: Facts) -> list[Piece]:
    """Hide a path of the container, if it is there."""
    return [here(f"hide {word(a.text('dest'))}")]


def readonly(a: Arguments, _: Facts) -> list[Piece]:
    """Make a path of the container read-only, if it is there."""
    return [here(f"make_readonly {word(a.text('dest'))}")]


def sysctl(a: Arguments, _: Facts) -> list[Piece]:
    """Write a kernel parameter: the kernel looks at the namespaces of who opens the file."""
    return [here(f"printf %s {word(a.text('value'))} >{word('/proc/sys/' + a.text('path'))}")]


def pivot_root(_a: Arguments, _: Facts) -> list[Piece]:
    """Move the child into its root, from outside.

    pivot_root(2) also moves other processes of the mount namespace whose root was the old one.
    The old root then lies upon the new one, and who enters the mount namespace arrives there: so
    that umount is found.
    """
    return [
        remark("done by the host, since the child would find no program of the host's any more"),
        Piece(
            PIVOT,
            (
                '"${enter[@]}" --mount bash -euc enter_root',
                '"${enter[@]}" --mount umount --lazy /',
            ),
        ),
    ]


def move_root(_a: Arguments, _: Facts) -> list[Piece]:
    """Leave it out: chroot(1) is the child's own to do, and it would find no program afterwards."""
    return [
        not_done("a shell can't move its own root onto the host's and go on: its script pivots"),
        *pivot_root(_a, _),
    ]
