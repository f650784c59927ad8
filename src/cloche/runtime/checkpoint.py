"""What the commands ``checkpoint`` and ``restore`` tell criu, and what a checkpoint keeps.

A checkpoint is a directory of criu's images, and ``descriptors.json``: what the first process had
as its standard streams, such as ``pipe:[4711]``.  When it is restored, the streams of the caller
take the place of pipes.  A mount that shows something of the host is known in the images by its
destination in config.json.

criu's images don't say of a new network namespace what is in it: whoever made the container's
network makes it again, in a hook.
"""

from __future__ import annotations

import os

from cloche.errors import InvalidArgument
from cloche.kernel import flags, mountinfo
from cloche.plan.restore import (
    FIRST_NAMESPACE_NUMBER,
    external_namespaces,
    host_mounts,
    ready_null,
)
from cloche.runtime import criu

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.kernel.features import Features
    from cloche.oci.spec import Spec
    from cloche.plan.launch import Launch
    from cloche.plan.restore import HostMount
    from cloche.runtime.arguments import Values

DESCRIPTORS = "descriptors.json"
DUMP_LOG = "dump.log"
RESTORE_LOG = "restore.log"
CONFIG_ANNOTATION = "org.criu.config"
"""Of a container: the file with options for criu that win over all others; empty for none."""
_CONFIG_FILE = "/etc/criu/runc.conf"
"""The file without the annotation: where the engines' manuals tell to put such options."""
_NULL = "/dev/null"
_NAMES = {flags.CLONE_NEWNET: "net", flags.CLONE_NEWPID: "pid"}
_JOINED = {"ipc": "ipc", "uts": "uts", "user": "user"}
"""Kinds of namespaces that criu joins by their path, by criu's name."""
_FLAGS = {
    "tcp-established": "tcp_established",
    "ext-unix-sk": "ext_unix_sk",
    "shell-job": "shell_job",
    "file-locks": "file_locks",
    "auto-dedup": "auto_dedup",
    "lazy-pages": "lazy_pages",
}
"""Options of both commands."""


def images(values: Values) -> str:
    """Return the directory of the checkpoint."""
    return os.path.abspath(values.text("image-path"))


def work(values: Values) -> str:
    """Return the directory of criu's log and other files."""
    return os.path.abspath(values.text("work-path") or values.text("image-path"))


def common_options(values: Values, spec: Spec, log: str) -> criu.Options:
    """Return what both commands ask for.

    Raises InvalidArgument for values that make no sense.
    """
    options = criu.Options(log)
    for option, name in _FLAGS.items():
        if values.flag(option):
            options.add(name, 1)
    mode = values.text("manage-cgroups-mode")
    if mode not in criu.CGROUP_MODES:
        known = ", ".join(criu.CGROUP_MODES)
        raise InvalidArgument(f"invalid manage-cgroups-mode: {mode!r} is none of {known}")
    options.add("manage_cgroups_mode", criu.CGROUP_MODES[mode])
    for name in values.list("empty-ns"):
        if name != "network":
            raise InvalidArgument(f"--empty-ns: namespace {name!r} is not supported")
    options.add("empty_ns", flags.CLONE_NEWNET)
    options.add("orphan_pts_master", 1)
    config = spec.get("annotations", {}).get(CONFIG_ANNOTATION, _CONFIG_FILE)
    if config:
        options.add("config_file", config)
    return options


# --- checkpoint ----------------------------------------------------------------------------------


def add_dumped_mounts(
    options: criu.Options, spec: Spec, features: Features, launch: Launch, pid: int
) -> None:
    """Tell criu which mounts of a container are the host's."""
    with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        mounts = {mount.path: mount for mount in mountinfo.parse(file.read())}
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_CLOEXEC)
    own = {_slashless(mount["destination"]) for mount in spec.get("mounts", [])}
    try:
        for mount in host_mounts(spec, features, launch):
            place = _resolve(root, mount.dest)
            options.add("ext_mnt", criu.pair(place, _slashless(mount.dest)))
            if mount.recursive:
                for path in mounts:
                    if path.startswith(f"{place}/") and path not in own:
                        options.add("ext_mnt", criu.pair(path, path))
    finally:
        os.close(root)
    for path in spec.get("linux", {}).get("maskedPaths", []):
        found = mounts.get(_slashless(path))
        if found and found.fstype != "tmpfs":
            options.add("ext_mnt", criu.pair(found.path, _NULL))


def add_dumped_namespaces(options: criu.Options, spec: Spec, pid: int) -> None:
    """Tell criu which namespaces of a container others made."""
    for kind, _ in external_namespaces(spec):
        name = _NAMES[kind]
        inode = os.stat(f"/proc/{pid}/ns/{name}").st_ino
        options.add("external", f"{name}[{inode}]:{_key(kind)}")


def write_descriptors(directory: str, pid: int) -> None:
    """Keep what a process has as its standard streams."""
    from cloche import json

    names = [_descriptor(pid, number) for number in range(3)]
    with open(f"{directory}/{DESCRIPTORS}", "w", encoding="utf-8") as file:
        file.write(json.dumps(names))


def _descriptor(pid: int, number: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{number}")
    except FileNotFoundError:
        return _NULL


def _resolve(root: int, dest: str) -> str:
    """Return a mount point's path without symbolic links, as its own mount namespace has it."""
    from cloche.kernel.syscalls import openat2

    fd = openat2(root, dest, os.O_PATH | os.O_CLOEXEC, flags.RESOLVE_IN_ROOT)
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


# --- restore -------------------------------------------------------------------------------------


def add_restored_mounts(
    options: criu.Options, spec: Spec, features: Features, launch: Launch
) -> None:
    """Tell criu where on the host it finds what a container's mounts show."""
    found: list[HostMount] = host_mounts(spec, features, launch)
    beneath = []
    if any(mount.recursive for mount in found):
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            beneath = [mount.path for mount in mountinfo.parse(file.read())]
    for mount in found:
        dest = _slashless(mount.dest)
        options.add("ext_mnt", criu.pair(dest, mount.ready))
        source = os.path.realpath(mount.source)
        for path in beneath:
            if mount.recursive and path.startswith(f"{source}/"):
                inner = path.removeprefix(source)
                options.add("ext_mnt", criu.pair(dest + inner, mount.ready + inner))
    if spec.get("linux", {}).get("maskedPaths"):
        options.add("ext_mnt", criu.pair(_NULL, ready_null(launch)))


def add_restored_namespaces(options: criu.Options, spec: Spec) -> None:
    """Tell criu which namespaces are there already."""
    for index, (kind, _) in enumerate(external_namespaces(spec)):
        options.add("inherit_fd", criu.pair(_key(kind), FIRST_NAMESPACE_NUMBER + index))
    for namespace in spec.get("linux", {}).get("namespaces", []):
        if namespace.get("path") and namespace["type"] in _JOINED:
            options.add("join_ns", criu.pair(_JOINED[namespace["type"]], namespace["path"]))


def add_streams(options: criu.Options, directory: str) -> None:
    """Tell criu which of the container's streams the caller's take the place of.

    Raises InvalidArgument when the directory holds no checkpoint.
    """
    from cloche import json

    try:
        with open(f"{directory}/{DESCRIPTORS}", encoding="utf-8") as file:
            names = json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidArgument(
            f"{directory} holds no checkpoint: {DESCRIPTORS} isn't there",
            hint="name the directory with --image-path",
        ) from error
    except ValueError as error:
        raise InvalidArgument(f"{directory}/{DESCRIPTORS}: not a JSON document") from error
    for number, name in enumerate(names):
        if isinstance(name, str) and name.startswith("pipe:"):
            options.add("inherit_fd", criu.pair(name, number))


def _key(kind: int) -> str:
    """Return the name by which an external namespace is known in the images."""
    return f"extRoot{_NAMES[kind].capitalize()}NS"


def _slashless(path: str) -> str:
    return os.path.normpath(path)
