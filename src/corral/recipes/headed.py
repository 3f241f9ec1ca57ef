"""Data with a line of JSON about it on top."""

from __future__ import annotations

import json
from typing import Any


def join(header: dict[str, Any], body: bytes) -> bytes:
    """What :func:`split` takes apart."""
    return json.dumps(header).encode() + b"\n" + body


def split(data: bytes) -> tuple[dict[str, Any] | None, bytes]:
    """Header and body; what has no header, being of somebody else's making, is all body."""
    line, newline, body = data.partition(b"\n")
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    return (header, body) if newline and isinstance(header, dict) else (None, data)
