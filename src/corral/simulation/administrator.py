"""Changes the members of an ensemble while it serves: they leave, join, and vote or only watch.

There are always three voters or more, so that the loss of one disk is outlived whatever is on its way.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import corral
from corral.quorum.ensemble import Ensemble, parse_ensemble
from corral.simulation.machine import server_line
from corral.simulation.workload import Worker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from corral.client import Client
    from corral.server.config.membership import Member as Line
    from corral.simulation.machine import Member

VOTERS_MIN: Final = 3
MEAN_PAUSE_S: Final = 1.5
"""Between two changes."""
_PATIENCE_S: Final = 3.0
"""So long one waits for a member that is to join."""


class Administrator(Worker):
    """A client that may change the members. At the end it brings back those of the beginning, each in its part."""

    def __init__(self, ensemble: Ensemble, members: Sequence[Member], **parts: Any) -> None:
        """``parts`` are those of any client."""
        super().__init__(**parts)
        self._beginning = ensemble
        self._members = {member.sid: member for member in members}

    def stop(self) -> None:
        """Bring back those of the beginning, and end. One that was killed must do so, too: nobody else would."""
        super().stop()
        if self.is_over:
            self.start()

    async def _work(self, zk: Client) -> bool:
        while not self._is_stopping and zk.state is not corral.State.LOST:
            await asyncio.sleep(self._chance.expovariate(1 / MEAN_PAUSE_S))
            await self._attempt(zk, self._change(zk))
        return True

    async def _take_leave(self, zk: Client) -> bool:
        """What has been changed is changed back, voters first."""
        try:
            for sid in (*sorted(self._beginning.voters), *sorted(self._beginning.observers)):
                ensemble = await self._look(zk)
                line = self._beginning.members[sid]
                now = ensemble.members.get(sid)
                if now is None or now.is_participant != line.is_participant:
                    await self._join(zk, ensemble, line)
        except (corral.ConnectionLoss, corral.SessionExpired, corral.KeeperError):
            return False
        return True

    async def _look(self, zk: Client) -> Ensemble:
        await zk.sync()
        return parse_ensemble((await zk.get_config()).data.decode())

    async def _change(self, zk: Client) -> None:
        ensemble = await self._look(zk)
        choices: list[Callable[[], Awaitable[None]]] = []
        for sid, line in self._beginning.members.items():
            now = ensemble.members.get(sid)
            other = line._replace(is_participant=now is None or not now.is_participant)
            may_go = now is not None and (not now.is_participant or len(ensemble.voters) > VOTERS_MIN)
            if now is None or other.is_participant or may_go:
                choices.append(partial(self._join, zk, ensemble, other))
            if may_go:
                choices.append(partial(self._leave, zk, sid))
        await self._chance.choice(choices)()

    async def _leave(self, zk: Client, sid: int) -> None:
        """The member leaves, and is stopped then."""
        self.trace.tell(self.host.name, f"lets server-{sid} leave")
        await zk.reconfig(leaving=[str(sid)])
        self.trace.counts["reconfigured: leave"] += 1
        member = self._members[sid]
        member.is_out_of_service = True
        member.stop()

    async def _join(self, zk: Client, ensemble: Ensemble, line: Line) -> None:
        """The member joins, or gets another part. One that is no member comes into step before."""
        member, sid = self._members[line.server_id], line.server_id
        part = "voter" if line.is_participant else "observer"
        if sid not in ensemble.members:
            if member.is_out_of_service and not member.is_empty:
                member.ensemble = Ensemble({**ensemble.members, sid: line})
                member.is_out_of_service = False
            member.start()
            until = self.host.network.timeline.now + _PATIENCE_S
            while (member.peer is None or member.peer.server is None) and self.host.network.timeline.now < until:
                await asyncio.sleep(0.1)
        self.trace.tell(self.host.name, f"lets server-{sid} be one of the {part}s")
        await zk.reconfig(joining=[server_line(sid, votes=line.is_participant)])
        self.trace.counts[f"reconfigured: {'join' if sid not in ensemble.members else 'become'} {part}"] += 1
