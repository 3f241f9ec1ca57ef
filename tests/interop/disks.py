"""Small disks that can be full."""

from __future__ import annotations

import errno
import os
import subprocess
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

COMMAND_LIMIT_S: Final = 20
BALLAST: Final = "ballast"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


class SmallDisk:
    """A file system in memory, at a directory. Raises `OSError` where none may be mounted."""

    def __init__(self, place: Path, megabytes: int) -> None:
        self._place = place
        place.mkdir(parents=True)
        _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "corral-tests", str(place))

    def fill(self) -> None:
        """Leaves not a single block."""
        with (self._place / BALLAST).open("wb", buffering=0) as ballast:
            size = 0
            while free := self._free_bytes():
                try:
                    os.posix_fallocate(ballast.fileno(), size, free)
                except OSError as error:
                    # The member has written meanwhile: there is less.
                    if error.errno != errno.ENOSPC:
                        raise
                else:
                    size += free

    def _free_bytes(self) -> int:
        found = os.statvfs(self._place)
        return found.f_bavail * found.f_frsize

    def empty(self) -> None:
        """Takes the ballast out again."""
        (self._place / BALLAST).unlink(missing_ok=True)

    def remove(self) -> None:
        """Nobody may be using it any more."""
        _run("umount", str(self._place))
