"""Leader election: one of many leads, and the next one follows when it ends."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, TypeVar

from corral.client import OPEN, ClientClosedError
from corral.recipes.lock import QueueContender
from corral.recipes.ownership import OwnershipLostError
from corral.recipes.queue_of_claims import KAZOO

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType
    from typing import Self

    from corral.client import Acl, Client
    from corral.recipes.ownership import Held
    from corral.recipes.queue_of_claims import Dialect

_T = TypeVar("_T")

log = logging.getLogger("corral.recipes")


class Election(QueueContender):
    """An election at ``path``, for a coroutine that must run in one place only::

        async def lead(held):
            ...                              # held.token is the fencing number

        await Election(zk, "/services/billing/leader").run(lead)

    The arguments are those of :class:`~corral.recipes.Lock`, as which it can also be used.
    """

    def __init__(
        self,
        client: Client,
        path: str,
        identifier: str | None = None,
        *,
        acl: Sequence[Acl] = OPEN,
        dialect: Dialect = KAZOO,
    ) -> None:
        super().__init__(client, path, identifier, acl, name=dialect.lock, shared=False)

    async def run(self, lead: Callable[[Held], Awaitable[_T]]) -> _T:
        """Take part until ``lead(held)`` has been run to its end as the leader; returns what it returns.

        It is cancelled the moment the leadership is lost, and called anew after the next victory: it should then come
        to an end quickly, for another leader may be there. A lost connection is not yet a lost leadership:
        ``held.is_certain`` tells. What ``lead`` raises ends the participation. Cancelled, this cancels ``lead``.

        Raises RuntimeError if this object already takes part, and ClientClosedError when the client is closed.
        """
        while True:
            held = await self.acquire()
            try:
                async with held, held.cancelling():
                    return await lead(held)
            except OwnershipLostError:
                # It may also be something else that was lost, which ``lead`` held.
                if not held.is_lost:
                    raise

    async def leader(self) -> str | None:
        """The identifier of the one that leads, or will as soon as it learns of it; None if nobody takes part."""
        contenders = await self.contenders()
        return contenders[0] if contenders else None


class LeaderLatch:
    """Takes part in an election from start to close, and says whether it leads::

        async with LeaderLatch(zk, "/services/billing/leader") as latch:
            await latch.wait()
            while latch.is_leader:
                ...

    After a loss of the leadership it stands for election again. The arguments are those of
    :class:`~corral.recipes.Lock`, with whose claims it competes; in CURATOR's dialect, those of its LeaderLatch.
    """

    def __init__(
        self,
        client: Client,
        path: str,
        identifier: str | None = None,
        *,
        acl: Sequence[Acl] = OPEN,
        dialect: Dialect = KAZOO,
    ) -> None:
        self._contender = QueueContender(client, path, identifier, acl, name=dialect.latch, shared=False)
        self._task: asyncio.Task[None] | None = None
        self._held: Held | None = None
        self._waiting: set[asyncio.Future[Held]] = set()
        self._listeners: list[Callable[[bool], object]] = []

    def __repr__(self) -> str:
        return f"<LeaderLatch {self.path} {self.identifier}{' leads' if self.is_leader else ''}>"

    @property
    def path(self) -> str:
        return self._contender.path

    @property
    def identifier(self) -> str:
        """Who it is, for others to see."""
        return self._contender.identifier

    @property
    def is_leader(self) -> bool:
        """Whether it leads, as far as is known: false from the moment the leadership is lost."""
        return self._held is not None and self._held.is_held

    @property
    def is_certain(self) -> bool:
        """Whether it leads and there is a connection. Without one the leadership may be lost at any moment."""
        return self._held is not None and self._held.is_certain

    @property
    def held(self) -> Held | None:
        """The leadership, with its fencing number; None while it does not lead."""
        return self._held if self.is_leader else None

    async def wait(self, *, timeout: float | None = None) -> Held:
        """Return the leadership when it leads. Raises TimeoutError, or whatever ended the participation."""
        if self._task is None:
            raise RuntimeError(f"{self!r} takes no part: start it")
        if self._held is not None and self._held.is_held:
            return self._held
        future: asyncio.Future[Held] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        self._task.add_done_callback(self._wake)
        try:
            async with asyncio.timeout(timeout):
                return await future
        finally:
            self._waiting.discard(future)
            self._task.remove_done_callback(self._wake)

    def _wake(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        for future in self._waiting:
            if not future.done():
                future.set_exception(error or RuntimeError(f"{self!r} is closed"))

    def on_change(self, callback: Callable[[bool], object]) -> None:
        """Call ``callback(True)`` when it becomes the leader, and ``callback(False)`` when it is so no more."""
        self._listeners.append(callback)

    def off_change(self, callback: Callable[[bool], object]) -> None:
        """Do so no more."""
        if callback in self._listeners:
            self._listeners.remove(callback)

    async def contenders(self) -> list[str]:
        """The identifiers of all who take part, the leader first."""
        return await self._contender.contenders()

    async def start(self) -> Self:
        """Stand for election, in the background; ``async with`` does so by itself."""
        if self._task is not None:
            raise RuntimeError(f"{self!r} is started once; make another one")
        self._task = asyncio.create_task(self._take_part(), name=f"latch {self.path}")
        self._task.add_done_callback(_log_failure)
        return self

    async def close(self) -> None:
        """Give up the leadership, or the place in the queue; returns when the claim is gone, or will be in a moment."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _take_part(self) -> None:
        while True:
            held = await self._contender.acquire()
            if held.is_lost:
                continue
            try:
                self._held = held
                for future in self._waiting:
                    if not future.done():
                        future.set_result(held)
                self._tell(is_leader=True)
                held.on_lost(self._lost)
                await held.lost()
            finally:
                if held.is_held:
                    held.off_lost(self._lost)
                    removal = held.start_release()
                    self._tell(is_leader=False)
                    await asyncio.shield(removal)

    def _lost(self) -> None:
        self._tell(is_leader=False)

    def _tell(self, *, is_leader: bool) -> None:
        for listener in tuple(self._listeners):
            try:
                listener(is_leader)
            except Exception as error:
                message = {"message": f"listener to {self!r}", "exception": error}
                asyncio.get_running_loop().call_exception_handler(message)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and not isinstance(error := task.exception(), ClientClosedError | None):
        log.error("%s takes no part any more: %s", task.get_name(), error)
