"""The file that tells which process serves a data directory.

It holds the number of the process, as the one of zkServer.sh. A number alone does not say whether that process is
still the server (numbers are used again, in containers soon), so the server also holds a lock on the file, which
ends with the process whatever way it ends. The lock is taken by whoever starts the server and inherited by it.
"""

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["PidFile"]

APACHE_CLASSES: Final = ("org.apache.zookeeper.server.quorum.QuorumPeerMain", "ZooKeeperServerMain")
"""By these the command line of Apache's server is known."""


class PidFile:
    """A pid file at a path, which need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def lock(self) -> Iterator[int | None]:
        """The descriptor of the file, made if need be, locked for us; None if a server holds the lock."""
        descriptor = self._try_lock()
        try:
            yield descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _try_lock(self) -> int | None:
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The file may have been removed between the two calls: then the lock is on a file without a name.
                if self.path.exists() and os.path.samestat(self.path.stat(), os.fstat(descriptor)):
                    return descriptor
            except BlockingIOError:
                os.close(descriptor)
                return None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def is_held(self) -> bool:
        """Whether a server that was started with this file runs."""
        if not self.path.exists():
            return False
        with self.lock() as descriptor:
            return descriptor is None

    def remove(self) -> None:
        """Remove the file, unless there is none or a server holds it by now."""
        if not self.path.exists():
            return
        with self.lock() as descriptor:
            if descriptor is not None:
                self.path.unlink(missing_ok=True)

    def number(self) -> int | None:
        """The number in the file; None if there is no such file or no number in it."""
        try:
            return int(self.path.read_text("ascii"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    def apache_server(self) -> int | None:
        """The number in the file, if that process is a server of Apache's that zkServer.sh started."""
        number = self.number()
        if number is not None and any(name in command_line(number) for name in APACHE_CLASSES):
            return number
        return None


def command_line(process: int) -> str:
    """The command line of a process; nothing if there is no such process."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        pass
    try:
        listing = subprocess.run(
            ["ps", "-o", "args=", "-p", str(process)], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return listing.stdout
