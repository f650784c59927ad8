"""The wall of privileges in a script: prlimit, setarch and setpriv before the program starts."""

from __future__ import annotations

import signal

from cloche.kernel import capabilities as caps
from cloche.kernel import flags
from cloche.plan.describe import Arguments, rlimit_word
from cloche.plan.shell.pieces import CHAIN, SETPRIV, Facts, Piece, here, not_done, remark
from cloche.plan.shell.quoting import word
from cloche.plan.steps import HOST

_RLIMIT_OPTIONS = {
    number: name.removeprefix("RLIMIT_").lower() for name, number in flags.RLIMITS.items()
}
_ARCHITECTURES = {0x0000: "linux64", 0x0008: "linux32"}


def keyring(_a: Arguments, _: Facts) -> list[Piece]:
    """Leave out the keyring."""
    return [not_done("the program keeps the caller's session keyring; util-linux can't change it")]


def rlimit(a: Arguments, _: Facts) -> list[Piece]:
    """Set a resource limit."""
    soft, hard = (rlimit_word(a.number(name)) for name in ("soft", "hard"))
    option = _RLIMIT_OPTIONS.get(a.number("resource"))
    if option is None:
        return [not_done(f"prlimit(1) doesn't know resource {a.number('resource')}")]
    if a.step.stage == HOST:
        return [here(f'prlimit --pid="$pid" --{option}={soft}:{hard}')]
    return [Piece(CHAIN, (f"prlimit --{option}={soft}:{hard}",))]


def oom_score_adj(a: Arguments, _: Facts) -> list[Piece]:
    """Set the OOM score adjustment."""
    return [here(f"echo {a.number('value')} >/proc/self/oom_score_adj")]


def personality(a: Arguments, _: Facts) -> list[Piece]:
    """Set the execution domain."""
    architecture = _ARCHITECTURES.get(a.number("persona"))
    if architecture is None:
        return [not_done(f"setarch(8) has no name for the personality {a.number('persona'):#x}")]
    return [Piece(CHAIN, (f"setarch {architecture}",))]


def umask(a: Arguments, _: Facts) -> list[Piece]:
    """Set the file mode creation mask."""
    return [here(f"umask {a.number('mask'):04o}")]


def lsm_label(a: Arguments, _: Facts) -> list[Piece]:
    """Ask for a security label on exec."""
    if a.text("attribute") == "apparmor/exec":
        profile = a.text("label").removeprefix("exec ")
        return [Piece(SETPRIV, (f"--apparmor-profile={word(profile)}",))]
    return [Piece(SETPRIV, (f"--selinux-label={word(a.text('label'))}",))]


def bounding_set(a: Arguments, _: Facts) -> list[Piece]:
    """Bound the capabilities."""
    return [Piece(SETPRIV, (f"--bounding-set={_list(a.number('keep'))}",))]


def identity(a: Arguments, facts: Facts) -> list[Piece]:
    """Become a user, at once where the namespaces are still to be filled."""
    packed = a.blob("groups")
    groups = [int.from_bytes(packed[at : at + 4], "little") for at in range(0, len(packed), 4)]
    options = [f"--reuid={a.number('uid')}", f"--regid={a.number('gid')}"]
    if not a.number("set_groups"):
        options.append("--keep-groups")
    elif groups:
        options.append(f"--groups='{','.join(map(str, groups))}'")
    else:
        options.append("--clear-groups")
    if not facts.before_pivot:
        return [Piece(SETPRIV, tuple(options))]
    if a.number("uid") == 0:
        # They were only to last until here: from here on exec gives them, as to any root.
        options += ["--inh-caps=-all", "--ambient-caps=-all"]
    return [Piece(CHAIN, (f"setpriv {' '.join(options)}",))]


def capabilities(a: Arguments, facts: Facts) -> list[Piece]:
    """Set those two sets that exec doesn't make anew; it makes the others the same way."""
    pieces = [
        Piece(
            SETPRIV,
            (
                f"--inh-caps={_list(a.number('inheritable'))}",
                f"--ambient-caps={_list(a.number('ambient'))}",
            ),
        )
    ]
    given = facts.bounding | a.number("inheritable")
    if facts.no_new_privs and facts.uid == 0 and given & ~a.number("permitted"):
        pieces.insert(
            0,
            remark(
                "setpriv(1) can't take from the permitted set what the bounding set keeps, so the "
                "program has more than here: no_new_privs would keep exec from giving it back"
            ),
        )
    return pieces


def parent_death_signal(a: Arguments, _: Facts) -> list[Piece]:
    """Have a signal sent when the parent dies, which is unshare(1) here."""
    name = signal.Signals(a.number("signal")).name.removeprefix("SIG")
    return [Piece(SETPRIV, (f"--pdeathsig={name}",))]


def no_new_privs(_a: Arguments, _: Facts) -> list[Piece]:
    """Forbid gaining privileges by exec."""
    return [Piece(SETPRIV, ("--no-new-privs",))]


def landlock(_a: Arguments, _: Facts) -> list[Piece]:
    """Leave out Landlock."""
    return [
        not_done(
            "the rules are for paths in the container, and no program of the host can open them "
            "there (setpriv --landlock-access, since util-linux 2.40, takes the host's)"
        )
    ]


def seccomp(_a: Arguments, _: Facts) -> list[Piece]:
    """Leave out the filter."""
    return [
        not_done(
            "a shell can't install a filter of system calls, so that the program may make all of "
            "them (setpriv --seccomp-filter does it, since util-linux 2.41)"
        )
    ]


def _list(bits: int) -> str:
    """Return a set of capabilities as setpriv(1) wants it: relative to none."""
    names = [name.lower() for name in caps.names(bits)]
    # A capability newer than its table keeps the prefix: cap_41.
    short = [name.removeprefix("cap_") for name in names]
    known = [
        name if number.isdigit() else number for name, number in zip(names, short, strict=True)
    ]
    return f"'{','.join(['-all', *(f'+{name}' for name in known)])}'"
