"""The few system calls through which storage changes a disk.

Everything that must survive a crash goes through one :class:`FileSystem`, so that a test or a simulator can stand in
for the disk: fail a call, shorten a write, or forget what was never synced. Reading needs no such stand-in.
"""

from __future__ import annotations

import os
from pathlib import Path

from corral.storage.errors import DiskError


class FileSystem:
    """The real disk. Every method raises :class:`OSError` as the system reports it."""

    def create(self, path: Path) -> int:
        """A descriptor for writing and reading a file that must not exist yet."""
        return os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o644)

    def set_mode(self, descriptor: int, mode: int) -> None:
        """Say who may read and write the file."""
        os.fchmod(descriptor, mode)

    def open(self, path: Path) -> int:
        """A descriptor for changing a file that exists."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        """Write at ``offset``; returns the bytes taken, which may be fewer than given."""
        return os.pwrite(descriptor, data, offset)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file, or extend it by zeros, to ``size`` bytes."""
        os.ftruncate(descriptor, size)

    def sync_data(self, descriptor: int) -> None:
        """Return once the file's content, and the length needed to read it back, is on the device."""
        os.fdatasync(descriptor)

    def sync_directory(self, path: Path) -> None:
        """Make names created, renamed or removed in the directory survive a crash."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give a file its final name, replacing one that has it."""
        os.replace(source, target)  # noqa: PTH105 - looked up at call time, as the tests' fault injection needs

    def unlink(self, path: Path) -> None:
        os.unlink(path)  # noqa: PTH108 - as above

    def make_directory(self, path: Path) -> None:
        """Create the directory and its parents, as far as missing."""
        os.makedirs(path, exist_ok=True)  # noqa: PTH103 - as above


REAL = FileSystem()
"""The disk that servers use unless told otherwise."""


def write_fully(filesystem: FileSystem, descriptor: int, data: bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset``, going on after short writes."""
    written = filesystem.pwrite(descriptor, data, offset)
    while written < len(data):
        rest = data[written:]
        taken = filesystem.pwrite(descriptor, rest, offset + written)
        if taken <= 0:
            raise OSError(f"the device took {written} of {len(data)} bytes and no more")
        written += taken


def replace_file(path: Path, content: bytes, filesystem: FileSystem = REAL, *, mode: int | None = None) -> None:
    """Give a small file new content so that a crash leaves the old one or the new one, never a part.

    ``mode`` is who may read and write it, if not as usual. Raises :class:`~corral.storage.errors.DiskError`; the old
    content is then still there.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        remove_if_present(temporary, filesystem)
        descriptor = filesystem.create(temporary)
        try:
            if mode is not None:
                filesystem.set_mode(descriptor, mode)
            write_fully(filesystem, descriptor, content, 0)
            filesystem.sync_data(descriptor)
        finally:
            filesystem.close(descriptor)
        filesystem.rename(temporary, path)
        filesystem.sync_directory(path.parent)
    except OSError as error:
        raise DiskError("replace the file", error, path) from error


def remove_if_present(path: Path, filesystem: FileSystem = REAL) -> None:
    try:
        filesystem.unlink(path)
    except FileNotFoundError:
        return
