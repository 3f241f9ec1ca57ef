"""The thread that pings for a busy loop: it attends to each new connection at once, and ends when it is told to."""

from __future__ import annotations

import threading
from typing import cast

from corral.client.connection import Connection
from corral.client.heartbeat import Heartbeat


class Quiet:
    """A connection on which nothing is sent."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.sends = 0
        self.beaten = threading.Event()

    def beat(self) -> None:
        self.beaten.set()


class Busy(Quiet):
    """One that sends all the time."""

    @property
    def sends(self) -> int:
        self.looks += 1
        self.looked.set()
        return self.looks

    @sends.setter
    def sends(self, number: int) -> None:
        self.looks = number
        self.looked = threading.Event()


def test_a_quiet_connection_is_pinged_from_its_beginning() -> None:
    current: list[Quiet] = []
    heartbeat = Heartbeat(lambda: cast("Connection", current[-1]) if current else None)
    heartbeat.start()
    for _ in range(3):
        # It neither waits for anything to happen first, nor stays with the one before.
        current.append(Quiet(0.02))
        heartbeat.look()
        assert current[-1].beaten.wait(20)
    heartbeat.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "corral-heartbeat"]


def test_a_busy_connection_is_left_alone() -> None:
    busy = Busy(0.002)
    heartbeat = Heartbeat(lambda: cast("Connection", busy))
    heartbeat.start()
    for _ in range(20):
        busy.looked.clear()
        assert busy.looked.wait(20)
    heartbeat.stop()
    assert not busy.beaten.is_set()


def test_it_may_be_stopped_at_any_moment() -> None:
    for number in range(50):
        heartbeat = Heartbeat(lambda number=number: cast("Connection", Quiet(0.001)) if number % 2 else None)  # type: ignore[misc]
        heartbeat.start()
        heartbeat.stop()
    Heartbeat(lambda: None).stop()
