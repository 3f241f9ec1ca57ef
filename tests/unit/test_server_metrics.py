"""Summaries, the counters of a server, and the keys of ``mntr``."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Final

import pytest

from corral.jute.ops import EventType
from corral.server.metrics import (
    COUNTERS,
    DISTRIBUTIONS,
    STILL_COUNTERS,
    STILL_DISTRIBUTIONS,
    STILL_SUMMARIES,
    SUMMARIES,
    Distribution,
    Summary,
)
from corral.server.stats import ServerStats

APACHE_KEYS: Final = Path(__file__).parent / "data" / "apache_3.9.5_mntr_keys.txt"
"""Every key that a fresh standalone server of Apache's release answers ``mntr`` with, without ``zk_``."""

GAUGES: Final = frozenset(
    """
    version server_state avg_latency max_latency min_latency packets_received packets_sent num_alive_connections
    outstanding_requests uptime znode_count watch_count ephemerals_count approximate_data_size global_sessions
    local_sessions open_file_descriptor_count max_file_descriptor_count connection_drop_probability
    last_client_response_size max_client_response_size min_client_response_size outstanding_tls_handshake
    auth_failed_count non_mtls_remote_conn_count non_mtls_local_conn_count
    """.split()  # noqa: SIM905 - a list of names reads better as text
)
"""What the server itself knows rather than its counters."""


def figures(stats: ServerStats) -> dict[str, object]:
    found = list(stats.figures())
    assert len(found) == len(dict(found)), "a name is there twice"
    return dict(found)


def test_all_names_of_apache_are_there_and_no_others() -> None:
    assert GAUGES | figures(ServerStats(0)).keys() == set(APACHE_KEYS.read_text("ascii").split())


def test_a_fresh_server_has_counted_nothing() -> None:
    assert {str(value) for value in figures(ServerStats(0)).values()} == {"0", "0.0"}


def test_no_name_is_said_to_move_and_to_stand_still() -> None:
    for moving, still in (
        (COUNTERS, STILL_COUNTERS),
        (SUMMARIES, STILL_SUMMARIES),
        (DISTRIBUTIONS, STILL_DISTRIBUTIONS),
    ):
        assert not moving & still


def test_summary() -> None:
    summary = Summary()
    summary.add(7)
    summary.add(1, 2)
    assert list(summary.figures("x")) == [
        ("avg_x", 3.0),
        ("min_x", 1),
        ("max_x", 7),
        ("cnt_x", 3),
        ("sum_x", 9),
    ]
    summary.reset()
    assert [value for _, value in summary.figures("x")] == [0.0, 0, 0, 0, 0]


def test_averages_have_four_decimals() -> None:
    summary = Summary()
    summary.add(0, 2)
    summary.add(1)
    assert dict(summary.figures("x"))["avg_x"] == 0.3333


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_those_of_the_sorted_values(seed: int) -> None:
    random = Random(seed)
    values = [int(random.expovariate(0.01)) for _ in range(1000)]
    distribution = Distribution()
    for value in values:
        distribution.add(value)
    values.sort()
    for share in (0.5, 0.95, 0.99, 0.999):
        exact = values[int(share * 1000) - 1]
        assert distribution.percentile(share) == (exact if exact < 1000 else round(exact, 3 - len(str(exact))))


def test_a_distribution_of_large_values_stays_small() -> None:
    distribution = Distribution()
    for value in range(0, 10_000_000, 997):
        distribution.add(value)
    assert abs(distribution.percentile(0.5) - 5_000_000) <= 50_000
    assert len(distribution._counts) < 5000


def test_a_distribution_begins_anew_after_a_reset() -> None:
    distribution = Distribution()
    distribution.add(500)
    distribution.reset()
    distribution.add(2)
    assert distribution.percentile(0.999) == 2


def test_a_durable_batch_counts_each_write_once() -> None:
    stats = ServerStats(0)
    stats.batch_durable(3, 2, waited_ms=10, sync_ms=3.9, write_ms=5.2)
    found = figures(stats)
    assert found["cnt_updatelatency"] == 2
    assert found["sum_updatelatency"] == 20
    assert found["cnt_propagation_latency"] == 3
    assert found["max_updatelatency"] == 10
    assert found["cnt_fsynctime"] == 1
    assert found["sum_fsynctime"] == 3
    assert found["avg_sync_processor_batch_size"] == 3
    assert found["sync_processor_request_queued"] == 3


def test_watchers_told_are_counted_by_event() -> None:
    stats = ServerStats(0)
    stats.watchers_told(EventType.NODE_DATA_CHANGED, 3)
    stats.watchers_told(EventType.NODE_CHILDREN_CHANGED, 1)
    found = figures(stats)
    assert found["sum_node_changed_watch_count"] == 3
    assert found["sum_node_children_watch_count"] == 1
    assert found["cnt_node_created_watch_count"] == 0


def reply(body: bytes = b"") -> list[bytes]:
    header = (16 + len(body)).to_bytes(4, "big") + bytes(16)
    return [header, body] if body else [header]


def event(path: bytes) -> bytes:
    return (28 + len(path)).to_bytes(4, "big") + b"\xff\xff\xff\xff" + bytes(24) + path


@pytest.mark.parametrize(
    ("pieces", "size"),
    [
        (reply(), 16),
        (reply(b"x" * 100), 116),
        (reply() + reply(), 16),
        (reply() + reply(b"x" * 20), 36),
        (reply(b"x" * 20) + reply(), 16),
        (reply(b"x" * 100) + reply() + reply(), 16),
    ],
)
def test_the_size_of_the_last_reply_is_noted(pieces: list[bytes], size: int) -> None:
    stats = ServerStats(0)
    stats.sent(sum(map(len, pieces)), pieces)
    assert stats.reply_sizes.last == size


def test_events_are_no_replies() -> None:
    stats = ServerStats(0)
    stats.event_sent(30)
    stats.sent(34, [event(b"/a")])
    assert stats.reply_sizes.last == -1
    found = figures(stats)
    assert found["watch_bytes"] == 30
    assert found["response_bytes"] == 0


def test_srst_resets_what_is_counted_but_not_the_failed_authentications() -> None:
    stats = ServerStats(0)
    stats.auth_failed = 2
    stats.count("connection_rejected")
    stats.note("connection_token_deficit", 5)
    stats.latency.add(3)
    stats.sent(20, reply())
    stats.event_sent(30)
    stats.reset()
    assert {str(value) for value in figures(stats).values()} == {"0", "0.0"}
    assert stats.auth_failed == 2
    assert stats.packets_sent == stats.latency.count == 0
