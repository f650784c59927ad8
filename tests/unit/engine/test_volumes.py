"""The options --volume, --mount and --tmpfs."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.engine.volumes import Volume, mount, tmpfs, volume
from cloche.errors import ClocheError, InvalidArgument, Unsupported


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a:/b", Volume("bind", "/a", "/b", ("rbind",), True)),
        ("/a/../c:/b//x/", Volume("bind", "/c", "/b/x", ("rbind",), True)),
        ("/a:/b:ro", Volume("bind", "/a", "/b", ("rbind", "rro"), True)),
        ("/a:/b:rw,z,nocopy", Volume("bind", "/a", "/b", ("rbind",), True)),
        ("/a:/b:ro,rslave", Volume("bind", "/a", "/b", ("rbind", "rro", "rslave"), True)),
        ("/a:/b:O", Volume("overlay", "/a", "/b")),
    ],
)
def test_volume(text: str, expected: Volume) -> None:
    """Docker's grammar; what has no effect here is accepted."""
    assert volume(text) == expected


def test_volume_relative_to_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that begins with a dot is relative to the caller's directory."""
    monkeypatch.chdir(tmp_path)
    assert volume("./x:/y").source == f"{tmp_path}/x"
    assert volume("..:/y").source == str(tmp_path.parent)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "/a:",
        ":/b",
        "/a:b",
        "/a:/",
        "/a://",
        "/a:/b/..",
        "/a:/b:ro:x",
        "/a:/b:sometimes",
        "/a:/b:ro,rw",
        "/a:/b:shared,slave",
        "/a:/b:O,ro",
    ],
)
def test_volume_that_is_none(text: str) -> None:
    """Mount points are absolute and not the root; options must be known and agree."""
    with pytest.raises(InvalidArgument):
        volume(text)


@pytest.mark.parametrize("text", ["data:/b", "/b"])
def test_named_volumes_are_unsupported(text: str) -> None:
    """Only what the host has can be shown."""
    with pytest.raises(Unsupported, match="only directories and files of the host"):
        volume(text)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("/t", ("noexec", "nosuid", "nodev")),
        ("/t:size=64m,mode=1777", ("noexec", "nosuid", "nodev", "size=64m", "mode=1777")),
        ("/t:exec", ("nosuid", "nodev")),
        ("/t:exec,suid,dev,rw", ()),
        ("/t:exec,noexec,ro", ("nosuid", "nodev", "noexec", "ro")),
    ],
)
def test_tmpfs(text: str, options: tuple[str, ...]) -> None:
    """Docker's usual options hold until the contrary is said."""
    assert tmpfs(text) == Volume("tmpfs", "", "/t", options)


@pytest.mark.parametrize("text", ["", "t", "/", "/t:size", "/t:size=", "/t:bind", "/t:x=y", "/t:"])
def test_tmpfs_that_is_none(text: str) -> None:
    """An option that isn't one of tmpfs could be anything, so it is refused."""
    with pytest.raises(InvalidArgument):
        tmpfs(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type=bind,src=/a,dst=/b", Volume("bind", "/a", "/b", ("rbind",))),
        ("type=bind,source=/a,target=/b,ro", Volume("bind", "/a", "/b", ("rbind", "rro"))),
        (
            "type=bind,source=/a,destination=/b,readonly=false,bind-propagation=rshared",
            Volume("bind", "/a", "/b", ("rbind", "rshared")),
        ),
        (
            "type=bind,src=/a,dst=/b,ro,bind-recursive=writable",
            Volume("bind", "/a", "/b", ("rbind", "ro")),
        ),
        (
            "type=bind,src=/a,dst=/b,readonly,bind-nonrecursive",
            Volume("bind", "/a", "/b", ("bind", "ro")),
        ),
        (
            "type=bind,src=/a,dst=/b,bind-create-src",
            Volume("bind", "/a", "/b", ("rbind",), True),
        ),
        ('type=bind,"src=/a,b",dst=/b', Volume("bind", "/a,b", "/b", ("rbind",))),
        (
            "type=tmpfs,dst=/b,tmpfs-size=1m,tmpfs-mode=1770",
            Volume("tmpfs", "", "/b", ("noexec", "nosuid", "nodev", "size=1048576", "mode=1770")),
        ),
    ],
)
def test_mount(text: str, expected: Volume) -> None:
    """Docker's keys, with their synonyms, and commas in quotes."""
    assert mount(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "type=bind",
        "type=bind,src=/a",
        "type=bind,dst=/b",
        "type=bind,src=/a,dst=b",
        "type=bind,src=/a,dst=/b,readonly=perhaps",
        "type=bind,src=/a,dst=/b,bind-propagation=loud",
        "type=bind,src=/a,dst=/b,bind-recursive=readonly",
        "type=bind,src=/a,dst=/b,tmpfs-size=1m",
        "type=bind,src=/a,dst=/b,colour=red",
        "type=bind,src,dst=/b",
        "type=tmpfs,src=/a,dst=/b",
        "type=tmpfs,dst=/b,tmpfs-mode=9",
        "type=tmpfs,dst=/b,tmpfs-size=x",
        'type=bind,"src=/a,dst=/b',
    ],
)
def test_mount_that_is_none(text: str) -> None:
    """A key that is missing, unknown, or of the other type is refused."""
    with pytest.raises(InvalidArgument):
        mount(text)


@pytest.mark.parametrize("text", ["src=data,dst=/b", "type=image,dst=/b"])
def test_mount_of_other_types(text: str) -> None:
    """Docker's default is a named volume, which there is none of."""
    with pytest.raises(Unsupported):
        mount(text)


@given(
    st.sampled_from([volume, tmpfs, mount]),
    st.text('/:.,=ab"', max_size=10) | st.text(max_size=10).map("type=bind,src=/a,dst=/b,".__add__),
)
def test_any_text_is_judged(parse: Callable[[str], Volume], text: str) -> None:
    """Whatever the text is, the answer is an absolute mount point or one of our errors."""
    try:
        found = parse(text)
    except ClocheError:
        return
    assert found.destination.startswith("/")
    assert ".." not in found.destination.split("/")
    assert found.destination != "/"
