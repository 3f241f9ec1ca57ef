"""Paths as a user types them: what is none is refused before anything is sent, in zkCli's words (source: PathUtils)."""

from __future__ import annotations

import re
from typing import Final

from corral.cli.shell.command import CommandError

__all__ = ["check_path"]

_FORBIDDEN: Final = re.compile("[\u0001-\u001f\u007f-\u009f\ud800-\uf8ff\ufff0-\U0010ffff]")
_FAULTS: Final = (
    (re.compile("\0"), 0, "null character not allowed"),
    (re.compile("//"), 1, "empty node name specified"),
    (re.compile(r"/\.\.(?=/|\Z)"), 2, "relative paths not allowed"),
    (re.compile(r"/\.(?=/|\Z)"), 1, "relative paths not allowed"),
    (_FORBIDDEN, 0, "invalid character"),
)


def check_path(path: str, *, sequential: bool = False) -> str:
    """Return ``path`` if it can name a znode; a sequential one may end with ``/``. Raises CommandError if it cannot."""
    whole = f"{path}1" if sequential else path
    if not whole:
        raise CommandError("Path length must be > 0")
    if not whole.startswith("/"):
        raise CommandError("Path must start with / character")
    if whole == "/":
        return path
    if whole.endswith("/"):
        raise CommandError("Path must not end with / character")
    found = [(match.start() + offset, reason) for fault, offset, reason in _FAULTS if (match := fault.search(whole))]
    if found:
        position, reason = min(found)
        raise CommandError(f'Invalid path string "{whole}" caused by {reason} @{position}')
    return path
