"""One server that is its own quorum: it owns the tree, its files, its sessions and its connections.

Everything but syncing the log and writing snapshots happens on one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import TYPE_CHECKING, Final, TypeVar

from corral.jute.errors import ErrorCode
from corral.jute.ops import OpCode
from corral.server.authentication import Authentication
from corral.server.complaints import Complaints
from corral.server.connection import Connection
from corral.server.database import Database
from corral.server.handshake import Handshakes
from corral.server.machine import Machine
from corral.server.pipeline import WritePipeline
from corral.server.quota_metrics import namespace
from corral.server.reaper import Reaper
from corral.server.request_gate import RequestGate
from corral.server.sessions import SessionTracker, first_session_id
from corral.server.stats import ServerStats
from corral.server.throttle import ConnectThrottle
from corral.server.words import FourLetterWords, data_and_log_sizes
from corral.storage.errors import StorageError
from corral.storage.files import ACCEPTED_EPOCH, CURRENT_EPOCH, read_number, write_number
from corral.storage.filesystem import REAL, FileSystem
from corral.tree.acl import AccessControl
from corral.tree.prepare import Preparer
from corral.tree.watches import WatchTables

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from corral.jute.records import ReconfigRequest
    from corral.server.client_port import ClientPort
    from corral.server.clock import Clock
    from corral.server.config import ServerConfig
    from corral.server.local_sessions import LocalSessions
    from corral.server.pipeline import Commitment
    from corral.server.writes import Writes
    from corral.tree.datatree import DataTree

log = logging.getLogger(__name__)

_P = TypeVar("_P", bound=WritePipeline)

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

    server_id = STANDALONE_SERVER_ID
    """Goes into the ids of the sessions that are begun here."""
    mode = "standalone"
    """What it is to its ensemble, for the admin words."""
    owns_sessions = True
    """Whether it is the one that ends sessions, and deletes the znodes that have outlived their use."""
    takes_clients = True
    """Whether clients that come to the client port are served."""
    is_read_only = False
    """Whether only clients that want to read are served."""

    def __init__(
        self,
        config: ServerConfig,
        *,
        clock: Clock | None = None,
        filesystem: FileSystem = REAL,
        chance: random.Random | None = None,
        database: Database | None = None,
        client_port: ClientPort | None = None,
    ) -> None:
        """Prepare a server.

        A ``database`` that is given is open, and stays so when the server stops; its machine serves for both. So does
        a ``client_port``; without one the server listens by itself.
        """
        self.config = config
        if database is None:
            machine = Machine(clock=clock, filesystem=filesystem, chance=chance)
        else:
            machine = database.machine
        self.clock = machine.clock
        self._filesystem = machine.filesystem
        self.chance = machine.chance
        self.stats = ServerStats(self.clock.monotonic_ms())
        self._owns_database = database is None
        self.database = database or Database(config, self.stats, failed=self.fail, machine=machine)
        self.authentication = Authentication(config.auth, self.stats)
        self.access = AccessControl(self.authentication.acl_schemes(), skip=config.auth.skip_acl)
        self.throttle = ConnectThrottle(config.connection_throttle, self.clock, self.chance)
        self.watches = WatchTables(self.stats.watchers_told)
        self.complaints = Complaints(self.clock)
        self.words = FourLetterWords(config, self)
        self.handshakes = Handshakes(self)
        self.connections: dict[Connection, None] = {}
        self.gate = RequestGate(self) if RequestGate.is_needed(config) else None
        self.serving = False
        self.failed: StorageError | None = None
        self.stopped: asyncio.Event = asyncio.Event()
        self.now_ms = self.clock.monotonic_ms()
        """The monotonic clock when a client was last heard of."""
        self.port = config.client_port
        self.reconfigure: Callable[[ReconfigRequest, int], str] | None = None
        """What becomes of the members; only the leader of an ensemble can change them."""
        self.local_sessions: LocalSessions | None = None
        """To whom new sessions belong, if they are to be known only here."""
        self.tree: DataTree
        self.pipeline: Writes
        self.tracker: SessionTracker
        self._connections_by_address: dict[str, int] = {}
        self._newcomers: dict[Connection, int] = {}
        """Connections made not long ago and, in ms of the monotonic clock, when each must have a session."""
        self._leaving: dict[Connection, int] = {}
        """Connections closed with something unsent, and when they will be cut off."""
        self._expiry_due_ms = 0
        self._client_port = client_port
        self._listener: asyncio.Server | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.outstanding_limit = config.limits.global_outstanding_limit
        """With more requests in process, a connection that has some of them is not read from."""

    # Life

    async def start(self) -> None:
        """Load the data and listen. Raises StorageError, or OSError if the address cannot be had."""
        self._loop = asyncio.get_running_loop()
        self.soon = self._loop.call_soon
        if self._client_port is None:
            await self._open()
        else:
            self._take_over()
            self.port = self._client_port.port
            if self.takes_clients:
                self._client_port.server = self
        self.serving = True
        self._start_timers()

    async def _open(self) -> None:
        try:
            # The port first: a server that cannot listen must not touch the data of the one that does.
            listening = self._bind()
            try:
                if self._owns_database:
                    self.database.open(self._loop)
                self._take_over()
            except BaseException:
                listening.close()
                raise
            self._listener = await self._loop.create_server(
                lambda: Connection(self), sock=listening, backlog=self.config.listen_backlog
            )
        except BaseException:
            self._release()
            raise

    def _bind(self) -> socket.socket:
        """A socket that listens at the client address."""
        config = self.config
        listening = self.database.machine.bind(config.client_port_address, config.client_port, config.listen_backlog)
        self.port = listening.getsockname()[1]
        return listening

    def _release(self) -> None:
        if self._owns_database:
            self.database.close()

    def _take_over(self) -> None:
        """Build everything that works on the recovered tree."""
        self.tree = self.database.tree
        if self._owns_database:
            self._keep_epochs()
        self.pipeline = self._make_writes()
        self.tracker = self._make_tracker()
        self.reaper = Reaper(self.tree, self.pipeline, self.config.tree)

    def _make_writes(self) -> Writes:
        """Who takes the writes: a pipeline of this server's own, into its own log."""
        return self.make_pipeline(self.database, WritePipeline)

    def make_pipeline(self, commitment: Commitment, kind: type[_P]) -> _P:
        """A pipeline of a ``kind``, whose transactions are done by leave of ``commitment``."""
        config = self.config
        preparer = Preparer(
            self.tree,
            self.access,
            digests=config.storage.digest_enabled,
            enforce_quota=config.tree.enforce_quota,
            close_session_lists_paths=config.tree.close_session_txn_enabled,
            reconfig_enabled=config.tree.reconfig_enabled,
            reconfigure=self.reconfigure,
            quota_exceeded=lambda path: self.stats.quota_exceeded(namespace(path)),
            is_local=self.may_be_local,
        )
        pipeline = kind(
            tree=self.tree,
            preparer=preparer,
            watches=self.watches,
            log=commitment,
            clock=self.clock,
            sync=lambda done: self._sync(pipeline, commitment, done),
            soon=self.soon,
            logged=self.database.about_to_log,
            session_opened=self.session_opened,
            session_ended=self.session_ended,
        )
        return pipeline

    def may_be_local(self, session_id: int) -> bool:
        """Whether a session that is in no tree may be one that only one server knows; a standalone server has none."""
        return False

    def _make_tracker(self) -> SessionTracker:
        now_ms = self.clock.monotonic_ms()
        tracker = SessionTracker(self.config.tick_time_ms, first_session_id(self.server_id, now_ms))
        for session_id, timeout_ms in self.tree.sessions.items():
            tracker.add(session_id, timeout_ms, now_ms)
        return tracker

    def _keep_epochs(self) -> None:
        """Check the epoch files that an ensemble left here; a standalone server needs none."""
        directory = self.database.snapshot_directory
        current = read_number(directory / CURRENT_EPOCH)
        accepted = read_number(directory / ACCEPTED_EPOCH)
        epoch = self.tree.last_zxid >> 32
        if current is not None and epoch > current:
            write_number(directory / CURRENT_EPOCH, epoch, self._filesystem)
            current = epoch
        if current is not None and accepted is not None and accepted < current:
            write_number(directory / ACCEPTED_EPOCH, current, self._filesystem)

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
                    self.database.log_directory,
                )
                log.critical("the server stops without its disk: %s", self.failed)
                break
            await asyncio.sleep(0.001)
        self._shut_down()

    async def leave(self) -> None:
        """Serve nobody any more, at once, as when what it is to its ensemble has come to an end."""
        listener = self._listener
        self.crash()
        await self.stopped.wait()
        if listener is not None:
            await listener.wait_closed()

    def _shut_down(self) -> None:
        self.pipeline.stop()
        for connection in list(self.connections):
            connection.close()
        self._release()
        self.stopped.set()

    def fail(self, error: StorageError) -> None:
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
        if self.owns_sessions or self.local_sessions is not None:
            self._every("expiry", self._until_expiry_s, self._expire)
        self._every("sweep", lambda: _SWEEP_INTERVAL_S, self._sweep)
        interval_s = self.config.tree.container_check_interval_ms / 1000
        if self.owns_sessions:
            self._every("reaper", lambda: interval_s, lambda: self.reaper.reap(self.clock.wall_ms()))
        purge_ms = self.config.storage.purge_interval_ms
        if purge_ms > 0:
            self.database.purge()
            self._every("purge", lambda: purge_ms / 1000, self.database.purge)

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
            elif self.owns_sessions or session.local is not None:
                self.expire(session.id)

    def expire(self, session_id: int) -> bool:
        """End a session as if it had not been heard of in time; False if there is none."""
        session = self.tracker.sessions.get(session_id)
        if session is None or session_id in self.pipeline.closing:
            return False
        log.info("session %#x expires after %d ms", session_id & (2**64 - 1), session.timeout_ms)
        self.stats.count("stale_sessions_expired")
        if session.local is not None:
            self.session_ended(None, session_id, 0)
            return True
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

    # The log

    def _sync(self, pipeline: WritePipeline, commitment: Commitment, synced: Callable[[], None]) -> None:
        started = time.perf_counter()

        def durable() -> None:
            self.stats.batch_durable(
                pipeline.under_way_count,
                pipeline.under_way_own_count,
                max(0, self.clock.wall_ms() - pipeline.under_way_since_ms),
                self.database.txn_log.last_sync_ms,
                (time.perf_counter() - started) * 1000,
            )
            synced()
            if self.gate is not None:
                self.gate.batch_applied()

        commitment.sync(durable)

    # Sessions

    def renew(self, connection: Connection, session_id: int, timeout_ms: int) -> None:
        """A client has come back with the right password: tell it whether its session lives.

        What it asked by its last connection, and may not know the end of, is done by then: what it reads now shows it.
        """

        def applied() -> None:
            if not connection.closed:
                self.handshakes.renewed(connection, self.tracker.sessions.get(session_id), timeout_ms)
            if not connection.closed:
                connection.end_handshake()

        if self.pipeline.after_writes_of(session_id, applied):
            connection.begin_handshake()
        else:
            self.handshakes.renewed(connection, self.tracker.sessions.get(session_id), timeout_ms)

    def session_opened(self, connection: Connection | None, session_id: int) -> None:
        if connection is not None:
            self.handshakes.opened(connection, session_id)

    def session_ended(self, connection: Connection | None, session_id: int, xid: int) -> None:
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
        if self.stopped.is_set():
            # It was being accepted while the server stopped.
            connection.abort()
            return
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

    def membership_text(self) -> str:
        """What ``conf`` tells of the ensemble."""
        return ""

    def leadership_text(self) -> str:
        """What ``srvr`` tells of a leader."""
        return ""

    def membership_figures(self) -> Iterator[tuple[str, object]]:
        """What ``mntr`` tells of the ensemble, by name."""
        return iter(())

    def settle_figures(self) -> None:
        """Bring the figures that are added up aside up to date."""
        self.stats.settle()
        for connection in self.connections:
            connection.settle()

    def directory_sizes(self) -> tuple[int, int]:
        """Bytes of snapshots and of logs."""
        return data_and_log_sizes(self.database.snapshot_directory, self.database.log_directory)


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
