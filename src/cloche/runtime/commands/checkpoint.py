"""``checkpoint`` and ``restore``: write a container to disk, and bring it back."""

from __future__ import annotations

import os

from cloche.errors import AlreadyExists, ContainerNotFound, InvalidArgument
from cloche.kernel import features as host
from cloche.oci.identifier import check_id
from cloche.plan import cgroups
from cloche.plan.launch import Launch, Lifecycle
from cloche.plan.restore import Restore, compile_restore
from cloche.plan.situation import situation
from cloche.runtime import bundle, checkpoint, criu, start
from cloche.runtime.arguments import Option
from cloche.runtime.commands.create import files
from cloche.runtime.commands.kill import remove
from cloche.runtime.container import Container, require_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.oci.spec import Spec
    from cloche.runtime.arguments import Values
    from cloche.runtime.main import Settings

_BOTH = (
    Option(("image-path",), "text", "directory of the checkpoint", "./checkpoint"),
    Option(("work-path",), "text", "directory of criu's log (default: that of the checkpoint)"),
    Option(("tcp-established",), "flag", "keep open TCP connections"),
    Option(("ext-unix-sk",), "flag", "allow Unix sockets whose other end is outside"),
    Option(("shell-job",), "flag", "allow a terminal of the caller's"),
    Option(("file-locks",), "flag", "keep file locks, which only this container may hold"),
    Option(
        ("manage-cgroups-mode",),
        "text",
        "what criu does about cgroups: ignore, soft, full or strict; the runtime makes the "
        "container's own in any case",
        "ignore",
    ),
    Option(("empty-ns",), "list", "namespace left empty: network, which is always so"),
    Option(("auto-dedup",), "flag", "keep each memory page in one image only"),
    Option(("lazy-pages",), "flag", "fetch memory when it is used, from criu lazy-pages"),
)
OPTIONS = {
    "checkpoint": (
        *_BOTH,
        Option(("parent-path",), "text", "directory of a pre-dump, relative to the checkpoint"),
        Option(("leave-running",), "flag", "don't end the container"),
        Option(("tcp-skip-in-flight",), "flag", "leave out TCP connections not yet accepted"),
        Option(("link-remap",), "flag", "keep files that have no name any more by linking them"),
        Option(("status-fd",), "number", "gets a zero byte when --lazy-pages is ready", "-1"),
        Option(("page-server",), "text", "ADDRESS:PORT that memory is served at, or sent to"),
        Option(("pre-dump",), "flag", "write memory only, and don't end the container"),
    ),
    "restore": (
        *_BOTH,
        Option(("bundle", "b"), "text", "the bundle's directory", "."),
        Option(("console-socket",), "text", "socket that gets the terminal's master end"),
        Option(("pid-file",), "text", "file that gets the pid of the container's process"),
        Option(("detach", "d"), "flag", "leave when the processes run"),
        Option(("tcp-close",), "flag", "close TCP connections that were open"),
        Option(("lsm-profile",), "text", "security label instead of the kept: TYPE:LABEL"),
        Option(("lsm-mount-context",), "text", "SELinux context of mounts that have one"),
        Option(("no-subreaper",), "flag", "has no effect: orphans go to the container's init"),
        Option(("no-pivot",), "flag", "has no effect: criu enters the root"),
    ),
}


def run_checkpoint(settings: Settings, values: Values) -> int:
    """Have criu write the container's processes to disk, and delete the container then."""
    container = Container(settings.root, values.rest[0])
    container.lock()
    container.require("checkpoint")
    images, work = checkpoint.images(values), checkpoint.work(values)
    pre_dump = values.flag("pre-dump")
    spec = container.spec()
    process = container.process()
    assert process is not None
    options = checkpoint.common_options(values, spec, checkpoint.DUMP_LOG)
    _add_dump_options(options, values)
    os.makedirs(images, 0o700, exist_ok=True)
    os.makedirs(work, 0o700, exist_ok=True)
    _add_parent(options, values, images)
    _add_container(options, container, spec, process.pid, pre_dump)
    if not pre_dump:
        checkpoint.write_descriptors(images, process.pid)
    options.add("images_dir_fd", os.open(images, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    options.add("work_dir_fd", os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    status = values.number("status-fd")
    if status >= 0 and not _is_writable(status):
        raise InvalidArgument(f"invalid --status-fd argument {status}: not open for writing")

    def on_notice(moment: str) -> None:
        if moment == "status-ready" and status >= 0:
            os.write(status, b"\0")
            os.close(status)

    kind = criu.PRE_DUMP if pre_dump else criu.DUMP
    criu.dump(kind, options, f"{work}/{checkpoint.DUMP_LOG}", on_notice)
    if not pre_dump and not values.flag("leave-running"):
        try:
            remove(container, settings)
        except (FileNotFoundError, ContainerNotFound):
            pass  # the launcher that waited for the container's end has been quicker
    return 0


def run_restore(settings: Settings, values: Values) -> int:
    """Become the launcher that has criu make the container again."""
    id = check_id(values.rest[0])
    directory = f"{settings.root}/{id}"
    if os.path.lexists(directory):
        raise AlreadyExists(f"container with given ID already exists: {id}")
    place = os.path.abspath(values.text("bundle"))
    images, work = checkpoint.images(values), checkpoint.work(values)
    spec = bundle.load(place)
    require_program(spec)
    spec["root"]["path"] = os.path.realpath(spec["root"]["path"])
    detached = values.flag("detach")
    console_socket = values.path("console-socket")
    launch = Launch(
        id,
        directory,
        stdio=start.streams(spec["process"], console_socket, detached),
        lifecycle=Lifecycle(
            bundle=place,
            foreground=not detached,
            pid_file=values.path("pid-file"),
            console_socket=console_socket,
        ),
    )
    launch = start.with_resctrl(launch, spec)
    features = host.detect()
    groups = cgroups.directories(situation(spec, features, launch))
    launch = launch._replace(files=files(_restored(spec), launch, groups))
    options = checkpoint.common_options(values, spec, checkpoint.RESTORE_LOG)
    options.add("root", spec["root"]["path"])
    options.add("rst_sibling", 1)
    options.add("evasive_devices", 1)
    checkpoint.add_streams(options, images)
    checkpoint.add_restored_mounts(options, spec, features, launch)
    checkpoint.add_restored_namespaces(options, spec)
    if values.flag("tcp-close"):
        options.add("tcp_close", 1)
    for name in ("lsm-profile", "lsm-mount-context"):
        if values.text(name):
            options.add(name.replace("-", "_"), values.text(name))
    _open_images(images, spec)
    restore = Restore(criu.program(), criu.search_path(), images, work, options.encoded)
    start.become(compile_restore(spec, features, launch, restore), settings, 1)


def _open_images(directory: str, spec: Spec) -> None:
    """Let the root of a container with its own users reach the images: criu reads some as that.

    Others it reads before it has those ids, as the host's root without its capabilities.
    """
    mappings = spec["linux"].get("gidMappings", [])
    gid = next((entry["hostID"] for entry in mappings if entry["containerID"] == 0), 0)
    if gid:
        os.chown(directory, -1, gid)
        os.chmod(directory, 0o710)  # noqa: S103  to go through it, not to list it


def _add_dump_options(options: criu.Options, values: Values) -> None:
    for option, name in (
        ("leave-running", "leave_running"),
        ("tcp-skip-in-flight", "tcp_skip_in_flight"),
        ("link-remap", "link_remap"),
    ):
        if values.flag(option):
            options.add(name, 1)
    server = values.text("page-server")
    if server:
        address, _, port = server.rpartition(":")
        if not address or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise InvalidArgument("--page-server must be ADDRESS:PORT")
        options.add("ps", criu.pair(address.strip("[]"), int(port)))


def _add_parent(options: criu.Options, values: Values, images: str) -> None:
    parent = values.text("parent-path")
    if not parent:
        return
    if os.path.isabs(parent):
        raise InvalidArgument("--parent-path must be relative to the checkpoint's directory")
    if not os.path.isdir(f"{images}/{parent}"):
        raise InvalidArgument(f"invalid --parent-path: {images}/{parent} isn't a directory")
    options.add("parent_img", parent)
    options.add("track_mem", 1)


def _add_container(
    options: criu.Options, container: Container, spec: Spec, pid: int, pre_dump: bool
) -> None:
    options.add("pid", pid)
    checkpoint.add_dumped_namespaces(options, spec, pid)
    group = container.group()
    # That which pausing uses: criu then finds what is paused already.
    freezer = (group.unified or group.place("freezer")) if group else ""
    if freezer:
        options.add("freeze_cgroup", freezer)
    if not pre_dump:
        launch = Launch(container.id, container.directory, lifecycle=Lifecycle())
        checkpoint.add_dumped_mounts(options, spec, host.detect(), launch, pid)


def _restored(spec: Spec) -> Spec:
    """Return the spec that later commands know a restored container by.

    criu gives it a time namespace, in which the clocks go on where they stood.
    """
    kinds = [namespace["type"] for namespace in spec["linux"].get("namespaces", [])]
    if "time" in kinds or not os.path.exists("/proc/self/ns/time"):
        return spec
    restored = spec.copy()
    linux = restored["linux"] = spec["linux"].copy()
    linux["namespaces"] = [*linux.get("namespaces", []), {"type": "time"}]
    return restored


def _is_writable(fd: int) -> bool:
    import fcntl

    try:
        return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    except OSError:
        return False
