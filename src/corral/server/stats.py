"""What the server counts about itself (source: ServerStats, BufferStats)."""

from __future__ import annotations


class Latency:
    """Milliseconds between a request's arrival and its reply."""

    __slots__ = ("count", "maximum", "minimum", "total")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.count = self.total = self.maximum = 0
        self.minimum: int | None = None

    def add(self, latency_ms: int, count: int = 1) -> None:
        """Note ``count`` requests that took the same time."""
        self.count += count
        self.total += latency_ms * count
        if latency_ms > self.maximum:
            self.maximum = latency_ms
        if self.minimum is None or latency_ms < self.minimum:
            self.minimum = latency_ms

    @property
    def average(self) -> float:
        return self.total / self.count if self.count else 0.0


class ReplySizes:
    """Bytes of the last, smallest and largest reply; -1 before the first."""

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
        self.latency = Latency()
        self.reply_sizes = ReplySizes()
        self.fsync_warnings = 0
        self.counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self.packets_received = 0
        self.packets_sent = 0

    def reset(self) -> None:
        self.latency.reset()
        self.reply_sizes.reset()
        self.packets_received = self.packets_sent = 0
        self.fsync_warnings = 0

    def count(self, name: str, by: int = 1) -> None:
        self.counters[name] += by


COUNTERS = (
    "auth_failed_count",
    "bytes_received_count",
    "commit_count",
    "connection_drop_count",
    "connection_rejected",
    "connection_request_count",
    "connection_revalidate_count",
    "digest_mismatches_count",
    "large_requests_rejected",
    "outstanding_changes_queued",
    "proposal_count",
    "request_throttle_wait_count",
    "response_bytes",
    "sessionless_connections_expired",
    "snap_count",
    "snapshot_error_count",
    "stale_requests",
    "stale_requests_dropped",
    "stale_sessions_expired",
    "throttled_ops",
    "ttl_node_created_count",
    "ttl_node_deleted_count",
    "unrecoverable_error_count",
)
"""The counters of ``mntr`` that a standalone server moves, by Apache's names."""
