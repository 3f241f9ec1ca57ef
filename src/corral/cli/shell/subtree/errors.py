"""Why work on a subtree ends before its time."""

from __future__ import annotations

__all__ = ["SubtreeError"]


class SubtreeError(Exception):
    """It cannot be done, or not be finished; the message says what and where."""
