"""What can go wrong with the files, as one small tree of exceptions."""

from __future__ import annotations

from pathlib import Path


class StorageError(Exception):
    """The disk, a file or a directory failed us. ``path`` says which, ``offset`` (bytes) where in it, if known."""

    def __init__(self, message: str, path: Path, offset: int | None = None) -> None:
        place = str(path) if offset is None else f"{path} at offset {offset}"
        super().__init__(f"{place}: {message}")
        self.path = path
        self.offset = offset


class DiskError(StorageError):
    """A system call failed: disk full, input/output error, read-only file system, no permission."""

    def __init__(self, action: str, error: OSError, path: Path, offset: int | None = None) -> None:
        super().__init__(f"cannot {action}: {error.strerror or error}", path, offset)
        self.errno = error.errno


class CorruptLogError(StorageError):
    """A transaction log is damaged where no crash can have left it so."""


class LogGapError(StorageError):
    """Transactions are missing between two records or two files."""


class DirectoryLayoutError(StorageError):
    """Files lie in a directory where the configuration says they must not be."""


class DirectoryInUseError(StorageError):
    """Another server works on this directory."""
