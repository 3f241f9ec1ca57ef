"""The way of a write: prepare, log, sync, apply, reply; in groups.

Whatever the connections bring in one wake-up of the event loop is prepared and gathered. The gathered batch is
written and synced by a worker thread, while the loop goes on serving reads and gathers the next batch. When the sync
has returned the batch is applied, watchers are told and replies are queued, each behind what the connection was
waiting for before. Nothing is acknowledged, or visible to any reader, before it is on disk.

One log takes one batch at a time. An ensemble may have several under way (:attr:`WritePipeline.batches_max`), which
are committed, applied and answered in their order.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from corral.jute.errors import ErrorCode, KeeperError, UndecodableError
from corral.jute.extensions import QUORUM, asks_for_quorum
from corral.jute.ops import CREATE, CREATE_SESSION, DELETE, ERROR, SET_DATA, SYNC
from corral.jute.primitives import JuteError, decode_text, encode_text
from corral.jute.records import PathRequest, PathResponse
from corral.tree.digest import DIGEST_VERSION
from corral.tree.prepare import error_record
from corral.tree.znode import STAT_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corral.server.clock import Clock
    from corral.server.connection import Connection
    from corral.tree.acl import Identity
    from corral.tree.datatree import DataTree
    from corral.tree.prepare import Effect, Preparer
    from corral.tree.watches import WatchTables

GATHER_ROUNDS_MAX: Final = 10
"""Turns of the loop for which a batch may be left to grow."""
SHARES: Final = 2
"""Into so many batches those who ask again as soon as they are answered are divided: one gathers while one is on its
way. With more of them, each batch's own costs are more than what is gained."""
_PROMPT: Final = 0.8
"""Which part of a share is enough."""
_NOTHING_IS: Final = 1 << 62

_TXN_HEADER: Final = struct.Struct(">qiqqi").pack
_DIGEST: Final = struct.Struct(">iQ").pack
_REPLY_HEADER: Final = struct.Struct(">iiqi").pack
_LENGTH: Final = struct.Struct(">i").pack


Proposed = tuple["Connection | None", int, int, int, int, int, int, bytes, "Effect", int]
"""A transaction on its way to the disk, and who waits for it: connection, xid, operation asked for, transaction type,
zxid, time in ms, session id, record, effect, digest. A plain tuple: one is made for every write. Of a sync, which is
no transaction, the type is SYNC, the zxid that of the transaction before it, and the record the body of its reply."""


def reply_to_sync(body: bytes, *, by_quorum: bool = False) -> bytes | None:
    """A sync's reply names its path once more; None if the request is none.

    It says that a quorum has been asked if that is so, and was wanted.
    """
    try:
        path = PathRequest.from_bytes(body).path
    except JuteError:
        return None
    reply = PathResponse(None if path is None else encode_text(decode_text(path))).to_bytes()
    return reply + QUORUM if by_quorum and asks_for_quorum(body) else reply


class Commitment(Protocol):
    """By whose leave transactions are done: a disk's, or that of an ensemble's quorum."""

    def append(self, zxid: int, entry: bytes) -> None:
        """Take a transaction for the next :meth:`sync`: header, record and digest, as they stand in the log."""

    def sync(self, done: Callable[[], None]) -> None:
        """Commit what has been appended, and call ``done`` on the loop, in the order of the calls.

        No more are under way than the pipeline's :attr:`~WritePipeline.batches_max`.
        """


class WritePipeline:
    """Takes write requests in; see the module's text.

    ``sync`` hands a batch of the log to whoever writes it and calls back on the loop when it is durable.
    ``logged`` is told of how many transactions a batch has that is about to be handed over.
    ``session_ended`` and ``session_opened`` are told when those transactions have been applied.
    """

    batches_max = 1
    """So many may be under way at once."""
    zxid_max = (1 << 63) - 1
    """The last zxid that there is."""

    def __init__(
        self,
        *,
        tree: DataTree,
        preparer: Preparer,
        watches: WatchTables,
        log: Commitment,
        clock: Clock,
        sync: Callable[[Callable[[], None]], None],
        soon: Callable[[Callable[[], None]], object],
        logged: Callable[[int], None],
        session_opened: Callable[[Connection | None, int], None],
        session_ended: Callable[[Connection | None, int, int], None],
    ) -> None:
        self.tree = tree
        self.preparer = preparer
        self.watches = watches
        self.log = log
        self.clock = clock
        self.zxid = tree.last_zxid
        self.closing = preparer.closing
        """Sessions whose end is on its way."""
        self.outstanding = 0
        self.dirty: dict[Connection, None] = {}
        self._sync = sync
        self._soon = soon
        self._logged = logged
        self._session_opened = session_opened
        self._session_ended = session_ended
        self._gathered: list[Proposed] = []
        self._under_way: deque[list[Proposed]] = deque()
        """Batches, the oldest first."""
        self._kick_is_due = False
        self._callbacks: list[tuple[int, Callable[[], None]]] = []
        self._transactions = 0
        """Among what has gathered; the others are syncs."""
        self._worth = 1
        """So many make a batch now."""
        self._population = 0
        """Writes that were under way or waited when the latest batch was answered, its own included."""
        self._seen = 0
        self._rounds = 0
        self._stopped = False

    @property
    def is_settled(self) -> bool:
        """Whether a sync need not wait."""
        return not self._gathered and not self._under_way

    @property
    def busy(self) -> bool:
        """Whether anything is not applied yet."""
        return bool(self._gathered or self._under_way)

    @property
    def under_way_count(self) -> int:
        """Transactions of the oldest batch that is under way."""
        return len(self._under_way[0])

    @property
    def under_way_own_count(self) -> int:
        """How many of them clients have asked for that are connected here."""
        return sum([each[0] is not None and each[3] != SYNC for each in self._under_way[0]])

    @property
    def under_way_since_ms(self) -> int:
        """When the oldest of them was submitted, on the wall clock."""
        return self._under_way[0][0][5]

    def stop(self) -> None:
        """Nothing more is prepared, applied or answered."""
        self._stopped = True

    def submit(
        self,
        connection: Connection | None,
        session_id: int,
        xid: int,
        op: int,
        body: bytes,
        identities: Sequence[Identity],
    ) -> ErrorCode | None:
        """Prepare a write and gather it. An error code is returned if it cannot be decoded: no transaction then.

        Without a connection it becomes one all the same: whoever waits for it elsewhere hears of it only so.
        """
        if op == SYNC:
            return self._submit_sync(connection, session_id, xid, body)
        zxid = self.zxid + 1
        if zxid > self.zxid_max:
            self._run_out()
            return None
        time_ms = self.clock.wall_ms()
        preparer = self.preparer
        txn_type = op
        try:
            record, effect = preparer.prepare(op, session_id, body, identities, zxid, time_ms)
        except KeeperError as error:
            if isinstance(error, UndecodableError) and connection is not None:
                return ErrorCode.MARSHALLING_ERROR
            txn_type = ERROR
            record, effect = error_record(error.code), None
        self.zxid = zxid
        digest = preparer.states.digest
        if preparer.digests and txn_type != ERROR:
            entry = b"".join(
                (_TXN_HEADER(session_id, xid, zxid, time_ms, txn_type), record, _DIGEST(DIGEST_VERSION, digest))
            )
        else:
            entry = _TXN_HEADER(session_id, xid, zxid, time_ms, txn_type) + record
        self.log.append(zxid, entry)
        self._gathered.append((connection, xid, op, txn_type, zxid, time_ms, session_id, record, effect, digest))
        self._transactions += 1
        self.outstanding += 1
        if not self._kick_is_due and len(self._gathered) >= self._worth:
            self._kick_soon()
        return None

    def refuse(self, session_id: int, xid: int, code: ErrorCode) -> None:
        """Let a request that came by way of another member fail: it hears of that by a transaction, too."""
        zxid, time_ms, record = self.zxid + 1, self.clock.wall_ms(), error_record(code)
        if zxid > self.zxid_max:
            self._run_out()
            return
        self.zxid = zxid
        self.log.append(zxid, _TXN_HEADER(session_id, xid, zxid, time_ms, ERROR) + record)
        digest = self.preparer.states.digest
        self._gathered.append((None, xid, 0, ERROR, zxid, time_ms, session_id, record, None, digest))
        self._transactions += 1
        self.outstanding += 1
        if len(self._gathered) >= self._worth:
            self._kick_soon()

    def _run_out(self) -> None:
        """There is no zxid for what was asked. Whoever asked is not answered, and sees a lost connection."""

    def _submit_sync(self, connection: Connection | None, session_id: int, xid: int, body: bytes) -> ErrorCode | None:
        """Answer when everything that was submitted before is applied, and before anything that comes later."""
        # By the time it leaves, that is so: one server is its own quorum, a leader asks one.
        reply = reply_to_sync(body, by_quorum=True)
        if reply is None:
            return ErrorCode.MARSHALLING_ERROR
        digest = self.preparer.states.digest
        self._gathered.append(
            (connection, xid, SYNC, SYNC, self.zxid, self.clock.wall_ms(), session_id, reply, None, digest)
        )
        self.outstanding += 1
        if not self._under_way:
            self._kick_soon()
        return None

    def after_writes_of(self, session_id: int, call: Callable[[], None]) -> bool:
        """Call when all that a session has submitted is applied; False, and no call, if that is so already."""
        batches = (*self._under_way, self._gathered)
        last = max((each[4] for batch in batches for each in batch if each[6] == session_id), default=None)
        if last is None:
            return False
        self._callbacks.append((last, call))
        return True

    def open_session(self, session_id: int, timeout_ms: int) -> None:
        """A session is about to be created: its writes are valid from now on."""
        self.preparer.open_session(session_id, timeout_ms)

    def _kick_soon(self) -> None:
        if not self._kick_is_due:
            self._kick_is_due = True
            self._seen = self._rounds = 0
            self._soon(self._kick)

    def _kick(self) -> None:
        """Send what has gathered to the disk, unless enough is on its way.

        As long as each turn of the loop brings more writes the batch is left to grow: clients that were answered
        together ask again together, and a sync costs the same for one as for all of them.
        """
        if len(self._gathered) > self._seen and self._rounds < GATHER_ROUNDS_MAX:
            self._seen = len(self._gathered)
            self._rounds += 1
            self._soon(self._kick)
            return
        self._kick_is_due = False
        if not self._gathered or self._stopped or len(self._gathered) < self._worth:
            return
        if self._under_way and not self._transactions:
            # What needs no log must not overtake what does.
            return
        if self._is_held_back(len(self._gathered)):
            return
        self.preparer.hand_over()
        self._under_way.append(self._gathered)
        self._gathered = []
        transactions, self._transactions = self._transactions, 0
        if not transactions:
            # Nor be overtaken by it.
            self._worth = _NOTHING_IS
            self._finish_syncs()
            return
        self._weigh()
        self._logged(transactions)
        self._sync(self._synced)

    def _weigh(self) -> None:
        """How many the next batch must have, beside what is under way."""
        if not self._under_way:
            self._worth = 1
        elif len(self._under_way) >= self.batches_max:
            self._worth = _NOTHING_IS
        else:
            self._worth = max(1, int(self._population * _PROMPT / SHARES))

    def _is_held_back(self, gathered: int) -> bool:
        """Whether a batch of so many had better wait: whoever says so has to see to :meth:`_kick_soon`."""
        return False

    def _finish_syncs(self) -> None:
        """There are only syncs, which waited for the batch before."""
        self._synced()

    def _synced(self) -> None:
        """The oldest batch is durable: apply it and answer."""
        if self._stopped:
            return
        batch = self._under_way[0]
        tree = self.tree
        watches = self.watches
        changes = tree.changes
        preparer = self.preparer
        digests = preparer.digests
        pack = _REPLY_HEADER
        dirty = self.dirty
        now_ms = self.clock.wall_ms()
        for connection, xid, op, txn_type, zxid, time_ms, session_id, record, effect, digest in batch:
            error = 0
            reply = b""
            # Others' deferred reads, served below, may set watches: it has to be asked anew each time.
            tree.notes_changes = bool(watches.watchers)
            if effect is None:
                if txn_type == ERROR:
                    error = int.from_bytes(record, "big", signed=True)
                elif txn_type == SYNC:
                    reply = record
                else:
                    reply = tree.apply(txn_type, zxid, time_ms, session_id, record)
            elif op == SET_DATA:
                reply = tree.put(*effect)
            elif op == DELETE:
                tree.remove(*effect)
            else:
                tree.add(*effect)
                path = effect[0]
                reply = _LENGTH(len(path)) + path
                if op != CREATE:
                    reply += effect[2][-STAT_SIZE:]
            tree.last_zxid = zxid
            if digests and txn_type != ERROR:
                tree.digest = digest
                if zxid & 127 == 0:
                    tree.note_digest(zxid)
            if changes:
                watches.trigger(changes, zxid)
                changes.clear()
            if op < 0:
                preparer.session_applied(session_id)
                if op == CREATE_SESSION:
                    self._session_opened(connection, session_id)
                else:
                    self._session_ended(connection, session_id, xid)
                continue
            if connection is None:
                continue
            if connection.closed:
                connection.server.stats.count("stale_replies")
                continue
            waiting = connection.waiting
            out = connection.out
            out.append(pack(16 + len(reply), xid, zxid, error))
            if reply:
                out.append(reply)
            dirty[connection] = None
            waiting.popleft()
            connection.writes_answered += 1
            connection.write_latency_ms = now_ms - time_ms
            if waiting and waiting[0] is not None:
                connection.serve_waiting()
        self._population = self.outstanding
        self.outstanding -= len(batch)
        preparer.applied()
        self._under_way.popleft()
        self._weigh()
        if self._callbacks:
            due = [call for zxid, call in self._callbacks if zxid <= tree.last_zxid]
            self._callbacks = [each for each in self._callbacks if each[0] > tree.last_zxid]
            for call in due:
                call()
        self.flush()
        if self._gathered:
            self._kick_soon()

    def flush(self) -> None:
        """Send what has been queued for connections outside of their own wake-up."""
        dirty = self.dirty
        if not dirty:
            return
        self.dirty = {}
        for connection in dirty:
            connection.flush()
