"""From the files back to the tree (source: FileTxnSnapLog.restore).

The newest snapshot that is whole is loaded and every logged transaction after it replayed. A snapshot that is not
whole is passed over with a warning if the logs lead from the one before it to where it was taken. They need not: what
a member of an ensemble has got as a tree is in its snapshot alone.
"""

from __future__ import annotations

import logging
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from corral.jute.errors import KeeperError
from corral.jute.ops import OpCode
from corral.storage.errors import LogGapError, StorageError
from corral.storage.files import SnapshotFile, list_logs, list_snapshots
from corral.storage.filesystem import REAL, FileSystem
from corral.storage.snapshot import SnapshotError
from corral.storage.snapshot_file import load_snapshot
from corral.storage.txnlog import LogReader, LogReplay, read_from
from corral.tree.datatree import DataTree
from corral.tree.digest import DIGEST_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from corral.jute.owner import OwnerRules

log = logging.getLogger(__name__)

TXN_HEADER: Final = struct.Struct(">qiqqi")
_DIGEST = struct.Struct(">iQ")


@dataclass(slots=True)
class Recovered:
    """What was found: the tree, the snapshot it began with, how many transactions were replayed onto it."""

    tree: DataTree
    snapshot: SnapshotFile | None
    transactions: int
    digest_mismatches: int
    snapshot_ms: float
    """How long loading the snapshot took."""
    replay_ms: float
    """How long replaying the logs took."""

    @property
    def is_new(self) -> bool:
        """There was nothing at all."""
        return self.snapshot is None and self.transactions == 0


def recover(
    snapshot_directory: Path,
    log_directory: Path,
    owner_rules: OwnerRules,
    *,
    digests: bool = True,
    trust_empty: bool = False,
    filesystem: FileSystem = REAL,
) -> Recovered:
    """Load the newest whole snapshot and replay the logs after it; then put the logs' torn end in order.

    Raises StorageError naming the file if snapshots exist but none is whole, or one is not that holds what no log
    does; if there are transactions and no snapshot (``trust_empty`` replays them from nothing); or if a log is damaged
    or missing.
    """
    started = time.perf_counter()
    tree, snapshot, passed_over = _load_newest(snapshot_directory, owner_rules, digests=digests)
    if tree is None:
        first = next((each.path for each in list_logs(log_directory) if any(True for _ in LogReader(each.path))), None)
        if first is not None and not trust_empty:
            raise StorageError(
                f"there are transactions here but no snapshot in {snapshot_directory}; put the snapshot back, or set"
                " snapshot.trust.empty=true if the logs reach back to the beginning",
                first,
            )
        tree = DataTree(owner_rules)
        tree.keeps_digest = digests
    tree.notes_changes = False
    loaded = time.perf_counter()
    replay = read_from(log_directory, tree.last_zxid)
    count = mismatches = 0
    written: tuple[int, int] | None = None
    read_header = TXN_HEADER.unpack_from
    for zxid, entry in _with_all_of(passed_over, replay, snapshot_directory) if passed_over else replay:
        session_id, _, _, time_ms, txn_type = read_header(entry)
        count += 1
        if txn_type == OpCode.ERROR:
            tree.last_zxid = zxid
            written = None
            continue
        try:
            tree.apply(txn_type, zxid, time_ms, session_id, entry, TXN_HEADER.size)
        except KeeperError:
            # The snapshot was taken while the tree changed: it may already show what the log brings.
            pass
        except (struct.error, ValueError, IndexError) as error:
            raise StorageError(
                f"the transaction with zxid {zxid:#x} cannot be decoded: {error}", log_directory
            ) from None
        version, digest = _DIGEST.unpack_from(entry, len(entry) - _DIGEST.size)
        written = (zxid, digest) if version == DIGEST_VERSION and len(entry) > TXN_HEADER.size + 12 else None
    replay.mend(filesystem)
    if count:
        tree.rebuild_quotas()
    if digests and written is not None and written[1] != tree.digest:
        mismatches += 1
        log.warning(
            "the tree's digest after zxid %#x is %d, the log says %d: a server that wrote it computed otherwise",
            *(written[0], tree.digest, written[1]),
        )
    _end_orphans(tree)
    ended = time.perf_counter()
    return Recovered(tree, snapshot, count, mismatches, (loaded - started) * 1000, (ended - loaded) * 1000)


def _with_all_of(
    passed_over: dict[int, SnapshotError], replay: LogReplay, directory: Path
) -> Iterator[tuple[int, bytes]]:
    """The transactions, if each one with which a snapshot ends that was passed over is among them.

    Raises StorageError otherwise. Within an epoch a hole in the logs would be noticed anyway, between two it would not.
    """
    missing = dict(passed_over)
    gap = ""
    try:
        for zxid, entry in replay:
            missing.pop(zxid, None)
            yield zxid, entry
    except LogGapError as error:
        gap = f"; {error}"
        missing = missing or passed_over
    if missing:
        zxid, failure = max(missing.items())
        raise StorageError(
            f"a snapshot is not whole, and no log leads to zxid {zxid:#x}, which it holds: {failure}{gap}", directory
        )


def _load_newest(
    directory: Path, owner_rules: OwnerRules, *, digests: bool
) -> tuple[DataTree | None, SnapshotFile | None, dict[int, SnapshotError]]:
    """The tree and its snapshot; and by zxid why newer ones were passed over."""
    snapshots = list_snapshots(directory)
    failures: dict[int, SnapshotError] = {}
    for snapshot in reversed(snapshots):
        try:
            tree = load_snapshot(snapshot, owner_rules, digests=digests)
        except SnapshotError as error:
            log.warning("snapshot passed over: %s", error)
            failures[snapshot.zxid] = error
            continue
        tree.rebuild_quotas()
        return tree, snapshot, failures
    if failures:
        newest = failures[max(failures)]
        raise StorageError(f"none of the {len(snapshots)} snapshots is whole; the newest: {newest}", directory)
    return None, None, {}


def _end_orphans(tree: DataTree) -> None:
    """Remove ephemerals whose session is not known: their owner's end was logged before they were seen last."""
    for session_id in [session_id for session_id in tree.ephemerals if session_id not in tree.sessions]:
        log.warning("session %#x is gone, its ephemerals go as well", session_id & (2**64 - 1))
        tree.drop_ephemerals(session_id)
