"""Replaces what differs between two runs by nature, and checks it while at it.

Session ids become the plan's names. A clock time becomes "as of its zxid" when it lies within the step that made that
zxid and agrees with every other stat of the same transaction; anything else is spelled out, so that it differs. Zxids
are left for the comparison, which knows both sides.
"""

from __future__ import annotations

import hashlib
import re
import time
from bisect import bisect_left
from typing import Any, Final

from tests.crosscheck.replies import Moment, SessionId, Zxid

KEPT_BYTES: Final = 256
"""Longer values are kept as their beginning, length and checksum: a transcript must fit in memory."""

_HEX_ID: Final = re.compile(r"0x[0-9a-f]+")


def wall_ms() -> int:
    """This machine's clock, which is the servers' too."""
    return time.time_ns() // 1_000_000


class Normaliser:
    """The names and times of one server during one run."""

    def __init__(self) -> None:
        self._initial_zxid = 0
        self._names: dict[int, str] = {}
        self._time_of: dict[int, int] = {}
        self._step_started_ms = wall_ms()
        self._last_zxids: list[int] = []
        self._windows: list[tuple[int, int]] = []

    def name_session(self, session_id: int, name: str) -> None:
        self._names[session_id] = name

    def start_after(self, zxid: int) -> None:
        """What `zxid` and those before it did was there before the run, equally on both sides."""
        self._initial_zxid = zxid

    def begin_step(self) -> None:
        self._step_started_ms = wall_ms()

    def end_step(self, zxid: int) -> None:
        """The step is over, and `zxid` was the last one the server had given out."""
        self._last_zxids.append(zxid)
        self._windows.append((self._step_started_ms, wall_ms()))

    def session(self, session_id: int) -> str:
        if session_id == 0:
            return "none"
        return self._names.get(session_id, f"unknown session {session_id:#x}")

    def moment(self, moment: Moment) -> str:
        if moment.zxid <= self._initial_zxid:
            return f"{moment.ms} ms"
        known = self._time_of.setdefault(moment.zxid, moment.ms)
        if known != moment.ms:
            return f"{moment.ms - known:+} ms from another stat of the same transaction"
        step = bisect_left(self._last_zxids, moment.zxid)
        earliest, latest = self._windows[step] if step < len(self._windows) else (self._step_started_ms, wall_ms())
        if not earliest <= moment.ms <= latest:
            return f"{moment.ms - earliest:+} ms from the start of its step, which took {latest - earliest} ms"
        return "of its zxid"

    def text(self, text: str) -> str:
        """An admin word's answer with its session ids named."""
        return _HEX_ID.sub(lambda match: self._names.get(int(match[0], 16), match[0]), text)

    def value(self, value: Any) -> Any:
        """Anything that `replies` decodes to."""
        match value:
            case SessionId(session_id):
                return self.session(session_id)
            case Moment():
                return self.moment(value)
            case Zxid():
                return value
            case bytes() if len(value) > KEPT_BYTES:
                return (value[:32], len(value), hashlib.blake2b(value, digest_size=8).hexdigest())
            case dict():
                return {key: self.value(each) for key, each in value.items()}
            case list():
                return [self.value(each) for each in value]
            case tuple():
                return tuple(self.value(each) for each in value)
        return value
