"""Turn a failed step's record into an error that says what happened and what to do.

The launcher records facts only: which step, which system call, which path, which errno, and for a
program that can't be executed the first bytes of its file.  What they mean is worked out here,
afterwards, by a process that has time.

Engines tell from an error's words how a program failed: podman and docker exit with 127 where they
read "executable file not found in" or "no such file or directory", and with 126 where they read
"permission denied".
"""

from __future__ import annotations

import errno
import os
import struct

from cloche.errors import StepFailed
from cloche.plan.describe import Arguments, what
from cloche.plan.steps import PRIVILEGES, ROOT, Plan, Step
from cloche.runtime.records import Failure

_ELF_MACHINES = {
    3: "i386",
    8: "mips",
    20: "ppc",
    21: "ppc64",
    22: "s390x",
    40: "arm",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}
"""``e_machine``, from <linux/elf-em.h>, by the names of uname(2)."""
_PT_INTERP = 3

_NOT_YOURS = "limits need a cgroup that you may write to; see: cloche features"
_CGROUP_HINTS = {
    errno.EACCES: _NOT_YOURS,
    errno.EPERM: _NOT_YOURS,
    errno.EROFS: _NOT_YOURS,
    errno.EBUSY: "processes are in it, of another container with this cgroupsPath",
    errno.EDEADLK: "it is frozen, and so would the container be: thaw it first",
}


def error(plan: Plan, failure: Failure) -> StepFailed:
    """Return the error for a failure that the launcher recorded."""
    from cloche.runtime import origin

    step = plan.steps[failure.step]
    name = step.operation.name
    if name in ("exec", "find_program"):
        message, hint = _exec(step, failure)
    elif name == "hook":
        message, hint = "", failure.head.decode("utf-8", "replace").strip()
    elif failure.call == "criu":
        message, hint = _criu(step, failure), ""
    else:
        message, hint = "", _hint(plan, step, failure)
    place = origin.explain(plan, failure)
    if place:
        message = f"{place}: {message or _reason(failure)}"
    elif not message:
        message = f"step {failure.step} failed: {what(step)}: {_reason(failure)}"
    return StepFailed(name, failure.call, failure.path, failure.errno, message=message, hint=hint)


def _criu(step: Step, failure: Failure) -> str:
    from cloche.runtime import checkpoint, criu

    said = failure.head.decode(errors="replace") or failure.path
    return criu.complaint(f"{Arguments(step).text('work')}/{checkpoint.RESTORE_LOG}", said)


def _reason(failure: Failure) -> str:
    code = errno.errorcode.get(failure.errno, str(failure.errno))
    where = f" {failure.path}" if failure.path else ""
    return f"{failure.call}{where}: {os.strerror(failure.errno).lower()} ({code})"


def _exec(step: Step, failure: Failure) -> tuple[str, str]:
    argv = step.argument("argv")
    assert isinstance(argv, tuple)
    program = argv[0]
    path = failure.path or program
    if failure.errno == errno.EISDIR:
        return f"{path}: permission denied: it is a directory, not a program", ""
    if failure.errno == errno.E2BIG:
        return f"{path}: arguments and environment are too long together", ""
    if failure.head.startswith(b"#!"):
        return _script(path, failure)
    if failure.head.startswith(b"\x7fELF"):
        return _elf(path, failure)
    if not program:
        return "the command is an empty string", ""
    if failure.errno in (errno.ENOENT, errno.ENOTDIR):
        if "/" in program:
            return f"{program}: no such file or directory in the container", ""
        return (
            f"{program}: executable file not found in the container's PATH",
            "give the path of the program, or another PATH with -e PATH=...",
        )
    if failure.errno in (errno.EACCES, errno.EPERM):
        return (
            f"{path}: permission denied",
            "is it executable for the container's user, and its file system not mounted noexec?",
        )
    if failure.errno == errno.ENOEXEC:
        kind = "an empty file" if not failure.head else "neither a script with #! nor an ELF file"
        return f"{path} can't be executed: it is {kind}", "run it with its interpreter: sh FILE"
    code = errno.errorcode.get(failure.errno, str(failure.errno))
    return f"{path} can't be executed: {os.strerror(failure.errno).lower()} ({code})", ""


def _script(path: str, failure: Failure) -> tuple[str, str]:
    line = failure.head[2:].split(b"\n", 1)[0]
    interpreter = line.strip(b" \t\r").split(None, 1)[0] if line.strip() else b""
    name = interpreter.decode("utf-8", "replace")
    if line.endswith(b"\r"):
        return (
            (
                f"{path}: its first line ends in a carriage return, so the kernel looks for the "
                f"interpreter {name + chr(13)!r}"
            ),
            "the file has the line ends of Windows: convert it with dos2unix or sed 's/\\r$//'",
        )
    if not name:
        return f"{path}: its first line names no interpreter after #!", ""
    if failure.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"{path}: its interpreter {name} isn't there in the container", ""
    if failure.errno in (errno.EACCES, errno.EPERM):
        return f"{path}: permission denied, for it or for its interpreter {name}", ""
    reason = os.strerror(failure.errno).lower()
    return f"{path}: can't be executed by its interpreter {name}: {reason}", ""


def _elf(path: str, failure: Failure) -> tuple[str, str]:
    machine = elf_machine(failure.head)
    own = os.uname().machine
    if failure.errno == errno.ENOEXEC:
        if machine and machine != own:
            return (
                f"{path} is a program for {machine}, and this machine is {own}",
                "use a root for this architecture, or register qemu-user with binfmt_misc",
            )
        return f"{path} is an ELF file that this kernel can't execute", ""
    if failure.errno == errno.ENOENT:
        interpreter = elf_interpreter(failure.head)
        if interpreter:
            return (
                f"{path}: its dynamic loader {interpreter} isn't there in the container",
                "copy it with its libraries: cloche rootfs from-host does that",
            )
    if failure.errno in (errno.EACCES, errno.EPERM):
        return (
            f"{path}: permission denied",
            "is it executable for the container's user, and its file system not mounted noexec?",
        )
    code = errno.errorcode.get(failure.errno, str(failure.errno))
    return f"{path} can't be executed: {os.strerror(failure.errno).lower()} ({code})", ""


def elf_machine(head: bytes) -> str:
    """Return the architecture of an ELF file from its first bytes, or an empty string."""
    if len(head) < 20 or head[5] not in (1, 2):
        return ""
    order = "<" if head[5] == 1 else ">"
    number = struct.unpack_from(f"{order}H", head, 18)[0]
    return _ELF_MACHINES.get(number, f"machine {number}")


def elf_interpreter(head: bytes) -> str:
    """Return the dynamic loader that an ELF file names, if its first bytes tell: elf(5)."""
    if len(head) < 64 or head[4] not in (1, 2) or head[5] not in (1, 2):
        return ""
    order = "<" if head[5] == 1 else ">"
    wide = head[4] == 2
    header, sizes = (32, 54) if wide else (28, 42)
    offset = struct.unpack_from(f"{order}{'Q' if wide else 'I'}", head, header)[0]
    size, count = struct.unpack_from(f"{order}HH", head, sizes)
    for index in range(count):
        at = offset + index * size
        if at + (56 if wide else 32) > len(head):
            break
        if struct.unpack_from(f"{order}I", head, at)[0] != _PT_INTERP:
            continue
        if wide:
            start, length = struct.unpack_from(f"{order}Q16xQ", head, at + 8)
        else:
            start, length = struct.unpack_from(f"{order}I8xI", head, at + 4)
        return head[start : start + length].split(b"\0", 1)[0].decode("utf-8", "replace")
    return ""


def _maps_ids(plan: Plan) -> bool:
    return any(step.operation.name.startswith("id_map") for step in plan.steps)


_REFUSED = {
    "oom_score_adj": "lowering the score needs CAP_SYS_RESOURCE, which the caller doesn't have",
    "scheduler": "realtime and nice values below 0 need CAP_SYS_NICE; in a cgroup of v1 realtime "
    "needs a share of its time too: linux.resources.cpu.realtimeRuntime",
    "io_priority": "the class IOPRIO_CLASS_RT needs CAP_SYS_NICE, which the caller doesn't have",
}
"""What it would take where the kernel answered EPERM or EACCES, by operation."""


def _privileges_hint(plan: Plan, step: Step, failure: Failure) -> str:
    name = step.operation.name
    if failure.call in ("sendmsg", "recvmsg") and name != "send_listener":
        return "a filter with SCMP_ACT_NOTIFY must allow sendmsg and recvmsg"
    if name == "seccomp" and failure.errno == errno.EINVAL:
        return "this kernel doesn't know one of the filter's flags, or the program is broken"
    if failure.errno not in (errno.EACCES, errno.EPERM):
        return ""
    if name == "rlimit":
        before = [other for other in plan.steps[: failure.step] if other.operation.name == name]
        return (
            "raising a hard limit needs CAP_SYS_RESOURCE, which the caller doesn't have "
            f"(config.json: /process/rlimits/{len(before)})"
        )
    return _REFUSED.get(name, "")


def _hint(plan: Plan, step: Step, failure: Failure) -> str:
    name = step.operation.name
    if step.operation.wall == PRIVILEGES:
        return _privileges_hint(plan, step, failure)
    if failure.path.endswith("/schemata"):
        return "what is wrong stands in the file info/last_cmd_status of resctrl"
    if failure.call == "readback":
        return "the kernel took the limit but keeps another value; choose one that it can keep"
    if name in ("spawn", "unshare") and failure.errno in (errno.EPERM, errno.ENOSPC):
        return "this machine doesn't let you make these namespaces; see: cloche features"
    if name == "spawn" and failure.errno == errno.EAGAIN:
        return "too many processes or namespaces; see ulimit -u and /proc/sys/user"
    if name.startswith("cgroup_") and failure.errno in _CGROUP_HINTS:
        return _CGROUP_HINTS[failure.errno]
    if name == "make_link" and failure.errno == errno.EEXIST:
        return "the name is in use by a running container; choose another with --name"
    if name == "bind" and failure.errno == errno.ENOENT and failure.call == "open_tree":
        return "the source must exist on the host"
    if step.operation.wall == ROOT and failure.errno == errno.EACCES and _maps_ids(plan):
        return (
            "the root directory belongs to users that the container's user namespace doesn't "
            "have; --rootfs DIR:O maps its owners for root, and own the directory otherwise"
        )
    if failure.errno == errno.ENOSPC:
        return "a disk or a kernel table is full"
    if failure.errno == errno.EMFILE:
        return "a start needs some twenty files open at a time; see ulimit -n"
    return ""
