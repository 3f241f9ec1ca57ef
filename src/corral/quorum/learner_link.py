"""One learner, as its leader sees it: what is sent to it, in which order, and how far its log is known to reach.

Source: LearnerHandler.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from corral.quorum.packet_stream import PacketStream
    from corral.quorum.packets import LearnerInfo

_UNSENT_MAX_BYTES: Final = 64 << 20
"""A learner that leaves so much unread, though it was in step, is dropped: it will be brought into step anew."""
_HELD_MAX_BYTES: Final = 256 << 20
"""So much may be written while one is brought into step."""

log = logging.getLogger(__name__)


class Learner:
    """One learner, as its leader sees it."""

    def __init__(self, stream: PacketStream, info: LearnerInfo, *, is_observer: bool) -> None:
        self.stream = stream
        self.sid = info.server_id
        self.info = info
        self.is_observer = is_observer
        self.is_in_step = False
        self.heard_at_tick = 0
        self.acknowledged = -1
        """How far its log is known to be durable."""
        self.awaited = (-1, 0)
        """A proposal that it is to have acknowledged, and the tick since which that has been awaited."""
        self.pings: deque[int] = deque()
        """Of each PING that it has not answered: the newest round of confirmation when it was sent."""
        self._held: list[bytes] | None = []
        """What is forwarded to it while it is brought into step; None afterwards."""
        self._held_bytes = 0

    def __repr__(self) -> str:
        return f"<{'observer' if self.is_observer else 'follower'} {self.sid}>"

    def send(self, data: bytes) -> None:
        """Send packets, behind what brings it into step."""
        if self._held is not None:
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes > _HELD_MAX_BYTES:
                log.warning("%r takes too long to come into step: dropped with %d bytes held", self, self._held_bytes)
                self._held.clear()
                self.stream.abort()
        elif self.stream.unsent_bytes > _UNSENT_MAX_BYTES:
            log.warning("%r does not keep up: dropped with %d bytes unsent", self, self.stream.unsent_bytes)
            self.stream.abort()
        else:
            self.stream.write(data)

    def release(self) -> None:
        """What was held goes out; from now on everything goes out at once."""
        held, self._held = self._held, None
        self.stream.write(b"".join(held or ()))
