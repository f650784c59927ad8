"""A plan as a bash script of coreutils and util-linux, for reading and for running."""

from cloche.plan.shell.script import as_shell

__all__ = ["as_shell"]
