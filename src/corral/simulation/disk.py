"""A disk that remembers what was never synced, and may lose it when the power goes.

The files are real ones, so that everything can read them as ever. What changes them goes through here: until a file is
synced it is known how to take its writes back, page by page, and until a directory is synced the same is known of the
names in it.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corral.storage.filesystem import FileSystem

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

PAGE_BYTES: Final = 4096


class PowerLostError(BaseException):
    """The machine died within this call: no program catches that."""


@dataclass(slots=True)
class _Write:
    """Where, what was there before, and how long the file was."""

    offset: int
    before: bytes
    size_before: int


@dataclass(slots=True)
class _File:
    """The writes and cuts since the last sync, oldest first."""

    unsynced: list[_Write] = field(default_factory=list)


@dataclass(slots=True)
class _NameChange:
    """A name that came, went or changed, and where the file that was lost by it is kept."""

    target: Path
    source: Path | None
    kept: Path | None


class Disk(FileSystem):
    """The disk of one machine. ``crash`` is called in the middle of a call when :meth:`crash_after` says so.

    It is told of which call: what it does, and to which kind of file.
    """

    def __init__(self, attic: Path, chance: random.Random, crash: Callable[[str], None]) -> None:
        self._attic = attic
        self._chance = chance
        self._crash = crash
        self._files: dict[Path, _File] = {}
        self._names: dict[Path, list[_NameChange]] = {}
        self._open: dict[int, Path] = {}
        self._kept = 0
        self.is_dead = False
        """The program that held it is gone; what it still tries reaches nothing."""
        self.is_full = False
        self.fails_to_sync = False
        self._crash_in = 0
        """The call within which the machine dies, counted down; 0 if none."""
        self._crash_kind = ""
        attic.mkdir(parents=True, exist_ok=True)

    def __repr__(self) -> str:
        unsynced = sum(bool(each.unsynced) for each in self._files.values())
        return f"<Disk with {unsynced} files and {len(self._names)} directories not synced>"

    def is_durable(self, path: Path) -> bool:
        """Whether all that can be read in a file would outlive the power, and its name, too."""
        return self.durable_bytes(path) == sys.maxsize

    def durable_bytes(self, path: Path) -> int:
        """Up to where in a file all that can be read would; ``sys.maxsize`` if that is so up to its end."""
        if any(change.target == path for change in self._names.get(path.parent, ())):
            return 0
        file = self._files.get(path)
        return min((each.offset for each in file.unsynced), default=sys.maxsize) if file is not None else sys.maxsize

    # Faults

    def crash_after(self, calls: int, kind: str = "") -> None:
        """Let the machine die within one of the next calls.

        ``kind``: of those that concern such a file (``log``), or that do such a thing with it (``sync log``).
        """
        self._crash_in = calls
        self._crash_kind = kind

    def forget_crash(self) -> None:
        """Let it live on."""
        self._crash_in = 0

    def _call(self, what: str, path: Path, *, takes_space: bool = False) -> None:
        if self.is_dead:
            raise PowerLostError
        kind = path.name.partition(".")[0]
        if self._crash_in and self._crash_kind in ("", kind, f"{what} {kind}"):
            self._crash_in -= 1
            if not self._crash_in:
                self._crash(f"{what} {kind}")
                raise PowerLostError
        if takes_space and self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _path(self, descriptor: int) -> Path:
        return self._open.get(descriptor, Path())

    def process_dies(self) -> None:
        """Its files are closed; what was written stays."""
        self.is_dead = True
        self._crash_in = 0
        for descriptor in self._open:
            os.close(descriptor)
        self._open.clear()

    def lose_power(self) -> None:
        """What was not synced is lost, or a part of it."""
        for path, file in self._files.items():
            if file.unsynced and path.exists():
                self._lose_writes(path, file.unsynced)
        self._files.clear()
        for changes in self._names.values():
            keep = self._chance.randint(0, len(changes))
            for change in reversed(changes[keep:]):
                _undo(change)
        self._names.clear()

    def spoil(self, path: Path, offset: int, data: bytes) -> None:
        """From now on something else is read there; nobody is told."""
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.pwrite(descriptor, data, offset)
        finally:
            os.close(descriptor)

    def replace(self, directory: Path) -> None:
        """An empty one takes its place. ``directory`` is where its files are."""
        shutil.rmtree(directory)
        self._attic.mkdir(parents=True)
        self._files.clear()
        self._names.clear()

    def revive(self) -> None:
        """Another program may use it."""
        self.is_dead = False

    def _lose_writes(self, path: Path, writes: list[_Write]) -> None:
        chance = self._chance
        how = chance.random()
        if how < 0.25:
            return
        descriptor = os.open(path, os.O_RDWR)
        try:
            for each in reversed(writes):
                if how < 0.6:
                    os.pwrite(descriptor, each.before, each.offset)
                    os.ftruncate(descriptor, each.size_before)
                    continue
                end = each.offset + len(each.before)
                start = each.offset
                while start < end:
                    stop = min(end, (start // PAGE_BYTES + 1) * PAGE_BYTES)
                    if chance.random() < 0.5:
                        os.pwrite(descriptor, each.before[start - each.offset : stop - each.offset], start)
                    start = stop
        finally:
            os.close(descriptor)

    # The calls of a file system

    def create(self, path: Path) -> int:
        self._call("create", path, takes_space=True)
        descriptor = super().create(path)
        self._open[descriptor] = path
        self._files[path] = _File()
        self._names.setdefault(path.parent, []).append(_NameChange(path, None, None))
        return descriptor

    def set_mode(self, descriptor: int, mode: int) -> None:
        self._call("set the mode of", self._path(descriptor))
        super().set_mode(descriptor, mode)

    def open(self, path: Path) -> int:
        self._call("open", path)
        descriptor = super().open(path)
        self._open[descriptor] = path
        return descriptor

    def close(self, descriptor: int) -> None:
        if not self.is_dead and self._open.pop(descriptor, None) is not None:
            super().close(descriptor)

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        self._call("write", self._path(descriptor), takes_space=True)
        size = os.fstat(descriptor).st_size
        before = os.pread(descriptor, len(data), offset)
        self._note(descriptor, _Write(offset, before.ljust(len(data), b"\0"), size))
        return super().pwrite(descriptor, data, offset)

    def truncate(self, descriptor: int, size: int) -> None:
        self._call("cut", self._path(descriptor), takes_space=True)
        size_before = os.fstat(descriptor).st_size
        before = os.pread(descriptor, size_before - size, size) if size < size_before else b""
        self._note(descriptor, _Write(size, before, size_before))
        super().truncate(descriptor, size)

    def _note(self, descriptor: int, write: _Write) -> None:
        self._files.setdefault(self._open[descriptor], _File()).unsynced.append(write)

    def sync_data(self, descriptor: int) -> None:
        self._call("sync", self._path(descriptor))
        if self.fails_to_sync:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._files.pop(self._open[descriptor], None)

    def sync_directory(self, path: Path) -> None:
        self._call("sync the names in", path)
        if self.fails_to_sync:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        for change in self._names.pop(path, ()):
            if change.kept is not None:
                change.kept.unlink()

    def rename(self, source: Path, target: Path) -> None:
        self._call("rename", target)
        kept = self._keep(target) if target.exists() else None
        super().rename(source, target)
        file = self._files.pop(source, None)
        self._files.pop(target, None)
        if file is not None:
            self._files[target] = file
        self._names.setdefault(target.parent, []).append(_NameChange(target, source, kept))

    def unlink(self, path: Path) -> None:
        self._call("remove", path)
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        self._files.pop(path, None)
        self._names.setdefault(path.parent, []).append(_NameChange(path, None, self._keep(path)))

    def _keep(self, path: Path) -> Path:
        self._kept += 1
        kept = self._attic / str(self._kept)
        path.rename(kept)
        return kept

    def make_directory(self, path: Path) -> None:
        self._call("make the directory", path)
        super().make_directory(path)


def _undo(change: _NameChange) -> None:
    if change.source is not None:
        change.target.rename(change.source)
    elif change.kept is None:
        change.target.unlink()
    if change.kept is not None:
        change.kept.rename(change.target)
