"""The first line of scripts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloche.errors import InvalidArgument
from cloche.rootfs import script
from cloche.rootfs.script import Script


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("#!/bin/sh\n", Script("/bin/sh", "")),
        ("#! \t/bin/sh -e\n", Script("/bin/sh", "")),
        ("#!/bin/sh", Script("/bin/sh", "")),
        ("#!/usr/bin/python3\t-I\n", Script("/usr/bin/python3", "")),
        ("#!/usr/bin/env bash\n", Script("/usr/bin/env", "bash")),
        ("#!/usr/bin/env /opt/x/python\n", Script("/usr/bin/env", "/opt/x/python")),
        ("#!/usr/bin/env -S python3 -I\n", Script("/usr/bin/env", "python3")),
        ("#!/usr/bin/env -SA=1 -i 'my program' -x\n", Script("/usr/bin/env", "my program")),
        ("#!/usr/bin/env --split-string=perl -w\n", Script("/usr/bin/env", "perl")),
        ("#!/bin/cat\n\xff\xfe", Script("/bin/cat", "")),
    ],
)
def test_interpreters(tmp_path: Path, line: str, expected: Script) -> None:
    """The interpreter is the first word; env's program is needed too."""
    path = tmp_path / "script"
    path.write_text(line, encoding="latin-1")
    assert script.read(str(path)) == expected


@pytest.mark.parametrize("content", ["", "#", "echo hello\n", " #!/bin/sh\n", "\x7fELF"])
def test_no_script(tmp_path: Path, content: str) -> None:
    """A file that doesn't begin with #! isn't a script."""
    path = tmp_path / "script"
    path.write_text(content)
    assert script.read(str(path)) is None


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("#!/bin/sh\r\n", "ends in CR LF"),
        ("#!\n", "names no interpreter"),
        ("#!   \n", "names no interpreter"),
        ("#!bin/sh\n", "isn't an absolute path"),
        ("#!/" + "x" * 300, "names no interpreter"),
        ("#!/usr/bin/env -u HOME bash\n", "only -S is understood"),
        ("#!/usr/bin/env -S A=1\n", "names no program"),
        ("#!/usr/bin/env -S 'bash\n", "No closing quotation"),
    ],
)
def test_bad_lines(tmp_path: Path, line: str, problem: str) -> None:
    """A first line that the kernel or env wouldn't understand says what is wrong."""
    path = tmp_path / "script"
    path.write_text(line, newline="")
    with pytest.raises(InvalidArgument, match=problem) as caught:
        script.read(str(path))
    assert str(path) in caught.value.message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from([b"#!", b"#!/usr/bin/env ", b"#!/usr/bin/env -S"]))
def test_garbage(tmp_path: Path, data: bytes, prefix: bytes) -> None:
    """Any bytes give an interpreter or an error of ours."""
    path = tmp_path / "script"
    path.write_bytes(prefix + data)
    try:
        found = script.read(str(path))
    except InvalidArgument:
        return
    assert found is not None
    assert found.interpreter.startswith("/")
