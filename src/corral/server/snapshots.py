"""When snapshots are taken, and taking one beside the service (source: SyncRequestProcessor).

The tree is encoded in small pieces between which the loop serves clients; a thread compresses and writes them. At
most one snapshot is under way. A snapshot that fails (a full disk) is given up with a warning: the log has it all.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from corral.storage.snapshot import SnapshotEncoder
from corral.storage.snapshot_file import SnapshotWriter

if TYPE_CHECKING:
    import asyncio
    import random
    from collections.abc import Callable
    from pathlib import Path

    from corral.server.config import StorageConfig
    from corral.server.machine import Machine
    from corral.server.stats import ServerStats
    from corral.server.workers import Worker
    from corral.tree.datatree import DataTree

log = logging.getLogger(__name__)

NODES_PER_PIECE: Final = 250
"""Encoded in one go: about a third of a millisecond."""
PAUSE_S: Final = 0.001
"""Between two pieces while clients want to be served."""
PIECES_AHEAD: Final = 16
"""Pieces that may wait for the disk before encoding pauses."""


class SnapshotSchedule:
    """Draws after how many transactions, or bytes of log, the next snapshot is due."""

    def __init__(self, config: StorageConfig, chance: random.Random) -> None:
        self._count = config.snap_count
        self._size_bytes = config.snap_size_limit_kb * 1024
        self._chance = chance
        self.transactions = 0
        self._draw()

    def _draw(self) -> None:
        self._count_threshold = self._count // 2 + self._chance.randrange(max(1, self._count // 2))
        self._size_threshold = 0
        if self._size_bytes > 0:
            self._size_threshold = self._size_bytes // 2 + self._chance.randrange(max(1, self._size_bytes // 2))

    def is_due(self, new_transactions: int, log_bytes: int) -> bool:
        """Count transactions; whether it is time. If so, counting begins anew."""
        self.transactions += new_transactions
        if self.transactions <= self._count_threshold and not 0 < self._size_threshold < log_bytes:
            return False
        self.transactions = 0
        self._draw()
        return True


@dataclass(slots=True)
class _Running:
    """A snapshot under way. ``writer`` and ``error`` belong to the thread until its jobs have reported."""

    encoder: SnapshotEncoder
    started_at: float
    ahead: int = 0
    writer: SnapshotWriter | None = None
    error: Exception | None = None


class Snapshotter:
    """Takes snapshots of ``tree`` while it goes on changing."""

    def __init__(
        self,
        tree: DataTree,
        directory: Path,
        config: StorageConfig,
        loop: asyncio.AbstractEventLoop,
        stats: ServerStats,
        machine: Machine,
    ) -> None:
        self.tree = tree
        self.directory = directory
        self.config = config
        self.stats = stats
        self.longest_stall_ms = 0.0
        """The longest that encoding has held up the loop."""
        self.last_zxid = -1
        self._loop = loop
        self._machine = machine
        self._filesystem = machine.filesystem
        self._worker: Worker | None = None
        self._running: _Running | None = None

    @property
    def running(self) -> bool:
        return self._running is not None

    def start(self) -> bool:
        """Begin a snapshot of the tree as it is; False if one is still under way."""
        if self._running is not None:
            log.warning("a snapshot is still being written: none is begun now")
            return False
        if self._worker is None:
            self._worker = self._machine.worker("corral-snapshot", self._loop)
        started = time.perf_counter()
        encoder = SnapshotEncoder(
            self.tree,
            digests=self.config.digest_enabled,
            last_zxid_section=self.config.serialize_last_processed_zxid_enabled,
        )
        head = encoder.head()
        running = self._running = _Running(encoder, started)
        self._note_stall(started)
        self._submit(running, lambda: self._open(running, head))
        self._loop.call_soon(self._next_piece, running)
        return True

    def _submit(self, running: _Running, write: Callable[[], object]) -> None:
        def job() -> None:
            if running.error is None:
                try:
                    write()
                except Exception as error:
                    running.error = error

        assert self._worker is not None
        running.ahead += 1
        self._worker.submit(job, lambda: self._written(running))

    def _open(self, running: _Running, head: bytes) -> None:
        running.writer = SnapshotWriter(
            self.directory, running.encoder.zxid, self.config.snapshot_compression or "", self._filesystem
        )
        running.writer.write(head)

    def _write(self, running: _Running, piece: bytes) -> None:
        assert running.writer is not None
        running.writer.write(piece)

    def _finish(self, running: _Running) -> None:
        assert running.writer is not None
        running.writer.finish(running.encoder.sections())
        running.writer = None

    def _next_piece(self, running: _Running) -> None:
        if self._running is not running:
            return
        if running.ahead >= PIECES_AHEAD:
            self._loop.call_later(PAUSE_S, self._next_piece, running)
            return
        started = time.perf_counter()
        piece = running.encoder.nodes(NODES_PER_PIECE)
        self._note_stall(started)
        if piece is None:
            self._submit(running, lambda: self._finish(running))
            return
        self._submit(running, lambda: self._write(running, piece))
        self._loop.call_later(PAUSE_S, self._next_piece, running)

    def _written(self, running: _Running) -> None:
        running.ahead -= 1
        if self._running is not running:
            return
        if running.error is not None:
            log.error("no snapshot could be written: %s", running.error)
            self.stats.count("snapshot_error_count")
            self.give_up()
        elif running.writer is None:
            self._running = None
            self.last_zxid = running.encoder.zxid
            took_s = time.perf_counter() - running.started_at
            self.stats.note("snapshottime", took_s * 1000)
            log.info("snapshot of %d znodes at zxid %#x in %.1f s", *(running.encoder.total, self.last_zxid, took_s))

    def give_up(self) -> None:
        """Let the snapshot under way, if there is one, come to nothing."""
        running, self._running = self._running, None
        if running is None:
            return
        if running.error is None:
            running.error = InterruptedError("it was given up")
        if self._worker is not None:
            self._worker.submit(lambda: _discard(running), lambda: None)

    def _note_stall(self, started: float) -> None:
        self.longest_stall_ms = max(self.longest_stall_ms, (time.perf_counter() - started) * 1000)

    def stop(self) -> None:
        """Give up a snapshot under way, and take none any more."""
        self.give_up()
        if self._worker is not None:
            self._worker.stop(timeout_s=2)
            self._worker = None


def _discard(running: _Running) -> None:
    if running.writer is not None:
        running.writer.discard()
