"""An election machine at work: its messages over the links, its deadlines by the event loop's clock."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from corral.quorum.election import Elected, Election
from corral.quorum.election_links import ElectionLinks
from corral.quorum.vote import Role, decode_notification

if TYPE_CHECKING:
    from collections.abc import Sequence

    from corral.quorum.election import Output
    from corral.quorum.ensemble import Ensemble
    from corral.server.config.membership import PeerAddress

log = logging.getLogger(__name__)


class Elector:
    """One server's voice in elections, from :meth:`start` to :meth:`close`; it answers others at any time."""

    def __init__(self, me: int, ensemble: Ensemble) -> None:
        self.me = me
        self.election = Election(me, ensemble)
        self.links = ElectionLinks(me, ensemble.members[me].addresses, self._addresses, self._receive)
        self._timer: asyncio.TimerHandle | None = None
        self._elected: asyncio.Future[Elected] | None = None

    async def start(self) -> None:
        """Listen for the others. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        for address in self.election.committed.members[self.me].addresses:
            await self.links.listen(address.host, address.election_port)

    async def close(self) -> None:
        """Say nothing more, and hear nothing."""
        if self._timer is not None:
            self._timer.cancel()
        await self.links.close()

    async def elect(self, zxid: int, epoch: int) -> Elected:
        """Take part in an election until it has a result."""
        self._elected = self._loop.create_future()
        self._do(self.election.look(zxid, epoch, self._loop.time()))
        return await self._elected

    def _addresses(self, sid: int) -> Sequence[PeerAddress]:
        for ensemble in reversed(self.election.ensembles):
            if sid in ensemble.members:
                return ensemble.members[sid].addresses
        return ()

    def _receive(self, sender: int, message: bytes) -> None:
        try:
            notification = decode_notification(message)
        except ValueError as error:
            log.warning("server %d sends %s", sender, error)
            return
        self._do(self.election.receive(sender, notification, self._loop.time()))

    def _tick(self) -> None:
        self._timer = None
        self._do(self.election.tick(self._loop.time()))

    def _do(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            if not isinstance(output, Elected):
                self.links.send(output.to, output.notification.encode())
            elif self._elected is not None and not self._elected.done():
                log.info(
                    "elected: %s server %d, round %d", output.role.name.lower(), output.vote.leader, output.vote.round
                )
                self._elected.set_result(output)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.election.role is Role.LOOKING and self.election.deadline is not None:
            self._timer = self._loop.call_at(self.election.deadline, self._tick)
