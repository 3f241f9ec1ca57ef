"""Data, short enough for a line."""

from __future__ import annotations

import json
from typing import Final

from corral.client import NULL

__all__ = ["preview"]

_CHARACTERS_MAX: Final = 60


def preview(data: bytes, start: int = 0) -> str:
    """The beginning of ``data``, or the piece at ``start``: quoted text, or hexadecimal if it is none."""
    if data is NULL:
        return "null"
    # No character has more than four bytes: one more, and it is known whether there is more.
    piece = data[start : start + 4 * _CHARACTERS_MAX + 4]
    while start and piece and piece[0] & 0xC0 == 0x80:
        # The middle of a character.
        piece = piece[1:]
        start += 1
    try:
        text = piece.decode()
    except UnicodeDecodeError as error:
        if error.start < len(piece) - 3 or len(piece) < 4 * _CHARACTERS_MAX:
            shown = data[start : start + _CHARACTERS_MAX // 2]
            return f"0x{shown.hex()}{'...' if start + len(shown) < len(data) else ''} ({len(data)} bytes)"
        text = piece[: error.start].decode()
    if len(text) > _CHARACTERS_MAX or start + len(piece) < len(data):
        return f"{json.dumps(text[:_CHARACTERS_MAX], ensure_ascii=False)}... ({len(data)} bytes)"
    return json.dumps(text, ensure_ascii=False)
