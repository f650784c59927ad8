"""Write plans for the fuzzer to start from: one for each operation, and one of them all.

Usage: ``make_corpus.py DIRECTORY``
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

from cloche.plan import steps, wire  # noqa: E402  the source tree isn't installed yet

EXAMPLES: dict[str, steps.Value] = {
    "i": 1,
    "s": "/a/path",
    "b": b"\x00\xff blob",
    "v": ("one", "", "three"),
}


def example(operation: steps.Operation) -> steps.Step:
    """Return a step of an operation, with some argument of each type."""
    arguments = tuple(EXAMPLES[kind] for kind in operation.signature)
    return steps.Step(operation, steps.HOST, arguments, f"an example of {operation.name}")


def main(directory: Path) -> None:
    """Write the corpus."""
    directory.mkdir(parents=True, exist_ok=True)
    examples = [example(operation) for operation in steps.OPERATIONS]
    for step in examples:
        plan = steps.Plan((step,))
        (directory / step.operation.name).write_bytes(wire.encode(plan))
    options = wire.Options(wire.TIME_STEPS, ("report", "program"), 3, 5)
    (directory / "all").write_bytes(wire.encode(steps.Plan(tuple(examples)), options))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
