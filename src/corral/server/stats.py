"""What the server counts about itself (source: ServerStats, BufferStats).

Counting is done per wake-up of a connection or per batch of writes, not per request: what is read with each request
costs as much as the request.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

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

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.storage.recovery import Recovered

_WATCHERS_TOLD: Final = {
    EventType.NODE_CREATED: "node_created_watch_count",
    EventType.NODE_DELETED: "node_deleted_watch_count",
    EventType.NODE_DATA_CHANGED: "node_changed_watch_count",
    EventType.NODE_CHILDREN_CHANGED: "node_children_watch_count",
}


_LENGTH_BYTES: Final = 4
_REPLY_HEADER_BYTES: Final = 16
_NOTIFICATION: Final = b"\xff\xff\xff\xff"
"""The xid of watch events."""


class ReplySizes:
    """Bytes of the last, smallest and largest reply; -1 before the first.

    Of the replies that leave together, the last one is looked at.
    """

    __slots__ = ("largest", "last", "smallest")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.last = self.smallest = self.largest = -1

    def add(self, size: int) -> None:
        self.last = size
        if size > self.largest:
            self.largest = size
        if self.smallest < 0 or size < self.smallest:
            self.smallest = size


class ServerStats:
    """Counters of one server since its start or the last ``srst``."""

    def __init__(self, started_ms: int) -> None:
        self.started_ms = started_ms
        self.latency = Summary()
        """Milliseconds between the arrival of a request and its reply, of all requests."""
        self.reply_sizes = ReplySizes()
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self.summaries: dict[str, Summary] = {name: Summary() for name in sorted(SUMMARIES)}
        self.summaries |= {name: Distribution() for name in sorted(DISTRIBUTIONS)}
        self.read_latency = self.summaries["readlatency"]
        self.answered_at_once = 0
        """Replies that took no time, not yet in the figures: see :meth:`settle`."""
        self.quota_refusals: Counter[str] = Counter()
        """Requests that hard quotas refused, by top-level znode."""
        self.auth_failed = 0
        self.packets_received = 0
        self.packets_sent = 0
        self.bytes_received = 0
        self.bytes_sent = 0
        """Bytes of replies and of watch events."""
        self.watch_bytes = 0
        """Bytes of watch events, without the length in front of each."""
        self.watch_events = 0

    def share(self, other: ServerStats) -> None:
        """Count on where ``other`` does: what is counted over all that serve one after the other for a member."""
        self.counters = other.counters
        self.summaries = other.summaries
        self.read_latency = other.read_latency

    def reset(self) -> None:
        """As the ``srst`` word asks."""
        self.answered_at_once = 0
        self.latency.reset()
        self.reply_sizes.reset()
        self.packets_received = self.packets_sent = 0
        self.bytes_received = self.bytes_sent = 0
        self.watch_bytes = self.watch_events = 0
        self.quota_refusals.clear()
        for name in self.counters:
            self.counters[name] = 0
        for summary in self.summaries.values():
            summary.reset()

    def count(self, name: str, by: int = 1) -> None:
        """Move one of :data:`corral.server.metrics.COUNTERS`."""
        self.counters[name] += by

    def note(self, name: str, value: float, count: int = 1) -> None:
        """Add to one of the summaries that move here, ``count`` times the same."""
        self.summaries[name].add(int(value), count)

    def quota_exceeded(self, namespace: str) -> None:
        """A hard quota refused a request below this top-level znode."""
        self.quota_refusals[namespace] += 1

    def recovered(self, recovered: Recovered) -> None:
        """The database was loaded."""
        self.counters["digest_mismatches_count"] += recovered.digest_mismatches
        self.note("dbinittime", recovered.snapshot_ms + recovered.replay_ms)
        if not recovered.is_new:
            self.note("startup_snap_load_time", recovered.snapshot_ms)
            self.note("startup_txns_load_time", recovered.replay_ms)
            self.note("startup_txns_loaded", recovered.transactions)

    def settle(self) -> None:
        """Take what was answered at once into the figures, as before they are looked at."""
        count, self.answered_at_once = self.answered_at_once, 0
        if count:
            self.packets_sent += count
            self.latency.add(0, count)
            self.read_latency.add(0, count)

    def answered(self, latency_ms: int, count: int) -> None:
        """So many replies took so long."""
        self.packets_sent += count
        self.latency.add(latency_ms, count)

    def sent(self, size: int, pieces: list[bytes]) -> None:
        """So many bytes go to one client in one write: replies, their bodies in pieces of their own, and events."""
        self.bytes_sent += size
        first, last = pieces[0], pieces[-1]
        if int.from_bytes(first[:4], "big") + _LENGTH_BYTES == size:
            if first[4:8] != _NOTIFICATION:
                self.reply_sizes.add(size - _LENGTH_BYTES)
            return
        if len(pieces) > 1 and int.from_bytes(pieces[-2][:4], "big") == _REPLY_HEADER_BYTES + len(last):
            self.reply_sizes.add(_REPLY_HEADER_BYTES + len(last))
        elif last[4:8] != _NOTIFICATION:
            self.reply_sizes.add(int.from_bytes(last[:4], "big"))

    def event_sent(self, size: int) -> None:
        """One watcher gets an event of so many bytes, without its length."""
        self.packets_sent += 1
        self.watch_events += 1
        self.watch_bytes += size

    def watchers_told(self, event: EventType, count: int) -> None:
        """So many watchers learnt of one event."""
        self.summaries[_WATCHERS_TOLD[event]].add(count)

    def batch_durable(self, size: int, own: int, waited_ms: int, sync_ms: float, write_ms: float) -> None:
        """A batch of ``size`` writes is committed, ``own`` of them those of clients that are connected here.

        The oldest waited ``waited_ms``, which is counted for all of them.
        """
        if own:
            self.note("updatelatency", waited_ms, own)
        self.note("propagation_latency", waited_ms, size)
        self.counters["prep_processor_request_queued"] += size
        self.batch_logged(size, waited_ms, sync_ms, write_ms)

    def batch_logged(self, size: int, waited_ms: int, sync_ms: float, write_ms: float) -> None:
        """A batch of ``size`` writes is on disk. The oldest waited ``waited_ms``, which is counted for all of them."""
        summaries = self.summaries
        summaries["sync_processor_queue_and_flush_time_ms"].add(waited_ms, size)
        self.counters["sync_processor_request_queued"] += size
        summaries["sync_processor_batch_size"].add(size)
        summaries["fsynctime"].add(int(sync_ms))
        summaries["sync_process_time"].add(int(write_ms))
        summaries["sync_processor_queue_flush_time_ms"].add(int(write_ms))

    def figures(self) -> Iterator[tuple[str, object]]:
        """All counters and summaries for ``mntr``, by name."""
        counters = self.counters | {
            "bytes_received_count": self.bytes_received,
            "response_bytes": self.bytes_sent - self.watch_bytes - self.watch_events * _LENGTH_BYTES,
            "watch_bytes": self.watch_bytes,
        }
        for name in sorted(COUNTERS | STILL_COUNTERS):
            yield name, counters.get(name, 0)
        for name, count in sorted(self.quota_refusals.items()):
            yield f"{name}_quota_exceeded_error_per_namespace", count
        for name in sorted(SUMMARIES | STILL_SUMMARIES):
            yield from self.summaries.get(name, _NO_SUMMARY).figures(name)
        for name in sorted(DISTRIBUTIONS | STILL_DISTRIBUTIONS):
            yield from self.summaries.get(name, _NO_DISTRIBUTION).figures(name)


_NO_SUMMARY: Final = Summary()
_NO_DISTRIBUTION: Final = Distribution()
