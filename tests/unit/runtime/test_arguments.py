"""Options of the runtime's command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloche.errors import InvalidArgument
from cloche.runtime.arguments import Option, describe, parse

OPTIONS = (
    Option(("bundle", "b"), "text", "the directory", "."),
    Option(("count",), "number", "how many"),
    Option(("env", "e"), "list", "a variable"),
    Option(("force", "f"), "flag", "whatever comes"),
)


@pytest.mark.parametrize(
    "words", [["--bundle", "x"], ["--bundle=x"], ["-b", "x"], ["-b=x"], ["-bundle", "x"]]
)
def test_spellings(words: list[str]) -> None:
    """One dash is two, and a value stands after a blank or an equals sign."""
    values = parse(OPTIONS, [*words, "id"])
    assert (values.text("bundle"), values.rest) == ("x", ["id"])


def test_defaults() -> None:
    """What isn't given has its default."""
    values = parse(OPTIONS, [])
    assert values.text("bundle") == "."
    assert values.number("count") == 0
    assert values.list("env") == []
    assert not values.flag("force")
    assert not values.given


def test_options_end_at_the_first_argument() -> None:
    """What follows may be a program with options of its own."""
    values = parse(OPTIONS, ["-f", "id", "sh", "-e", "--bundle"])
    assert values.flag("force")
    assert values.rest == ["id", "sh", "-e", "--bundle"]


def test_two_dashes_end_options() -> None:
    """An argument may begin with a dash."""
    assert parse(OPTIONS, ["-f", "--", "-f"]).rest == ["-f"]
    assert parse(OPTIONS, ["-"]).rest == ["-"]


def test_lists_and_flags_with_values() -> None:
    """A list grows, a flag can be switched off."""
    values = parse(OPTIONS, ["-e", "a=b", "--env=c=d", "--force=false", "--count=-1"])
    assert values.list("env") == ["a=b", "c=d"]
    assert not values.flag("force")
    assert values.given == {"env", "force", "count"}
    assert values.number("count") == -1


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is absolute, however it was given; one that wasn't given is none."""
    monkeypatch.chdir(tmp_path)
    options = (*OPTIONS, Option(("log",), "text", "a file"))
    assert parse(options, ["-b", "x/../y"]).path("bundle") == f"{tmp_path}/y"
    assert parse(options, []).path("bundle") == str(tmp_path)
    assert parse(options, []).path("log") == ""


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--nosuch=1"], "there is no option --nosuch"),
        (["--bundle"], "--bundle needs a value"),
        (["--count", "many"], "--count is 'many' but must be a whole number"),
        (["--count", ""], "--count is '' but must be a whole number"),
        (["--force=perhaps"], "--force takes no value such as 'perhaps'"),
    ],
)
def test_mistakes(words: list[str], problem: str) -> None:
    """A mistake names the option."""
    with pytest.raises(InvalidArgument) as caught:
        parse(OPTIONS, words)
    assert caught.value.message == problem


def test_description() -> None:
    """The table is the help, too."""
    first, *_, last = describe(OPTIONS).splitlines()
    assert first.split() == ["--bundle,", "-b", "VALUE", "the", "directory", "(default", ".)"]
    assert last.split() == ["--force,", "-f", "whatever", "comes"]
