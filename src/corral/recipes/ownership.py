"""What it means to own something: a znode that ends with the session, a fencing number, and word of its loss.

Ownership rests on an ephemeral znode, the *claim*. It lasts until the claim is deleted or its session ends. The client
takes its session for ended before any server does, by its own clock, so the former owner knows first. A process that
stands still for longer than its session lasts learns it when it goes on: what must be safe from that too checks the
fencing number, or writes in a transaction that checks the claim.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from corral.client import ClientClosedError, ConnectionLoss, EventKind, SessionExpired, State
from corral.client.errors import NoNodeError, TransactionError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from types import TracebackType
    from typing import Self

    from corral.client import Acl, Client, Created, Session, WatchEvent, Znode

log = logging.getLogger("corral.recipes")


class OwnershipLostError(Exception):
    """What was owned is owned no more: the session has ended, or somebody deleted the claim."""


class Held:
    """Something that is owned; returned by ``acquire()`` and by ``async with``.

    It is also a context manager of its own: leaving the block releases it, and raises OwnershipLostError if it was
    lost meanwhile and the block did not fail by itself.
    """

    def __init__(self, client: Client, session: Session, znode: Created) -> None:
        self.client = client
        self.session = session
        self.path = str(znode)
        """The claim. A transaction with ``check(held.path)`` is done only as long as it is owned."""
        self.token = znode.zxid
        """The fencing number: larger than that of every owner before. Who is given it refuses smaller ones."""
        self._is_released = False
        self._is_lost = False
        self._over = asyncio.Event()
        self._listeners: list[Callable[[], object]] = []
        self._removal: asyncio.Task[None] | None = None
        self._moving: asyncio.Task[None] | None = None
        if session.has_ended:
            self._lose()
        else:
            client.on_state(self._follow_state)

    def __repr__(self) -> str:
        state = "lost" if self._is_lost else "released" if self._is_released else "held"
        doubt = ", in doubt" if state == "held" and not self.is_certain else ""
        return f"<{type(self).__name__} {self.path} token={self.token:#x} {state}{doubt}>"

    @property
    def is_held(self) -> bool:
        """Whether it is still owned, as far as is known: neither lost nor released."""
        return not self._over.is_set()

    @property
    def is_certain(self) -> bool:
        """Whether it is owned and there is a connection. Without one it may be lost at any moment."""
        return self.is_held and self.client.state is State.CONNECTED

    @property
    def is_lost(self) -> bool:
        """Whether it ended otherwise than by its release."""
        return self._is_lost

    async def lost(self) -> None:
        """Return when it is lost; also when it is released, and then ``is_lost`` is false."""
        await self._over.wait()

    def on_lost(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` when it is lost; at once if it is already."""
        if self._is_lost:
            callback()
        else:
            self._listeners.append(callback)

    def off_lost(self, callback: Callable[[], object]) -> None:
        """Do so no more."""
        with suppress(ValueError):
            self._listeners.remove(callback)

    def check(self) -> None:
        """Raise OwnershipLostError unless it is held, as far as is known. Asks nobody."""
        if not self.is_held:
            raise OwnershipLostError(f"{self.path} {'has been released' if self._is_released else 'is lost'}")

    async def release(self) -> None:
        """Give it up. Returns when the claim is gone; again, or after it was lost, does nothing.

        While there is no connection this waits for one, at most until the session ends. Cancelled, it goes on in the
        background.
        """
        await asyncio.shield(self.start_release())

    def start_release(self) -> asyncio.Task[None]:
        """Give it up in the background. The task ends with the client at the latest."""
        self._end()
        if self._removal is None:
            self._is_released = not self._is_lost
            self._removal = asyncio.create_task(self._remove(), name=f"release {self.path}")
            self._removal.add_done_callback(_log_failure)
        return self._removal

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()
        if kind is None and self._is_lost:
            raise OwnershipLostError(f"{self.path} was lost while it was used")

    @asynccontextmanager
    async def cancelling(self) -> AsyncIterator[None]:
        """A block that is cancelled the moment this is lost: it then raises OwnershipLostError."""
        self.check()
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        is_cancelled = False

        def cancel() -> None:
            nonlocal is_cancelled
            is_cancelled = True
            task.cancel()

        self.on_lost(cancel)
        try:
            yield
        except asyncio.CancelledError as error:
            if is_cancelled:
                is_cancelled = False
                # If somebody else has cancelled the task as well, that goes first.
                if task.uncancel() <= before:
                    raise OwnershipLostError(f"{self.path} was lost while it was used") from error
            raise
        finally:
            self.off_lost(cancel)
            if is_cancelled:
                task.uncancel()

    # The claim

    def look(self) -> asyncio.Future[Znode]:
        """Read the claim and watch it. The future has what was read; a claim that is gone is lost before that."""
        looking = asyncio.ensure_future(self.client.get(self.path, watch=self._claim_changed))
        looking.add_done_callback(self._looked)
        return looking

    def _looked(self, looking: asyncio.Future[Znode]) -> None:
        if looking.cancelled():
            return
        error = looking.exception()
        if self._moving is not None:
            return
        if isinstance(error, NoNodeError) or (error is None and not self._is_mine(looking.result())):
            self._lose()

    def _is_mine(self, znode: Znode) -> bool:
        return znode.stat.ephemeral_owner == self.session.id

    def _claim_changed(self, event: WatchEvent) -> None:
        if not self.is_held or self._moving is not None:
            return
        if event.kind is EventKind.DATA_CHANGED:
            self.look()
        elif event.kind is EventKind.DELETED and event.path == self.path:
            self._lose()

    def _follow_state(self, state: State) -> None:
        if self.session.has_ended:
            self._lose()
        elif state is State.CONNECTED:
            self.look()

    def _lose(self) -> None:
        if not self.is_held:
            return
        self._is_lost = True
        self._end()
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            try:
                listener()
            except Exception as error:
                message = {"message": f"listener to the loss of {self.path}", "exception": error}
                asyncio.get_running_loop().call_exception_handler(message)

    def _end(self) -> None:
        self._over.set()
        self.client.off_state(self._follow_state)

    async def _remove(self) -> None:
        if self._moving is not None:
            await asyncio.wait({self._moving})
        if not self.session.has_ended:
            with suppress(NoNodeError, SessionExpired, ClientClosedError):
                await self.client.persist(lambda: self.client.delete(self.path))

    async def move(self, path: str, data: bytes, acl: Sequence[Acl]) -> None:
        """Let another claim take the place of this one, in one transaction; the token stays.

        Raises OwnershipLostError if there is nothing left to replace. Cancelled, it goes on in the background.
        """
        self.check()
        if self._moving is not None:
            raise RuntimeError(f"{self.path} is already being replaced")
        self._moving = asyncio.create_task(self._move(path, data, acl), name=f"replace {self.path}")
        self._moving.add_done_callback(_log_failure)
        await asyncio.shield(self._moving)

    async def _move(self, path: str, data: bytes, acl: Sequence[Acl]) -> None:
        try:
            while self.is_held:
                try:
                    async with self.client.transaction() as transaction:
                        transaction.create(path, data, acl=acl, ephemeral=True)
                        transaction.delete(self.path)
                except ConnectionLoss:
                    if await self.client.persist(lambda: self.client.exists(path)) is None:
                        continue
                except TransactionError as error:
                    if isinstance(error.__cause__, NoNodeError):
                        self._lose()
                        break
                    raise
                self.path = path
                return
        except SessionExpired:
            # The loss of the session is the loss of the claim.
            pass
        finally:
            self._moving = None
            if self.is_held:
                self.look()
        self.check()


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s: %s", task.get_name(), error)
