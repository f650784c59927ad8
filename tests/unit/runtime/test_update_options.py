"""What ``update`` and ``events`` read from their command lines."""

from __future__ import annotations

import pytest

from cloche.errors import InvalidArgument
from cloche.runtime import arguments
from cloche.runtime.commands import events, update


def wanted(*words: str) -> object:
    """Return the resources that options stand for."""
    return update._wanted(arguments.parse(update.OPTIONS["update"], words))


def test_options_are_resources() -> None:
    """Each option is a field, and only what is given is asked for."""
    assert wanted() == {}
    assert wanted("--memory", "512m", "--memory-swap=-1", "--cpu-share", "512") == {
        "memory": {"limit": 512 << 20, "swap": -1},
        "cpu": {"shares": 512},
    }
    assert wanted("--pids-limit", "0", "--cpu-idle", "0", "--cpuset-cpus", "0-1") == {
        "cpu": {"idle": 0, "cpus": "0-1"},
        "pids": {"limit": 0},
    }


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("-1", -1),
        ("0", 0),
        ("1024", 1024),
        ("1k", 1024),
        ("1KB", 1024),
        ("1KiB", 1024),
        ("1.5g", 3 << 29),
        ("7b", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """Units are powers of 1024, in any case."""
    assert wanted("--memory", text) == {"memory": {"limit": size}}


@pytest.mark.parametrize(
    "text", ["", "m", "-2", "1x", "1.2.3", "1e9", "nan", "\N{SUPERSCRIPT TWO}"]
)
def test_sizes_that_are_none(text: str) -> None:
    """Nothing else is a size."""
    with pytest.raises(InvalidArgument, match="isn't a size"):
        wanted("--memory", text)


def test_a_document_of_resources(tmp_path: object) -> None:
    """A file takes the place of all options, and is checked."""
    path = f"{tmp_path}/resources.json"
    with open(path, "w") as file:
        file.write('{"pids": {"limit": 5}, "memory": null, "unknown": 1}')
    assert wanted("-r", path, "--memory", "1m") == {"pids": {"limit": 5}}
    with open(path, "w") as file:
        file.write('{"pids": {"limit": "5"}}')
    with pytest.raises(InvalidArgument, match="resources: /pids/limit"):
        wanted("-r", path)


@pytest.mark.parametrize(
    ("text", "seconds"), [("5s", 5.0), ("1m30s", 90.0), ("500ms", 0.5), ("1.5h", 5400.0)]
)
def test_durations(text: str, seconds: float) -> None:
    """A duration is a sum of numbers with units."""
    assert events.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "5", "s", "5x", "-5s", "1..2s"])
def test_durations_that_are_none(text: str) -> None:
    """Nothing and what isn't positive is refused."""
    with pytest.raises(InvalidArgument):
        events.seconds(text)
