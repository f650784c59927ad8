"""The engine's files and the process itself in a script: before, between and after the walls."""

from __future__ import annotations

from cloche.plan.describe import Arguments
from cloche.plan.shell.pieces import CHAIN, INSIDE, Facts, Piece, here, not_done, remark
from cloche.plan.shell.quoting import content, word, words
from cloche.plan.steps import STDIO_NULL, STDIO_PIPE, STDIO_TERMINAL

_SHELLS_OWN = frozenset(("PWD", "OLDPWD", "SHLVL"))
"""Variables that bash sets itself: they are taken away, or set again, at the very end."""


def make_dir(a: Arguments, _: Facts) -> list[Piece]:
    """Make a directory of the host."""
    path = word(a.text("path"))
    if a.number("keep"):
        make = f"install --directory --mode={a.number('mode'):o} -- {path}"
        return [here(f"[[ -d {path} ]] || {make}")]
    return [here(f"mkdir --mode={a.number('mode'):o} -- {path}", f"made+=({path})")]


def make_file(a: Arguments, _: Facts) -> list[Piece]:
    """Make a new file of the host."""
    path = word(a.text("path"))
    return [
        here(
            f"[[ ! -e {path} ]] || fail {word(a.text('path') + ': exists')}",
            f"(umask 077 && printf {content(a.blob('data'))} >{path})",
            f"made+=({path})",
            f"chmod {a.number('mode'):o} -- {path}",
        )
    ]


def make_link(a: Arguments, _: Facts) -> list[Piece]:
    """Make a new symbolic link on the host."""
    path = word(a.text("path"))
    target = word(a.text("target"))
    return [here(f"ln --symbolic --no-target-directory -- {target} {path}", f"made+=({path})")]


def lock(a: Arguments, _: Facts) -> list[Piece]:
    """Make a directory and lock it as long as the script runs."""
    path = word(a.text("path"))
    return [
        here(
            f"mkdir --mode={a.number('mode'):o} -- {path}",
            f"made+=({path})",
            f"exec {{lock}}<{path}",
            'flock --exclusive "$lock"',
        )
    ]


def stdio(a: Arguments, _: Facts) -> list[Piece]:
    """Choose the standard streams; pipes are emptied by ``cat``."""
    lines = []
    pieces: list[Piece] = []
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        sign = "<" if number == 0 else ">"
        kind = a.number(name)
        if kind == STDIO_TERMINAL and not pieces:
            pieces.append(remark("the caller's own terminal: a shell can't make another"))
        if kind == STDIO_NULL:
            lines.append(f"exec {{{name}}}{sign}/dev/null")
        elif kind == STDIO_PIPE and number == 0:
            lines += [f"exec {{{name}}}< <(exec cat <&0)", "feeders+=($!)"]
        elif kind == STDIO_PIPE:
            lines += [f"exec {{{name}}}> >(exec cat >&{number})", "readers+=($!)"]
        else:
            lines.append(f"exec {{{name}}}{sign}&{number}")
    lines += ['streams=("$stdin" "$stdout" "$stderr")', "export stdin stdout stderr"]
    return [*pieces, here(*lines)]


def console(_a: Arguments, _: Facts) -> list[Piece]:
    """Leave out the terminal."""
    return [
        not_done(
            "a shell can't make a pseudo-terminal; the program uses the caller's, and can type "
            "into it (TIOCSTI) where the kernel still allows that"
        )
    ]


def adopt_stdio(_a: Arguments, _: Facts) -> list[Piece]:
    """Put the streams in place."""
    return [
        Piece(
            INSIDE,
            (
                'exec <&"$stdin" >&"$stdout" 2>&"$stderr"',
                "exec {stdin}<&- {stdout}>&- {stderr}>&-",
            ),
        )
    ]


def session(_a: Arguments, _: Facts) -> list[Piece]:
    """Start a session."""
    return [Piece(CHAIN, ("setsid",))]


def chdir(a: Arguments, _: Facts) -> list[Piece]:
    """Enter the working directory, made before while mkdir(1) can be reached."""
    path = word(a.text("path"))
    pieces = [Piece(INSIDE, (f"cd -P -- {path}",))]
    if a.number("create") and a.text("path").strip("/"):
        pieces.insert(0, here(f"directory_inside {path}"))
    return pieces


def close_fds(a: Arguments, _: Facts) -> list[Piece]:
    """Close what the caller left open, but the streams that are still to be put in place."""
    return [
        here(
            "for fd in /proc/self/fd/*; do",
            "    fd=${fd##*/}",
            f"    if ((fd >= {a.number('first')} && fd != stdin && fd != stdout && fd != stderr))",
            "    then",
            "        exec {fd}>&-",
            "    fi",
            "done",
        )
    ]


def init(_a: Arguments, _: Facts) -> list[Piece]:
    """Leave out the init."""
    return [
        not_done(
            "the program is PID 1 itself: a shell there would be seen by it, and get in its way"
        )
    ]


def exec(a: Arguments, _: Facts) -> list[Piece]:
    """Become the program."""
    argv = a.words("argv")
    own = [entry for entry in a.words("env") if entry.partition("=")[0] in _SHELLS_OWN]
    lines = ["unset -v PWD OLDPWD SHLVL"]
    if own:
        lines.append(f"export {words(own)}")
    lines += [
        f"candidates=({words(a.words('candidates'))})",
        "status=127",
        'for program in "${candidates[@]}"; do',
        "    if [[ -f $program && -x $program ]]; then",
        f'        exec -a {words(argv[:1])} "$program" {words(argv[1:])}'.rstrip(),
        "    fi",
        "    [[ ! -e $program ]] || status=126",
        "done",
        f"printf '%s\\n' {word(argv[0] + ': no such program, or none that can be executed')} >&2",
        'exit "$status"',
    ]
    pieces = [
        remark("a file that the kernel can't execute is taken by bash for a script of its own"),
        Piece(INSIDE, tuple(lines)),
    ]
    odd = [entry for entry in a.words("env") if "=" not in entry]
    if odd:
        pieces.insert(0, not_done(f"environment entries without '=': {' '.join(odd)}"))
    if not any(entry.startswith("SHLVL=") for entry in a.words("env")):
        pieces.insert(
            0, remark("the program finds a variable SHLVL, which bash can't help setting")
        )
    return pieces


def environment(a: Arguments) -> str:
    """Return the words that give the program its environment, and no signal ignored.

    (bash ignores SIGINT and SIGQUIT in what it starts asynchronously.)
    """
    entries = [
        entry
        for entry in a.words("env")
        if "=" in entry and entry.partition("=")[0] not in _SHELLS_OWN
    ]
    return f"env --default-signal --ignore-environment -- {words(entries)}".rstrip()


def supervise(a: Arguments, _: Facts) -> list[Piece]:
    """Wait, and leave with the container's exit code; signals are relayed since the spawn."""
    lines = []
    timeout = a.number("timeout_ms")
    if timeout:
        # read waits in bash itself, so that no sleep(1) stays behind.
        lines += [
            f'{{ read -r -t {timeout / 1000:g} <> <(:) || kill -s KILL "$pid"; }} &',
            "feeders+=($!)",
        ]
    lines += [
        "status=0",
        'wait "$launched" || status=$?',
        "# A signal that was relayed ends wait early.",
        'while kill -0 "$launched" 2>/dev/null; do',
        "    status=0",
        '    wait "$launched" || status=$?',
        "done",
    ]
    return [here(*lines)]
