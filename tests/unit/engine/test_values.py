"""The small grammars of option values."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.engine import values
from cloche.engine.values import DeviceRate, DeviceRequest, DeviceRule, Ulimit
from cloche.errors import ClocheError, InvalidArgument, NotFound

MiB = 1 << 20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1048576", MiB),
        ("512m", 512 * MiB),
        ("512M", 512 * MiB),
        ("512mb", 512 * MiB),
        ("512MiB", 512 * MiB),
        ("512 m", 512 * MiB),
        ("1.5g", 1536 * MiB),
        ("1.5gb", 1536 * MiB),
        (".5k", 512),
        ("7b", 7),
        ("1t", 1 << 40),
    ],
)
def test_size(text: str, expected: int) -> None:
    """A size is a number with a unit of 1024, as Docker has it."""
    assert values.size(text) == expected


def test_size_of_the_machine() -> None:
    """A percentage is of the machine, where there is one to speak of."""
    assert values.size("25%", 1 << 30) == 1 << 28
    with pytest.raises(InvalidArgument):
        values.size("25%")
    with pytest.raises(InvalidArgument):
        values.size("101%", 1 << 30)


@pytest.mark.parametrize(
    "text", ["", "m", "-1", "5x", "1..5m", "1,5m", "0x10", "1mm", "5ib", "½m", "9" * 30, "inf"]
)
def test_size_that_is_none(text: str) -> None:
    """Anything else is refused, with a hint."""
    with pytest.raises(InvalidArgument) as caught:
        values.size(text)
    assert caught.value.hint


def test_size_or_unlimited() -> None:
    """Only -1 stands for unlimited."""
    assert values.size_or_unlimited("-1") == -1
    assert values.size_or_unlimited("1k") == 1024
    with pytest.raises(InvalidArgument):
        values.size_or_unlimited("-2")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10", 10_000),
        ("0.5", 500),
        ("10s", 10_000),
        ("1m30s", 90_000),
        ("1.5h", 5_400_000),
        ("250ms", 250),
        ("1h2m3s4ms", 3_723_004),
    ],
)
def test_duration(text: str, expected: int) -> None:
    """A duration is written as in Go, or as a number of seconds."""
    assert values.duration_ms(text) == expected


@pytest.mark.parametrize("text", ["", "0", "s", "10x", "1m30", "-5s", "5s ", "1e3"])
def test_duration_that_is_none(text: str) -> None:
    """No time, or what isn't one, is refused."""
    with pytest.raises(InvalidArgument):
        values.duration_ms(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", 100_000), ("1.5", 150_000), ("0.01", 1_000), ("10%", 40_000), ("100%", 400_000)],
)
def test_cpu_quota(text: str, expected: int) -> None:
    """A number of CPUs, or a percentage of four, becomes microseconds in a tenth of a second."""
    assert values.cpu_quota(text, 4) == expected


@pytest.mark.parametrize("text", ["", "0", "0.001", "4.1", "101%", "-1", "1k", "1 2"])
def test_cpu_quota_out_of_range(text: str) -> None:
    """More than there is, or less than the kernel can give, is refused."""
    with pytest.raises(InvalidArgument):
        values.cpu_quota(text, 4)


@pytest.mark.parametrize("text", ["0", "0-3", "0,2,5-7"])
def test_cpu_list(text: str) -> None:
    """A list of numbers and ranges is taken as it is."""
    assert values.cpu_list(text) == text


@pytest.mark.parametrize("text", ["", ",", "3-1", "0-", "a", "0,,1", "0- 3", "1-2-3"])
def test_cpu_list_that_is_none(text: str) -> None:
    """What cpuset wouldn't take is refused."""
    with pytest.raises(InvalidArgument):
        values.cpu_list(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nofile=1024", Ulimit("RLIMIT_NOFILE", 1024, 1024)),
        ("nofile=1024:2048", Ulimit("RLIMIT_NOFILE", 1024, 2048)),
        ("core=-1", Ulimit("RLIMIT_CORE", -1, -1)),
        ("core=0:unlimited", Ulimit("RLIMIT_CORE", 0, -1)),
    ],
)
def test_ulimit(text: str, expected: Ulimit) -> None:
    """A limit has a name, a soft value, and a hard one that is the same unless given."""
    assert values.ulimit(text) == expected


@pytest.mark.parametrize(
    "text", ["nofile", "nofile=", "files=1", "nofile=2:1", "nofile=-1:5", "nofile=1:2:3", "cpu=x"]
)
def test_ulimit_that_is_none(text: str) -> None:
    """An unknown name, no value, or a soft limit above the hard one is refused."""
    with pytest.raises(InvalidArgument):
        values.ulimit(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/dev/fuse", DeviceRequest("/dev/fuse", "/dev/fuse", "rwm")),
        ("/dev/a:/dev/b", DeviceRequest("/dev/a", "/dev/b", "rwm")),
        ("/dev/a:/dev/b:r", DeviceRequest("/dev/a", "/dev/b", "r")),
        ("/dev/a:rw", DeviceRequest("/dev/a", "/dev/a", "rw")),
    ],
)
def test_device(text: str, expected: DeviceRequest) -> None:
    """A device may have another path inside, and less access."""
    assert values.device(text) == expected


@pytest.mark.parametrize("text", ["", "fuse", "/dev/a:b", "/dev/a:/dev/b:x", "/dev/a:/b:rr", "::"])
def test_device_that_is_none(text: str) -> None:
    """Paths are absolute, access is of r, w and m, each once."""
    with pytest.raises(InvalidArgument):
        values.device(text)


def test_device_rule() -> None:
    """A rule is written as cgroup v1 writes it."""
    assert values.device_rule("c 1:3 rwm") == DeviceRule("c", 1, 3, "rwm")
    assert values.device_rule("b 8:* r") == DeviceRule("b", 8, -1, "r")
    for text in ("", "c 1:3", "x 1:3 r", "c 1 r", "c 1:a r", "c 1:3 x", "c  1:3 r"):
        with pytest.raises(InvalidArgument):
            values.device_rule(text)


def test_device_rate() -> None:
    """A device and its value are parted by the last colon."""
    assert values.device_rate("/dev/sda:1m", values.size) == DeviceRate("/dev/sda", MiB)
    for text in ("/dev/sda", "sda:1", "/dev/sda:x"):
        with pytest.raises(InvalidArgument):
            values.device_rate(text, values.size)


def test_names() -> None:
    """Names of containers and hosts have rules of their own."""
    assert values.container_name("web-1") == "web-1"
    assert values.host_name("a.b-c_d") == "a.b-c_d"
    for name in ("", "x", "-x", ".x", "a/b", "../x", "a b"):
        with pytest.raises(InvalidArgument):
            values.container_name(name)
    for name in ("", "-a", "a-", "a..b", ".", "a b", "x" * 65, "a\n"):
        with pytest.raises(InvalidArgument):
            values.host_name(name)


def test_rootfs(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A root directory becomes absolute; :O asks for a throw-away layer."""
    monkeypatch.chdir(tmp_path)
    assert values.rootfs("x/../y") == (f"{tmp_path}/y", False)
    assert values.rootfs("/r:O") == ("/r", True)
    with pytest.raises(InvalidArgument):
        values.rootfs(":O")


FILE = """\
# a comment
A=1
  B=two words # kept
EMPTY=
HOST
UNSET

QUOTED="x"
"""


def test_environment_of_a_file() -> None:
    """Docker's format: comments, no quoting, names alone copy the caller's."""
    found = values.environment([], [("file", FILE)], {"HOST": "h"})
    assert found == ("A=1", "B=two words # kept", "EMPTY=", "HOST=h", 'QUOTED="x"')


def test_environment_of_options_counts_more() -> None:
    """What -e says takes the place of what a file says; windows line ends don't count."""
    found = values.environment(["A=2", "B", "C"], [("f", "A=1\r\nB=1\r\n")], {"B": "host"})
    assert found == ("A=2", "B=host")


def test_environment_mistake_names_file_and_line() -> None:
    """A bad line is found again."""
    with pytest.raises(InvalidArgument, match="f:2: "):
        values.environment([], [("f", "A=1\nB C=2\n")], {})
    with pytest.raises(InvalidArgument):
        values.environment(["=x"], [], {})
    with pytest.raises(InvalidArgument):
        values.environment(["A=\0"], [], {})


PARSERS = [
    values.size,
    values.size_or_unlimited,
    values.duration_ms,
    lambda text: values.cpu_quota(text, 4),
    values.cpu_list,
    values.ulimit,
    values.device,
    values.device_rule,
    lambda text: values.device_rate(text, values.size),
    values.whole_number,
    values.assignment,
    values.container_name,
    values.host_name,
]


@given(st.sampled_from(PARSERS), st.text("0123456789.,:-=%abckmgrsw/ ½\0²", max_size=12))
def test_any_text_is_judged(parse: Any, text: str) -> None:
    """Whatever the text is, the answer is a value or one of our errors."""
    try:
        parse(text)
    except ClocheError:
        pass


def test_relative_path_where_the_directory_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that is relative to nothing is an error; an absolute one isn't."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert values.absolute("/a//b/../c") == "/a/c"
    with pytest.raises(NotFound, match="x: the current directory doesn't exist any more"):
        values.absolute("x")
