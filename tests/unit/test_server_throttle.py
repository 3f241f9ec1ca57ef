"""How fast connections are let in, and how often the log hears of what clients do wrong."""

from __future__ import annotations

import logging
from random import Random

import pytest

from corral.server.clock import Clock
from corral.server.complaints import QUIET_MS, Complaints
from corral.server.config import ConnectionThrottle
from corral.server.throttle import ConnectThrottle


class HandClock(Clock):
    """Stands still unless moved."""

    def __init__(self) -> None:
        self.now_ms = 1000

    def wall_ms(self) -> int:
        return self.now_ms

    def monotonic_ms(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def admitted(throttle: ConnectThrottle, attempts: int, *, renewing: bool = False, local: bool = False) -> int:
    return sum(throttle.admits(renewing=renewing, local=local) for _ in range(attempts))


def test_off_admits_everybody(clock: HandClock) -> None:
    assert admitted(ConnectThrottle(ConnectionThrottle(), clock, Random(1)), 1000) == 1000


def test_tokens_run_out_and_come_back(clock: HandClock) -> None:
    throttle = ConnectThrottle(ConnectionThrottle(tokens=10, fill_time_ms=100, fill_count=3), clock, Random(1))
    assert admitted(throttle, 20) == 10
    assert throttle.deficit == 10
    clock.now_ms += 99
    assert admitted(throttle, 20) == 0
    clock.now_ms += 1
    assert admitted(throttle, 20) == 3
    clock.now_ms += 250
    assert admitted(throttle, 20) == 6
    clock.now_ms += 50
    assert admitted(throttle, 20) == 3


def test_bucket_holds_no_more_than_its_size(clock: HandClock) -> None:
    throttle = ConnectThrottle(ConnectionThrottle(tokens=5), clock, Random(1))
    clock.now_ms += 3_600_000
    assert admitted(throttle, 20) == 5


def test_weights(clock: HandClock) -> None:
    config = ConnectionThrottle(tokens=4, weight_enabled=True, fill_time_ms=1000)
    # Four global sessions' worth, at three tokens each: as many new sessions, six renewals at two, twelve local ones.
    assert admitted(ConnectThrottle(config, clock, Random(1)), 20) == 4
    assert admitted(ConnectThrottle(config, clock, Random(1)), 20, renewing=True) == 6
    assert admitted(ConnectThrottle(config, clock, Random(1)), 20, renewing=True, local=True) == 6
    assert admitted(ConnectThrottle(config, clock, Random(1)), 20, local=True) == 12


def test_drop_probability_rises_while_empty_and_falls_again(clock: HandClock) -> None:
    config = ConnectionThrottle(
        tokens=2, fill_time_ms=1_000_000, freeze_time_ms=10, drop_increase=0.25, drop_decrease=0.5
    )
    throttle = ConnectThrottle(config, clock, Random(1))
    assert admitted(throttle, 5) == 2
    for step in range(1, 5):
        clock.now_ms += 11
        throttle.admits(renewing=False)
        assert throttle.drop_probability == min(1.0, step * 0.25)
    throttle.tokens = 2
    clock.now_ms += 11
    throttle.admits(renewing=False)
    assert throttle.drop_probability == 0.5


def test_first_warning_of_a_kind_is_logged_and_the_others_counted(
    clock: HandClock, caplog: pytest.LogCaptureFixture
) -> None:
    complaints = Complaints(clock)
    for number in range(100):
        complaints.warn("frame", "client %d sent rubbish", number)
    complaints.warn("other", "something else")
    assert [record.getMessage() for record in caplog.records] == ["client 0 sent rubbish", "something else"]
    caplog.clear()
    clock.now_ms += QUIET_MS
    complaints.warn("frame", "client %d sent rubbish", 100)
    assert caplog.records[0].levelno == logging.WARNING
    assert caplog.records[0].getMessage() == "client 100 sent rubbish (99 more such warnings since the last one)"
