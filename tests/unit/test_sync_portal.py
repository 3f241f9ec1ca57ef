"""The portal by itself, before a client that is never started."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.interrupts import interrupts

from corral.client import ClientClosedError, connect
from corral.sync.portal import Portal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import TracebackType

PATIENCE_S = 20.0


@pytest.fixture
def portal() -> Iterator[Portal]:
    portal = Portal(connect("127.0.0.1:1"))
    yield portal
    portal.close()


async def wait_for_ever() -> None:
    await asyncio.get_running_loop().create_future()


def test_calls_run_in_the_thread_of_the_loop(portal: Portal) -> None:
    async def waited_for() -> int:
        return portal.run(threading.get_ident)

    thread = portal.run(threading.get_ident)
    assert thread != threading.get_ident()
    assert portal.call(waited_for) == thread


def test_a_blocking_call_in_the_thread_of_the_loop_is_refused(portal: Portal) -> None:
    with pytest.raises(RuntimeError, match="would wait for itself"):
        portal.run(portal.call, wait_for_ever)


def test_errors_come_back_as_they_are(portal: Portal) -> None:
    error = LookupError("by order of the test")

    async def fail() -> None:
        raise error

    def fail_at_once() -> None:
        raise error

    with pytest.raises(LookupError) as raised:
        portal.call(fail)
    assert raised.value is error
    with pytest.raises(LookupError) as raised:
        portal.run(fail_at_once)
    assert raised.value is error


def test_a_call_that_is_cancelled_inside_is_cancelled_outside(portal: Portal) -> None:
    async def cancel_oneself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError):
        portal.call(cancel_oneself)


def test_closing_ends_calls_and_refuses_new_ones(portal: Portal) -> None:
    errors: list[BaseException] = []
    entered = threading.Event()

    async def enter() -> None:
        entered.set()
        await wait_for_ever()

    def wait() -> None:
        try:
            portal.call(enter)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    entered.wait(PATIENCE_S)
    portal.close()
    thread.join(PATIENCE_S)
    assert [type(each) for each in errors] == [ClientClosedError]
    with pytest.raises(ClientClosedError):
        portal.call(wait_for_ever)
    assert portal.run(lambda: 5) == 5
    with pytest.raises(ClientClosedError):
        portal.run(asyncio.get_running_loop)


def test_what_ends_something_is_done_after_the_close_too(portal: Portal) -> None:
    async def end() -> str:
        await asyncio.sleep(0)
        return "ended"

    portal.close()
    assert portal.leave(end) == "ended"


class Stubborn:
    """Is entered, whatever happens meanwhile."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self.interrupt = interrupt
        self.left = threading.Event()

    async def __aenter__(self) -> str:
        self.interrupt()
        try:
            await wait_for_ever()
        except asyncio.CancelledError:
            return "entered"
        return "never"

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.left.set()


def test_what_was_entered_for_nobody_is_left(portal: Portal) -> None:
    with interrupts() as interrupt:
        manager = Stubborn(interrupt)
        with pytest.raises(KeyboardInterrupt):
            portal.enter(manager)
    assert manager.left.wait(PATIENCE_S)


def test_an_iteration_that_is_interrupted_is_closed(portal: Portal) -> None:
    closed = threading.Event()

    async def items() -> AsyncIterator[int]:
        try:
            yield 1
            interrupt()
            await wait_for_ever()
        finally:
            closed.set()

    with interrupts() as interrupt:
        iterator = portal.iterate(items)
        assert next(iterator) == 1
        with pytest.raises(KeyboardInterrupt):
            next(iterator)
    assert closed.wait(PATIENCE_S)


def test_a_context_manager_lives_in_one_task(portal: Portal) -> None:
    tasks: list[Any] = []

    @asynccontextmanager
    async def manager() -> AsyncIterator[int]:
        async with asyncio.timeout(1000):
            tasks.append(asyncio.current_task())
            try:
                yield 5
            except KeyError as error:
                raise LookupError("translated") from error
            finally:
                tasks.append(asyncio.current_task())

    with portal.context(manager, str) as entered:
        assert entered == "5"
    assert tasks[0] is tasks[1]
    with pytest.raises(LookupError, match="translated"), portal.context(manager, str):
        raise KeyError
    with pytest.raises(ZeroDivisionError), portal.context(manager, str):
        raise ZeroDivisionError


def test_a_context_manager_may_swallow_an_error(portal: Portal) -> None:
    @asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        try:
            yield
        except KeyError:
            return

    with portal.context(manager, lambda each: each):
        raise KeyError


def test_a_context_manager_that_cannot_be_entered(portal: Portal) -> None:
    is_refused: bool = True

    @asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        if is_refused:
            raise LookupError("by order of the test")
        yield

    with pytest.raises(LookupError, match="by order of the test"), portal.context(manager, lambda each: each):
        raise AssertionError("not entered")


def test_a_body_may_raise_anything(portal: Portal) -> None:
    def stop() -> None:
        raise StopIteration

    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match="raised StopIteration"):
        portal.call(portal.body(stop))
    with pytest.raises(SystemExit):
        portal.call(portal.body(leave))


def test_callbacks_are_functions(portal: Portal) -> None:
    with pytest.raises(TypeError, match="a callback is a function, not 5"):
        portal.callback(5)  # type: ignore[call-overload]
    assert portal.callback(None) is None
    assert portal.callback(print) == portal.callback(print)
    assert portal.callback(print) != portal.callback(len)
