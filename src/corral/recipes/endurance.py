"""What goes on over lost connections and lost sessions, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from corral.client.errors import (
    ClientClosedError,
    ConnectionLoss,
    KeeperError,
    NoNodeError,
    NotReadOnlyError,
    SessionExpired,
)
from corral.client.states import State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from corral.client import Acl, Client, Created

_T = TypeVar("_T")

log = logging.getLogger("corral.recipes")


async def endure(zk: Client, operation: Callable[[], Awaitable[_T]]) -> _T:
    """Call ``operation`` until it ends neither with ConnectionLoss nor with SessionExpired.

    For what may be done twice and does not depend on the session. It waits as long as the service is away, also for a
    server that takes writes; ClientClosedError ends it.
    """
    while True:
        try:
            return await operation()
        except (ConnectionLoss, SessionExpired):
            await zk.connected()
        except NotReadOnlyError:
            await writable(zk)


async def writable(zk: Client) -> None:
    """Wait for a server that takes writes. Raises ClientClosedError."""
    async for state in zk.states():
        if state is State.CONNECTED:
            return
    raise ClientClosedError("the client is closed")


async def create_own(zk: Client, path: str, data: bytes) -> Created:
    """Create an ephemeral sequential znode, parents included; a cancellation leaves none behind.

    A cancellation waits until it is known whether there is one, and it has been deleted. Connection loss is ridden
    out; raises SessionExpired.
    """
    creation = asyncio.ensure_future(
        zk.create(path, data, ephemeral=True, sequential=True, protected=True, parents=True)
    )
    try:
        return await asyncio.shield(creation)
    except asyncio.CancelledError:
        with suppress(KeeperError, ClientClosedError):
            await withdraw(zk, await creation)
        raise


async def create_once(zk: Client, path: str, data: bytes, acl: Sequence[Acl]) -> str:
    """Create a persistent sequential znode, once, over lost connections and sessions; returns its path.

    ``path`` is that of a directory, which is created if need be; the name is a mark of this call and the number.
    """
    marker = f"{uuid4().hex}-"
    is_doubtful = False

    async def attempt() -> str:
        nonlocal is_doubtful
        if is_doubtful:
            await zk.sync(path)
            with suppress(NoNodeError):
                for name in await zk.get_children(path):
                    if name.startswith(marker):
                        return f"{path}/{name}"
        is_doubtful = True
        return await zk.create(f"{path}/{marker}", data, acl=acl, sequential=True, parents=True)

    return await endure(zk, attempt)


async def withdraw(zk: Client, path: str) -> None:
    """Delete an ephemeral znode of this client whose name nobody else uses, or see the end of its session."""
    with suppress(NoNodeError, SessionExpired, ClientClosedError):
        await zk.persist(lambda: zk.delete(path))


class Reconciler:
    """Brings something in line with the service: at the start, upon each wake, and whenever a connection is back.

    ``step`` looks at what there is and does what is missing; it sets the watches that :meth:`wake` it. It must bear
    being repeated: it is, after ConnectionLoss and SessionExpired. What else it raises is logged and kept as
    ``failure`` until a later step succeeds.
    """

    def __init__(
        self, zk: Client, step: Callable[[], Awaitable[None]], name: str, over: Callable[[], None] | None = None
    ) -> None:
        """Prepare it; ``over`` is called once when no more steps will come, as the client is closed or this is."""
        self._zk = zk
        self._over = over
        self._step = step
        self._name = name
        self._due = asyncio.Event()
        self._due.set()
        self._begun = 0
        self._ended = 0
        self._round_over = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.failure: Exception | None = None

    @property
    def is_running(self) -> bool:
        """Whether it has been started, and neither it nor the client has been closed."""
        return self._task is not None and not self._task.done()

    async def start(self, condition: Callable[[], bool] | None = None) -> None:
        """Begin, and return after the first step, or when ``condition`` holds; raises what the step raised.

        It is closed then, as upon cancellation.
        """
        if self._task is not None:
            raise RuntimeError(f"{self._name} is started once; make another one")
        self._zk.on_state(self._follow_state)
        self._task = asyncio.get_running_loop().create_task(self._run(), name=self._name)
        try:
            await self.until(condition if condition is not None else lambda: self._ended > 0 and self.failure is None)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Take no further step; one that is under way is cancelled."""
        self._zk.off_state(self._follow_state)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            await asyncio.wait({self._task})

    def wake(self, _event: object = None) -> None:
        """Let there be a step: fit to be the callback of a watch."""
        self._due.set()

    async def settle(self) -> None:
        """Wait for a step that begins from now on; raises what it raises."""
        number = self._begun + 1
        self.wake()
        await self._wait_for(lambda: self._ended >= number)
        if self.failure is not None:
            raise self.failure

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition``, which is looked at after each step, holds; raises what a step raises."""
        await self._wait_for(lambda: condition() or (self.failure is not None and self._is_idle))
        if not condition() and self.failure is not None:
            raise self.failure

    @property
    def _is_idle(self) -> bool:
        return self._begun == self._ended and not self._due.is_set()

    async def _wait_for(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if not self.is_running:
                raise ClientClosedError(f"{self._name}: closed")
            await self._round_over.wait()

    def _follow_state(self, state: State) -> None:
        if state is State.CONNECTED:
            self.wake()

    async def _run(self) -> None:
        try:
            while True:
                await self._due.wait()
                self._due.clear()
                self._begun += 1
                try:
                    await endure(self._zk, self._step)
                except ClientClosedError:
                    return
                except Exception as error:
                    log.error("%s: %s: %s", self._name, type(error).__name__, error)  # noqa: TRY400 (no trace wanted)
                    self.failure = error
                else:
                    self.failure = None
                self._ended = self._begun
                self._end_round()
        finally:
            if self._over is not None:
                self._over()
            asyncio.get_running_loop().call_soon(self._end_round)

    def _end_round(self) -> None:
        self._round_over.set()
        self._round_over = asyncio.Event()
