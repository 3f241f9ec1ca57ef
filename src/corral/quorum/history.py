"""What a member of an ensemble knows, has in its log, and has promised: and in which order these may become durable.

The rule, which the types below enforce (sources: ZOOKEEPER-3911, 4643, 4646, and the published proofs):

1. the leader's history is in the log, and synced            -> :class:`HistoryOnDisk`
2. only then ``currentEpoch`` is written, and synced          -> :class:`EpochOnDisk`
3. only then the new leader's NEWLEADER is acknowledged, which takes an EpochOnDisk.

Likewise ``acceptedEpoch`` is on disk before an ACKEPOCH leaves (:class:`PromiseOnDisk`).
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from corral.jute.errors import KeeperError
from corral.jute.ops import ERROR, SET_DATA
from corral.jute.owner import OwnerRules
from corral.jute.paths import CONFIG
from corral.jute.records import SetDataTxn
from corral.quorum.ensemble import Ensemble, parse_ensemble
from corral.storage.errors import LogGapError, StorageError
from corral.storage.files import ACCEPTED_EPOCH, CURRENT_EPOCH, list_logs, list_snapshots, read_number, write_number
from corral.storage.filesystem import REAL, FileSystem, remove_if_present
from corral.storage.recovery import recover
from corral.storage.snapshot import SnapshotEncoder
from corral.storage.snapshot_file import write_snapshot
from corral.storage.txnlog import truncate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from corral.server.database import Database
    from corral.tree.datatree import DataTree

EPOCH_MAX: Final = 0x7FFFFFFF
"""The last that there can be."""
_COUNTER: Final = 0xFFFFFFFF
_TXN_HEADER: Final = struct.Struct(">qiqqi")
_READ_AT_ONCE: Final = 1000
"""Transactions read from the log before others get a turn: a few milliseconds."""

log = logging.getLogger(__name__)


class PromiseOnDisk(NamedTuple):
    """``acceptedEpoch`` is durable: no leader of an older epoch will be followed."""

    epoch: int


class HistoryOnDisk(NamedTuple):
    """Everything that the leader's history brings is in the log or a snapshot, durably, up to ``zxid``."""

    zxid: int


class EpochOnDisk(NamedTuple):
    """``currentEpoch`` is durable, and so was the history before it."""

    epoch: int


class History:
    """A member's database, seen as a history of transactions."""

    def __init__(self, database: Database, *, filesystem: FileSystem = REAL) -> None:
        self.database = database
        self.filesystem = filesystem
        self.recent: deque[tuple[int, bytes]] = deque(maxlen=database.config.quorum.recent_transactions)
        """The last committed transactions, without a hole."""
        self._base_zxid = -1
        """Where the tree stood when it was recovered or came from elsewhere: the log need not reach so far."""

    def __repr__(self) -> str:
        return f"<History up to {self.last_zxid:#x}, epochs {self.accepted_epoch} and {self.current_epoch}>"

    @property
    def tree(self) -> DataTree:
        """The state that the history leads to."""
        return self.database.tree

    @property
    def last_zxid(self) -> int:
        """Of the last transaction applied; after :meth:`settle`, of the last one in the log."""
        return self.tree.last_zxid

    # Epochs

    @property
    def accepted_epoch(self) -> int:
        """The newest epoch that was promised to be taken part in."""
        return self._read_epoch(self.epoch_file)

    @property
    def epoch_file(self) -> Path:
        """Where :attr:`accepted_epoch` is written down."""
        return self.database.snapshot_directory / ACCEPTED_EPOCH

    @property
    def current_epoch(self) -> int:
        """The newest epoch whose leader's history was taken over."""
        return self._read_epoch(self.database.snapshot_directory / CURRENT_EPOCH)

    def _read_epoch(self, path: Path) -> int:
        epoch = read_number(path)
        if epoch is None:
            return self.last_zxid >> 32
        if not 0 <= epoch <= EPOCH_MAX:
            raise StorageError(f"{epoch} is no epoch", path)
        return epoch

    def promise(self, epoch: int) -> PromiseOnDisk:
        """Write ``acceptedEpoch``."""
        write_number(self.epoch_file, epoch, self.filesystem)
        return PromiseOnDisk(epoch)

    def enter(self, epoch: int, history: HistoryOnDisk) -> EpochOnDisk:
        """Write ``currentEpoch``, for which the history of its leader must be on disk."""
        assert history.zxid <= self.last_zxid
        write_number(self.database.snapshot_directory / CURRENT_EPOCH, epoch, self.filesystem)
        return EpochOnDisk(epoch)

    # Growing

    def note(self, transactions: Sequence[tuple[int, bytes]]) -> None:
        """Transactions were committed and are applied. Raises StorageError if one is missing before or among them."""
        recent = self.recent
        last = recent[-1][0] if recent else transactions[0][0] - 1
        for zxid, _ in transactions:
            if zxid != last + 1 and zxid >> 32 == last >> 32:
                raise StorageError(
                    f"zxid {zxid:#x} does not follow {last:#x}: the history would have a hole",
                    self.database.log_directory,
                )
            last = zxid
        recent.extend(transactions)

    async def settle(self) -> None:
        """Make memory and log agree: what was logged and not committed is applied, as a restart would do it."""
        await self.database.settle()
        tree = self.tree
        if self._base_zxid < 0:
            self._base_zxid = tree.last_zxid
        tree.keeps_digest = True
        for zxid, entry in self.database.logged_after(tree.last_zxid):
            # A snapshot that is being written would show, under an older zxid, what may yet be cut off.
            self.database.snapshotter.give_up()
            apply(tree, zxid, entry)
            self.recent.append((zxid, entry))

    async def append(self, transactions: Sequence[tuple[int, bytes]]) -> HistoryOnDisk:
        """Log and sync committed transactions, then apply them."""
        tree = self.tree
        new = [each for each in transactions if each[0] > tree.last_zxid]
        if new:
            self.database.extend(new)
            done = asyncio.Event()
            self.database.sync(done.set)
            await done.wait()
            tree.keeps_digest = True
            for zxid, entry in new:
                apply(tree, zxid, entry)
            self.note(new)
        return HistoryOnDisk(tree.last_zxid)

    @property
    def shown_ensemble(self) -> Ensemble | None:
        """The configuration in the configuration's znode; a change of the members is committed there."""
        node = self.tree.nodes.get(CONFIG)
        try:
            return parse_ensemble(((node.data if node is not None else None) or b"").decode("utf-8", "replace"))
        except ValueError:
            return None

    def show(self, ensemble: Ensemble) -> None:
        """Let the configuration's znode say who the members are, unless it tells of a later change."""
        shown = self.shown_ensemble
        if CONFIG not in self.tree.nodes or (shown is not None and shown.version > ensemble.version):
            return
        if self.tree.nodes[CONFIG].data == ensemble.to_text().encode():
            return
        self.tree.notes_changes = False
        # No transaction, in Apache neither: each member writes it by itself, here with the time of the empty znode.
        record = SetDataTxn(CONFIG, ensemble.to_text().encode(), -1)
        reached = self.tree.last_zxid
        self.tree.apply(SET_DATA, ensemble.version, 0, 0, record.to_bytes())
        # Others may have told of a change that this history does not reach yet: it must not claim to.
        self.tree.last_zxid = reached

    # Following another history

    async def cut(self, zxid: int) -> HistoryOnDisk:
        """Forget everything beyond ``zxid``: in the logs, in snapshots that show it, and in memory (TRUNC)."""
        await self.database.settle()
        if zxid == self.last_zxid:
            # There need not even be a log.
            return HistoryOnDisk(zxid)
        self.database.txn_log.close()
        # A newer snapshot would bring it all back (ZOOKEEPER-4837).
        self._remove_snapshots_after(zxid)
        truncate(self.database.log_directory, zxid, self.filesystem)
        config = self.database.config
        recovered = recover(
            self.database.snapshot_directory,
            self.database.log_directory,
            self.owner_rules,
            digests=config.storage.digest_enabled,
            filesystem=self.filesystem,
        )
        if not zxid & _COUNTER and recovered.tree.last_zxid < zxid:
            # An epoch's beginning is no transaction. Who had one of that epoch has all that came before.
            recovered.tree.last_zxid = zxid
        if recovered.tree.last_zxid != zxid:
            raise StorageError(
                f"cut back to zxid {zxid:#x}, the logs lead to {recovered.tree.last_zxid:#x}",
                self.database.log_directory,
            )
        self._install(recovered.tree)
        return HistoryOnDisk(zxid)

    def can_be_cut(self, zxid: int) -> bool:
        """Whether something was ever written here that led to ``zxid``, and can be found again."""
        if not 0 <= zxid <= self.last_zxid:
            return False
        snapshots = [each.zxid for each in list_snapshots(self.database.snapshot_directory)]
        if not any(each <= zxid for each in snapshots):
            return False
        # An epoch's beginning is in no log.
        if not zxid & _COUNTER or zxid in (*snapshots, self.last_zxid):
            return True
        try:
            return next((found for found, _ in self.database.logged_after(zxid - 1)), None) == zxid
        except LogGapError:
            return False

    async def replace(self, tree: DataTree, zxid: int) -> HistoryOnDisk:
        """Let another tree, as of ``zxid``, be the whole history (SNAP)."""
        await self.database.settle()
        self.database.txn_log.close()
        storage = self.database.config.storage
        encoder = SnapshotEncoder(
            tree,
            digests=storage.digest_enabled,
            last_zxid_section=storage.serialize_last_processed_zxid_enabled,
        )
        # What this server alone has, if anything, must never be replayed onto it: it goes before the tree is there. A
        # newer snapshot may stay until then, for it shows the whole of what this server had.
        if any(each.zxid > zxid for each in list_logs(self.database.log_directory)) or self._logs_go_beyond(zxid):
            truncate(self.database.log_directory, zxid, self.filesystem)
        write_snapshot(self.database.snapshot_directory, encoder, storage.snapshot_compression or "", self.filesystem)
        self._remove_snapshots_after(zxid)
        self._install(tree)
        return HistoryOnDisk(zxid)

    def _logs_go_beyond(self, zxid: int) -> bool:
        return any(True for _ in self.database.logged_after(zxid))

    def _remove_snapshots_after(self, zxid: int) -> None:
        for snapshot in list_snapshots(self.database.snapshot_directory):
            if snapshot.zxid > zxid:
                remove_if_present(snapshot.path, self.filesystem)

    def _install(self, tree: DataTree) -> None:
        tree.keeps_digest = True
        self._base_zxid = tree.last_zxid
        self.database.install(tree)
        self.recent.clear()

    @property
    def owner_rules(self) -> OwnerRules:
        """How this server reads the owners of znodes."""
        tree = self.database.config.tree
        return OwnerRules(tree.extended_types_enabled, tree.emulate_353_ttl_nodes)

    # Teaching others

    async def read_log(self, zxid: int) -> list[tuple[int, bytes]] | None:
        """The committed transactions of the log from ``zxid`` on; others get their turns meanwhile.

        What is committed while this reads is not among them (see :meth:`read_on`). None if the log does not reach back
        so far, or is longer than a snapshot: then a snapshot is the better way to teach.
        """
        snapshots = list_snapshots(self.database.snapshot_directory)
        share = self.database.config.quorum.snapshot_size_factor
        if not snapshots or share < 0:
            return None
        try:
            limit = share * snapshots[-1].path.stat().st_size
        except OSError as error:
            log.info("a learner at zxid %#x is not served from the log: %s", zxid, error)
            return None
        if self.database.logged_bytes_after(zxid) > limit:
            return None
        last = self.tree.last_zxid
        found: list[tuple[int, bytes]] = []
        size = 0
        try:
            for each in self._committed_after(zxid - 1):
                size += len(each[1])
                if size > limit:
                    return None
                found.append(each)
                if len(found) % _READ_AT_ONCE == 0:
                    await asyncio.sleep(0)
        except StorageError as error:
            log.info("a learner at zxid %#x is not served from the log: %s", zxid, error)
            return None
        if not found or found[0][0] > zxid or found[-1][0] < self._base_zxid:
            return None
        # A snapshot whose last transaction no log has came from a leader: that transaction would be missing in what is
        # sent, and what the logs have before it may have been given up for it.
        logged = {each for each, _ in found}
        if any(zxid < each.zxid <= last and each.zxid not in logged for each in snapshots):
            return None
        return found

    def read_on(self, found: list[tuple[int, bytes]] | None) -> list[tuple[int, bytes]] | None:
        """What :meth:`read_log` found, and what was committed since then as far as it is not :attr:`recent`."""
        if found and self.recent and self.recent[0][0] > found[-1][0] + 1:
            try:
                found += self._committed_after(found[-1][0])
            except StorageError as error:
                log.info("the log is not read on from zxid %#x: %s", found[-1][0], error)
                return None
        return found

    def _committed_after(self, zxid: int) -> Iterator[tuple[int, bytes]]:
        """From the log. It ends with the last that is committed now: what comes behind may be half written."""
        last = self.tree.last_zxid
        for each in self.database.logged_after(zxid):
            if each[0] <= last:
                yield each
            if each[0] >= last:
                return


def apply(tree: DataTree, zxid: int, entry: bytes) -> None:
    """Bring a transaction of the log into the tree, for nobody who waits for it."""
    session_id, _, _, time_ms, kind = _TXN_HEADER.unpack_from(entry)
    if kind == ERROR:
        tree.last_zxid = zxid
        return
    # Who watches later must not be told of it.
    tree.notes_changes = False
    try:
        tree.apply(kind, zxid, time_ms, session_id, entry, _TXN_HEADER.size)
    except KeeperError:
        # A snapshot that was taken while the tree changed may already show it.
        log.debug("zxid %#x was there already", zxid)
