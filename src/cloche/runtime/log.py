"""Where the runtime tells what went wrong: standard error and a log file, which engines read.

A line of the log is ``time="..." level=error msg="..."``, or with ``--log-format json``
``{"level":"error","msg":"...","time":"..."}``.
"""

from __future__ import annotations

import os

from cloche.record import Record
from cloche.runtime import output

FORMATS = ("text", "json")


class Log(Record):
    """A log file; an empty path is none, and then standard error gets the same lines."""

    path: str = ""
    format: str = "text"

    def failure(self, message: str, hint: str = "") -> None:
        """Tell what failed, to the log and to people, in one line: engines show no more."""
        text = f"{message} ({hint})" if hint else message
        self._write("error", text)
        if self.path or self.format == "text":
            output.tell_error(_one_line(text))

    def warning(self, message: str) -> None:
        """Tell what isn't as it was asked for."""
        self._write("warning", message)
        if not self.path and self.format == "text":
            output.tell_warning(_one_line(message))

    def _write(self, level: str, message: str) -> None:
        if not self.path and self.format == "text":
            return
        line = _line(level, message, self.format)
        if not self.path:
            output.tell(line)
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            fd = os.open(self.path, flags, 0o644)
        except OSError as error:
            output.tell_error(f"{self.path}: {(error.strerror or str(error)).lower()}")
            return
        try:
            os.write(fd, line.encode("utf-8", "surrogateescape"))
        finally:
            os.close(fd)


def _one_line(message: str) -> str:
    """Escape line feeds: a name in a message must not pass for a message."""
    return message.rstrip("\n").replace("\n", "\\n")


def _line(level: str, message: str, format: str) -> str:
    from cloche import json
    from cloche.runtime.clock import now

    if format == "json":
        return json.dumps({"level": level, "msg": message, "time": now()}) + "\n"
    return f'time="{now()}" level={level} msg={json.dumps(message)}\n'
