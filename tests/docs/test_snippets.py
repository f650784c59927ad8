"""The pieces of configuration in the documents are well-formed, and name the runtime alike."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from _pytest.mark import ParameterSet

REPOSITORY = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(toml|json|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
READERS: dict[str, Callable[[str], Any]] = {
    "toml": tomllib.loads,
    "json": json.loads,
    "yaml": yaml.safe_load,
}
PROGRAM = "/usr/local/bin/cloche-oci"


def _blocks() -> list[ParameterSet]:
    found = []
    for document in sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")]):
        text = document.read_text()
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            name = f"{document.relative_to(REPOSITORY)}:{line}"
            found.append(pytest.param(match.group(1), match.group(2), id=name))
    return found


@pytest.mark.parametrize(("form", "text"), _blocks())
def test_snippet_is_well_formed(form: str, text: str) -> None:
    """A block of TOML, JSON or YAML is a table of something."""
    document = READERS[form](text)
    assert isinstance(document, dict)
    assert document


def _engines() -> dict[str, Any]:
    """The blocks of the page on engines, by their first lines."""
    text = (REPOSITORY / "docs/kubernetes.md").read_text()
    return {body.split("\n", 1)[0]: READERS[form](body) for form, body in BLOCK.findall(text)}


@pytest.mark.parametrize(
    ("head", "path", "value"),
    [
        ("version = 3", "plugins/io.containerd.cri.v1.runtime/containerd/runtimes/cloche", PROGRAM),
        ("version = 2", "plugins/io.containerd.grpc.v1.cri/containerd/runtimes/cloche", PROGRAM),
        ("[crio.runtime]", "crio/runtime/runtimes/cloche", PROGRAM),
        ("[engine]", "engine/runtimes", PROGRAM),
        ("{", "runtimes/cloche", PROGRAM),
        ("apiVersion: node.k8s.io/v1", "handler", "cloche"),
        ("apiVersion: v1", "spec/runtimeClassName", "cloche"),
    ],
)
def test_snippets_name_the_runtime(head: str, path: str, value: str) -> None:
    """Each engine is told the same program, in the place where it looks for it."""
    found = _engines()[head]
    for name in path.split("/"):
        found = found[name]
    assert value in json.dumps(found)
