"""Other programs that start containers, each on the same root directory.

A peer is found by name on PATH, or where ``--within NAME=PREFIX`` says, such as
``--within 'podman=chroot /srv/newer'``; ``--options NAME=WORDS`` adds words after its ``run``.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias

from bench.measure import Failed, Shell
from bench.spec import container

IMAGE = "cloche-bench"


class Setting(NamedTuple):
    """Where and how peers are run."""

    root: Path
    directory: Path
    """For bundles; its path is the same for every peer."""
    within: dict[str, list[str]]
    options: dict[str, str]


Maker: TypeAlias = Callable[[Setting], str]
"""Makes ready what a contestant needs, and returns its command line; raises Failed."""


def cloche_command(setting: Setting) -> str:
    """Return the command that starts the same container with Cloche."""
    cloche = Path(sys.executable).with_name("cloche")
    options = setting.options.get("cloche", "")
    places = f"CLOCHE_STATE={setting.directory}/cloche CLOCHE_DATA={setting.directory}/data"
    return f"{places} {cloche} run {options} --network none --rootfs {setting.root}:O /bin/true"


@contextmanager
def contestants(
    makers: dict[str, Maker], setting: Setting
) -> Iterator[tuple[dict[str, Callable[[], float]], dict[str, str]]]:
    """Yield what can be run, ready to run, and by name why the others can't."""
    ready: dict[str, Callable[[], float]] = {}
    skipped: dict[str, str] = {}
    with ExitStack() as shells:
        for name, maker in makers.items():
            prefix = setting.within.get(name, [])
            if not prefix and name != "cloche" and shutil.which(name) is None:
                skipped[name] = "isn't installed"
                continue
            shell = Shell(prefix)
            shells.callback(shell.close)
            try:
                command = maker(setting)
                shell.run(command)
            except Failed as error:
                skipped[name] = str(error)
                continue
            ready[name] = _bound(shell, command)
        yield ready, skipped


def _bound(shell: Shell, command: str) -> Callable[[], float]:
    return lambda: shell.run(command)


def _engine(name: str) -> Maker:
    def maker(setting: Setting) -> str:
        prefix = setting.within.get(name, [])
        archive = subprocess.run(
            ["tar", "-C", setting.root, "-c", "."], capture_output=True, check=True
        ).stdout
        imported = subprocess.run(
            [*prefix, name, "import", "-", IMAGE], input=archive, capture_output=True, check=False
        )
        if imported.returncode != 0:
            lines = imported.stderr.decode(errors="replace").strip().splitlines()
            raise Failed(lines[-1] if lines else f"exit {imported.returncode}")
        options = setting.options.get(name, "")
        return f"{name} run {options} --rm --network none {IMAGE} /bin/true"

    return maker


def _runtime(name: str) -> Maker:
    def maker(setting: Setting) -> str:
        bundle = setting.directory / f"bundle-{name}"
        bundle.mkdir(exist_ok=True)
        spec = container(setting.root, f"cloche-bench-{name}")
        (bundle / "config.json").write_text(json.dumps(spec))
        options = setting.options.get(name, "")
        return f"{name} run {options} --bundle {bundle} cloche-bench-{name}"

    return maker


def _bubblewrap(setting: Setting) -> str:
    root = shlex.quote(str(setting.root))
    options = setting.options.get("bwrap", "")
    return (
        f"bwrap --unshare-all --die-with-parent --bind {root} / --proc /proc --dev /dev "
        f"{options} /bin/true"
    )


ENGINES: dict[str, Maker] = {"podman": _engine("podman"), "docker": _engine("docker")}
"""They start containers from images."""

RUNTIMES: dict[str, Maker] = {
    "crun": _runtime("crun"),
    "runc": _runtime("runc"),
    "bwrap": _bubblewrap,
}
"""They start containers from directories."""


def is_root() -> bool:
    """Whether this is root, which all of these are run as."""
    return os.geteuid() == 0
