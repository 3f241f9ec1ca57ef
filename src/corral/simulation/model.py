"""What the history leads to, worked out by itself: a plain model of the tree, with all its past.

It shares nothing with the servers' trees, and is what their answers, their events and their last states are held
against. Each transaction must be one that is possible in the state that the ones before it have left.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from corral.client.results import Stat
from corral.client.watches import EventKind
from corral.jute.records import (
    CloseSessionTxn,
    CreateSessionTxn,
    CreateTxn,
    DeleteTxn,
    ErrorTxn,
    MultiTxn,
    SetDataTxn,
    TxnHeader,
)
from corral.simulation.invariants import Invariant
from corral.storage.txnlog.entry import decode_entry, decode_parts

if TYPE_CHECKING:
    from corral.simulation.invariants import Broke

RESERVED: Final = "/zookeeper"
"""What is below is the servers' own, and only in part made by transactions."""
_NUMBERED: Final = re.compile(r"-(\d{10})$")


class State(NamedTuple):
    """How a znode is from one zxid on."""

    stat: Stat | None
    """None: there is none."""
    data: bytes = b""


class Change(NamedTuple):
    """What watchers are told."""

    zxid: int
    kind: EventKind
    path: str


class Past:
    """All that has happened to one path."""

    __slots__ = ("changes", "children", "creations", "names", "states", "zxids")

    def __init__(self) -> None:
        self.zxids: list[int] = []
        self.states: list[State] = []
        """As of each of them."""
        self.changes: list[Change] = []
        """Creations, changes of the data, deletions."""
        self.children: list[Change] = []
        """Which children came and went."""
        self.names: set[str] = set()
        """Of the children there are."""
        self.creations = 0

    def become(self, zxid: int, state: State) -> None:
        """From now on it is so."""
        if self.zxids and self.zxids[-1] == zxid:
            self.states[-1] = state
        else:
            self.zxids.append(zxid)
            self.states.append(state)

    @property
    def now(self) -> State:
        """The newest state."""
        return self.states[-1] if self.states else _NOTHING

    def at(self, zxid: int) -> State:
        """As it was after a zxid."""
        index = bisect_right(self.zxids, zxid) - 1
        return self.states[index] if index >= 0 else _NOTHING

    def between(self, first: int, last: int) -> list[State]:
        """As it was after ``first``, and all that it became up to ``last``."""
        return [self.at(first), *self.states[bisect_right(self.zxids, first) : bisect_right(self.zxids, last)]]

    def names_at(self, zxid: int) -> set[str]:
        """The children after a zxid."""
        names = set(self.names)
        for each in reversed(self.children):
            if each.zxid <= zxid:
                break
            names.symmetric_difference_update({name_of(each.path)})
        return names


_NOTHING: Final = State(None)


def parent_of(path: str) -> str:
    """The znode that it is a child of."""
    return path[: path.rindex("/")] or "/"


def name_of(path: str) -> str:
    """Its name among the children of that."""
    return path[path.rindex("/") + 1 :]


class Model:
    """The tree and the sessions. ``broke`` is told of each transaction that cannot be."""

    def __init__(self, broke: Broke) -> None:
        self._broke = broke
        self.pasts: defaultdict[str, Past] = defaultdict(Past)
        root = self.pasts["/"]
        root.become(0, State(Stat(0, 0, 0, 0, 0, -1, 0, 0, 0, 1, 0)))
        root.names.add(name_of(RESERVED))
        self.sessions: dict[int, int] = {}
        """The timeouts in ms of those that have not ended."""
        self.ended: dict[int, int] = {}
        """With which zxid the others have."""
        self.ephemerals: defaultdict[int, dict[str, None]] = defaultdict(dict)
        self.written: defaultdict[bytes, list[tuple[int, str]]] = defaultdict(list)
        """By what data, with which zxid and where."""
        self.changes: list[Change] = []
        self.is_whole = True
        """Whether all transactions of the history are known."""

    def __repr__(self) -> str:
        return f"<Model with {len(self.pasts)} paths and {len(self.sessions)} sessions>"

    def apply(self, zxid: int, entry: bytes) -> None:
        """The next transaction of the history."""
        if not self.is_whole:
            return
        transaction = decode_entry(entry)
        header, record = transaction.header, transaction.record
        if isinstance(record, ErrorTxn):
            return
        session = header.client_id
        if isinstance(record, CreateSessionTxn):
            if session in self.sessions or session in self.ended:
                self._broke(Invariant.EPHEMERAL, f"session {session:#x} begins once more with {zxid:#x}")
            self.sessions[session] = record.timeout_ms
            return
        if session in self.ended:
            if record is None or (isinstance(record, CloseSessionTxn) and not record.paths_to_delete):
                # Its client's wish to end it came when it had expired already: to wish so is nobody's fault, and
                # nothing is done (Apache's leader, too, lets that be a transaction).
                return
            self._broke(Invariant.EPHEMERAL, f"{zxid:#x} is of session {session:#x}, which has ended")
        if record is None or isinstance(record, CloseSessionTxn):
            self._close(zxid, session, record)
        elif isinstance(record, MultiTxn):
            parts = [part for _, part in decode_parts(record)]
            # One that was refused names what came before the reason, and none of it is done.
            if not any(isinstance(part, ErrorTxn) for part in parts):
                for part in parts:
                    self._apply_one(header, zxid, part)
        else:
            self._apply_one(header, zxid, record)

    def _apply_one(self, header: TxnHeader, zxid: int, record: Any) -> None:
        if not hasattr(record, "path"):
            return
        path = _text(record.path)
        if path.startswith(RESERVED):
            return
        if isinstance(record, DeleteTxn):
            self._delete(zxid, path)
        elif isinstance(record, SetDataTxn):
            self._set(header, zxid, path, record)
        elif isinstance(record, CreateTxn):
            self._create(header, zxid, path, record)

    def _impossible(self, zxid: int, what: str) -> None:
        self._broke(Invariant.SEQUENTIAL, f"{zxid:#x} {what}")

    def _close(self, zxid: int, session: int, record: CloseSessionTxn | None) -> None:
        self.sessions.pop(session, None)
        self.ended[session] = zxid
        held = list(self.ephemerals.pop(session, ()))
        if record is not None:
            paths = [_text(path) for path in record.paths_to_delete or ()]
            if sorted(paths) != sorted(held):
                self._broke(
                    Invariant.EPHEMERAL,
                    f"{zxid:#x} ends session {session:#x} and deletes {sorted(paths)}, but it has {sorted(held)}",
                )
            held = paths
        for path in held:
            self._delete(zxid, path)

    def _create(self, header: TxnHeader, zxid: int, path: str, record: CreateTxn) -> None:
        past, parent = self.pasts[path], self.pasts[parent_of(path)]
        if past.now.stat is not None or parent.now.stat is None:
            self._impossible(zxid, f"creates {path}, which is there or has no parent")
            return
        data = bytes(record.data or b"")
        if record.parent_cversion != parent.creations + 1:
            self._broke(
                Invariant.SEQUENCE,
                f"{zxid:#x} creates {path} and counts {record.parent_cversion}, after {parent.creations}",
            )
        numbered = _NUMBERED.search(path)
        if numbered is not None and int(numbered[1]) != parent.creations:
            self._broke(Invariant.SEQUENCE, f"{zxid:#x} gives out {path} as number {parent.creations}")
        owner = header.client_id if record.ephemeral else 0
        if owner:
            # Of a session that is its server's own the history tells nothing; but such a one has no ephemerals.
            if owner not in self.sessions:
                self._broke(Invariant.EPHEMERAL, f"{zxid:#x} is of session {owner:#x}, which never began")
            self.ephemerals[owner][path] = None
        time_ms = header.time_ms
        past.become(zxid, State(Stat(zxid, zxid, time_ms, time_ms, 0, 0, 0, owner, len(data), 0, zxid), data))
        past.creations = 0
        past.names.clear()
        self.written[data].append((zxid, path))
        parent.creations += 1
        parent.names.add(name_of(path))
        self._count_children(zxid, parent)
        self._note(Change(zxid, EventKind.CREATED, path), past, parent)

    def _set(self, header: TxnHeader, zxid: int, path: str, record: SetDataTxn) -> None:
        past = self.pasts[path]
        stat = past.now.stat
        if stat is None or record.version != stat.version + 1:
            self._impossible(zxid, f"makes version {record.version} of {path}, which is {stat}")
            return
        data = bytes(record.data or b"")
        stat = stat._replace(mzxid=zxid, mtime=header.time_ms, version=record.version, data_length=len(data))
        past.become(zxid, State(stat, data))
        self.written[data].append((zxid, path))
        self._note(Change(zxid, EventKind.DATA_CHANGED, path), past, None)

    def _delete(self, zxid: int, path: str) -> None:
        past, parent = self.pasts[path], self.pasts[parent_of(path)]
        stat = past.now.stat
        if stat is None or stat.num_children:
            self._impossible(zxid, f"deletes {path}, which is {stat}")
            return
        if stat.ephemeral_owner:
            self.ephemerals[stat.ephemeral_owner].pop(path, None)
        past.become(zxid, _NOTHING)
        parent.names.discard(name_of(path))
        self._count_children(zxid, parent)
        self._note(Change(zxid, EventKind.DELETED, path), past, parent)

    def _count_children(self, zxid: int, parent: Past) -> None:
        stat, count = parent.now.stat, len(parent.names)
        assert stat is not None
        # What clients see of the counter counts deletions, too.
        stat = stat._replace(cversion=2 * parent.creations - count, num_children=count, pzxid=zxid)
        parent.become(zxid, State(stat, parent.now.data))

    def _note(self, change: Change, past: Past, parent: Past | None) -> None:
        self.changes.append(change)
        past.changes.append(change)
        if parent is not None:
            parent.children.append(change)

    # What was so

    def state_of(self, path: str, stat: Stat) -> tuple[State | None, int, int]:
        """The state in which a znode had a stat, with the zxids from and up to which; (None, 0, 0) if there is none."""
        past = self.pasts[path]
        since = max(stat.mzxid, stat.pzxid)
        at = bisect_left(past.zxids, since)
        if at == len(past.zxids) or past.zxids[at] != since:
            return None, 0, 0
        return past.states[at], since, past.zxids[at + 1] - 1 if at + 1 < len(past.zxids) else 1 << 63

    def changes_between(self, first: int, last: int) -> list[Change]:
        """Everything that happened after ``first`` and up to ``last``."""
        changes = self.changes
        start, end = (bisect_right(changes, zxid, key=lambda each: each.zxid) for zxid in (first, last))
        return changes[start:end]


def _text(path: Any) -> str:
    return path.decode() if isinstance(path, bytes) else str(path)
