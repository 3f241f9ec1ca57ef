"""Votes, how they compare, and the message that carries one (sources: Vote, FastLeaderElection.totalOrderPredicate)."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from corral.quorum.ensemble import Ensemble

_V0: Final = struct.Struct(">iqqq")
_EPOCH: Final = struct.Struct(">q")
_HEAD: Final = struct.Struct(">iqqqqii")
_MESSAGE_VERSION: Final = 2
_PENDING: Final = b"corral:pending\n"
"""Before the configuration that is not agreed to. Apache's servers do not look behind the one that is."""
_ROUND_MAX: Final = 1 << 62
"""Far beyond all elections; and it can still be counted on from there."""
NOBODY: Final = -(1 << 63)
"""The leader, zxid and epoch in the first vote of one that cannot be elected."""


class Role(IntEnum):
    """What a server is in the ensemble; the numbers travel."""

    LOOKING = 0
    FOLLOWING = 1
    LEADING = 2
    OBSERVING = 3


class Vote(NamedTuple):
    """For whom, with what history, in which round."""

    leader: int
    zxid: int
    """The last transaction in the leader's log."""
    round: int
    """The election's number by the voter's count (``electionEpoch``)."""
    epoch: int
    """The leader's current epoch (``peerEpoch``)."""

    def beats(self, other: Vote, ensemble: Ensemble) -> bool:
        """Whether this is the better choice: the newer epoch, then the longer log, then the larger id."""
        if ensemble.weight(self.leader) == 0:
            return False
        return (self.epoch, self.zxid, self.leader) > (other.epoch, other.zxid, other.leader)


class Notification(NamedTuple):
    """What a server tells another: its role, its vote, and the configuration that it knows."""

    role: Role
    vote: Vote
    version: int = _MESSAGE_VERSION
    """Of the message; 0 from servers before 3.5, which say nothing of a configuration."""
    config: str = ""
    pending: str = ""
    """A newer configuration that it has been proposed; none, or not told, if empty. An extension."""

    def encode(self) -> bytes:
        """The message behind its length."""
        config = self.config.encode()
        leader, zxid, round_number, epoch = self.vote
        head = _HEAD.pack(self.role, leader, zxid, round_number, epoch, self.version, len(config))
        return head + config + (_PENDING + self.pending.encode() if self.pending else b"")


def decode_notification(data: bytes) -> Notification:
    """The message in ``data``. Raises ValueError for what Apache's server would throw away, too."""
    if len(data) < _V0.size:
        raise ValueError(f"a notification of {len(data)} bytes")
    number, leader, zxid, round_number = _V0.unpack_from(data)
    try:
        role = Role(number)
    except ValueError:
        raise ValueError(f"a notification of the unknown role {number}") from None
    if round_number > _ROUND_MAX:
        raise ValueError(f"a notification of round {round_number}")
    if len(data) == _V0.size:
        # Before 3.4 the epoch was not told apart.
        return Notification(role, Vote(leader, zxid, round_number, zxid >> 32), 0)
    if len(data) < _V0.size + _EPOCH.size:
        raise ValueError(f"a notification of {len(data)} bytes")
    (epoch,) = _EPOCH.unpack_from(data, _V0.size)
    vote = Vote(leader, zxid, round_number, epoch)
    if len(data) < _HEAD.size:
        return Notification(role, vote, 0)
    version, length = struct.unpack_from(">ii", data, _V0.size + _EPOCH.size)
    if version < _MESSAGE_VERSION:
        return Notification(role, vote, version)
    if not 0 <= length <= len(data) - _HEAD.size:
        raise ValueError(f"a notification of {len(data)} bytes with a configuration of {length}")
    config, rest = data[_HEAD.size : _HEAD.size + length], data[_HEAD.size + length :]
    pending = rest[len(_PENDING) :] if rest.startswith(_PENDING) else b""
    return Notification(role, vote, version, config.decode("utf-8", "replace"), pending.decode("utf-8", "replace"))
