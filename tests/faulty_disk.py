"""Disks that fail: a call that raises, a write that is cut short, a machine that loses what was not synced."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from corral.storage.filesystem import FileSystem

PAGE_BYTES = 4096


def disk_full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def input_output_error() -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO))


class FailingFileSystem(FileSystem):
    """The real disk, but the calls named in ``failures`` raise, from their ``after``-th use on."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.failures: dict[str, tuple[int, Callable[[], OSError]]] = {}
        self.space_bytes: int | None = None
        """Bytes that may still be written; None is a disk without end."""
        self.largest_write: int | None = None
        """The most that one write takes."""

    def fail(self, call: str, error: Callable[[], OSError], after: int = 0) -> None:
        self.failures[call] = (self.calls.get(call, 0) + after, error)

    def _count(self, call: str) -> None:
        uses = self.calls.get(call, 0)
        self.calls[call] = uses + 1
        if call in self.failures:
            after, error = self.failures[call]
            if uses >= after:
                raise error()

    def create(self, path: Path) -> int:
        self._count("create")
        return super().create(path)

    def open(self, path: Path) -> int:
        self._count("open")
        return super().open(path)

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        self._count("pwrite")
        if self.largest_write is not None:
            data = data[: self.largest_write]
        if self.space_bytes is not None:
            if data and not self.space_bytes:
                raise disk_full()
            data = data[: self.space_bytes]
            self.space_bytes -= len(data)
        return super().pwrite(descriptor, data, offset)

    def truncate(self, descriptor: int, size: int) -> None:
        self._count("truncate")
        super().truncate(descriptor, size)

    def sync_data(self, descriptor: int) -> None:
        self._count("sync_data")
        super().sync_data(descriptor)

    def sync_directory(self, path: Path) -> None:
        self._count("sync_directory")
        super().sync_directory(path)

    def rename(self, source: Path, target: Path) -> None:
        self._count("rename")
        super().rename(source, target)

    def unlink(self, path: Path) -> None:
        self._count("unlink")
        super().unlink(path)


@dataclass
class _Node:
    """A file as the device has it, and the changes that only the page cache has."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes] | int] = field(default_factory=list)


class PowerCutError(Exception):
    """Raised in place of a sync: the machine is gone."""


class ForgetfulFileSystem(FileSystem):
    """The real disk, which also remembers what a power cut would leave of one directory.

    :meth:`power_cut` rewrites the directory so: synced bytes stay, of every other write each page stays or is lost, by
    the draw of ``random``; so do names that were created or removed without a sync of the directory.
    """

    def __init__(self, directory: Path, random: Random) -> None:
        self.directory = directory
        self.random = random
        self._is_off = False
        self.syncs_left: int | None = None
        """After so many more syncs (None: no limit), a sync raises :class:`PowerCutError` and makes nothing durable."""
        self._nodes: dict[str, _Node] = {}
        self._durable_names: dict[str, _Node] = {}
        self._open: dict[int, _Node] = {}

    def create(self, path: Path) -> int:
        descriptor = super().create(path)
        self._nodes[path.name] = self._open[descriptor] = _Node()
        return descriptor

    def open(self, path: Path) -> int:
        descriptor = super().open(path)
        self._open[descriptor] = self._nodes[path.name]
        return descriptor

    def close(self, descriptor: int) -> None:
        del self._open[descriptor]
        super().close(descriptor)

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        self._open[descriptor].pending.append((offset, data))
        return super().pwrite(descriptor, data, offset)

    def truncate(self, descriptor: int, size: int) -> None:
        self._open[descriptor].pending.append(size)
        super().truncate(descriptor, size)

    def _count_sync(self) -> None:
        if self.syncs_left is not None:
            if not self.syncs_left:
                self._is_off = True
                raise PowerCutError
            self.syncs_left -= 1

    def sync_data(self, descriptor: int) -> None:
        self._count_sync()
        node = self._open[descriptor]
        for change in node.pending:
            _apply(node.durable, change)
        node.pending.clear()

    def sync_directory(self, path: Path) -> None:
        self._count_sync()
        self._durable_names = dict(self._nodes)

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self._nodes[target.name] = self._nodes.pop(source.name)

    def unlink(self, path: Path) -> None:
        if self._is_off:
            raise PowerCutError
        super().unlink(path)
        self._nodes.pop(path.name, None)

    def power_cut(self) -> None:
        for descriptor in list(self._open):
            self.close(descriptor)
        self.syncs_left = None
        self._is_off = False
        survivors = dict(self._durable_names)
        for name in set(self._nodes) | set(survivors):
            if self._nodes.get(name) is not survivors.get(name) and self.random.random() < 0.5:
                node = self._nodes.get(name)
                if node is None:
                    del survivors[name]
                else:
                    survivors[name] = node
        for path in self.directory.iterdir():
            path.unlink()
        for name, node in survivors.items():
            for change in node.pending:
                self._keep_some(node.durable, change)
            node.pending.clear()
            (self.directory / name).write_bytes(node.durable)
        self._nodes = dict(survivors)
        self._durable_names = dict(survivors)

    def _keep_some(self, durable: bytearray, change: tuple[int, bytes] | int) -> None:
        if isinstance(change, int):
            if self.random.random() < 0.5:
                _apply(durable, change)
            return
        offset, data = change
        end = offset + len(data)
        start = offset
        while start < end:
            stop = min(end, start - start % PAGE_BYTES + PAGE_BYTES)
            if self.random.random() < 0.5:
                _apply(durable, (start, data[start - offset : stop - offset]))
            start = stop


def _apply(content: bytearray, change: tuple[int, bytes] | int) -> None:
    if isinstance(change, int):
        if change < len(content):
            del content[change:]
        else:
            content.extend(bytes(change - len(content)))
        return
    offset, data = change
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


class HeldDisk(FileSystem):
    """The real disk, whose syncs wait while they are held."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.let.set()
        self.began = threading.Event()

    def hold(self) -> None:
        """From now on."""
        self.let.clear()
        self.began.clear()

    def sync_data(self, descriptor: int) -> None:
        self.began.set()
        self.let.wait(10)
        super().sync_data(descriptor)
