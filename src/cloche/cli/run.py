"""``cloche run``: run a command in a new container."""

from __future__ import annotations

import os

from cloche.cli.arguments import add_run_options, run_options
from cloche.cli.quick import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from cloche.cli.quick import Given

_EXAMPLES = """\
examples:
  cloche run -it host                           a shell in a copy of this machine, thrown away
  cloche run -m 256m --cpus 10% host make -j    a build that can't take the machine over
  cloche run --rootfs ./debian:O apt update     any directory as root, changes thrown away
  cloche run -v ./src:/src:ro -w /src host ls   a directory of the host, read-only

The options are Docker's. What follows IMAGE, or the options when there is --rootfs, is the
command. The exit code is the command's own; 125 when cloche fails, 126 when the command can't be
executed, 127 when it isn't there, 128+n when signal n ended it.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.usage = "cloche run [OPTIONS] IMAGE|--rootfs DIR [COMMAND ...]"
    parser.description = "Run a command in a new container."
    parser.epilog = _EXAMPLES
    add_run_options(parser)


def read(words: Sequence[str]) -> Given | None:
    """Return the options without argparse, or None where it must look at them."""
    reader = Reader()
    add_run_options(reader)
    return reader.read(words)


def run(arguments: argparse.Namespace | Given) -> int:
    """Become the container's launcher; what is returned is never seen when that succeeds."""
    options = run_options(arguments, os.environ)
    from cloche.engine import launch
    from cloche.runtime import output

    return launch.run(options, output.tell_warning)
