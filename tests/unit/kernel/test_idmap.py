from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloche.kernel import idmap

SUBUID = """\
root:1000000:65536
ann:100000:65536
1001:200000:100
ann:300000:10
ann:400000
ann:x:10
ann:500000:0
ann:600000:5:6

annabel:700000:9
"""


@pytest.fixture
def subuid(tmp_path: Path) -> Path:
    """A file as an administrator may have left it."""
    file = tmp_path / "subuid"
    file.write_text(SUBUID)
    return file


def test_all_ranges_of_a_user_are_found(subuid: Path) -> None:
    """By name, in order; broken and empty lines grant nothing."""
    assert idmap.subordinate_ids(str(subuid), "ann", 1000) == (
        idmap.Range(100000, 65536),
        idmap.Range(300000, 10),
    )


def test_a_user_may_be_given_by_number(subuid: Path) -> None:
    """subuid(5) allows the uid in place of the name, for users without one too."""
    assert idmap.subordinate_ids(str(subuid), "bob", 1001) == (idmap.Range(200000, 100),)
    assert idmap.subordinate_ids(str(subuid), "", 1001) == (idmap.Range(200000, 100),)


def test_without_a_file_nothing_is_granted(tmp_path: Path) -> None:
    """A machine without /etc/subuid is no error."""
    assert idmap.subordinate_ids(str(tmp_path / "none"), "ann", 1000) == ()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_content_is_survived(tmp_path: Path, content: bytes) -> None:
    """No line of whatever bytes makes the lookup fail, or grants an empty range."""
    file = tmp_path / "subuid"
    file.write_bytes(content)
    assert all(size > 0 for _, size in idmap.subordinate_ids(str(file), "ann", 0))


def test_programs_are_found_on_the_path_only_by_absolute_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative directory on the path, such as ".", never gives a program."""
    program = tmp_path / "newuidmap-test"
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert idmap.find_program("newuidmap-test", f".::{tmp_path}") == str(program)
    assert idmap.find_program("newuidmap-test", ".:") is None


def test_a_directory_is_no_program(tmp_path: Path) -> None:
    """A directory can be "executed" too, says access(2)."""
    (tmp_path / "newuidmap-test").mkdir()
    assert idmap.find_program("newuidmap-test", str(tmp_path)) is None


def test_a_helper_without_privilege_is_told(tmp_path: Path) -> None:
    """A newuidmap that lost its setuid bit (a copied file system) can't work."""
    program = tmp_path / "newuidmap"
    program.write_text("")
    program.chmod(0o755)
    assert idmap.problem(str(program)) == "is neither setuid root nor has the file capability"


@pytest.mark.needs("root")
def test_a_file_capability_is_as_good_as_setuid(tmp_path: Path) -> None:
    """Fedora ships newuidmap with cap_setuid; one with another capability doesn't do."""
    program = tmp_path / "newuidmap"
    program.write_text("")
    program.chmod(0o755)
    if os.statvfs(program).f_flag & os.ST_NOSUID:
        pytest.skip(f"{tmp_path} is mounted nosuid")
    for capability, problem in ((1 << 7, ""), (1 << 6, "is neither")):
        data = b"\x01\0\0\x02" + capability.to_bytes(4, "little") + bytes(12)
        os.setxattr(program, "security.capability", data)
        assert idmap.problem(str(program)).startswith(problem)
        assert bool(idmap.problem(str(program))) == bool(problem)


def test_a_missing_helper_is_told(tmp_path: Path) -> None:
    """A path that isn't there gives the reason, not an exception."""
    assert idmap.problem(str(tmp_path / "none")) == "no such file or directory"
