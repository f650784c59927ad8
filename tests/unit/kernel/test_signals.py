"""Signals without the module ``signal``."""

from __future__ import annotations

import os
import signal

import pytest

from cloche.kernel import signals


def test_numbers_are_those_of_the_standard_module() -> None:
    """Every name has its number, and nothing else is taken for a signal."""
    assert {name: int(getattr(signal, name)) for name in signals.NUMBERS} == signals.NUMBERS
    assert set(signals.NUMBERS) >= {entry.name for entry in signal.Signals}
    assert signals.SIGKILL == signal.SIGKILL
    assert (signals.RTMIN, signals.RTMAX) == (signal.SIGRTMIN, signal.SIGRTMAX)


def test_a_signal_reaches_its_process() -> None:
    """The process of a pidfd gets it, and one that has been waited for can't."""
    pid = os.fork()
    if not pid:
        signal.pause()
        os._exit(0)
    pidfd = os.pidfd_open(pid)
    try:
        signals.send(pidfd, signals.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signals.SIGKILL
        with pytest.raises(ProcessLookupError):
            signals.send(pidfd, signals.SIGKILL)
    finally:
        os.close(pidfd)
