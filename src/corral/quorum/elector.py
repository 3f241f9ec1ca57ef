"""An election machine at work: its messages over the links, its deadlines by the event loop's clock."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from corral.quorum.election import Deserted, Elected, Election, Send
from corral.quorum.election_links import ElectionLinks
from corral.quorum.ensemble import parse_ensemble
from corral.quorum.vote import Role, decode_notification
from corral.server.config import QuorumConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corral.quorum.configuration_files import ConfigurationFiles
    from corral.quorum.election import Output
    from corral.quorum.ensemble import Ensemble
    from corral.server.config.membership import PeerAddress

BIND_PAUSE_S: Final = 1.0
"""Between two attempts to listen for elections."""
REDIAL_S: Final = 1.0
"""While there is no leader, servers without a connection are dialled so often: a new connection begins with the newest
message. Apache's do it when they ask again, up to a minute later, and so find each other that late when a network has
healed."""

log = logging.getLogger(__name__)


class Elector:
    """One server's voice in elections, from :meth:`start` to :meth:`close`; it answers others at any time."""

    def __init__(
        self,
        me: int,
        ensemble: Ensemble,
        settings: QuorumConfig | None = None,
        *,
        listens_at: Sequence[PeerAddress] = (),
        hello_timeout_s: float = 10.0,
        files: ConfigurationFiles | None = None,
    ) -> None:
        """``listens_at`` is where it listens, if that is not where the others look for it.

        ``files`` is where changes of the members are written down; with it a newer configuration that another server
        knows is taken over while there is no leader.
        """
        self.me = me
        self._settings = settings = settings or QuorumConfig()
        self._listens_at = listens_at or ensemble.members[me].addresses
        self.election = Election(
            me,
            ensemble,
            resend_first_s=settings.first_notification_interval_ms / 1000,
            resend_max_s=settings.last_notification_interval_ms / 1000,
        )
        self.links = ElectionLinks(
            me,
            ensemble.members[me].addresses,
            self.addresses,
            self._receive,
            lambda sid: self._do(self.election.refused(sid, self._loop.time())),
            connect_timeout_s=settings.connect_timeout_ms / 1000,
            hello_timeout_s=hello_timeout_s,
            tells_all_addresses=settings.multi_address_enabled,
            keepalive=settings.tcp_keepalive,
        )
        self._files = files
        self.moved: Callable[[Ensemble], None] = lambda _: None
        """Called when other members are in force, with those before."""
        self._timer: asyncio.TimerHandle | None = None
        self._moving: asyncio.Task[None] | None = None
        self._elected: asyncio.Future[Elected] | None = None
        self._history = (0, 0)
        """What this server brings to the election: its last zxid and its epoch."""
        self.deserted: Callable[[], None] = lambda: None
        """Called when this server is elected, leads nobody yet, and those who elected it look for another."""
        self.is_deserted = False
        """Whether that has happened since the last election."""

    async def start(self) -> None:
        """Listen for the others. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        for address in self._listens_at:
            await self._listen(address)

    def listen_at(self, places: Sequence[PeerAddress]) -> None:
        """Listen there from now on. What cannot be had is reported; the other servers may still be reached."""
        self._listens_at = places
        if self.me in self.election.committed.members:
            self.links.own_addresses = self.election.committed.members[self.me].addresses
        if self.links.is_listening:
            self._moving = self._loop.create_task(self._move(self._moving, places))

    async def _move(self, earlier: asyncio.Task[None] | None, places: Sequence[PeerAddress]) -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        await self.links.listen_no_more()
        for place in places:
            try:
                await self._listen(place)
            except OSError as error:
                log.warning("%s", error.strerror)

    async def close(self) -> None:
        """Say nothing more, and hear nothing."""
        if self._timer is not None:
            self._timer.cancel()
        if self._moving is not None:
            self._moving.cancel()
            await asyncio.wait([self._moving])
        await self.links.close()

    async def _listen(self, address: PeerAddress) -> None:
        attempts = self._settings.bind_attempts
        while True:
            try:
                await self.links.listen(address.host, address.election_port)
            except OSError as error:
                attempts -= 1
                if attempts == 0:
                    place = f"port {address.election_port} of {address.host or 'this machine'}"
                    raise OSError(error.errno, f"cannot listen for elections on {place}: {_reason(error)}") from error
                log.warning("cannot listen for elections yet: %s", error)
                await asyncio.sleep(BIND_PAUSE_S)
            else:
                return

    async def elect(self, zxid: int, epoch: int) -> Elected:
        """Take part in an election until it has a result."""
        self._elected = self._loop.create_future()
        self.is_deserted = False
        self._history = (zxid, epoch)
        self.election.told = None
        self._look()
        return await self._elected

    def _look(self) -> None:
        self._do(self.election.look(*self._history, self._loop.time()))

    def propose(self, ensemble: Ensemble) -> None:
        """Another configuration is on its way: its quorum is needed as well. An older one changes nothing."""
        election = self.election
        if ensemble.version <= election.ensembles[-1].version:
            return
        if self._files is not None:
            self._files.propose(ensemble, election.committed)
        election.last_seen = ensemble

    def follow(self, ensemble: Ensemble) -> None:
        """The newest configuration that the leader knows: whatever else was on its way here has come to nothing."""
        election = self.election
        election.told = None
        if election.last_seen is not None and election.last_seen.version != ensemble.version:
            log.warning("members of version %x were proposed, and are not the leader's", election.last_seen.version)
            election.last_seen = None
            if self._files is not None:
                self._files.withdraw()
        self.propose(ensemble)

    def activate(self, ensemble: Ensemble) -> None:
        """Another configuration is committed. An older one than is known changes nothing."""
        election = self.election
        if ensemble.version <= election.committed.version:
            return
        log.info("the members are now %s, version %x", sorted(ensemble.members), ensemble.version)
        before, election.committed = election.committed, ensemble
        if election.last_seen is not None and election.last_seen.version <= ensemble.version:
            election.last_seen = None
        if self._files is not None:
            self._files.commit(ensemble, before)
        self.moved(before)

    def addresses(self, sid: int) -> Sequence[PeerAddress]:
        """Where a server is, by the newest configuration that has it; none for a stranger."""
        election = self.election
        for ensemble in (*reversed(election.ensembles), election.told):
            if ensemble is not None and sid in ensemble.members:
                return ensemble.members[sid].addresses
        return ()

    def _receive(self, sender: int, message: bytes) -> None:
        try:
            notification = decode_notification(message)
        except ValueError as error:
            log.warning("server %d sends %s", sender, error)
            return
        if self._files is not None and self.election.role is Role.LOOKING:
            if notification.config:
                self._take_over(sender, notification.config)
            if notification.pending and sender in self.election.voters:
                self._learn_of(sender, notification.pending)
        self._do(self.election.receive(sender, notification, self._loop.time()))

    def _parse(self, sender: int, config: str) -> Ensemble | None:
        try:
            return parse_ensemble(config)
        except ValueError as error:
            log.warning("server %d tells a configuration that is none: %s", sender, error)
            return None

    def _learn_of(self, sender: int, config: str) -> None:
        """A change of the members, proposed while this server was away, may need its vote for one that it lets join."""
        ensemble, election = self._parse(sender, config), self.election
        known = election.told or election.ensembles[-1]
        if ensemble is not None and ensemble.version > known.version:
            log.info("the members may become %s, version %x", sorted(ensemble.members), ensemble.version)
            election.told = ensemble
            self._look()

    def _take_over(self, sender: int, config: str) -> None:
        """Another server may know of members that were changed while this one was away."""
        ensemble = self._parse(sender, config)
        if ensemble is not None and ensemble.version > self.election.committed.version:
            before = self.election.committed
            self.activate(ensemble)
            if replace(before, version=ensemble.version) != ensemble:
                # Others may vote, and this server perhaps no more, or only now.
                self._look()

    def _tick(self) -> None:
        self._timer = None
        for sid in sorted(self.election.voters - {self.me}):
            self.links.dial(sid)
        self._do(self.election.tick(self._loop.time()))

    def _do(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            if isinstance(output, Send):
                self.links.send(output.to, output.notification.encode())
            elif isinstance(output, Deserted):
                self.is_deserted = True
                self.deserted()
            elif self._elected is not None and not self._elected.done():
                log.info(
                    "elected: %s server %d, round %d", output.role.name.lower(), output.vote.leader, output.vote.round
                )
                self._elected.set_result(output)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.election.role is Role.LOOKING and self.election.deadline is not None:
            redial_at = self._loop.time() + REDIAL_S
            self._timer = self._loop.call_at(min(self.election.deadline, redial_at), self._tick)


def _reason(error: OSError) -> str:
    """Why nothing can listen at an address, and what to do if it is not one of this machine."""
    if isinstance(error, socket.gaierror):
        reason = str(error.strerror)
    else:
        reason = os.strerror(error.errno) if error.errno is not None else str(error)
        if error.errno != errno.EADDRNOTAVAIL:
            return reason
    return f"{reason}; quorumListenOnAllIPs=true listens on all addresses of this machine instead"
