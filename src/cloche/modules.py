"""The package's modules in one file, compiled: what the commands import comes from there.

Finding a module costs as much as running it: a start imports sixty, each a search through
importlib's Python code, ten system calls and a file of its own.  The build writes ``modules.bin``
beside the package::

    16 bytes   the interpreter's magic number, zeros
    u64        size of the index
    index      marshalled: {module: (is a package, offset, size)}, offsets from its end
    code       of each module, marshalled

An interpreter of another version, or of a package without the file, imports as ever.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import sys
from _frozen_importlib import ModuleSpec  # `importlib.machinery` imports warnings
from _frozen_importlib_external import (
    MAGIC_NUMBER,
    SourceFileLoader,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType

NAME = "modules.bin"
_MAGIC = MAGIC_NUMBER.ljust(16, b"\0")
_HEAD = 24


class Modules(SourceFileLoader):
    """Finder and loader of one such file."""

    def __init__(
        self, directory: str, fd: int, start: int, index: dict[str, tuple[bool, int, int]]
    ) -> None:
        super().__init__("cloche", f"{directory}/__init__.py")
        self._directory = directory
        self._fd = fd
        self._start = start
        self._index = index

    def find_spec(
        self, name: str, _path: Sequence[str] | None = None, _target: object = None
    ) -> ModuleSpec | None:
        """Return the spec of a module of the file; None for any other."""
        found = self._index.get(name)
        if found is None:
            return None
        place = self._directory + name.removeprefix("cloche").replace(".", "/")
        origin = f"{place}/__init__.py" if found[0] else f"{place}.py"
        spec = ModuleSpec(name, self, origin=origin, is_package=found[0])
        if found[0]:
            spec.submodule_search_locations = [place]
        spec.has_location = True
        return spec

    def get_filename(self, name: str | None = None) -> str:
        """Return the path of a module's source."""
        spec = self.find_spec(name or "cloche")
        return str(spec and spec.origin)

    def get_code(self, name: str) -> CodeType:
        """Return a module's code."""
        _, offset, size = self._index[name]
        code: CodeType = marshal.loads(  # noqa: S302  as .pyc files are
            os.pread(self._fd, size, self._start + offset)
        )
        return code


def use(directory: str = os.path.dirname(__file__)) -> bool:
    """Import from the file from now on; return whether there is one for this interpreter.

    Not when CLOCHE_DEBUG is set: tracebacks of the ordinary import show the source's path.
    """
    if os.environ.get("CLOCHE_DEBUG"):
        return False
    try:
        low = os.open(f"{directory}/{NAME}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # The first numbers are for what the caller hands over to the container, or fails to.
        fd = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 500)
    except OSError:
        return False
    finally:
        os.close(low)
    head = os.pread(fd, _HEAD, 0)
    if head[:16] != _MAGIC:
        os.close(fd)
        return False
    size = int.from_bytes(head[16:], "little")
    index = marshal.loads(os.pread(fd, size, _HEAD))  # noqa: S302
    sys.meta_path.insert(0, Modules(directory, fd, _HEAD + size, index))
    return True


def write(directory: str, file: str) -> None:
    """Compile the package in a directory into such a file."""
    index: dict[str, tuple[bool, int, int]] = {}
    codes = b""
    for place, _, names in sorted(os.walk(directory)):
        for name in sorted(names):
            path = f"{place}/{name}"
            if not name.endswith(".py"):
                continue
            module = "cloche" + path.removeprefix(directory).removesuffix(".py").replace("/", ".")
            with open(path, "rb") as source:
                code = compile(source.read(), module.replace(".", "/") + ".py", "exec")
            data = marshal.dumps(code)
            is_package = name == "__init__.py"
            index[module.removesuffix(".__init__")] = (is_package, len(codes), len(data))
            codes += data
    packed = marshal.dumps(index)
    with open(file, "wb") as output:
        output.write(_MAGIC + len(packed).to_bytes(8, "little") + packed + codes)
