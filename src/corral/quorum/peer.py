"""A member of an ensemble: elects, leads or learns, and elects again, until it is stopped."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from corral.quorum.configuration_files import ConfigurationFiles
from corral.quorum.elector import Elector
from corral.quorum.ensemble import Ensemble
from corral.quorum.history import History
from corral.quorum.leader import Leader
from corral.quorum.learner import Learning
from corral.quorum.listening import listening_places
from corral.quorum.read_only import GRACE_MIN_MS, ReadOnlyServer
from corral.quorum.serving import Post
from corral.quorum.vote import Role
from corral.server.client_port import ClientPort
from corral.server.database import Database
from corral.server.machine import Machine
from corral.server.stats import ServerStats
from corral.storage.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Collection

    from corral.quorum.election import Elected
    from corral.server.config import ServerConfig
    from corral.server.connection import Connection
    from corral.server.standalone import Server

log = logging.getLogger(__name__)

_PAUSE_MAX_S: Final = 0.05
"""After a term in which nobody was served."""


class Peer:
    """One member. ``await start()``, later ``await stop()``; ``failed`` becomes the reason if its disk fails."""

    def __init__(
        self,
        me: int,
        ensemble: Ensemble,
        config: ServerConfig,
        *,
        init_limit: int = 10,
        sync_limit: int = 5,
        machine: Machine | None = None,
    ) -> None:
        self.me = me
        self.ensemble = ensemble
        self.config = config
        self._init_limit = init_limit
        self._sync_limit = sync_limit
        machine = machine or Machine()
        self._clock = machine.clock
        self._unserved_since_ms = self._clock.monotonic_ms()
        self._stats = ServerStats(self._unserved_since_ms)
        self._database = Database(config, self._stats, failed=self._fail, machine=machine)
        self.history = History(self._database, filesystem=machine.filesystem)
        self._listens_at = listening_places(me, ensemble, config.quorum)
        self._files: ConfigurationFiles | None = None
        if config.tree.reconfig_enabled:
            self._files = ConfigurationFiles(
                me, ensemble, config.file, self._database.snapshot_directory, self.history.filesystem
            )
        hello_timeout_ms = config.quorum.hello_timeout_ms
        self.elector = Elector(
            me,
            ensemble,
            config.quorum,
            listens_at=self._listens_at,
            files=self._files,
            hello_timeout_s=(sync_limit * config.tick_time_ms if hello_timeout_ms < 0 else hello_timeout_ms) / 1000,
        )
        self.elector.moved = self._members_changed
        self.client_port = ClientPort(config, machine)
        self._chance = machine.chance
        self.term: Leader | Learning | None = None
        self.read_only: ReadOnlyServer | None = None
        """What serves clients that only read, if no leader is found."""
        self.failed: StorageError | None = None
        self.stopped = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Peer {self.me} {self.role.name.lower()}>"

    @property
    def role(self) -> Role:
        """What it is now."""
        return self.elector.election.role

    @property
    def port(self) -> int:
        """Where clients are taken."""
        return self.client_port.port

    @property
    def connections(self) -> Collection[Connection]:
        """Those of clients that are served."""
        server = self.server or self.read_only
        return list(server.connections) if server is not None else []

    @property
    def server(self) -> Server | None:
        """What serves its clients, if it has a leader or is one."""
        return self.term.server if self.term is not None else None

    async def start(self) -> None:
        """Open the database and take part. Raises StorageError, or OSError if it cannot listen."""
        loop = asyncio.get_running_loop()
        try:
            # The port first: a server that cannot listen must not touch the data of the one that does.
            await self.client_port.open()
            self._database.open(loop)
            if self._files is not None:
                self._remember(self._files)
            await self.elector.start()
        except BaseException:
            await self._give_back()
            raise
        self._runner = loop.create_task(self._run(), name=f"corral-peer-{self.me}")
        self._runner.add_done_callback(self._runner_over)

    def _remember(self, files: ConfigurationFiles) -> None:
        """Which members were agreed to before the start, and which were on their way."""
        recorded, proposed = files.recall(), self.config.quorum.proposed
        if recorded is not None:
            self.elector.activate(recorded)
        if proposed is not None:
            self.elector.propose(Ensemble(**proposed._asdict()))
        # Without a record the data were brought here from elsewhere: then the configuration counts, as with Apache's.
        if recorded is not None and (shown := self.history.shown_ensemble) is not None:
            self.elector.propose(shown)

    def _members_changed(self, before: Ensemble) -> None:
        """Other members are in force: this one may have to listen elsewhere."""
        now = self.elector.election.committed
        places = listening_places(self.me, now, self.config.quorum)
        if places and places != self._listens_at:
            self._listens_at = places
            self.elector.listen_at(places)
        earlier, member = before.members.get(self.me), now.members.get(self.me)
        if member is not None and member.client is not None and (earlier is None or member.client != earlier.client):
            self.client_port.move(*member.client)

    async def stop(self) -> None:
        """Leave the ensemble, and give everything back."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner])
        await self._give_back()
        self.stopped.set()

    def crash(self) -> None:
        """End as if the process were killed: nothing more is written or answered. ``stopped`` tells the end."""
        server = self.server or self.read_only
        if server is not None:
            server.crash()
        self._ending = asyncio.get_running_loop().create_task(self.stop())

    async def _give_back(self) -> None:
        await self.client_port.close()
        await self.elector.close()
        self._database.close()

    def _runner_over(self, runner: asyncio.Task[None]) -> None:
        if runner.cancelled():
            return
        error = runner.exception()
        if isinstance(error, StorageError):
            self._fail(error)
        elif error is not None:
            asyncio.get_running_loop().call_exception_handler({"message": f"{self!r} failed", "exception": error})
            self.stopped.set()

    def _fail(self, error: StorageError) -> None:
        if self.failed is None:
            self.failed = error
            log.critical("server %d stops, nothing more is acknowledged: %s", self.me, error)
            if self._runner is not None:
                self._runner.cancel()
            self.stopped.set()

    async def _run(self) -> None:
        while True:
            # Memory and log must say the same before anybody is told how far this history goes (ZOOKEEPER-2845).
            await self.history.settle()
            self.history.show(self.elector.election.committed)
            elected = await self._elect()
            self.term = self._begin_term(elected)
            try:
                if isinstance(self.term, Leader):
                    await self.term.lead()
                else:
                    await self.term.learn()
            finally:
                has_served = self.term.server is not None
                self.term = None
            if not has_served:
                # Whatever stood against it may stand against it still.
                await asyncio.sleep(self._chance.random() * _PAUSE_MAX_S)
            if elected.role is Role.OBSERVING:
                await asyncio.sleep(self._chance.random() * self.config.quorum.observer_reconnect_delay_ms / 1000)

    async def _elect(self) -> Elected:
        began_ms = self._clock.monotonic_ms()
        self._unserved_since_ms = began_ms
        self._stats.count("looking_count")
        reading: asyncio.Task[None] | None = None
        if self.config.read_only_mode_enabled:
            reading = asyncio.get_running_loop().create_task(self._serve_read_only(), name="corral-read-only")
        try:
            elected = await self.elector.elect(self.history.last_zxid, self.history.current_epoch)
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.wait([reading])
                if not reading.cancelled():
                    reading.result()
        if elected.role is not Role.OBSERVING:
            self._stats.note("election_time", self._clock.monotonic_ms() - began_ms)
        return elected

    async def _serve_read_only(self) -> None:
        """Serve those who only read, from when nobody has been found to lead for some time until cancelled."""
        await asyncio.sleep(max(GRACE_MIN_MS, self.config.tick_time_ms) / 1000)
        server = ReadOnlyServer(self.config, self._database, self._post())
        await server.start()
        log.warning("server %d finds no leader: it serves clients that only read", self.me)
        self.read_only = server
        try:
            await server.stopped.wait()
        finally:
            self.read_only = None
            await server.leave()

    def _post(self) -> Post:
        return Post(self.me, lambda: self.elector.election.committed, self.client_port)

    def _serving(self, epoch: int) -> None:
        self.elector.election.serving(epoch)
        unserved_ms = self._clock.monotonic_ms() - self._unserved_since_ms
        self._stats.note("unavailable_time", unserved_ms)
        if self.role is Role.LEADING:
            self._stats.note("leader_unavailable_time", unserved_ms)

    def _begin_term(self, elected: Elected) -> Leader | Learning:
        if elected.role is Role.LEADING:
            return Leader(
                self.me,
                self.history,
                self.config,
                self.elector,
                init_limit=self._init_limit,
                sync_limit=self._sync_limit,
                serving=self._serving,
                client_port=self.client_port,
                listens_at=self._listens_at,
            )
        return Learning(
            self.me,
            self.history,
            self.config,
            elected.vote.leader,
            self.elector.addresses(elected.vote.leader),
            is_observer=elected.role is Role.OBSERVING,
            config_version=self.elector.election.committed.version,
            init_limit=self._init_limit,
            sync_limit=self._sync_limit,
            serving=self._serving,
            post=self._post(),
            elector=self.elector,
        )
