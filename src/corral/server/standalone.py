"""One server that is its own quorum: it owns the tree, its files, its sessions and its connections.

Everything but syncing the log and writing snapshots happens on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from typing import TYPE_CHECKING, Final

from corral.jute.errors import ErrorCode
from corral.jute.ops import OpCode
from corral.jute.owner import OwnerRules
from corral.server.authentication import Authentication
from corral.server.clock import Clock
from corral.server.complaints import Complaints
from corral.server.connection import Connection
from corral.server.handshake import Handshakes
from corral.server.log_sync import LogSync
from corral.server.pipeline import WritePipeline
from corral.server.quota_metrics import namespace
from corral.server.reaper import Reaper
from corral.server.request_gate import RequestGate
from corral.server.sessions import SessionTracker, first_session_id
from corral.server.snapshots import SnapshotSchedule, Snapshotter
from corral.server.stats import ServerStats
from corral.server.throttle import ConnectThrottle
from corral.server.words import FourLetterWords, data_and_log_sizes
from corral.server.workers import Worker
from corral.storage.errors import DiskError, StorageError
from corral.storage.files import (
    ACCEPTED_EPOCH,
    CURRENT_EPOCH,
    INITIALIZE,
    VERSION_DIRECTORY,
    SnapshotFile,
    check_layout,
    list_lookalikes,
    list_unfinished,
    read_number,
    write_number,
)
from corral.storage.filesystem import REAL, FileSystem, remove_if_present
from corral.storage.lock import DirectoryLock
from corral.storage.purge import plan_purge, purge
from corral.storage.recovery import Recovered, recover
from corral.storage.snapshot import SnapshotEncoder, SnapshotError, SnapshotReader
from corral.storage.snapshot_file import read_snapshot_bytes, write_snapshot
from corral.storage.txnlog import TxnLogWriter
from corral.tree.acl import AccessControl
from corral.tree.datatree import DataTree
from corral.tree.prepare import Preparer
from corral.tree.watches import WatchTables

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from corral.server.config import ServerConfig

log = logging.getLogger(__name__)

STANDALONE_SERVER_ID: Final = 1
"""Goes into session ids; Apache's standalone server uses the same."""
_SWEEP_INTERVAL_S: Final = 1.0
STOP_LIMIT_S: Final = 10.0
"""How long a stop waits for the disk."""
_FAREWELL_LIMIT_MS: Final = 10_000
"""How long a connection that was closed may take to read what was sent before."""


class Server:
    """A standalone server. Make it, ``await start()``, and later ``await stop()``.

    ``failed`` becomes the reason if the disk fails: the server then stops by itself, acknowledging nothing more.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        clock: Clock | None = None,
        filesystem: FileSystem = REAL,
        chance: random.Random | None = None,
    ) -> None:
        self.config = config
        self.clock = clock or Clock()
        self.filesystem = filesystem
        self.chance = chance or random.Random()
        self.snapshot_directory = config.data_dir / VERSION_DIRECTORY
        self.log_directory = config.data_log_dir / VERSION_DIRECTORY
        self.stats = ServerStats(self.clock.monotonic_ms())
        self.authentication = Authentication(config.auth, self.stats)
        self.access = AccessControl(self.authentication.acl_schemes(), skip=config.auth.skip_acl)
        self.throttle = ConnectThrottle(config.connection_throttle, self.clock, self.chance)
        self.watches = WatchTables(self.stats.watchers_told)
        self.complaints = Complaints(self.clock)
        self.words = FourLetterWords(self)
        self.handshakes = Handshakes(self)
        self.connections: dict[Connection, None] = {}
        self.gate = RequestGate(self) if RequestGate.is_needed(config) else None
        self.serving = False
        self.failed: StorageError | None = None
        self.stopped: asyncio.Event = asyncio.Event()
        self.now_ms = self.clock.monotonic_ms()
        """The monotonic clock when a client was last heard of."""
        self.port = config.client_port
        self.tree: DataTree
        self.preparer: Preparer
        self.pipeline: WritePipeline
        self.tracker: SessionTracker
        self.txn_log: TxnLogWriter
        self.snapshotter: Snapshotter
        self._connections_by_address: dict[str, int] = {}
        self._newcomers: dict[Connection, int] = {}
        """Connections made not long ago and, in ms of the monotonic clock, when each must have a session."""
        self._leaving: dict[Connection, int] = {}
        """Connections closed with something unsent, and when they will be cut off."""
        self._expiry_due_ms = 0
        self._locks: list[DirectoryLock] = []
        self._listener: asyncio.Server | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._log_sync: LogSync | None = None
        self._purge_worker: Worker | None = None
        self.outstanding_limit = config.limits.global_outstanding_limit
        """With more requests in process, a connection that has some of them is not read from."""

    # Life

    async def start(self) -> None:
        """Load the data and listen. Raises StorageError, or OSError if the address cannot be had."""
        self._loop = asyncio.get_running_loop()
        self.soon = self._loop.call_soon
        try:
            # The port first: a server that cannot listen must not touch the data of the one that does.
            listening = self._bind()
            try:
                self._take_over(self._open_database())
            except BaseException:
                listening.close()
                raise
            self._listener = await self._loop.create_server(
                lambda: Connection(self), sock=listening, backlog=self.config.listen_backlog
            )
        except BaseException:
            self._release()
            raise
        self.serving = True
        self._start_timers()

    def _bind(self) -> socket.socket:
        """A socket bound to the client address, not yet listening."""
        host = self.config.client_port_address
        if host is None:
            family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
            address: str = "::" if family == socket.AF_INET6 else "0.0.0.0"
        else:
            found = socket.getaddrinfo(host, self.config.client_port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, address = found[0][0], str(found[0][4][0])
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1 if host is not None else 0)
            listening.bind((address, self.config.client_port))
            # Two servers may bind one address with SO_REUSEADDR as long as neither listens.
            listening.listen(self.config.listen_backlog)
        except BaseException:
            listening.close()
            raise
        self.port = listening.getsockname()[1]
        return listening

    def _open_database(self) -> Recovered:
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
            filesystem=self.filesystem,
        )
        marker = config.data_log_dir / INITIALIZE
        if recovered.is_new and not config.storage.db_autocreate and not marker.exists():
            raise StorageError(
                "there is no database here, and db.autocreate=false forbids to make one", config.data_dir
            )
        try:
            remove_if_present(marker, self.filesystem)
        except OSError as error:
            raise DiskError("remove the marker", error, marker) from error
        self.stats.recovered(recovered)
        return recovered

    def _remove_leftovers(self, directory: Path) -> None:
        """Remove what a server that was killed had not finished writing: it may be what fills the disk."""
        for path in list_unfinished(directory):
            try:
                remove_if_present(path, self.filesystem)
            except OSError as error:
                log.warning("%s is of no use any more and cannot be removed: %s", path, error.strerror)
            else:
                log.info("removed %s, which was never finished", path.name)

    def _make_directories(self) -> None:
        for directory in (self.snapshot_directory, self.log_directory):
            if directory.is_dir():
                continue
            if not self.config.storage.datadir_autocreate:
                raise StorageError("it is missing, and datadir.autocreate=false forbids to make it", directory)
            try:
                self.filesystem.make_directory(directory)
            except OSError as error:
                raise DiskError("make the directory", error, directory) from error

    def _take_over(self, recovered: Recovered) -> None:
        """Build everything that works on the recovered tree."""
        config, storage = self.config, self.config.storage
        self.tree = tree = recovered.tree
        tree.keeps_digest = False
        log.info(
            "%d znodes, %d sessions at zxid %#x: %s and %d transactions",
            *(len(tree.nodes) - 1, len(tree.sessions), tree.last_zxid),
            recovered.snapshot.path.name if recovered.snapshot else "no snapshot",
            recovered.transactions,
        )
        self._keep_epochs()
        encoder = SnapshotEncoder(
            tree,
            digests=storage.digest_enabled,
            last_zxid_section=storage.serialize_last_processed_zxid_enabled,
        )
        if recovered.snapshot is None or recovered.snapshot.zxid != tree.last_zxid:
            self._write_snapshot(encoder, is_needed=recovered.snapshot is None)
        self.preparer = Preparer(
            tree,
            self.access,
            digests=storage.digest_enabled,
            enforce_quota=config.tree.enforce_quota,
            close_session_lists_paths=config.tree.close_session_txn_enabled,
            reconfig_enabled=config.tree.reconfig_enabled,
            quota_exceeded=lambda path: self.stats.quota_exceeded(namespace(path)),
        )
        self.txn_log = TxnLogWriter(
            self.log_directory,
            preallocation_bytes=storage.prealloc_size_kb * 1024,
            force_sync=storage.force_sync,
            size_limit_bytes=storage.txn_log_size_limit_kb * 1024 if storage.txn_log_size_limit_kb > 0 else None,
            filesystem=self.filesystem,
        )
        self.snapshotter = Snapshotter(tree, self.snapshot_directory, storage, self._loop, self.stats, self.filesystem)
        self._schedule = SnapshotSchedule(storage, self.chance)
        self.pipeline = WritePipeline(
            tree=tree,
            preparer=self.preparer,
            watches=self.watches,
            log=self.txn_log,
            clock=self.clock,
            sync=self._sync,
            soon=self.soon,
            logged=self._logged,
            session_opened=self._session_opened,
            session_ended=self._session_ended,
        )
        now_ms = self.clock.monotonic_ms()
        self.tracker = SessionTracker(config.tick_time_ms, first_session_id(STANDALONE_SERVER_ID, now_ms))
        for session_id, timeout_ms in tree.sessions.items():
            self.tracker.add(session_id, timeout_ms, now_ms)
        self.reaper = Reaper(tree, self.pipeline, config.tree)
        self._log_sync = LogSync(self.txn_log, self._loop, self.filesystem, self._fail)

    def _write_snapshot(self, encoder: SnapshotEncoder, *, is_needed: bool) -> None:
        """Write down what was recovered, so that the next start has less to replay.

        Only the first snapshot of all is needed: without one the logs would be refused. Any other may fail (a full
        disk), for the snapshot that was recovered from is still there, and so are the logs after it.
        """
        started = time.perf_counter()
        try:
            write_snapshot(
                self.snapshot_directory, encoder, self.config.storage.snapshot_compression or "", self.filesystem
            )
        except StorageError as error:
            if is_needed:
                raise
            log.warning("no snapshot could be written at the start, the server goes on without: %s", error)
            self.stats.count("snapshot_error_count")
        else:
            self.stats.note("snapshottime", (time.perf_counter() - started) * 1000)

    def _keep_epochs(self) -> None:
        """Check the epoch files that an ensemble left here; a standalone server needs none."""
        current = read_number(self.snapshot_directory / CURRENT_EPOCH)
        accepted = read_number(self.snapshot_directory / ACCEPTED_EPOCH)
        epoch = self.tree.last_zxid >> 32
        if current is not None and epoch > current:
            write_number(self.snapshot_directory / CURRENT_EPOCH, epoch, self.filesystem)
            current = epoch
        if current is not None and accepted is not None and accepted < current:
            write_number(self.snapshot_directory / ACCEPTED_EPOCH, current, self.filesystem)

    async def stop(self) -> None:
        """Finish what was asked so far, write it down, close everything. Nothing is lost, nothing is left running.

        A disk that does not answer is waited for no longer than :data:`STOP_LIMIT_S`; ``failed`` then says so. What
        it holds up was never acknowledged.
        """
        if self.stopped.is_set():
            return
        self.serving = False
        if self._listener is not None:
            self._listener.close()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for connection in list(self.connections):
            connection.stop_reading()
        deadline = self._loop.time() + STOP_LIMIT_S
        while self.failed is None and self.pipeline.busy:
            if self._loop.time() > deadline:
                self.failed = StorageError(
                    f"the disk has not answered for {STOP_LIMIT_S:.0f} s; {self.pipeline.outstanding} writes were not"
                    " acknowledged",
                    self.log_directory,
                )
                log.critical("the server stops without its disk: %s", self.failed)
                break
            await asyncio.sleep(0.001)
        self._shut_down()

    def _shut_down(self) -> None:
        self.pipeline.stop()
        for connection in list(self.connections):
            connection.close()
        self.snapshotter.stop()
        self._release()
        self.stopped.set()

    def _release(self) -> None:
        if self._purge_worker is not None:
            self._purge_worker.stop(timeout_s=1)
            self._purge_worker = None
        if self._log_sync is not None and not self._log_sync.stop(timeout_s=1):
            # The thread hangs in the device and may yet write: the file and the directory stay its own.
            return
        self._log_sync = None
        if hasattr(self, "txn_log"):
            self.txn_log.close()
        for lock in self._locks:
            lock.close()
        self._locks.clear()

    def _fail(self, error: StorageError) -> None:
        """The log cannot be trusted any more: stop, without acknowledging anything."""
        if self.failed is not None:
            return
        self.failed = error
        log.critical("the server stops, nothing more is acknowledged: %s", error)
        self.stats.count("unrecoverable_error_count")
        self.crash()

    def crash(self) -> None:
        """End as if the process were killed: nothing more is written, applied or answered. ``stopped`` tells the end.

        What the log's worker has begun to write is written to its end.
        """
        self.serving = False
        self.pipeline.stop()
        if self._listener is not None:
            self._listener.close()
        for timer in self._timers.values():
            timer.cancel()
        for connection in list(self.connections):
            connection.abort()
        self.soon(self._shut_down)

    # Timers

    def _start_timers(self) -> None:
        self._every("expiry", self._until_expiry_s, self._expire)
        self._every("sweep", lambda: _SWEEP_INTERVAL_S, self._sweep)
        interval_s = self.config.tree.container_check_interval_ms / 1000
        self._every("reaper", lambda: interval_s, lambda: self.reaper.reap(self.clock.wall_ms()))
        purge_ms = self.config.storage.purge_interval_ms
        if purge_ms > 0:
            self._purge_worker = Worker("corral-purge", self._loop)
            self._purge()
            self._every("purge", lambda: purge_ms / 1000, self._purge)

    def _every(self, name: str, delay_s: Callable[[], float], call: Callable[[], object]) -> None:
        def run() -> None:
            call()
            if self.serving:
                self._timers[name] = self._loop.call_later(delay_s(), run)

        self._timers[name] = self._loop.call_later(delay_s(), run)

    def _until_expiry_s(self) -> float:
        now_ms = self.clock.monotonic_ms()
        wait_ms = self.tracker.next_check_ms(now_ms)
        self._expiry_due_ms = now_ms + wait_ms
        return wait_ms / 1000

    def _expire(self) -> None:
        now_ms = self.clock.monotonic_ms()
        if now_ms - self._expiry_due_ms > self.config.tick_time_ms:
            # The process has stood still. What clients sent meanwhile is read first.
            return
        for session in self.tracker.take_expired(now_ms):
            if session.connection is not None and session.connection.is_held_back:
                # Whatever its client sends lies unread by our doing.
                self.tracker.touch(session, now_ms)
            else:
                self.expire(session.id)

    def expire(self, session_id: int) -> bool:
        """End a session as if it had not been heard of in time; False if there is none."""
        session = self.tracker.sessions.get(session_id)
        if session is None or session_id in self.preparer.closing:
            return False
        log.info("session %#x expires after %d ms", session_id & (2**64 - 1), session.timeout_ms)
        self.stats.count("stale_sessions_expired")
        self.pipeline.submit(None, session_id, 0, OpCode.CLOSE_SESSION, b"", ())
        return True

    def _sweep(self) -> None:
        """Cut off connections that never asked for a session, and closed ones that do not read what they asked for."""
        now_ms = self.clock.monotonic_ms()
        for connection in _take_due(self._newcomers, now_ms):
            if connection.session is None:
                self.stats.count("sessionless_connections_expired")
                connection.abort()
        for connection in _take_due(self._leaving, now_ms):
            connection.abort()

    def _purge(self) -> None:
        keep = max(3, self.config.storage.purge_retain_count)

        def job() -> None:
            try:
                plan = plan_purge(self.snapshot_directory, self.log_directory, keep, is_whole)
                purge(plan, self.filesystem)
            except StorageError as error:
                log.warning("nothing could be purged: %s", error)
            else:
                if plan.paths:
                    log.info("purged %s", ", ".join(path.name for path in plan.paths))

        if self._purge_worker is not None:
            self._purge_worker.submit(job, lambda: None)

    # The log

    def _logged(self) -> None:
        """A batch is about to go to the log: is it time for a snapshot?"""
        if self._schedule.is_due(self.pipeline.under_way_count, self.txn_log.size_bytes):
            self.txn_log.roll()
            self.snapshotter.start()

    def _sync(self, synced: Callable[[], None]) -> None:
        batch = self.txn_log.take()
        assert batch is not None
        assert self._log_sync is not None
        started = time.perf_counter()

        def durable() -> None:
            sync_ms = self.txn_log.last_sync_ms
            if sync_ms > self.config.storage.fsync_warning_threshold_ms:
                log.warning("syncing the log took %.0f ms", sync_ms)
            self.stats.batch_durable(
                self.pipeline.under_way_count,
                max(0, self.clock.wall_ms() - self.pipeline.under_way_since_ms),
                sync_ms,
                (time.perf_counter() - started) * 1000,
            )
            synced()
            if self.gate is not None:
                self.gate.batch_applied()

        self._log_sync.write(batch, durable)

    # Sessions

    def _session_opened(self, connection: Connection | None, session_id: int) -> None:
        if connection is not None:
            self.handshakes.opened(connection, session_id)

    def _session_ended(self, connection: Connection | None, session_id: int, xid: int) -> None:
        session = self.tracker.remove(session_id)
        if connection is not None and not connection.closed:
            connection.reply_error(xid, ErrorCode.OK)
            connection.answered(0, 1)
            connection.close()
        if session is not None and session.connection is not None and session.connection is not connection:
            session.connection.close()

    # Connections

    def connection_made(self, connection: Connection) -> None:
        limits = self.config.limits
        address = connection.peer[0]
        held = self._connections_by_address.get(address, 0)
        self._connections_by_address[address] = held + 1
        self.connections[connection] = None
        timeout_ms = limits.sessionless_connection_timeout_ms
        self._newcomers[connection] = self.clock.monotonic_ms() + timeout_ms
        connection.identities.append(("ip", address))
        too_many = (0 < limits.max_client_connections <= held) or (0 < limits.max_connections < len(self.connections))
        if too_many:
            self.complaints.warn(
                "too many connections",
                "%s has %d connections, the server %d: one more is refused",
                *(address, held, len(self.connections) - 1),
            )
            self.stats.count("connection_rejected")
            connection.reset()
        elif self.config.client_tcp_keepalive and connection.transport is not None:
            connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def connection_closing(self, connection: Connection) -> None:
        """The connection is closed on our side, but what was sent before is still on its way."""
        self._leaving[connection] = self.clock.monotonic_ms() + _FAREWELL_LIMIT_MS

    def connection_lost(self, connection: Connection) -> None:
        for table in (self.connections, self._newcomers, self._leaving):
            table.pop(connection, None)
        address = connection.peer[0]
        left = self._connections_by_address.get(address, 0) - 1
        if left > 0:
            self._connections_by_address[address] = left
        else:
            self._connections_by_address.pop(address, None)
        self.watches.forget(connection)
        if self.gate is not None:
            self.gate.forget(connection)
        session = connection.session
        if session is not None and session.connection is connection:
            session.connection = None

    def connection_deadline_ms(self, connection: Connection) -> int:
        """When a silent connection will be closed, on the monotonic clock."""
        if connection.session is not None:
            return connection.session.bucket_ms
        return self._newcomers.get(connection, self.clock.monotonic_ms())

    # Facts for the admin words

    def settle_figures(self) -> None:
        """Bring the figures that are added up aside up to date."""
        self.stats.settle()
        for connection in self.connections:
            connection.settle()

    def directory_sizes(self) -> tuple[int, int]:
        """Bytes of snapshots and of logs."""
        return data_and_log_sizes(self.snapshot_directory, self.log_directory)


def _take_due(deadlines: dict[Connection, int], now_ms: int) -> list[Connection]:
    """Take out the connections whose time has come. They stand in the order of their deadlines."""
    due: list[Connection] = []
    for connection, deadline_ms in deadlines.items():
        if deadline_ms > now_ms:
            break
        due.append(connection)
    for connection in due:
        del deadlines[connection]
    return due


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
