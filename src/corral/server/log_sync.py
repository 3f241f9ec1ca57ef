"""Who writes and syncs the log's batches: a worker thread, or the loop and the kernel between them.

The thread is the plain way: whatever the device does, only it waits. Its hand-overs cost more than a short sync,
though. So while the device is known to be quick and batches follow each other closely, the loop writes the batch into
the page cache itself and has the kernel sync it (:mod:`corral.storage.kernel_sync`). At least every
:data:`PLAIN_EVERY_S` one batch goes the plain way, so that a device that has become slow is noticed by the thread.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

from corral.storage.errors import StorageError
from corral.storage.filesystem import REAL
from corral.storage.kernel_sync import KernelSync

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from corral.server.machine import Machine
    from corral.storage.txnlog import Batch, TxnLogWriter

log = logging.getLogger(__name__)

PLAIN_EVERY_S: Final = 0.05
QUICK_SYNC_MS: Final = 2.0
"""A sync that took longer ends the quick way until one in the thread is quick again."""
QUICK_BATCH_BYTES: Final = 256 * 1024
"""Larger batches take so long to write that the hand-over does not matter."""


class LogSync:
    """Makes batches durable, one after the other. ``failed`` is told, once, that the log cannot be written."""

    def __init__(
        self,
        txn_log: TxnLogWriter,
        loop: asyncio.AbstractEventLoop,
        machine: Machine,
        failed: Callable[[StorageError], None],
    ) -> None:
        self._txn_log = txn_log
        self._loop = loop
        self._failed = failed
        self._worker = machine.worker("corral-log", loop)
        self._kernel: KernelSync | None = None
        self._done: Callable[[], None] | None = None
        self._started_s = 0.0
        self._last_plain_s = -PLAIN_EVERY_S
        self._device_is_quick = False
        self._last_count = 0
        if machine.filesystem is REAL and txn_log.force_sync:
            try:
                self._kernel = KernelSync()
                loop.add_reader(self._kernel.descriptor, self._kernel_synced)
            except (OSError, NotImplementedError) as error:
                log.info("the log is synced by a thread alone: %s", error)
                self._kernel = None

    def write(self, batch: Batch, done: Callable[[], None]) -> None:
        """Call ``done`` on the loop once ``batch`` is on disk."""
        now_s = self._loop.time()
        last_count, self._last_count = self._last_count, batch.count
        if (
            self._device_is_quick
            and (batch.count > 1 or last_count > 1)
            and batch.size_bytes <= QUICK_BATCH_BYTES
            and now_s - self._last_plain_s < PLAIN_EVERY_S
            and self._write_quickly(batch, done, now_s)
        ):
            return
        self._last_plain_s = now_s
        failure: list[StorageError] = []

        def write() -> None:
            try:
                self._txn_log.write(batch)
            except StorageError as error:
                failure.append(error)

        def written() -> None:
            if failure:
                self._failed(failure[0])
                return
            self._device_is_quick = self._kernel is not None and self._txn_log.last_sync_ms < QUICK_SYNC_MS
            done()

        self._worker.submit(write, written)

    def _write_quickly(self, batch: Batch, done: Callable[[], None], now_s: float) -> bool:
        """Write and let the kernel sync; False if the batch needs the plain way."""
        assert self._kernel is not None
        try:
            descriptor = self._txn_log.write_unsynced(batch)
            if descriptor is None:
                return False
            self._done = done
            self._started_s = now_s
            self._kernel.submit(descriptor)
        except StorageError as error:
            self._loop.call_soon(self._failed, error)
        except OSError as error:
            self._loop.call_soon(self._failed, self._txn_log.sync_failed(error))
        return True

    def _kernel_synced(self) -> None:
        assert self._kernel is not None
        done, self._done = self._done, None
        assert done is not None
        error = self._kernel.result()
        if error:
            self._failed(self._txn_log.sync_failed(OSError(error, os.strerror(error))))
            return
        took_ms = (self._loop.time() - self._started_s) * 1000
        self._txn_log.last_sync_ms = took_ms
        self._device_is_quick = took_ms < QUICK_SYNC_MS
        done()

    def stop(self, timeout_s: float) -> bool:
        """Finish what was handed over; False if the device did not let us in ``timeout_s``."""
        finished = self._worker.stop(timeout_s)
        if self._kernel is not None:
            self._loop.remove_reader(self._kernel.descriptor)
            if self._kernel.busy:
                # To give it back would be to wait for the device.
                return False
            self._kernel.close()
            self._kernel = None
        return finished
