"""The one history that all members must have: looked at after every step of every member.

What a serving member has applied is committed: by its leader, or because it is the history that its leader began with.
"""

from __future__ import annotations

import logging
import zlib
from bisect import bisect_right
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from corral.quorum.leader import Leader
from corral.simulation.durable import end_of_history
from corral.simulation.invariants import Invariant
from corral.simulation.model import Model
from corral.storage.errors import CorruptLogError, LogGapError
from corral.storage.files import list_snapshots
from corral.storage.txnlog import read_from

if TYPE_CHECKING:
    from collections import deque

    from corral.quorum.leader import Leader as LeaderTerm
    from corral.quorum.learner import Learning
    from corral.server.standalone import Server
    from corral.simulation.invariants import Broke
    from corral.simulation.machine import Member
    from corral.simulation.zab import Zab


_COUNTER: Final = 0xFFFFFFFF

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _View:
    """How far a member's serving of clients has been followed."""

    server: Server
    position: int
    zxid: int
    noted: int
    """The newest that it remembers."""


class Ledger:
    """Committed transactions in order. ``broke`` is told of every contradiction."""

    def __init__(self, zab: Zab, broke: Broke) -> None:
        self._zab = zab
        self._broke = broke
        self.model = Model(broke)
        self.order: list[int] = []
        """zxids."""
        self.entries: dict[int, bytes] = {}
        """The entries of the log; of few it may be unknown, when nobody has them any more but in a snapshot."""
        self.digests: dict[int, int] = {}
        """The tree's, after some of them."""
        self._epoch = 0
        """The newest that has begun."""
        self._holes: list[tuple[int, int]] = []
        self._views: dict[int, _View] = {}

    def __repr__(self) -> str:
        return f"<Ledger of {len(self.order)} transactions>"

    @property
    def last_zxid(self) -> int:
        """Of the newest committed transaction."""
        return self.order[-1] if self.order else 0

    def look(self, member: Member) -> None:
        """A step of the member is done: take over what it has committed, and compare."""
        peer = member.peer
        assert peer is not None
        term = peer.term
        server = term.server if term is not None else None
        if term is None or server is None:
            return
        view = self._views.get(member.sid)
        if view is None or view.server is not server:
            view = self._views[member.sid] = self._begin(member, term, server)
        recent = peer.history.recent
        if not recent or recent[-1][0] == view.noted:
            return
        view.noted = recent[-1][0]
        for zxid, entry in self._new(recent, view.zxid):
            self._take(member, view, zxid, entry)
        self._compare_trees(member, view.zxid)

    def _new(self, recent: deque[tuple[int, bytes]], last: int) -> list[tuple[int, bytes]]:
        """What a member has applied in its last step."""
        new = [recent[-1]]
        for each in islice(reversed(recent), 1, None):
            if each[0] <= last:
                break
            new.append(each)
        new.reverse()
        first = new[0][0]
        if len(new) == recent.maxlen and first > last + 1:
            # It does not remember all of one large batch; what that was has been proposed.
            start = last if last >> 32 == first >> 32 else first & ~_COUNTER
            new[:0] = [(zxid, self._zab.proposals[zxid]) for zxid in range(start + 1, first)]
        return new

    def _begin(self, member: Member, term: LeaderTerm | Learning, server: Server) -> _View:
        """A member begins to serve: all that it has applied until now is committed."""
        history = term.history
        zxid = history.last_zxid
        if isinstance(term, Leader):
            self._zab.establishes(member, term.epoch)
            # Its tree says that it has come to the new epoch already.
            reached = end_of_history(member)
            if reached < self.last_zxid:
                self._broke(
                    Invariant.PRIMARY_INTEGRITY,
                    f"{member!r} leads epoch {term.epoch} from {reached:#x}, but {self.last_zxid:#x} is committed",
                )
            self._take_inherited(member, zxid)
            self._epoch = term.epoch
        position = bisect_right(self.order, zxid) - 1
        at = self.order[position] if position >= 0 else 0
        if zxid & _COUNTER and at != zxid and not self._is_in_hole(zxid):
            self._broke(
                Invariant.PREFIX_CONSISTENCY, f"{member!r} begins with {zxid:#x}, which is not committed after {at:#x}"
            )
        member.trace.tell(
            member.host.name,
            f"{'leads' if isinstance(term, Leader) else f'follows {term.leader} in'} epoch {term.epoch} from {at:#x}",
        )
        self._compare_trees(member, at)
        return _View(server, position, at, history.recent[-1][0] if history.recent else 0)

    def _take_inherited(self, member: Member, zxid: int) -> None:
        """What a new leader has in its log, and no leader before it has committed."""
        peer = member.peer
        assert peer is not None
        last = self.last_zxid
        inherited: list[tuple[int, bytes]] = []
        try:
            inherited.extend(read_from(peer.history.database.log_directory, last))
        except LogGapError:
            log.debug("the log of %r begins after %#x", member, last)
        except CorruptLogError as error:
            log.debug("the log of %r: %s", member, error)
        if member.is_spoiled:
            # The member knows what was there before a sector went bad.
            inherited = sorted(
                {**dict(inherited), **dict(each for each in peer.history.recent if each[0] > last)}.items()
            )
        for each, entry in inherited:
            if each > zxid:
                break
            if each >> 32 < self._epoch:
                # Not committed when that epoch began: it was left in the log for a tree that does not have it.
                continue
            self._append(member, each, entry)
        shown = [each.zxid for each in list_snapshots(peer.history.database.snapshot_directory)]
        newest = max((each for each in shown if each & _COUNTER), default=0)
        if newest > self.last_zxid:
            # It has got the rest as a tree, from a leader that was never established.
            self._holes.append((last, newest))
            self.order.append(newest)
            self.model.is_whole = False

    def _append(self, member: Member, zxid: int, entry: bytes) -> None:
        last = self.last_zxid
        if zxid >> 32 < last >> 32:
            self._broke(Invariant.GLOBAL_PRIMARY_ORDER, f"{member!r} applies {zxid:#x} behind {last:#x}")
        elif zxid != last + 1 and not (zxid >> 32 > last >> 32 and zxid & _COUNTER == 1):
            self._broke(Invariant.LOCAL_PRIMARY_ORDER, f"{member!r} applies {zxid:#x} right behind {last:#x}")
        if self._zab.proposals.setdefault(zxid, entry) != entry:
            self._broke(Invariant.INTEGRITY, f"{member!r} applies another transaction {zxid:#x} than was proposed")
        self.order.append(zxid)
        self.entries[zxid] = entry
        self.model.apply(zxid, entry)

    def _take(self, member: Member, view: _View, zxid: int, entry: bytes) -> None:
        after = view.position + 1
        view.zxid = zxid
        if self._zab.proposals.get(zxid, entry) != entry:
            self._broke(Invariant.INTEGRITY, f"{member!r} applies another transaction {zxid:#x} than was proposed")
        if after < len(self.order):
            expected = self.order[after]
            known = self.entries.get(zxid)
            if expected != zxid and not self._is_in_hole(zxid):
                self._broke(
                    Invariant.PREFIX_CONSISTENCY, f"{member!r} applies {zxid:#x} where {expected:#x} is committed"
                )
            elif known is not None and known != entry:
                self._broke(
                    Invariant.PREFIX_CONSISTENCY,
                    f"{member!r} applies another transaction {zxid:#x} than the one that is committed",
                )
        else:
            self._append(member, zxid, entry)
        view.position = bisect_right(self.order, zxid) - 1

    def _is_in_hole(self, zxid: int) -> bool:
        return any(start < zxid <= end for start, end in self._holes)

    def _compare_trees(self, member: Member, zxid: int) -> None:
        peer = member.peer
        assert peer is not None
        if not peer.config.storage.digest_enabled:
            return
        digest = peer.history.tree.digest
        if self.digests.setdefault(zxid, digest) != digest:
            self._broke(Invariant.DIGEST, f"the tree of {member!r} is another than that of others at {zxid:#x}")

    def sum(self) -> int:
        """Over the whole history."""
        total = 0
        for zxid in self.order:
            total = zlib.crc32(self.entries.get(zxid, b""), zlib.crc32(zxid.to_bytes(8, "big"), total))
        return total
