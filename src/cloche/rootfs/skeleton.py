"""Build the skeleton of the image ``host``: a root with an /etc of its own and empty places.

::

    data directory/host/
        NAME/root/        the container's root, beneath /usr and the binds
        NAME/usr/         a layer over the host's /usr, of whiteouts
        .new/             a skeleton that is being built, or was when its builder died

A skeleton gets its name by rename(2) when every byte of it is on the disk: one that has a name
is whole.  Builders exclude each other by flock(2), which the kernel releases when they die, so
whoever holds the lock may sweep away what it finds half-built.

Only what everybody on the host may read is taken over from its /etc, and no private key.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from contextlib import suppress

from cloche.errors import Unsupported

_DIRECTORIES = {
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "media": 0o755,
    "mnt": 0o755,
    "opt": 0o755,
    "proc": 0o555,
    "root": 0o700,
    "run": 0o755,
    "srv": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    "usr": 0o755,
    "var": 0o755,
    "var/cache": 0o755,
    "var/lib": 0o755,
    "var/log": 0o755,
    "var/spool": 0o755,
    "var/tmp": 0o1777,
}

_LINKS = {
    "etc/mtab": "/proc/self/mounts",
    "etc/os-release": "../usr/lib/os-release",
    "var/run": "../run",
}

_FILES = {
    "etc/passwd": """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
bin:x:2:2:bin:/bin:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
""",
    "etc/group": """\
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
users:x:100:
nogroup:x:65534:
""",
    "etc/nsswitch.conf": """\
passwd:    files
group:     files
shadow:    files
hosts:     files dns
networks:  files
protocols: files
services:  files
""",
    "etc/hosts": """\
127.0.0.1 localhost
::1       localhost ip6-localhost ip6-loopback
""",
    "etc/resolv.conf": "",
    "etc/shells": "/bin/sh\n/bin/bash\n",
}

_FROM_HOST = (
    "etc/ld.so.conf",
    "etc/ld.so.conf.d",
    f"etc/ld-musl-{os.uname().machine}.path",
    "etc/protocols",
    "etc/services",
    "etc/ssl/certs",
    "etc/ssl/cert.pem",
    "etc/ssl/ca-bundle.pem",
    "etc/ssl/openssl.cnf",
    "etc/pki/tls/certs",
    "etc/pki/tls/cert.pem",
    "etc/pki/tls/openssl.cnf",
    "etc/pki/ca-trust/extracted",
    "etc/ca-certificates/extracted",
    "var/lib/ca-certificates",
)
"""Public configuration that programs need: how to find libraries, and whom to trust."""

_HIDDEN = ("etc", "home", "local/etc", "local/home", "local/var")
"""Places in /usr where administrators or users of the host may keep things of their own."""


def build(skeleton: str, host: str, layout: tuple[tuple[str, str], ...]) -> None:
    """Build the skeleton of the root directory ``host`` (with "/" at its end) at a path.

    ``layout`` holds the names of the root that are links (with their target) or directories of
    their own (with "").  If it is there already, or another process builds it at the same time,
    this waits and leaves that one.

    Raises Unsupported when the host has no /usr, and OSError.
    """
    if not os.path.isdir(f"{host}usr"):
        raise Unsupported(
            f"the image host needs {host}usr, which isn't there",
            hint="use --rootfs with a directory instead",
        )
    base = os.path.dirname(skeleton)
    data_dir = os.path.dirname(base)
    os.makedirs(os.path.dirname(data_dir), exist_ok=True)
    with suppress(FileExistsError):
        _make_dir(data_dir, 0o711)  # root of a user namespace must get through, as any other user
    with suppress(FileExistsError):
        _make_dir(base, 0o755)
    base_fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(base_fd, fcntl.LOCK_EX)
        if os.path.isdir(skeleton):
            return
        new = os.path.join(base, ".new")
        if os.path.lexists(new):
            shutil.rmtree(new)
        _make_dir(new, 0o755)
        _make_root(os.path.join(new, "root"), host, layout)
        _make_hiding_layer(os.path.join(new, "usr"))
        os.rename(new, skeleton)
        os.fsync(base_fd)
    finally:
        os.close(base_fd)


def _make_root(root: str, host: str, layout: tuple[tuple[str, str], ...]) -> None:
    _make_dir(root, 0o755)
    for name, mode in _DIRECTORIES.items():
        _make_dir(os.path.join(root, name), mode)
    for name, target in layout:
        if target:
            os.symlink(target, os.path.join(root, name))
        else:
            _make_dir(os.path.join(root, name), 0o755)
    for name, target in _LINKS.items():
        os.symlink(target, os.path.join(root, name))
    for name, text in _FILES.items():
        _make_file(os.path.join(root, name), text.encode())
    for name in _FROM_HOST:
        _take_over(host + name, os.path.join(root, name))


def _make_hiding_layer(layer: str) -> None:
    """Make a layer that hides parts of /usr, each by a whiteout."""
    _make_dir(layer, 0o755)
    for name in _HIDDEN:
        path = os.path.join(layer, name)
        _make_parents(path)
        try:
            os.mknod(path, stat.S_IFCHR, os.makedev(0, 0))
        except PermissionError as error:
            raise Unsupported(
                f"{path}: overlay whiteouts can't be made here",
                hint="use a data directory on a local file system (ext4, xfs, btrfs, tmpfs)",
            ) from error


def _take_over(source: str, dest: str) -> None:
    """Copy a link, file or directory tree of the host, as far as it is public."""
    content = _public_content(source)
    if content is None:
        return
    _make_parents(dest)
    if isinstance(content, str):
        os.symlink(content, dest)
    elif isinstance(content, bytes):
        _make_file(dest, content)
    else:
        _make_dir(dest, 0o755)
        for name in content:
            _take_over(os.path.join(source, name), os.path.join(dest, name))


def _public_content(path: str) -> str | bytes | list[str] | None:
    """Return a link's target, a file's bytes or a directory's names; None if it isn't public.

    Public is what all others may read and holds no private key.
    """
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            return os.readlink(path)
        if stat.S_ISDIR(mode) and mode & 0o005 == 0o005:
            return os.listdir(path)
        if stat.S_ISREG(mode) and mode & stat.S_IROTH:
            with open(path, "rb") as file:
                data = file.read()
            return None if b"PRIVATE KEY" in data else data
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # another distribution's place, gone meanwhile, or in a closed directory
    return None


def _make_parents(path: str) -> None:
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        _make_parents(parent)
        _make_dir(parent, 0o755)


def _make_dir(path: str, mode: int) -> None:
    os.mkdir(path, 0o700)
    os.chmod(path, mode)  # mkdir's mode is cut by the umask, and widened by a set-group-ID parent


def _make_file(path: str, data: bytes) -> None:
    with open(path, "xb") as file:
        file.write(data)
        os.fchmod(file.fileno(), 0o644)
        file.flush()
        os.fsync(file.fileno())
