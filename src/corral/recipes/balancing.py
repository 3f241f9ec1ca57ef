"""Soft load balancing: which member gets the next request, by counts that all clients share.

Below the balancer's path there is a znode for each member's name. Its data is ``VISITS ZXID``: how often the member
has been picked, and the registration that this is counted for. Its children are ephemeral, one for each use that is
going on.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from enum import Enum
from math import ceil
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from corral.client import OPEN
from corral.client.errors import (
    BadVersionError,
    KeeperError,
    NodeExistsError,
    NoNodeError,
    TransactionError,
)
from corral.recipes.endurance import endure, withdraw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from corral.client import Acl, Client
    from corral.recipes.membership import Member, Members


class NobodyThereError(LookupError):
    """The group has no member that could be picked."""


class Policy(Enum):
    """Who is picked. Of equals, the one whose name sorts first."""

    LEAST_VISITED = "least visited"
    """The member that has been picked least often."""
    WEIGHTED = "weighted"
    """As LEAST_VISITED, each member's visits divided by its weight: one of weight 3 gets three times as many."""
    LEAST_USED = "least used"
    """The member with the fewest uses that are going on (:meth:`Balancer.use`), divided by its weight."""
    ROUND_ROBIN = "round robin"
    """One after the other, by name, over all clients together."""


class Load(NamedTuple):
    """The counts of a member."""

    member: Member
    visits: int
    uses: int
    version: int
    """Of the counter's znode; -1 if there is none."""


class Balancer:
    """Picks a member of a group for each request::

        async with Members(zk, "/services/web") as members:
            balancer = Balancer(zk, members, "/balance/web", Policy.LEAST_VISITED)
            member = await balancer.pick()
            async with balancer.use() as member:      # counted as long as the block lasts
                ...

    The counts are those of all clients that use the same path, and outlive them; uses end with the session of the
    client at the latest. Picks are exact: two clients never count the same pick, the second one looks again. A member
    that is new, or back after it had left, begins one visit behind the least visited of the others, so that it is not
    flooded until it has caught up.

    Lost connections and sessions are ridden out. A pick whose answer is lost, or that is cancelled, may be counted
    though nobody uses it.
    """

    def __init__(
        self,
        zk: Client,
        members: Members,
        path: str,
        policy: Policy = Policy.LEAST_VISITED,
        *,
        weight: Callable[[Member], float] | None = None,
        acl: Sequence[Acl] = OPEN,
    ) -> None:
        """Prepare it; nothing is sent yet.

        Args:
            members: who is there; to be started by the caller.
            path: where the counts are; not below the group. It is created if it is missing.
            policy: who is picked.
            weight: for WEIGHTED and LEAST_USED: a member's weight, mostly out of its data; positive.
            acl: of what is created.
        """
        zk.key(path)
        if f"{path.rstrip('/')}/".startswith(f"{members.group.rstrip('/')}/"):
            raise ValueError(f"the counts cannot be at {path}: what is below {members.group} are members")
        if (policy is Policy.WEIGHTED) != (weight is not None) and policy is not Policy.LEAST_USED:
            raise ValueError(f"policy {policy.value} {'needs a' if weight is None else 'has no use for a'} weight")
        self._zk = zk
        self._members = members
        self.path = path.rstrip("/")
        self.policy = policy
        self._weight = weight
        self._acl = acl
        self._picking = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<Balancer {self.path} {self.policy.value} over {self._members!r}>"

    async def pick(self) -> Member:
        """The member for the next request; counts the visit. Raises NobodyThereError."""
        return await self._pick(None)

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Member]:
        """The member for the next request, which counts as used as long as the ``async with`` block lasts.

        The use ends with the session at the latest: after the loss of a session it is not counted any more. Leaving
        the block, also by cancellation, waits for a connection, at most until the session has ended. Raises
        NobodyThereError.
        """
        identity = uuid4().hex
        # Cancelled while it is being created, it would go on to count.
        picking = asyncio.create_task(self._pick(identity), name=f"pick of {self.path}")
        try:
            member = await asyncio.shield(picking)
        except asyncio.CancelledError:
            picking.cancel()
            await asyncio.wait({picking})
            await self._end_uses(identity)
            raise
        try:
            yield member
        finally:
            await withdraw(self._zk, self._use_path(member, identity))

    async def loads(self) -> list[Load]:
        """The members and their counts, by name."""
        return await endure(self._zk, self._read)

    # Reading

    def _counter(self, member: Member) -> str:
        return f"{self.path}/{member.name}"

    def _use_path(self, member: Member, identity: str) -> str:
        return f"{self._counter(member)}/use-{identity}"

    async def _read(self) -> list[Load]:
        members = list(self._members)
        found = await self._zk.get_many([self._counter(member) for member in members])
        known: list[Load] = []
        others: list[Load] = []
        for member, counter in zip(members, found, strict=True):
            if isinstance(counter, NoNodeError):
                others.append(Load(member, 0, 0, -1))
            elif isinstance(counter, KeeperError):
                raise counter
            else:
                visits, zxid = _parse(counter.data)
                load = Load(member, visits, counter.stat.num_children, counter.stat.version)
                (known if zxid == member.zxid else others).append(load)
        level = min((load.visits / self._weight_of(load.member) for load in known), default=0.0)
        known.extend(self._levelled(load, level) for load in others)
        known.sort(key=lambda load: load.member.name)
        return known

    def _levelled(self, load: Load, level: float) -> Load:
        """One pick behind the least visited: level with it, it might lose every draw."""
        start = ceil(level * self._weight_of(load.member)) - 1
        return load._replace(visits=max(start, load.visits))

    # Picking

    async def _pick(self, identity: str | None) -> Member:
        turn: int | None = None
        is_doubtful = False

        async def attempt() -> Member:
            nonlocal turn, is_doubtful
            if is_doubtful and identity is not None:
                # What was done although its answer got lost.
                await self._end_uses(identity)
            is_doubtful = True
            if self.policy is Policy.ROUND_ROBIN and turn is None:
                turn = await self._next_turn()
            return await self._attempt(turn, identity)

        # One at a time in this process, for all would choose the same member, and all but one look again.
        async with self._picking:
            while True:
                try:
                    return await endure(self._zk, attempt)
                except TransactionError as error:
                    if not isinstance(error.__cause__, BadVersionError | NodeExistsError | NoNodeError):
                        raise
                    # Somebody else has picked the same member at the same time: look again.

    async def _attempt(self, turn: int | None, identity: str | None) -> Member:
        loads = await self._read()
        if not loads:
            raise NobodyThereError(f"{self._members.group} has no members")
        chosen = min(loads, key=self._cost) if turn is None else loads[turn % len(loads)]
        await self._count(chosen, identity)
        return chosen.member

    def _cost(self, load: Load) -> tuple[float, int]:
        if self.policy is Policy.LEAST_USED:
            # Uses that are all alike take turns.
            return load.uses / self._weight_of(load.member), load.visits
        if self.policy is Policy.WEIGHTED:
            # As if it had been picked: otherwise all weights are alike at the beginning.
            return (load.visits + 1) / self._weight_of(load.member), 0
        return load.visits, 0

    def _weight_of(self, member: Member) -> float:
        weight = 1.0 if self._weight is None else self._weight(member)
        if not weight > 0:
            raise ValueError(f"the weight of {member.name} is {weight!r}, which is not positive")
        return weight

    async def _next_turn(self) -> int:
        """A number that nobody else gets: how often the znode has been set."""
        while True:
            try:
                stat = await self._zk.set(self.path, b"")
            except NoNodeError:
                await self._zk.ensure(self.path, acl=self._acl)
            else:
                return stat.version & 0x7FFFFFFF

    async def _count(self, load: Load, identity: str | None) -> None:
        counter = self._counter(load.member)
        data = b"%d %d" % (load.visits + 1, load.member.zxid)
        if load.version < 0:
            await self._zk.ensure(self.path, acl=self._acl)
        async with self._zk.transaction() as transaction:
            if load.version < 0:
                transaction.create(counter, data, acl=self._acl)
            else:
                transaction.set(counter, data, version=load.version)
            if identity is not None:
                transaction.create(self._use_path(load.member, identity), acl=self._acl, ephemeral=True)

    async def _end_uses(self, identity: str) -> None:
        """Delete the use of that identity, whichever member it is of."""
        await self._zk.sync(self.path)
        suffix = f"/use-{identity}"
        for path in await self._zk.get_ephemerals(self.path):
            if path.endswith(suffix):
                await withdraw(self._zk, path)


def _parse(data: bytes) -> tuple[int, int]:
    visits, _, zxid = data.partition(b" ")
    try:
        return int(visits), int(zxid)
    except ValueError:
        # Of somebody else's making: begin anew.
        return 0, -1
