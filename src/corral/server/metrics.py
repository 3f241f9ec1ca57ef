"""What ``mntr`` reports: counters and summaries, by the names that Apache's server gives them.

Every name of Apache's standalone server is here, so that dashboards and exporters find what they look for. Names of
what this server does not have (an ensemble, queues between threads, a cache of replies) report 0, as Apache's do as
long as nothing of the kind has happened. Sources: ServerMetrics, DefaultMetricsProvider, AvgMinMaxCounter,
AvgMinMaxPercentileCounter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXACT_BELOW: Final = 1000
"""Values from here on keep three digits, so that few different ones are told apart."""
PERCENTILES: Final = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999))


class Summary:
    """Number, sum, least and greatest of whole numbers, mostly milliseconds."""

    __slots__ = ("count", "maximum", "minimum", "total")

    def __init__(self) -> None:
        self.reset()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(count={self.count}, average={self.average:.1f}, maximum={self.maximum})"

    def reset(self) -> None:
        self.count = self.total = self.maximum = 0
        self.minimum: int | None = None

    def add(self, value: int, count: int = 1) -> None:
        """Note ``count`` times the same value."""
        self.count += count
        self.total += value * count
        if value > self.maximum:
            self.maximum = value
        if self.minimum is None or value < self.minimum:
            self.minimum = value

    @property
    def average(self) -> float:
        return self.total / self.count if self.count else 0.0

    def figures(self, name: str) -> Iterator[tuple[str, object]]:
        """The lines of ``mntr`` for this summary."""
        yield f"avg_{name}", round(self.average, 4)
        yield f"min_{name}", self.minimum or 0
        yield f"max_{name}", self.maximum
        yield f"cnt_{name}", self.count
        yield f"sum_{name}", self.total


class Distribution(Summary):
    """A summary that knows percentiles as well: exact below 1000, of three digits above."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        super().__init__()

    def reset(self) -> None:
        super().reset()
        self._counts.clear()

    def add(self, value: int, count: int = 1) -> None:
        super().add(value, count)
        if value >= _EXACT_BELOW:
            value = round(value, 3 - len(str(value)))
        self._counts[value] = self._counts.get(value, 0) + count

    def percentile(self, share: float) -> int:
        """The least value that ``share`` of all values do not exceed; 0 before the first."""
        wanted = share * self.count
        seen = 0
        for value in sorted(self._counts):
            seen += self._counts[value]
            if seen >= wanted:
                return value
        return 0

    def figures(self, name: str) -> Iterator[tuple[str, object]]:
        yield from super().figures(name)
        for prefix, share in PERCENTILES:
            yield f"{prefix}_{name}", self.percentile(share)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


COUNTERS: Final = _names(
    """
    bytes_received_count commit_count connection_drop_count connection_rejected connection_request_count
    connection_revalidate_count diff_count digest_mismatches_count ensemble_auth_fail ensemble_auth_skip
    ensemble_auth_success large_requests_rejected learner_commit_received_count learner_proposal_received_count
    looking_count prep_processor_request_queued proposal_count quit_leading_due_to_disloyal_voter
    request_throttle_wait_count response_bytes
    revalidate_count sessionless_connections_expired snap_count snapshot_error_count stale_replies stale_requests
    stale_requests_dropped stale_sessions_expired sync_processor_request_queued throttled_ops
    unrecoverable_error_count watch_bytes
    """
)
"""Counters that move here."""

STILL_COUNTERS: Final = _names(
    """
    add_dead_watcher_stall_time cnxn_closed_without_zk_server_running dead_watchers_cleared dead_watchers_queued
    insecure_admin_count outstanding_changes_queued outstanding_changes_removed
    request_commit_queued requests_not_forwarded_to_commit_processor response_packet_cache_hits
    response_packet_cache_misses response_packet_get_children_cache_hits response_packet_get_children_cache_misses
    restore_error_count restore_rate_limited_count skip_learner_request_to_next_processor_count
    snapshot_rate_limited_count tls_handshake_exceeded unsuccessful_handshake
    """
)
"""Counters of what does not exist here: always 0."""

SUMMARIES: Final = _names(
    """
    connection_token_deficit dbinittime election_time follower_sync_time fsynctime inflight_diff_count
    inflight_snap_count leader_unavailable_time
    node_changed_watch_count node_children_watch_count node_created_watch_count node_deleted_watch_count
    observer_sync_time snapshottime startup_snap_load_time startup_txns_load_time startup_txns_loaded
    sync_process_time sync_processor_batch_size unavailable_time
    """
)
"""Summaries that move here."""

STILL_SUMMARIES: Final = _names(
    """
    commit_commit_proc_req_queued commit_process_time concurrent_request_processing_in_commit_processor
    learner_request_processor_queue_size netty_queued_buffer_capacity
    pending_session_queue_size prep_process_time prep_processor_queue_size proposal_process_time
    read_commit_proc_issued read_commit_proc_req_queued reads_after_write_in_session_queue
    reads_issued_from_session_queue requests_in_session_queue restore_time session_queues_drained
    socket_closing_time sync_processor_queue_size time_waiting_empty_pool_in_commit_processor_read_ms
    write_batch_time_in_commit_processor write_commit_proc_issued write_commit_proc_req_queued
    """
)
"""Summaries of what does not exist here: always 0."""

DISTRIBUTIONS: Final = _names(
    """
    commit_propagation_latency propagation_latency proposal_ack_creation_latency proposal_latency quorum_ack_latency
    readlatency request_throttle_queue_time_ms sync_processor_queue_and_flush_time_ms
    sync_processor_queue_flush_time_ms updatelatency
    """
)
"""Summaries with percentiles that move here."""

STILL_DISTRIBUTIONS: Final = _names(
    """
    close_session_prep_time dead_watchers_cleaner_latency jvm_pause_time_ms local_write_committed_time_ms
    om_commit_process_time_ms om_proposal_process_time_ms prep_processor_queue_time_ms read_commitproc_time_ms
    read_final_proc_time_ms server_write_committed_time_ms sync_processor_queue_time_ms write_commitproc_time_ms
    write_final_proc_time_ms
    """
)
"""Summaries with percentiles of what does not exist here: always 0."""
