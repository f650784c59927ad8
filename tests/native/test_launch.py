"""The launcher as a whole: arguments, exit codes, records, failures and what is undone."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cloche.kernel import flags
from cloche.plan import steps, wire
from cloche.plan.steps import Plan, Step
from cloche.runtime import launcher, records
from tests.native.launching import (
    SEALS,
    WHY,
    Launch,
    launch,
    run,
    sealed,
    shell,
    simple,
)

pytestmark = pytest.mark.needs("root")

UNSHARED = flags.CLONE_NEWPID | flags.CLONE_NEWNS | flags.CLONE_NEWUTS


# --- arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("3",), ("3", "4", "5"), ("-c", "sh"), ("0", "1")])
def test_strange_arguments_are_refused(arguments: tuple[str, ...]) -> None:
    """Whoever starts the launcher by hand gets one line and exit code 125."""
    done = subprocess.run([launcher.path(), *arguments], capture_output=True, check=False)
    assert done.returncode == 125
    assert done.stderr.startswith(b"cloche-launch: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("seals", [0, SEALS & ~8, SEALS & ~2])
def test_plan_that_could_change_is_refused(seals: int) -> None:
    """A plan must be sealed against writing, shrinking and growing."""
    data = wire.encode(Plan(tuple(simple(run("/bin/true")))))
    plan = sealed(data, seals)
    done = subprocess.run(
        [launcher.path(), str(plan), str(plan)], pass_fds=(plan,), capture_output=True, check=False
    )
    os.close(plan)
    assert done.returncode == 125
    assert b"sealed" in done.stderr


def test_records_of_another_size_are_refused() -> None:
    """Nothing is written to a records file that isn't made for this plan."""
    data = wire.encode(Plan(tuple(simple(run("/bin/true")))))
    plan, other = sealed(data), os.memfd_create("records", os.MFD_CLOEXEC)
    os.ftruncate(other, records.size(1))
    done = subprocess.run(
        [launcher.path(), str(plan), str(other)],
        pass_fds=(plan, other),
        capture_output=True,
        check=False,
    )
    content = os.pread(other, 64, 0)
    os.close(plan)
    os.close(other)
    assert done.returncode == 125
    assert content == bytes(64)


def test_closed_standard_streams_stay_out_of_reach() -> None:
    """Without standard streams none of the launcher's own files end up in their place."""
    wrapper = ("sh", "-c", 'exec "$@" 0<&- 1>&-', "sh")
    listing = shell('found=$(readlink /proc/$$/fd/0 /proc/$$/fd/1); echo "$found" >&2')
    done = launch(simple(listing, kinds=0), wrapper=wrapper)
    assert done.stderr == "/dev/null\n/dev/null\n"


# --- exit codes and records --------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_code_is_the_containers(code: int) -> None:
    """The launcher exits as the container did."""
    done = launch(simple(shell(f"exit {code}")))
    assert done.code == code
    assert done.records.progress == records.EXITED
    assert (done.records.exit_code, done.records.signal) == (code, 0)
    assert done.records.failure is None


def test_signal_is_told_as_by_a_shell() -> None:
    """A container that a signal ends gives 128 plus its number."""
    done = launch(simple(shell("kill -KILL $$"), kinds=0))
    assert done.code == 128 + signal.SIGKILL
    assert (done.records.exit_code, done.records.signal) == (137, signal.SIGKILL)


def test_records_tell_times_and_resources() -> None:
    """Progress in time, processor time and memory are recorded."""
    burn = shell("i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done")
    seen = launch(simple(burn)).records
    assert 0 < seen.begun < seen.ready < seen.ended
    assert seen.user_us + seen.system_us > 1000
    assert 500_000 < seen.peak_bytes < 500_000_000
    assert all(timing == (0, 0) for timing in seen.steps)


def test_steps_are_timed_on_demand() -> None:
    """With TIME_STEPS each step has begun and ended, one after the other."""
    plan = simple(run("/bin/true"), steps.hostname("timed", why=WHY), kinds=UNSHARED)
    done = launch(plan, wire.Options(wire.TIME_STEPS))
    moments = [moment for timing in done.records.steps for moment in timing]
    assert all(moments)
    begun = [timing.begun for timing in done.records.steps]
    assert begun == sorted(begun)
    assert all(timing.begun <= timing.ended for timing in done.records.steps)


def test_environment_and_arguments_are_exact() -> None:
    """The program gets the plan's environment and arguments, and nothing of the launcher's."""
    program = run("/usr/bin/env", "-u", "none", env=("A=1", "B=two words", "C="))
    assert launch(simple(program)).stdout == "A=1\nB=two words\nC=\n"


def test_program_starts_with_default_signals() -> None:
    """No signal is blocked or ignored, though the launcher's parent ignored some."""
    script = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    code = f"import os, signal, sys; {script}; os.execv(sys.argv[1], sys.argv[1:])"
    wrapper = (sys.executable, "-c", code)
    status = launch(simple(run("/bin/cat", "/proc/self/status")), wrapper=wrapper).stdout
    masks = [line for line in status.splitlines() if line.startswith(("SigBlk", "SigIgn"))]
    assert masks == [f"SigBlk:\t{'0' * 16}", f"SigIgn:\t{'0' * 16}"]


def test_program_gets_no_file_descriptors() -> None:
    """The program has its three standard streams and nothing else."""
    listing = shell("ls /proc/self/fd | wc -l")
    assert launch(simple(listing)).stdout == "4\n"  # and the directory itself


# --- failures ----------------------------------------------------------------------------------


def test_missing_program(workspace: Path) -> None:
    """Exit code 127, and the first candidate is named, when none is there."""
    program = steps.exec(("/nowhere/prog", f"{workspace}/file/prog"), ("prog",), (), why=WHY)
    (workspace / "file").touch()
    done = launch(simple(program))
    failure = done.records.failure
    assert done.code == 127
    assert failure is not None
    assert (failure.step, failure.stage, failure.errno) == (3, steps.CHILD, errno.ENOENT)
    assert (failure.call, failure.path, failure.head) == ("execve", "/nowhere/prog", b"")
    assert done.records.progress == records.FAILED
    assert "exec: execve /nowhere/prog: No such file or directory" in done.stderr


def test_missing_interpreter(workspace: Path) -> None:
    """A script whose interpreter is missing is named, with its first line."""
    script = workspace / "script"
    script.write_text("#!/bin/nope\r\nbody\n")
    script.chmod(0o755)
    program = steps.exec(("/nowhere", str(script), "/none"), ("script",), (), why=WHY)
    done = launch(simple(program))
    assert done.code == 127
    assert done.records.failure is not None
    assert done.records.failure.path == str(script)
    assert done.records.failure.head == b"#!/bin/nope\r\nbody\n"


@pytest.mark.parametrize(
    ("make", "number"),
    [
        (lambda path: path.write_bytes(b"just text"), errno.EACCES),
        (Path.mkdir, errno.EISDIR),
        (lambda path: (path.write_bytes(b"\x7fELF" + b"?" * 2000), path.chmod(0o755)), 8),
        (os.mkfifo, errno.EACCES),
    ],
    ids=["not-executable", "directory", "wrong-format", "fifo"],
)
def test_program_that_cannot_be_executed(
    workspace: Path, make: Callable[[Path], object], number: int
) -> None:
    """Exit code 126, with the reason and the start of the file."""
    path = workspace / "program"
    make(path)
    done = launch(simple(run(str(path))))
    assert done.code == 126
    failure = done.records.failure
    assert failure is not None
    assert (failure.errno, failure.path) == (number, str(path))
    assert failure.head == (path.read_bytes()[:1024] if path.is_file() else b"")


def test_search_passes_over_what_cannot_be_executed(workspace: Path) -> None:
    """As in a shell's PATH, a later candidate is taken when an earlier one may not be executed."""
    (workspace / "true").write_text("not executable")
    program = steps.exec((f"{workspace}/true", "/bin/true"), ("true",), (), why=WHY)
    assert launch(simple(program)).code == 0


def test_failure_inside_names_step_call_and_path() -> None:
    """A failed step of the child is recorded and said in one line."""
    join = steps.join_namespace(flags.CLONE_NEWNET, "/nowhere/net", why=WHY)
    done = launch(simple(run("/bin/true"), join))
    assert done.code == 125
    expected = "cloche-launch: join_namespace: open /nowhere/net: No such file or directory\n"
    assert done.stderr == expected
    failure = done.records.failure
    assert failure is not None
    assert (failure.step, failure.stage) == (3, steps.CHILD)


def test_failure_outside_names_step_call_and_path(workspace: Path) -> None:
    """A failed step of the host is recorded; the child is gone afterwards."""
    plan = simple(run("/bin/true"))
    plan.insert(2, steps.lock(str(workspace / "none/below"), 0o700, why=WHY))
    done = launch(plan)
    assert done.code == 125
    failure = done.records.failure
    assert failure is not None
    assert (failure.step, failure.stage, failure.errno) == (2, steps.HOST, errno.ENOENT)
    assert failure.path == f"{workspace}/none/below"


@pytest.mark.parametrize(
    "plan",
    [
        [run("/bin/true")],
        [steps.supervise(why=WHY)],
        [steps.spawn(0, why=WHY), steps.spawn(0, why=WHY)],
        [steps.spawn(0, cgroup=3, why=WHY)],
        [steps.spawn(0, why=WHY), steps.stdio(2, 2, 2, why=WHY)],
        [steps.cgroup_open(steps.NO_SLOT, "/", why=WHY)],
        [steps.stdio(9, 0, 0, why=WHY)],
        [steps.spawn(0, why=WHY), steps.exec((), (), (), why=WHY)],
    ],
)
def test_senseless_plan_fails_cleanly(plan: list[Step]) -> None:
    """Steps in an order that makes no sense are failures like any other."""
    done = launch(plan)
    assert done.code in (125, 126)
    assert done.records.failure is not None


def test_child_killed_before_its_program_runs(workspace: Path) -> None:
    """When something kills the child, the step it died in is the one that failed."""
    fifo = workspace / "fifo"
    os.mkfifo(fifo)
    plan = simple(run("/bin/true"), steps.join_namespace(0, str(fifo), why=WHY))
    running = Launch(plan)
    os.kill(running.until(records.SPAWNED).pid, signal.SIGKILL)
    done = running.wait()
    assert done.code == 125
    failure = done.records.failure
    assert failure is not None
    assert (failure.call, failure.path) == ("child died", "signal 9")


# --- what is undone ----------------------------------------------------------------------------


def leaving(workspace: Path) -> list[Step]:
    """Return a plan whose steps leave things on the host."""
    made = workspace / "made"
    before = [
        steps.make_dir(str(workspace / "kept"), 0o700, keep=True, why=WHY),
        steps.lock(str(made), 0o750, why=WHY),
        steps.make_file(str(made / "file"), 0o640, b"content\0", why=WHY),
        steps.make_link("file", str(made / "link"), why=WHY),
    ]
    look = shell(f"stat -c '%a %F' {made} {made}/file {made}/link; od -An -c {made}/file")
    return simple(look, steps.hostname("undo", why=WHY), before=before, kinds=UNSHARED)


def test_files_are_made_and_removed_again(workspace: Path) -> None:
    """Directories, files and links are there while the container runs, and not afterwards."""
    done = launch(leaving(workspace))
    assert done.stderr == ""
    assert done.stdout == (
        "750 directory\n640 regular file\n777 symbolic link\n   c   o   n   t   e   n   t  \\0\n"
    )
    assert (workspace / "kept").is_dir()
    assert not (workspace / "made").exists()


def test_kept_directory_may_exist(workspace: Path) -> None:
    """``keep`` accepts a directory that is there, and nothing else."""
    plan = [steps.make_dir(str(workspace), 0o755, keep=True, why=WHY), *simple(run("/bin/true"))]
    assert launch(plan).code == 0
    (workspace / "file").touch()
    plan[0] = steps.make_dir(str(workspace / "file"), 0o755, keep=True, why=WHY)
    failure = launch(plan).records.failure
    assert failure is not None
    assert failure.errno == errno.ENOTDIR


def test_what_exists_is_neither_taken_nor_removed(workspace: Path) -> None:
    """A file that is in the way fails the step, and stays."""
    (workspace / "made").mkdir()
    done = launch(leaving(workspace))
    assert done.code == 125
    assert done.records.failure is not None
    assert done.records.failure.errno == errno.EEXIST
    assert (workspace / "made").is_dir()


def test_lock_lasts_as_long_as_the_launcher(workspace: Path) -> None:
    """While a launcher lives, nobody else gets its directory or the lock on it."""
    place = workspace / "place"
    plan = [steps.lock(str(place), 0o700, why=WHY), *simple(run("/bin/cat"))]
    first = Launch(plan, streams=(subprocess.PIPE, subprocess.PIPE, subprocess.PIPE))
    first.until(records.STARTED)
    failure = launch(plan).records.failure
    assert failure is not None
    assert (failure.call, failure.errno) == ("mkdir", errno.EEXIST)
    descriptor = os.open(place, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert first.wait(b"").code == 0
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)
    assert not place.exists()


def test_directory_that_was_taken_for_a_dead_launchers_is_made_anew(workspace: Path) -> None:
    """Between mkdir and flock a directory may be removed by who cleans up: no start fails of it."""
    place = workspace / "place"
    plan = [steps.lock(str(place), 0o700, why=WHY), *simple(run("/bin/true"))]
    done = threading.Event()

    def clean_up() -> None:
        while not done.is_set():
            with contextlib.suppress(OSError):
                descriptor = os.open(place, os.O_RDONLY)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if os.path.samestat(os.fstat(descriptor), place.stat()):
                        place.rmdir()
                finally:
                    os.close(descriptor)

    cleaner = threading.Thread(target=clean_up)
    cleaner.start()
    results = [launch(plan) for _ in range(60)]
    done.set()
    cleaner.join()
    assert [result.code for result in results] == [0] * 60


@pytest.mark.parametrize("step", range(10))
def test_failpoint_at_each_step_leaves_nothing(workspace: Path, step: int) -> None:
    """Whichever step fails, everything before it is taken back."""
    plan = leaving(workspace)
    done = launch(plan, wire.Options(fail_step=step, fail_errno=errno.EIO))
    failure = done.records.failure
    assert done.code == (126 if plan[step].operation.name == "exec" else 125)
    assert failure is not None
    assert (failure.step, failure.errno, failure.call) == (step, errno.EIO, "failpoint")
    assert failure.stage == plan[step].stage
    assert not (workspace / "made").exists()


def test_signal_before_the_container_runs_undoes_everything(workspace: Path) -> None:
    """SIGTERM during a long step ends the launcher at once, with nothing left."""
    fifo = workspace / "fifo"
    os.mkfifo(fifo)
    plan = leaving(workspace)
    plan.insert(-3, steps.join_namespace(0, str(fifo), why=WHY))  # opening it takes for ever
    running = Launch(plan)
    running.until(records.SPAWNED)
    running.signal(signal.SIGTERM)
    done = running.wait()
    assert done.code == 128 + signal.SIGTERM
    failure = done.records.failure
    assert failure is not None
    assert (failure.call, failure.path) == ("signal", "SIGTERM")
    assert not (workspace / "made").exists()


# --- the report program ------------------------------------------------------------------------

REPORT = (
    "/bin/sh",
    "-c",
    'echo "$3"; head -c 7 "/proc/self/fd/$1" "/proc/self/fd/$2"; grep SigBlk /proc/self/status',
    "report",
)


def test_report_program_takes_over_on_failure() -> None:
    """A failed launcher becomes the report program, with plan, records and exit code."""
    done = launch(simple(run("/nowhere")), wire.Options(report=REPORT))
    assert done.stdout.startswith("127\n")
    assert "\nCLOCHE\r" in done.stdout
    assert "\nRECORDS" in done.stdout
    assert done.stdout.endswith(f"SigBlk:\t{'0' * 16}\n")
    assert done.stderr == ""
    assert done.code == 0


def test_report_program_is_left_out_on_success() -> None:
    """Nothing is reported where nothing failed, unless asked for."""
    assert launch(simple(run("/bin/true")), wire.Options(report=REPORT)).stdout == ""
    options = wire.Options(wire.REPORT_ALWAYS, report=REPORT)
    assert launch(simple(shell("exit 3")), options).stdout.startswith("3\n")


def test_report_program_that_is_missing() -> None:
    """Without its report program the launcher says itself what failed."""
    done = launch(simple(run("/nowhere")), wire.Options(report=("/no/report",)))
    assert done.code == 127
    assert "execve /nowhere" in done.stderr


def test_plan_without_supervise_leaves_its_container() -> None:
    """A plan that ends with the start of the container leaves it running."""
    plan = [steps.spawn(0, why=WHY), run("/bin/sleep", "60")]
    done = launch(plan, streams=(subprocess.DEVNULL,) * 3)
    assert done.code == 0
    assert done.records.progress == records.STARTED
    os.kill(done.records.pid, signal.SIGKILL)
    os.waitpid(done.records.pid, 0)
