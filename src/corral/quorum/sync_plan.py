"""What a learner lacks, and how it gets it: the decision of the leader (source: LearnerHandler.syncFollower)."""

from __future__ import annotations

from bisect import bisect_left
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_EPOCH_SHIFT: Final = 32
_COUNTER: Final = 0xFFFFFFFF


class Way(Enum):
    """How the learner's history becomes the leader's."""

    DIFF = "diff"
    """It is a beginning of the leader's: the rest is sent."""
    TRUNC = "trunc"
    """It goes beyond the leader's, or leaves it: the learner cuts it off behind ``zxid``, and the rest is sent."""
    SNAP = "snap"
    """The whole tree is sent."""


class SyncPlan(NamedTuple):
    """The way, the zxid that goes with it, and the transactions that follow: (zxid, entry of the log) in order."""

    way: Way
    zxid: int
    transactions: Sequence[tuple[int, bytes]] = ()


def plan_sync(
    peer_zxid: int,
    last_zxid: int,
    recent: Sequence[tuple[int, bytes]],
    from_disk: Callable[[int], Sequence[tuple[int, bytes]] | None],
    *,
    forces_snapshots: bool = False,
) -> SyncPlan:
    """Decide for a learner whose log ends at ``peer_zxid``.

    Args:
        peer_zxid: what the learner said in its ACKEPOCH.
        last_zxid: the last transaction that the leader has applied.
        recent: the last committed transactions, in order and without a hole; what is in the leader's memory of them.
        from_disk: the committed transactions in the leader's log, beginning at or before a zxid and without a hole;
            None if the log does not reach back so far, or is too long to be worth it.
        forces_snapshots: never anything but the whole tree.
    """
    if forces_snapshots:
        return SyncPlan(Way.SNAP, last_zxid)
    if peer_zxid == last_zxid:
        return SyncPlan(Way.DIFF, peer_zxid)
    oldest, newest = (recent[0][0], recent[-1][0]) if recent else (last_zxid, last_zxid)
    is_fresh = peer_zxid & _COUNTER == 0
    if peer_zxid > newest and not is_fresh:
        return SyncPlan(Way.TRUNC, newest)
    if oldest <= peer_zxid <= newest:
        return _replay(peer_zxid, newest, recent) or SyncPlan(Way.SNAP, last_zxid)
    if peer_zxid < oldest:
        logged = from_disk(peer_zxid)
        if logged:
            joined = _join(logged, recent)
            if joined is not None:
                return _replay(peer_zxid, newest, joined) or SyncPlan(Way.SNAP, last_zxid)
    return SyncPlan(Way.SNAP, last_zxid)


def _join(logged: Sequence[tuple[int, bytes]], recent: Sequence[tuple[int, bytes]]) -> list[tuple[int, bytes]] | None:
    """The log's transactions and those in memory behind them; None if there is a hole between them."""
    if not recent:
        return list(logged)
    first = recent[0][0]
    if logged[-1][0] < first and not _follows(logged[-1][0], first):
        return None
    older = [each for each in logged if each[0] < first]
    if older and not _follows(older[-1][0], first):
        return None
    return [*older, *recent]


def _follows(before: int, after: int) -> bool:
    """Whether nothing can be missing between two zxids: the next one, or the first of a later epoch."""
    return after == before + 1 or (after >> _EPOCH_SHIFT > before >> _EPOCH_SHIFT and after & _COUNTER <= 1)


def _replay(peer_zxid: int, newest: int, history: Sequence[tuple[int, bytes]]) -> SyncPlan | None:
    """Send what follows in ``history``; None if the learner's history left it in an older epoch."""
    at = bisect_left(history, peer_zxid, key=lambda each: each[0])
    if at == len(history):
        return None
    if history[at][0] == peer_zxid:
        return SyncPlan(Way.DIFF, newest, history[at + 1 :])
    if peer_zxid & _COUNTER == 0:
        # It has been told of an epoch, and has nothing of it.
        return SyncPlan(Way.DIFF, newest, history[at:])
    if at == 0 or history[at][0] >> _EPOCH_SHIFT != peer_zxid >> _EPOCH_SHIFT:
        return None
    return SyncPlan(Way.TRUNC, history[at - 1][0], history[at:])
