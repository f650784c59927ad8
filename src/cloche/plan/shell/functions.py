"""The bash functions that the commands of more than one step share.

A script holds those that it uses, and exports them to the shells that it starts in the
container's namespaces.  A place is returned in ``REPLY``, as bash's ``read`` does it.
"""

from __future__ import annotations

FUNCTIONS: dict[str, str] = {}
"""By name; a function stands after those that it calls."""


def used(lines: list[str]) -> list[str]:
    """Return the names of the functions that these lines of a script call, directly or not."""
    text = "\n".join(lines)
    names: list[str] = []
    for name in reversed(FUNCTIONS):
        if f"{name} " in text or f"{name}\n" in text:
            names.insert(0, name)
            text += FUNCTIONS[name]
    return names


FUNCTIONS["fail"] = """\
fail() {
    printf '%s\\n' "$1" >&2
    exit 125
}
"""

FUNCTIONS["place_inside"] = """\
# Finds where a path of the container lies beneath $root. Symbolic links are followed as they will
# be in the container: one that begins with "/", or climbs with "..", doesn't lead out of it.
place_inside() {
    local rest=$1 part link links=0
    REPLY=$root
    while [[ -n $rest ]]; do
        part=${rest%%/*}
        rest=${rest#"$part"}
        rest=${rest#/}
        if [[ -z $part || $part == . ]]; then
            continue
        elif [[ $part == .. ]]; then
            [[ $REPLY == "$root" ]] || REPLY=${REPLY%/*}
        elif [[ -L $REPLY/$part ]]; then
            ((++links <= 40)) || fail "$1: too many symbolic links"
            link=$(readlink -- "$REPLY/$part")
            [[ $link != /* ]] || REPLY=$root
            rest=$link/$rest
        else
            REPLY+=/$part
        fi
    done
}
"""

FUNCTIONS["directory_inside"] = """\
# The same, for a directory that is made if it is missing.
directory_inside() {
    place_inside "$1"
    [[ -d $REPLY ]] || mkdir --parents -- "$REPLY"
}
"""

FUNCTIONS["file_inside"] = """\
# The same, for a file that is made if it is missing.
file_inside() {
    place_inside "$1"
    [[ -e $REPLY ]] || {
        mkdir --parents -- "${REPLY%/*}"
        : >"$REPLY"
    }
}
"""

FUNCTIONS["entry_inside"] = """\
# The same, for a name that is to be made: a symbolic link there isn't followed.
entry_inside() {
    directory_inside "${1%/*}"
    REPLY+=/${1##*/}
}
"""

FUNCTIONS["open_beneath"] = """\
# Finds a directory like directory_inside, and keeps what is there now open as $beneath.
open_beneath() { # path
    beneath=
    place_inside "$1"
    [[ ! -d $REPLY ]] || exec {beneath}<"$REPLY"
    directory_inside "$1"
}
"""

FUNCTIONS["take_over"] = """\
# Gives what is mounted at $REPLY now something of what was there before.
take_over() { # any of content, owner, mode
    local from=/proc/self/fd/$beneath what files
    [[ -n $beneath ]] || return 0
    for what; do
        case $what in
            content)
                shopt -s dotglob nullglob
                files=("$from"/*)
                shopt -u dotglob nullglob
                ((${#files[@]} == 0)) ||
                    cp --archive --one-file-system -- "${files[@]}" "$REPLY"
                ;;
            owner) chown --reference="$from/" -- "$REPLY" ;;
            mode) chmod --reference="$from/" -- "$REPLY" ;;
        esac
    done
    exec {beneath}<&-
}
"""

FUNCTIONS["mount_point"] = """\
mount_point() { # what is to be mounted, destination
    if [[ -d $1 ]]; then directory_inside "$2"; else file_inside "$2"; fi
}
"""

FUNCTIONS["bind_inside"] = """\
bind_inside() { # --bind or --rbind, source, destination
    mount_point "$2" "$3"
    mount "$1" -- "$2" "$REPLY"
}
"""

FUNCTIONS["bind_mapped"] = """\
bind_mapped() { # --bind or --rbind, source, place, mapping
    mount "$1" --options "X-mount.idmap=$4" -- "$2" "$3"
    # An older mount(8) ignores the option.
    [[ ,$(findmnt --noheadings --output OPTIONS -- "$3"), == *,idmapped,* ]] ||
        fail "$3: its owners aren't mapped, which needs util-linux 2.39"
}
"""

FUNCTIONS["remount_beneath"] = """\
# Changes a mount and all mounts beneath it, one by one.
remount_beneath() { # place, options
    local places place
    places=$(findmnt --noheadings --list --output TARGET --submounts -- "$1")
    while IFS= read -r place; do
        mount --options "remount,bind,$2" -- "$place"
    done <<<"$places"
}
"""

FUNCTIONS["make_node"] = """\
make_node() { # path, mode, owner, then type and numbers as for mknod
    local numbers
    entry_inside "$1"
    if [[ -e $REPLY || -L $REPLY ]]; then
        printf -v numbers '%x:%x' "${5-0}" "${6-0}"
        if [[ -L $REPLY || $(stat --format=%t:%T -- "$REPLY") != "$numbers" ]] ||
            test ! "-$4" "$REPLY"; then
            fail "$1: something else is there"
        fi
        return
    fi
    mknod --mode="$2" -- "$REPLY" "${@:4}"
    chown --no-dereference -- "$3" "$REPLY"
}
"""

FUNCTIONS["hide"] = """\
hide() { # path
    place_inside "$1"
    if [[ -d $REPLY ]]; then
        mount --types tmpfs --options ro,nosuid,nodev,noexec,size=4k,nr_inodes=2,mode=0755 \\
            tmpfs "$REPLY"
    elif [[ -e $REPLY ]]; then
        mount --bind /dev/null "$REPLY"
        mount --options remount,bind,ro,nosuid,noexec "$REPLY"
    fi
}
"""

FUNCTIONS["make_readonly"] = """\
make_readonly() { # path
    place_inside "$1"
    if [[ -e $REPLY ]]; then
        mount --rbind -- "$REPLY" "$REPLY"
        remount_beneath "$REPLY" ro
    fi
}
"""

FUNCTIONS["move_net_device"] = """\
move_net_device() { # name, name there, network namespace
    local addresses address words word target=${3#/proc/}
    target=${target%/ns/net} # a pid, or else the path of a namespace that has a name
    [[ $target != */* ]] || target=$3
    addresses=$(ip -oneline address show dev "$1" scope global permanent)
    ip link set dev "$1" netns "$target" name "$2"
    while read -r -a words; do
        ((${#words[@]})) || continue
        # 2: eth0 inet ADDRESS/LENGTH [peer ...] [brd ...] scope global ...
        address=()
        for word in "${words[@]:3}"; do
            [[ $word != scope ]] || break
            address+=("$word")
        done
        nsenter --net="$3" ip address add "${address[@]}" dev "$2"
    done <<<"$addresses"
    nsenter --net="$3" ip link set dev "$2" up
}
"""

FUNCTIONS["start_child"] = """\
# Makes the child, PID 1 of a new pid namespace as the first to be made there, and ends as it does.
# (unshare --fork would do, but ends with 1 when the child is killed by SIGKILL.)
start_child() {
    setpriv --pdeathsig=KILL bash -euc child_1 <&0 &
    wait "$!" 2>/dev/null
}
"""

FUNCTIONS["enter_root"] = """\
# Makes $root the root of all processes in this mount namespace. The old one then lies upon it.
enter_root() {
    cd -- "$root"
    pivot_root . .
}
"""

FUNCTIONS["set_limit"] = """\
set_limit() { # file, value, what it must hold then (empty: anything)
    local held
    printf '%s' "$2" >"$1"
    [[ -n $3 ]] || return 0
    read -r -d '' held <"$1" || true
    [[ $held == "$3" ]] || fail "$1: holds '$held' and not '$3'"
}
"""
