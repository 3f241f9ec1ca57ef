"""One server to a data directory.

The lock is the system's (``flock``): it ends with the process that holds it, however that ends. The lock file itself
stays behind and means nothing; Apache's server passes it over, and takes no lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from corral.storage.errors import DirectoryInUseError, DiskError, StorageError

LOCK_FILE: Final = "corral.lock"


class DirectoryLock:
    """Held from construction until :meth:`close`; a context manager.

    Raises :class:`~corral.storage.errors.DirectoryInUseError` if another server (or another one in this process) holds
    the directory, and :class:`~corral.storage.errors.StorageError` if the directory cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        path = directory / LOCK_FILE
        try:
            self._descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise _explain(error, directory, path) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 20, 0).decode("ascii", "replace").strip()
            self.close()
            by = f" (process {holder})" if holder else ""
            raise DirectoryInUseError(f"in use by another server{by}", directory) from None
        except OSError as error:
            self.close()
            raise DiskError("lock the file", error, path) from error
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        except OSError as error:
            # A full disk must not stop a start: the number is only there to be read by people.
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                self.close()
                raise DiskError("write the lock file", error, path) from error

    def __repr__(self) -> str:
        return f"DirectoryLock({str(self.directory)!r})"

    def close(self) -> None:
        """Let the directory go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _explain(error: OSError, directory: Path, path: Path) -> StorageError:
    if error.errno == errno.EROFS:
        return StorageError("the file system is read-only; a server needs to write here", directory)
    if error.errno in (errno.EACCES, errno.EPERM):
        try:
            owner = directory.stat().st_uid
        except OSError:
            return DiskError("create the lock file", error, path)
        return StorageError(
            f"not writable for this user (user id {os.geteuid()}, the directory belongs to {owner})", directory
        )
    return DiskError("create the lock file", error, path)
