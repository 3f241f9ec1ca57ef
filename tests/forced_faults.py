"""Runs a scenario of clients again and again, with a fault forced at its first request, its second, and so on."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import Enum
from random import Random
from typing import TYPE_CHECKING, Any

from corral.client import Client, connect
from corral.jute.primitives import JuteError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from corral.client.calls import Call
    from corral.testing import Server

PATIENCE_S = 20.0
REQUESTS_MAX = 200
"""A scenario that still makes requests after so many faults does not end."""


class Fault(Enum):
    """What happens at one request."""

    LOST_REQUEST = "the connection breaks before the server gets the request"
    LOST_REPLY = "the connection breaks after the server has done it"
    EXPIRED_BEFORE = "the session ends, and then the request is made"
    EXPIRED_AFTER = "the request is made, and then the session ends"
    CANCELLED = "the task is cancelled once the request is on its way"


class FaultyClient(Client):
    """A client in which one fault happens, at the request with a given number (from 0)."""

    def arm(self, server: Server, fault: Fault, at: int, task: asyncio.Task[Any] | None = None) -> None:
        """Let ``fault`` happen ``at`` a request from now on; ``task`` is the one that is cancelled."""
        self._fault: tuple[Server, Fault, asyncio.Task[Any] | None] | None = (server, fault, task)
        self._left = at

    @property
    def has_happened(self) -> bool:
        return self._fault is None

    def send(self, call: Call) -> None:
        fault = getattr(self, "_fault", None)
        if fault is None:
            super().send(call)
            return
        if self._left:
            self._left -= 1
            super().send(call)
            return
        self._fault = None
        server, kind, task = fault
        match kind:
            case Fault.LOST_REQUEST:
                super().send(call)
                self.reconnect()
            case Fault.LOST_REPLY:
                call.decode = _break_once(call)
                super().send(call)
            case Fault.EXPIRED_BEFORE:
                self._expire(server)
                super().send(call)
            case Fault.EXPIRED_AFTER:
                super().send(call)
                asyncio.get_running_loop().call_soon(self._expire, server)
            case Fault.CANCELLED:
                super().send(call)
                assert task is not None
                task.cancel()

    def _expire(self, server: Server) -> None:
        if self.session is not None:
            with suppress(LookupError):
                server.expire_session(self.session.id)


def _break_once(call: Call) -> Callable[[bytes, int, int], Any]:
    """Stands in for the call's decoder at the first reply; a read that is asked again gets its own."""
    decode = call.decode

    def lose(frame: bytes, start: int, end: int) -> None:
        call.decode = decode
        raise JuteError("the reply is lost, by order of the test")

    return lose


def faulty_client(server: Server, **options: Any) -> FaultyClient:
    """A client of ``server`` (made as :func:`corral.client.connect` does) whose fault is still to be armed."""
    options.setdefault("session_timeout", 5.0)
    options.setdefault("backoff_first", 0.001)
    return FaultyClient(connect(str(server.address), **options).settings, Random(1))


async def at_every_request(
    server: Server,
    fault: Fault,
    scenario: Callable[[FaultyClient], Awaitable[None]],
    check: Callable[[Client], Awaitable[None]],
) -> int:
    """Run ``scenario`` with ``fault`` at its first request, at its second, ... until it ends before the fault.

    Each time, ``check`` must find the service in order, with a client that nothing happened to. The scenario may end
    with an exception of its own choice (it asserts what it wants to be); it must end within PATIENCE_S. Returns how
    many faults were forced.
    """
    for at in range(REQUESTS_MAX):
        server.clear()
        async with faulty_client(server) as client:
            task = asyncio.ensure_future(scenario(client))
            client.arm(server, fault, at, task)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await task
            except asyncio.CancelledError:
                assert fault is Fault.CANCELLED, "cancelled, but not by the test"
                assert task.done()
            except TimeoutError:
                raise AssertionError(f"{fault.name} at request {at}: not over after {PATIENCE_S:g} s") from None
            happened = client.has_happened
        async with connect(str(server.address)) as other, asyncio.timeout(PATIENCE_S):
            await check(other)
        if not happened:
            return at
    raise AssertionError(f"{fault.name}: the scenario goes on after {REQUESTS_MAX} requests")
