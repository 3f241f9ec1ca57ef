"""The relay between members of an ensemble for tests."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from collections.abc import Callable

import pytest

from corral.server.config.membership import PeerAddress
from corral.testing import network
from corral.testing.in_thread import new_event_loop
from corral.testing.network import Network


@pytest.mark.parametrize("make", [new_event_loop, asyncio.SelectorEventLoop])
def test_who_is_being_accepted_when_it_closes_is_let_go(
    make: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a connection is left, of which the collector of garbage complains, or which keeps the loop from closing."""
    monkeypatch.setattr(network, "new_event_loop", make)
    for _ in range(30):
        relay = Network("127.0.0.1")
        places = relay.open({1: PeerAddress("127.0.0.1", 1, 2)})
        with contextlib.ExitStack() as stack:
            callers = [
                stack.enter_context(socket.create_connection(("127.0.0.1", places[1].election_port), timeout=10))
                for _ in range(3)
            ]
            relay.close()
            for each in callers:
                with contextlib.suppress(ConnectionResetError):
                    assert each.recv(1) == b""
    gc.collect()
