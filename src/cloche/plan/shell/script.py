"""Put the commands of all steps together into one script.

The launcher's two processes are two shells here, with a pipe each way as the baton::

    the script                                   the child, a bash in new namespaces
      steps of the host, spawn  ----------------> child_1: steps of the child ...
      steps of the host         <-- hand over --
                                -- hand back -->   ... (exec unshare ...) child_2 ...
                                                   exec prlimit ... setpriv ... env ... bash
      last touches, pivot_root  <-- hand over --  become: waits
                                -- hand back -->   exec the program
      wait, clean up

Every step has its number, what it does, its manual page and why above its commands.
"""

from __future__ import annotations

from cloche.plan.describe import Arguments, what
from cloche.plan.shell import pieces as places
from cloche.plan.shell.functions import FUNCTIONS, used
from cloche.plan.shell.operations import OPERATIONS
from cloche.plan.shell.pieces import NOT_DONE, REMARK, Piece, facts
from cloche.plan.shell.process import environment
from cloche.plan.shell.quoting import comment, word
from cloche.plan.steps import CHILD, HOST, Plan, Step

_HEADER = """\
#!/usr/bin/env bash
# shellcheck disable=SC2016 # what is the container's is meant as it stands
#
# A container, step by step: what its launcher does, as shell commands.
#
#     bash SCRIPT       runs it, as the user whose plan it was made from
#
# It needs Linux 5.14, bash 4.4, coreutils 8.31 and util-linux 2.37. It is slower than the
# launcher, and good for trusted roots only: a shell works with paths, not with open files."""
_START = """\
set -euo pipefail
umask 022
cd /
"""
_UNDO = """\
made=()     # what is removed at the end
chain=()    # programs that each change their process and become the next
streams=()  # file descriptors of the child's standard streams
feeders=()  # processes that end with the script
readers=()  # processes that end once the streams are closed
launched=   # the process that ends with the child
status=125  # until the program has run

remove_cgroup() {
    local pid
    for _ in {1..100}; do
        if [[ -e $1/cgroup.kill ]]; then
            echo 1 >"$1/cgroup.kill"
        else
            while read -r pid; do
                ((pid == 0)) || kill -s KILL "$pid"
            done <"$1/cgroup.procs"
        fi
        rmdir -- "$1" && return
        sleep 0.01
    done 2>/dev/null
    printf '%s\\n' "$1: can't be removed" >&2
}

undo() {
    local index fd
    set +e
    if [[ -n $launched ]]; then
        kill -s KILL "$launched"
        wait "$launched"
    fi 2>/dev/null
    for fd in "${streams[@]}"; do
        exec {fd}>&-
    done
    if ((${#feeders[@]} + ${#readers[@]})); then
        ((${#feeders[@]} == 0)) || kill "${feeders[@]}"
        wait "${feeders[@]}" "${readers[@]}"
    fi 2>/dev/null
    for ((index = ${#made[@]} - 1; index >= 0; index--)); do
        if [[ -e ${made[index]}/cgroup.procs ]]; then
            remove_cgroup "${made[index]}"
        elif [[ -d ${made[index]} && ! -L ${made[index]} ]]; then
            rmdir -- "${made[index]}"
        else
            rm --force -- "${made[index]}"
        fi
    done
    exit "$status"
}
trap undo EXIT
"""
_TITLE = "# --- {} ---"
_WAIT = "read -r _"
_WAIT_FOR_CHILD = 'read -r _ <&"$ready"'
_LET_CHILD_GO_ON = 'echo >&"$gate"'


def as_shell(plan: Plan) -> str:
    """Return the plan as a bash script that builds the same container.

    Everything in it is quoted, so that no value of the plan can become a command; what a shell
    can't do stands there as comments that begin with "NOT DONE".
    """
    script = _Script(plan)
    for number, step in enumerate(plan.steps):
        script.add(number, step)
    return script.text()


class _Script:
    """The lines written so far, by the part of the script that they stand in."""

    def __init__(self, plan: Plan) -> None:
        self._facts = facts(plan)
        self._root = ""
        self._not_done: list[str] = []
        self._before: list[str] = []
        """The host's, until the child is made."""
        self._host: list[str] = []
        """The host's, from then on."""
        self._children: list[list[str]] = []
        """The child's, one function for each bash that it becomes."""
        self._last: list[str] = []
        """The host's, when only pivot_root is left to do."""
        self._pivot: list[str] = []
        self._inside: list[str] = []
        """The child's, after pivot_root."""
        self._collected: set[str] = set()
        """Which arrays hold something that the child is still to become."""
        self._childs_turn = False
        self._helped = 0

    def add(self, number: int, step: Step) -> None:
        """Write the commands of the next step."""
        a = Arguments(step)
        head = ["", *comment(f"{number}. {what(step)}  [{step.operation.man}]")]
        head += comment(step.why, "#     ")
        commands = []
        for piece in OPERATIONS[step.operation.name](a, self._facts):
            if piece.place == NOT_DONE:
                self._not_done.append(f"{number} ({step.operation.name})")
                head += comment(f"NOT DONE: {piece.lines[0]}", "#     ")
            elif piece.place == REMARK:
                head += comment(f"Note: {piece.lines[0]}", "#     ")
            else:
                commands.append(piece)
        if step.operation.name == "spawn":
            self._children.append(
                [
                    "read -r pid _ </proc/self/stat # its pid as the host sees it",
                    'echo "$pid"',
                    _WAIT,
                ]
            )
        if not commands:
            self._side(step.stage).extend(head)
        for piece in commands:
            self._write(step.stage, piece, head)
            head = ["", *comment(f"{number}. goes on: {what(step)}")]
        match step.operation.name:
            case "open_root":
                self._root = a.text("path").rstrip("/")
            case "pivot_root" | "move_root":
                self._facts = self._facts._replace(before_pivot=False)
            case "exec":
                self._become(environment(a))

    def text(self) -> str:
        """Return the whole script."""
        bodies = {f"child_{number}": body for number, body in enumerate(self._children, 1)}
        if self._inside:
            bodies["become"] = self._inside
        lines = [_TITLE.format("the host's side"), *self._before]
        if bodies:
            lines += ["", _TITLE.format("the child's side, which runs once the child is made")]
            for name, body in bodies.items():
                lines += self._function(name, body)
            lines += [f"export -f {' '.join(bodies)}"]
            lines += ["", _TITLE.format("the host's side again"), *self._host]
        functions = used(lines)
        start = [_HEADER]
        if self._not_done:
            text = f"Not done, being beyond a shell: {', '.join(self._not_done)}."
            start += ["#", *comment(text, rest="# ")]
        start += ["", _START, f"export root={word(self._root)}", "", _UNDO]
        for name in functions:
            start += [FUNCTIONS[name]]
        start += [f"export -f {' '.join(functions)}"] if functions else []
        return "\n".join(start + lines) + "\n"

    def _write(self, stage: int, piece: Piece, head: list[str]) -> None:
        match piece.place:
            case places.INSIDE:
                self._inside += [*head, *piece.lines]
            case places.BEFORE_PIVOT:
                self._last += [*head, *self._with_help(piece.lines)]
            case places.PIVOT:
                self._pivot += [*head, *piece.lines]
            case places.HELPED:
                self._turn(HOST)
                self._host += [*head, *self._with_help(piece.lines)]
            case places.CHAIN:
                self._turn(stage)
                self._collect(stage, "chain", head, piece.lines)
            case places.SETPRIV:
                self._turn(stage)
                self._collect(stage, "privileges", head, piece.lines)
            case _:
                self._turn(stage)
                if stage == CHILD and self._facts.before_pivot:
                    self._carry_on()
                self._side(stage).extend([*head, *piece.lines])

    def _side(self, stage: int) -> list[str]:
        """Return where the commands of a stage stand now."""
        if stage == CHILD:
            return self._children[-1]
        return self._host if self._children else self._before

    def _collect(self, stage: int, array: str, head: list[str], lines: tuple[str, ...]) -> None:
        sign = "+=" if stage == HOST or array in self._collected else "="
        if stage == CHILD:
            self._collected.add(array)
        self._side(stage).extend([*head, f"{array}{sign}({' '.join(lines)})"])

    def _turn(self, stage: int) -> None:
        """Hand the baton over, unless this stage has it."""
        if not self._children or self._childs_turn == (stage == CHILD):
            return
        if self._childs_turn:
            self._carry_on()
            self._children[-1] += ["", "echo # the host goes on", _WAIT]
            self._host += ["", _WAIT_FOR_CHILD]
        else:
            self._host += ["", _LET_CHILD_GO_ON]
        self._childs_turn = not self._childs_turn

    def _carry_on(self) -> None:
        """Have the child become what was collected, and go on from there."""
        if self._collected:
            self._collected.clear()
            following = f"child_{len(self._children) + 1}"
            self._children[-1] += ["", f'exec "${{chain[@]}}" bash -euc {following}']
            self._children.append([])

    def _with_help(self, lines: tuple[str, ...]) -> list[str]:
        self._helped += 1
        name = f"helped_{self._helped}"
        return [
            *self._function(name, list(lines))[1:],
            f"export -f {name}",
            f'"${{enter[@]}}" --mount bash -euc {name}',
        ]

    def _become(self, env: str) -> None:
        """End the child's side: it becomes all that it has to be, waits, and is the program."""
        child = self._children[-1]
        command = ['"${chain[@]}"'] if "chain" in self._collected else []
        if "privileges" in self._collected:
            command.append('setpriv "${privileges[@]}"')
        command.append(env)
        command.append('"$BASH" -p -euc "$(declare -f become); become \\"\\$@\\""')
        command.append('bash "$stdin" "$stdout" "$stderr"')
        child += ["", "exec " + " \\\n    ".join(command)]
        self._inside[:0] = [
            "local stdin=$1 stdout=$2 stderr=$3",
            "echo # the host goes on",
            f"TMOUT=0 {_WAIT} # from here on there are no programs but those in the root",
        ]
        self._host += ["", _WAIT_FOR_CHILD, *self._last, *self._pivot, "", _LET_CHILD_GO_ON]
        self._host += ["exec {gate}>&- {ready}<&-"]
        self._childs_turn = False

    def _function(self, name: str, body: list[str]) -> list[str]:
        indented = [f"    {line}" if line else "" for line in "\n".join(body).split("\n")]
        while indented and not indented[0]:
            del indented[0]
        return ["", f"{name}() {{", *indented, "}"]
