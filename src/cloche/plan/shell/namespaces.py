"""The walls of namespaces and cgroups in a script: unshare, nsenter, and files of the kernel."""

from __future__ import annotations

from cloche.kernel import flags
from cloche.plan.describe import Arguments
from cloche.plan.shell.pieces import CHAIN, Facts, Piece, here, not_done, remark
from cloche.plan.shell.quoting import word, words
from cloche.plan.steps import NO_SLOT

_OPTIONS = {
    flags.CLONE_NEWUSER: "--user",
    flags.CLONE_NEWNS: "--mount",
    flags.CLONE_NEWUTS: "--uts",
    flags.CLONE_NEWIPC: "--ipc",
    flags.CLONE_NEWNET: "--net",
    flags.CLONE_NEWPID: "--pid",
    flags.CLONE_NEWCGROUP: "--cgroup",
    flags.CLONE_NEWTIME: "--time",
}
"""What unshare(1) and nsenter(1) call the namespaces."""

_RELAYED = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2")


def cgroup_parent(a: Arguments, _: Facts) -> list[Piece]:
    """Make a cgroup that stays."""
    return [here(f"mkdir --parents -- {word(a.text('path'))}")]


def cgroup_create(a: Arguments, _: Facts) -> list[Piece]:
    """Make a cgroup of the container's own."""
    path = word(a.text("path"))
    parents = "--parents " if a.number("take") else ""
    return [here(f"mkdir {parents}-- {path}", f"made+=({path})")]


def cgroup_adopt(a: Arguments, _: Facts) -> list[Piece]:
    """Note a cgroup that is there."""
    return [here(f"made+=({word(a.text('path'))})")]


def cgroup_delegate(a: Arguments, _: Facts) -> list[Piece]:
    """Give a cgroup to a user."""
    path, uid = word(a.text("path")), a.number("uid")
    files = f"cd {path} && chown --silent -- {uid} . $(cat /sys/kernel/cgroup/delegate) || :"
    return [here(f"({files})")]


def end_placeholder(a: Arguments, _: Facts) -> list[Piece]:
    """Kill the process that keeps a scope."""
    return [here(f"kill -s KILL {a.number('pid')}")]


def cgroup_inherit(a: Arguments, _: Facts) -> list[Piece]:
    """Copy the CPUs and memory nodes of the group above."""
    path, above = a.text("path"), a.text("path").rpartition("/")[0]
    lines = []
    for file in ("cpuset.cpus", "cpuset.mems"):
        own = word(f"{path}/{file}")
        lines.append(f'[[ "$(<{own})" ]] || cat -- {word(f"{above}/{file}")} >{own}')
    return [here(*lines)]


def cgroup_offer(a: Arguments, _: Facts) -> list[Piece]:
    """Pass on the controllers that can be."""
    path = word(a.text("path"))
    return [here(f"for name in {a.text('value')}; do echo $name >{path} || :; done 2>/dev/null")]


def device_filter(_a: Arguments, _: Facts) -> list[Piece]:
    """Leave out the program."""
    return [
        not_done(
            "a shell can't load an eBPF program, so that the container may open every device that "
            "it has a node of"
        )
    ]


def cgroup_set(a: Arguments, _: Facts) -> list[Piece]:
    """Write a limit, and read it back."""
    return [here(f"set_limit {words([a.text('path'), a.text('value'), a.text('expect').strip()])}")]


def cgroup_open(_a: Arguments, _: Facts) -> list[Piece]:
    """Leave it to ``spawn``."""
    return [remark("a shell's child can't be born in a cgroup: it is moved there when it is made")]


def cgroup_join(a: Arguments, _: Facts) -> list[Piece]:
    """Have the child move itself into a cgroup."""
    return [here(f"echo 0 >{word(a.text('path') + '/tasks')}")]


def open_namespace(_a: Arguments, _: Facts) -> list[Piece]:
    """Leave it to ``spawn``."""
    return [remark("opened by nsenter(1) when the child is made")]


def join_namespace(a: Arguments, _: Facts) -> list[Piece]:
    """Join a namespace by its path."""
    option = _OPTIONS[a.number("kind")]
    # Without --no-fork nsenter would stay to wait for who enters a pid namespace.
    joined = word(f"{option}={a.text('path')}")
    return [Piece(CHAIN, (f"nsenter --no-fork {joined}",))]


def spawn(a: Arguments, facts: Facts) -> list[Piece]:
    """Make the child as a coprocess: its pipes are the baton that passes to and fro."""
    kinds = a.number("kinds")
    command = ["unshare", *_options(kinds)]
    if kinds & flags.CLONE_NEWNS:
        command.append("--propagation=unchanged")
    if kinds & flags.CLONE_NEWUSER:
        # Without ids exec would take all capabilities away, and the ids come later.
        command.append("--keep-caps")
    lines = []
    if a.number("joined") != NO_SLOT:
        # nsenter becomes the root of the namespace, which needs a privilege; without it the
        # caller has to be that already.
        option = word(f"--user={facts.slots[a.number('joined')]}")
        lines = [f"chain+=(nsenter {option})", "((EUID == 0)) || chain+=(--preserve-credentials)"]
    lines += [
        "coproc container {",
        '    exec setpriv --pdeathsig=KILL "${chain[@]}" \\',
        f"        {' '.join(command)} \\",
        "        bash -euc start_child",
        "}",
        "launched=$!",
        'exec {ready}<&"${container[0]}" {gate}>&"${container[1]}"',
        'read -r pid <&"$ready"',
        "export pid",
        *(
            [f"trap 'kill -s {name} \"$pid\"' {name}" for name in _RELAYED]
            if facts.relays_signals
            else []
        ),
        'enter=(nsenter --target "$pid")',
        "((EUID == 0)) || enter+=(--user --preserve-credentials)",
    ]
    if a.number("cgroup") != NO_SLOT:
        path = f"{facts.slots[a.number('cgroup')]}/cgroup.procs"
        lines.append(f'echo "$pid" >{word(path)}')
    return [here(*lines)]


def unshare(a: Arguments, _: Facts) -> list[Piece]:
    """Leave namespaces for new ones."""
    return [Piece(CHAIN, (f"unshare {' '.join(_options(a.number('kinds')))}",))]


def time_namespace(a: Arguments, _: Facts) -> list[Piece]:
    """Make a time namespace; unshare(1) takes whole seconds."""
    words = ["unshare --time"]
    pieces = []
    for clock, seconds, nanoseconds in (line.split() for line in a.text("offsets").splitlines()):
        words.append(f"--{clock}={seconds}")
        if int(nanoseconds):
            pieces.append(not_done(f"unshare(1) leaves out the {nanoseconds} ns of {clock}"))
    return [*pieces, Piece(CHAIN, (" ".join(words),))]


def deny_setgroups(_a: Arguments, _: Facts) -> list[Piece]:
    """Forbid setgroups in the child's user namespace."""
    return [here('echo deny >"/proc/$pid/setgroups"')]


def id_map(a: Arguments, _: Facts) -> list[Piece]:
    """Write a map of ids: the kernel takes it in one piece, and once only."""
    name = "gid_map" if a.number("group") else "uid_map"
    return [here(f'printf %s {word(a.text("map"))} >"/proc/$pid/{name}"')]


def id_map_program(a: Arguments, _: Facts) -> list[Piece]:
    """Have newuidmap or newgidmap write a map of ids."""
    program, *ids = a.words("argv")
    return [here(f'{word(program)} "$pid" {words(ids)}')]


def hostname(a: Arguments, facts: Facts) -> list[Piece]:
    """Set the hostname."""
    return _name("hostname", a.text("name"), facts)


def domainname(a: Arguments, facts: Facts) -> list[Piece]:
    """Set the domain name."""
    return _name("domainname", a.text("name"), facts)


def _name(which: str, name: str, facts: Facts) -> list[Piece]:
    if not facts.in_user_namespace:
        return [here(f"printf %s {word(name)} >/proc/sys/kernel/{which}")]
    # sysctl_perm() of the kernel lets only the host's root write there.
    return [
        remark(f"by {which}(1), which isn't of util-linux: /proc/sys is the host root's to write"),
        here(f"{which} {word(name)}"),
    ]


def loopback_up(_a: Arguments, _: Facts) -> list[Piece]:
    """Bring up the loopback interface, if that can be done."""
    return [
        remark("by ip(8), where it is installed: nothing in util-linux brings up an interface"),
        here(
            "if command -v ip >/dev/null; then",
            "    ip link set dev lo up",
            "else",
            "    echo 'the loopback interface stays down: there is no ip(8)' >&2",
            "fi",
        ),
    ]


def net_device(a: Arguments, _: Facts) -> list[Piece]:
    """Move a network device, with ip(8)."""
    name, inside = a.text("name"), a.text("inside")
    if "%" in inside:
        return [not_done(f"ip(8) doesn't tell under which name {name} arrives")]
    place = word(a.text("path")) if a.text("path") else '"/proc/$pid/ns/net"'
    return [
        remark("by ip(8): nothing in util-linux moves an interface"),
        here(f"move_net_device {words([name, inside])} {place}"),
    ]


def _options(kinds: int) -> list[str]:
    return [option for kind, option in _OPTIONS.items() if kinds & kind]
