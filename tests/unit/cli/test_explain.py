"""cloche explain run: the same options, and a plan that is printed."""

import pytest

from cloche.cli.main import main
from cloche.engine import launch
from cloche.engine.options import RunOptions
from cloche.plan import explain, steps
from cloche.plan.steps import Plan


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[RunOptions]:
    """Put a plan of one step in place; returns the options that it was asked for."""
    found: list[RunOptions] = []

    def plan(options: RunOptions) -> Plan:
        found.append(options)
        return Plan((steps.hostname("bell", why="a test"),))

    monkeypatch.setattr(launch, "plan", plan)
    return found


@pytest.mark.parametrize(
    ("arguments", "form"),
    [
        (["run", "-m", "64m", "host", "ls", "--format"], explain.as_text),
        (["--format", "json", "run", "-m", "64m", "host", "ls", "--format"], explain.as_json),
        (["run", "--format", "json", "-m64m", "host", "ls", "--format"], explain.as_json),
        (["run", "-m64m", "--format=json", "host", "ls", "--format"], explain.as_json),
        (
            ["--format=json", "run", "--format=text", "-m64m", "host", "ls", "--format"],
            explain.as_text,
        ),
    ],
)
def test_format_stands_anywhere(
    arguments: list[str],
    form: object,
    asked: list[RunOptions],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """--format may stand before run or among its options, and counts only there."""
    assert main(["explain", *arguments]) == 0
    assert asked == [RunOptions(image="host", memory=64 << 20, command=("ls", "--format"))]
    plan = launch.plan(RunOptions())
    expected = explain.as_json(plan) if form is explain.as_json else explain.as_text(plan)
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    "arguments", [[], ["--format", "json"], ["build", "."], ["run"], ["--format", "xml", "run"]]
)
def test_what_can_not_be_explained(
    arguments: list[str], asked: list[RunOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    """Only a complete cloche run has a plan."""
    assert main(["explain", *arguments]) == 125
    assert "hint: " in capsys.readouterr().err
    assert asked == []
