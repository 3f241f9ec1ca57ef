"""Bugs put into the servers on purpose, one at a time: a simulation that does not find them proves nothing.

Most have been real ones, of Apache's server; the numbers are those of its tracker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from corral.quorum import broadcast, confirmation
from corral.quorum.history import History, HistoryOnDisk, PromiseOnDisk, apply
from corral.quorum.leader import Leader
from corral.quorum.learner import Learning
from corral.quorum.packets import ACK, pack_bare
from corral.server.database import Database
from corral.server.log_sync import LogSync
from corral.server.sessions import SessionTracker
from corral.simulation import workload
from corral.storage.txnlog import TxnLogWriter, directory
from corral.tree.datatree import DataTree

Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Bug:
    """How to make it, the faults that bring it out, and within how many seeds it is found."""

    make: Callable[[Patch], None]
    kinds: tuple[str, ...]
    within: int
    servers: int = 3
    clients: int = 3
    seconds: float = 20.0
    pause_s: float = 0.1

    @property
    def name(self) -> str:
        return self.make.__name__.replace("_", " ")


POWER = ("lose power", "lose power in a call", "lose power everywhere")


def acknowledged_before_fsync(patch: Patch) -> None:
    """A batch counts as durable when it is handed over."""
    write = LogSync.write

    def hasty(self: LogSync, batch: Any, done: Callable[[], None]) -> None:
        write(self, batch, lambda: None)
        self._loop.call_soon(done)

    patch.setattr(LogSync, "write", hasty)


def log_never_synced(patch: Patch) -> None:
    """Batches are written and left to the page cache."""
    patch.setattr(TxnLogWriter, "_sync", lambda self, file: None)


def follower_acknowledges_what_it_has_not_logged(patch: Patch) -> None:
    """The ACK leaves with the proposal's arrival."""
    take = Learning._take_proposals

    def hasty(self: Learning, proposals: Sequence[tuple[int, bytes]]) -> None:
        take(self, proposals)
        self._stream.write(pack_bare(ACK, [zxid for zxid, _ in proposals]))

    patch.setattr(Learning, "_take_proposals", hasty)


def epoch_written_before_history(patch: Patch) -> None:
    """ZOOKEEPER-4643: currentEpoch is on disk before the history that belongs to it."""
    take = Learning._take_history

    async def hasty(self: Learning, base: HistoryOnDisk) -> Any:
        self.history.enter(self.epoch, base)
        return await take(self, base)

    patch.setattr(Learning, "_take_history", hasty)


def new_leader_acknowledged_before_history(patch: Patch) -> None:
    """ZOOKEEPER-3911: NEWLEADER is acknowledged while the history is on its way to the disk."""

    async def hasty(self: History, transactions: Sequence[tuple[int, bytes]]) -> HistoryOnDisk:
        new = [each for each in transactions if each[0] > self.tree.last_zxid]
        for zxid, entry in new:
            self.database.append(zxid, entry)
            apply(self.tree, zxid, entry)
            self.note([(zxid, entry)])
        if new:
            asyncio.get_running_loop().call_later(0.5, _sync_if_open, self.database)
        return HistoryOnDisk(self.tree.last_zxid)

    def _sync_if_open(database: Database) -> None:
        if database.txn_log._segments:
            database.sync(lambda: None)

    patch.setattr(History, "append", hasty)


def committed_without_quorum(patch: Patch) -> None:
    """The leader's own log is enough."""
    patch.setattr(broadcast, "is_quorum", lambda ensembles, sids: True)


def promise_not_kept(patch: Patch) -> None:
    """acceptedEpoch is forgotten: two leaders get the same epoch."""
    patch.setattr(History, "promise", lambda self, epoch: PromiseOnDisk(epoch))


def snapshot_kept_after_truncation(patch: Patch) -> None:
    """ZOOKEEPER-4837: a snapshot brings back what was cut off."""
    patch.setattr(History, "_remove_snapshots_after", lambda self, zxid: None)


def hole_in_recent_history(patch: Patch) -> None:
    """ZOOKEEPER-4925: what was in the log and not committed is missing in memory."""

    async def settle(self: History) -> None:
        before = len(self.recent)
        await original(self)
        while len(self.recent) > before:
            self.recent.pop()

    original = History.settle
    patch.setattr(History, "settle", settle)
    patch.setattr(History, "note", lambda self, transactions: self.recent.extend(transactions))


def log_not_settled_before_election(patch: Patch) -> None:
    """ZOOKEEPER-2845: a member says less of its history than it has in its log."""

    async def settle(self: History) -> None:
        await self.database.settle()

    patch.setattr(History, "settle", settle)


def sessions_never_expire(patch: Patch) -> None:
    """Nobody ends the session of a client that is gone."""
    patch.setattr(SessionTracker, "take_expired", lambda self, now_ms: [])


def clocks_that_disagree(patch: Patch) -> None:
    """No bug: a leader that is cut off believes for long that it leads, and the others soon that it does not."""
    patch.setattr(workload, "READERS", 0.8)
    _scale(patch, Leader, "sync_limit", 3.6)
    _scale(patch, Learning, "sync_limit", 0.4)
    # Long enough for the leader not to see the end of sessions that have gone on elsewhere.
    _scale(patch, workload.Worker, "session_timeout_s", 2.0)


def _scale(patch: Patch, made: type, name: str, factor: float) -> None:
    """Let a limit be larger or smaller for whoever is made."""
    begin: Callable[..., None] = made.__init__  # type: ignore[misc]

    def scaled(self: object, *args: Any, **named: Any) -> None:
        named[name] = int(factor * named[name])
        begin(self, *args, **named)

    patch.setattr(made, "__init__", scaled)


def sync_answered_from_memory(patch: Patch) -> None:
    """ZOOKEEPER-1675, 3600: a leader does not ask whether it still leads."""
    clocks_that_disagree(patch)
    patch.setattr(confirmation, "is_quorum", lambda ensembles, sids: True)


def page_cache_believed(patch: Patch) -> None:
    """Recovery does not sync what it reads back."""
    patch.setattr(directory, "sync_log", lambda path, filesystem: None)


def ephemerals_left_behind(patch: Patch) -> None:
    """The end of a session deletes nothing on members that learn of it."""
    close = DataTree._close_session

    def careless(self: DataTree, session_id: int, zxid: int, record: bytes, start: int) -> None:
        kept = self.ephemerals.pop(session_id, None)
        close(self, session_id, zxid, b"\0\0\0\0", 0)
        if kept:
            self.ephemerals[session_id] = kept

    patch.setattr(DataTree, "_close_session", careless)


BUGS = (
    Bug(acknowledged_before_fsync, (*POWER, "slow disk"), 60, pause_s=0.03),
    Bug(log_never_synced, POWER, 30),
    Bug(follower_acknowledges_what_it_has_not_logged, ("lose power everywhere", "slow disk"), 60, pause_s=0.03),
    Bug(epoch_written_before_history, ("lose power in a call", "lose power", "kill", "partition"), 200),
    Bug(new_leader_acknowledged_before_history, (*POWER, "partition"), 300),
    Bug(committed_without_quorum, ("partition", "kill"), 10),
    Bug(promise_not_kept, ("partition", "kill", "pause"), 30),
    Bug(snapshot_kept_after_truncation, ("partition", "kill", "cut one way"), 100),
    Bug(hole_in_recent_history, ("partition", "kill"), 30),
    Bug(log_not_settled_before_election, ("partition", "kill"), 30),
    Bug(sessions_never_expire, ("kill client",), 5),
    Bug(page_cache_believed, ("kill", "lose power", "failing disk", "slow disk"), 100, pause_s=0.03),
    Bug(sync_answered_from_memory, ("partition", "isolate the leader"), 60, clients=6, pause_s=0.2),
    Bug(ephemerals_left_behind, ("kill", "lose power"), 20),
)
