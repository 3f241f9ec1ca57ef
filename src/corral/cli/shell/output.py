"""Where results and messages go, as lines or as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any, TextIO

__all__ = ["Output"]


class Output:
    """The two streams of a shell. Streams default to those of the process at the moment of writing."""

    def __init__(self, *, as_json: bool = False, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.as_json = as_json
        self._out = out
        self._err = err

    def result(self, value: Any, *lines: str) -> None:
        """What was asked for: the lines on standard output, or ``value`` as one line of JSON.

        A command with many results calls this for each, so that they come as they are found.
        """
        if self.as_json:
            self._write(json.dumps(value, ensure_ascii=False) + "\n")
        elif lines:
            self._write("".join(f"{line}\n" for line in lines))

    def done(self, value: Any, message: str) -> None:
        """What has been done: a message on standard error, or ``value`` as one line of JSON on standard output."""
        if self.as_json:
            self.result(value)
        else:
            self.message(message)

    def error(self, text: str) -> None:
        """What went wrong, on standard error: a line of text, or a JSON object with ``error``."""
        self.message(json.dumps({"error": text}, ensure_ascii=False) if self.as_json else text)

    def message(self, text: str) -> None:
        """A line for the reader on standard error, never part of a result."""
        stream = self._err or sys.stderr
        stream.write(f"{text}\n")
        stream.flush()

    def flush(self) -> None:
        """Let the results out."""
        (self._out or sys.stdout).flush()

    def _write(self, text: str) -> None:
        (self._out or sys.stdout).write(text)
