"""The tree and its files: recovered at the start, written ahead through the log, photographed by snapshots.

It outlives what a server is: whoever serves clients from it, and by whose leave its transactions are committed, may
change while it stays open.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from corral.jute.owner import OwnerRules
from corral.server.log_sync import LogSync
from corral.server.snapshots import SnapshotSchedule, Snapshotter
from corral.storage.errors import DiskError, StorageError
from corral.storage.files import (
    INITIALIZE,
    VERSION_DIRECTORY,
    SnapshotFile,
    check_layout,
    list_lookalikes,
    list_unfinished,
)
from corral.storage.filesystem import remove_if_present
from corral.storage.lock import DirectoryLock
from corral.storage.purge import plan_purge, purge
from corral.storage.recovery import Recovered, recover
from corral.storage.snapshot import SnapshotEncoder, SnapshotError, SnapshotReader
from corral.storage.snapshot_file import read_snapshot_bytes, write_snapshot
from corral.storage.txnlog import LogReplay, TxnLogWriter, read_from

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from corral.server.config import ServerConfig
    from corral.server.machine import Machine
    from corral.server.stats import ServerStats
    from corral.server.workers import Worker
    from corral.tree.datatree import DataTree

log = logging.getLogger(__name__)

_PURGE_STOP_S: Final = 1.0
_SYNC_STOP_S: Final = 1.0


class Database:
    """One data directory, held by this process from :meth:`open` to :meth:`close`.

    ``failed`` is told, once, that the log cannot be written any more.
    """

    tree: DataTree
    txn_log: TxnLogWriter
    snapshotter: Snapshotter

    def __init__(
        self,
        config: ServerConfig,
        stats: ServerStats,
        *,
        failed: Callable[[StorageError], None],
        machine: Machine,
    ) -> None:
        self.config = config
        self.snapshot_directory = config.data_dir / VERSION_DIRECTORY
        self.log_directory = config.data_log_dir / VERSION_DIRECTORY
        self.machine = machine
        self._filesystem = machine.filesystem
        self.stats = stats
        self._failed = failed
        self._schedule = SnapshotSchedule(config.storage, machine.chance)
        self._locks: list[DirectoryLock] = []
        self._log_sync: LogSync | None = None
        self._purge_worker: Worker | None = None
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    def __repr__(self) -> str:
        return f"<Database in {self.snapshot_directory}>"

    # Opening

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Recover what is there, or begin anew. Raises StorageError; :meth:`close` then gives back what was taken."""
        recovered = self._recover()
        tree = self.tree = recovered.tree
        tree.keeps_digest = False
        log.info(
            "%d znodes, %d sessions at zxid %#x: %s and %d transactions",
            *(len(tree.nodes) - 1, len(tree.sessions), tree.last_zxid),
            recovered.snapshot.path.name if recovered.snapshot else "no snapshot",
            recovered.transactions,
        )
        if recovered.snapshot is None or recovered.snapshot.zxid != tree.last_zxid:
            self._write_first_snapshot(is_needed=recovered.snapshot is None)
        storage = self.config.storage
        self.txn_log = TxnLogWriter(
            self.log_directory,
            preallocation_bytes=storage.prealloc_size_kb * 1024,
            force_sync=storage.force_sync,
            size_limit_bytes=storage.txn_log_size_limit_kb * 1024 if storage.txn_log_size_limit_kb > 0 else None,
            filesystem=self._filesystem,
        )
        self._loop = loop
        self._log_sync = LogSync(self.txn_log, loop, self.machine, self._failed)
        self.install(tree)

    def install(self, tree: DataTree) -> None:
        """Let ``tree`` be what is served, logged and photographed from now on."""
        if hasattr(self, "snapshotter"):
            self.snapshotter.stop()
        self.tree = tree
        self.snapshotter = Snapshotter(
            tree, self.snapshot_directory, self.config.storage, self._loop, self.stats, self.machine
        )

    def _recover(self) -> Recovered:
        config = self.config
        self._make_directories()
        directories = [self.snapshot_directory]
        if self.log_directory.resolve() != self.snapshot_directory.resolve():
            directories.append(self.log_directory)
        for directory in directories:
            self._locks.append(DirectoryLock(directory))
            self._remove_leftovers(directory)
            for path in list_lookalikes(directory):
                log.warning("%s is neither a log nor a snapshot by its name: it is not read", path)
        check_layout(self.snapshot_directory, self.log_directory)
        rules = OwnerRules(config.tree.extended_types_enabled, config.tree.emulate_353_ttl_nodes)
        recovered = recover(
            self.snapshot_directory,
            self.log_directory,
            rules,
            digests=config.storage.digest_enabled,
            trust_empty=config.storage.snapshot_trust_empty,
            filesystem=self._filesystem,
        )
        marker = config.data_log_dir / INITIALIZE
        if recovered.is_new and not config.storage.db_autocreate and not marker.exists():
            raise StorageError(
                "there is no database here, and db.autocreate=false forbids to make one", config.data_dir
            )
        try:
            remove_if_present(marker, self._filesystem)
        except OSError as error:
            raise DiskError("remove the marker", error, marker) from error
        self.stats.recovered(recovered)
        return recovered

    def _make_directories(self) -> None:
        for directory in (self.snapshot_directory, self.log_directory):
            if directory.is_dir():
                continue
            if not self.config.storage.datadir_autocreate:
                raise StorageError("it is missing, and datadir.autocreate=false forbids to make it", directory)
            try:
                self._filesystem.make_directory(directory)
            except OSError as error:
                raise DiskError("make the directory", error, directory) from error

    def _remove_leftovers(self, directory: Path) -> None:
        """Remove what a server that was killed had not finished writing: it may be what fills the disk."""
        for path in list_unfinished(directory):
            try:
                remove_if_present(path, self._filesystem)
            except OSError as error:
                log.warning("%s is of no use any more and cannot be removed: %s", path, error.strerror)
            else:
                log.info("removed %s, which was never finished", path.name)

    def _write_first_snapshot(self, *, is_needed: bool) -> None:
        """Write down what was recovered, so that the next start has less to replay.

        Only the first snapshot of all is needed: without one the logs would be refused. Any other may fail (a full
        disk), for the snapshot that was recovered from is still there, and so are the logs after it.
        """
        storage = self.config.storage
        encoder = SnapshotEncoder(
            self.tree,
            digests=storage.digest_enabled,
            last_zxid_section=storage.serialize_last_processed_zxid_enabled,
        )
        started = time.perf_counter()
        try:
            write_snapshot(self.snapshot_directory, encoder, storage.snapshot_compression or "", self._filesystem)
        except StorageError as error:
            if is_needed:
                raise
            log.warning("no snapshot could be written at the start, the server goes on without: %s", error)
            self.stats.count("snapshot_error_count")
        else:
            self.stats.note("snapshottime", (time.perf_counter() - started) * 1000)

    # Writing

    def about_to_log(self, count: int) -> None:
        """A batch of so many transactions is about to go to the log: perhaps it is time for a snapshot."""
        if self._schedule.is_due(count, self.txn_log.size_bytes):
            self.txn_log.roll()
            self.snapshotter.start()

    def append(self, zxid: int, entry: bytes) -> None:
        """Take a transaction for the next :meth:`sync`."""
        self.txn_log.append(zxid, entry)

    def extend(self, transactions: Sequence[tuple[int, bytes]]) -> None:
        """Take transactions, each behind its zxid, for the next :meth:`sync`."""
        self.txn_log.extend(transactions)

    def sync(self, done: Callable[[], None]) -> None:
        """Write what has been appended to the log, and call ``done`` on the loop once it is on disk."""
        batch = self.txn_log.take()
        assert batch is not None
        assert self._log_sync is not None
        self._is_idle.clear()

        def durable() -> None:
            self._is_idle.set()
            sync_ms = self.txn_log.last_sync_ms
            if sync_ms > self.config.storage.fsync_warning_threshold_ms:
                log.warning("syncing the log took %.0f ms", sync_ms)
            done()

        self._log_sync.write(batch, durable)

    async def settle(self) -> None:
        """Bring the log to an end that agrees with the tree: what comes next may follow it without a hole.

        A sync that is under way is waited for. What was appended, is applied and is not on its way to the disk goes
        there (others may commit sooner than this disk syncs); what is not applied is given up.
        """
        await self._is_idle.wait()
        first = self.txn_log.first_waiting_zxid
        if first is not None and first <= self.tree.last_zxid:
            self.sync(lambda: None)
            await self._is_idle.wait()
        self.txn_log.give_up()

    def logged_after(self, zxid: int) -> LogReplay:
        """The transactions of the log beyond ``zxid``, read from where they begin, if this server wrote them.

        Iterating it raises StorageError.
        """
        return read_from(self.log_directory, zxid, self.txn_log.marks.before(zxid + 1))

    def logged_bytes_after(self, zxid: int) -> int:
        """About how much this server has logged beyond ``zxid``; what was cut off since then counts, too."""
        mark = self.txn_log.marks.after(zxid)
        return self.txn_log.taken_bytes - mark.bytes_before if mark is not None else 0

    # Purging

    def purge(self) -> None:
        """Remove old snapshots and logs, in a thread."""
        keep = max(3, self.config.storage.purge_retain_count)

        def job() -> None:
            try:
                plan = plan_purge(self.snapshot_directory, self.log_directory, keep, is_whole)
                purge(plan, self._filesystem)
            except StorageError as error:
                log.warning("nothing could be purged: %s", error)
            else:
                if plan.paths:
                    log.info("purged %s", ", ".join(path.name for path in plan.paths))

        if self._purge_worker is None:
            self._purge_worker = self.machine.worker("corral-purge", self._loop)
        self._purge_worker.submit(job, lambda: None)

    # Closing

    def close(self) -> None:
        """Give everything back; what was appended and not synced is given up."""
        if hasattr(self, "snapshotter"):
            self.snapshotter.stop()
        if self._purge_worker is not None:
            self._purge_worker.stop(_PURGE_STOP_S)
            self._purge_worker = None
        if self._log_sync is not None and not self._log_sync.stop(_SYNC_STOP_S):
            # The thread hangs in the device and may yet write: the file and the directory stay its own.
            return
        self._log_sync = None
        if hasattr(self, "txn_log"):
            self.txn_log.close()
        self.unlock()

    def unlock(self) -> None:
        """Let the directories go, and do nothing else: as the end of the process would."""
        for lock in self._locks:
            lock.close()
        self._locks.clear()


def is_whole(snapshot: SnapshotFile) -> bool:
    """Whether a snapshot can be read to its end and its checksums hold."""
    try:
        reader = SnapshotReader(read_snapshot_bytes(snapshot), snapshot.path)
        for _ in reader.nodes():
            pass
        reader.check()
    except (SnapshotError, StorageError):
        return False
    return True
