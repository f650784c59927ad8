"""The runtimes that the engines run: ours, and runc as the proof that a test is right."""

from __future__ import annotations

import os
import shutil
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance import images
from tests.conformance.engines import Group

RUNTIMES = ("runc", "cloche-oci")
STATE = "runtime"
"""Where a runtime keeps its state, below the engine's directory."""


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    """The path of a runtime."""
    name: str = request.param
    path = f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}:/usr/sbin:/sbin"
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} isn't installed")
    return found


@pytest.fixture(scope="module")
def place(runtime: str) -> Iterator[Path]:
    """A directory for an engine; its path is short, for sockets are in it."""
    directory = Path(tempfile.mkdtemp(prefix="cloche-engine-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def private(runtime: str, place: Path) -> Path:
    """The runtime as a program that keeps its state where nobody else's is."""
    program = place / os.path.basename(runtime)
    program.write_text(f'#!/bin/sh\nexec {runtime} --root {place}/{STATE} "$@"\n')
    program.chmod(0o755)
    return program


@pytest.fixture
def nothing_left(place: Path, group: Group) -> Iterator[None]:
    """Prove that nothing of a test's containers is left, in the runtime's state and cgroups."""
    yield
    state = place / STATE
    assert not (list(state.iterdir()) if state.exists() else [])
    assert not group.left()


@pytest.fixture(scope="module")
def group(place: Path) -> Iterator[Group]:
    """The cgroup that the engine puts its containers into."""
    # Not named as those that tests/leaks.py removes: another run of the tests may be under way.
    group = Group(f"engine-{place.name.removeprefix('cloche-engine-')}")
    yield group
    group.remove()


@pytest.fixture(scope="session")
def root_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar archive of a container's root."""
    return images.root(tmp_path_factory.mktemp("image") / "root.tar")
