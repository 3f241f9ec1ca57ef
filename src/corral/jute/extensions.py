"""What Corral's clients and servers say beyond Apache's protocol, in places where Apache's look at nothing.

A sync may ask to be a quorum operation: :data:`QUORUM` stands behind its path. Only who has done it so puts the same
word behind the path of the answer; a leader says so to a learner by the same word in the SYNC packet. Everybody else
ignores what stands there, and does a plain sync: the asker sees it by the answer.
"""

from __future__ import annotations

from typing import Final

QUORUM: Final = b"quorum"
"""In a sync: "ask a quorum first"; in the answer: "a quorum has been asked"."""

_LENGTH_BYTES: Final = 4


def asks_for_quorum(body: bytes) -> bool:
    """Whether :data:`QUORUM` stands behind the path with which a sync, or the answer to one, begins."""
    length = int.from_bytes(body[:_LENGTH_BYTES], "big", signed=True)
    return body[_LENGTH_BYTES + max(0, length) :] == QUORUM
