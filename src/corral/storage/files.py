"""The names of all files in a data directory, made and read in this one place.

    dataDir/myid                                 the server's number, decimal
    dataDir/zookeeper_server.pid                 process id, written by ``corral start``
    dataDir/version-2/snapshot.<zxid>[.gz|.snappy]
    dataDir/version-2/currentEpoch, acceptedEpoch
    dataDir/version-2/members                    who belonged to the ensemble last (Corral's own)
    dataLogDir/initialize                        empty marker: an empty database is expected
    dataLogDir/version-2/log.<zxid>              zxid of the first record

zxids are lower-case hexadecimal without padding. Source of the layout: Apache ZooKeeper's FileTxnSnapLog, Util,
QuorumPeer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corral.storage.errors import DirectoryLayoutError, DiskError, StorageError
from corral.storage.filesystem import REAL, FileSystem, replace_file

VERSION_DIRECTORY: Final = "version-2"
MYID: Final = "myid"
PID_FILE: Final = "zookeeper_server.pid"
INITIALIZE: Final = "initialize"
CURRENT_EPOCH: Final = "currentEpoch"
ACCEPTED_EPOCH: Final = "acceptedEpoch"
MEMBERS: Final = "members"

_ZXID = "[0-9a-f]{1,16}"
_LOG_NAME = re.compile(rf"log\.({_ZXID})")
_SNAPSHOT_NAME = re.compile(rf"snapshot\.({_ZXID})(?:\.(gz|snappy))?")
_LARGEST_ZXID: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True, order=True)
class LogFile:
    """A transaction log; ``zxid`` is that of its first record."""

    zxid: int
    path: Path


@dataclass(frozen=True, slots=True, order=True)
class SnapshotFile:
    """A snapshot: what was applied up to ``zxid``; ``compression`` is ``""``, ``"gz"`` or ``"snappy"``."""

    zxid: int
    path: Path
    compression: str


def log_name(zxid: int) -> str:
    return f"log.{zxid:x}"


def snapshot_name(zxid: int, compression: str = "") -> str:
    return f"snapshot.{zxid:x}.{compression}" if compression else f"snapshot.{zxid:x}"


def parse_log(path: Path) -> LogFile | None:
    """The log that the path names, or None if it is no log's name."""
    match = _LOG_NAME.fullmatch(path.name)
    if match is None or (zxid := int(match[1], 16)) > _LARGEST_ZXID:
        return None
    return LogFile(zxid, path)


def parse_snapshot(path: Path) -> SnapshotFile | None:
    """The snapshot that the path names, or None if it is no snapshot's name."""
    match = _SNAPSHOT_NAME.fullmatch(path.name)
    if match is None or (zxid := int(match[1], 16)) > _LARGEST_ZXID:
        return None
    return SnapshotFile(zxid, path, match[2] or "")


def list_logs(directory: Path) -> list[LogFile]:
    """The transaction logs of a ``version-2`` directory, oldest first; other files are passed over."""
    return sorted(log for path in _entries(directory) if (log := parse_log(path)) is not None)


def list_snapshots(directory: Path) -> list[SnapshotFile]:
    """The snapshots of a ``version-2`` directory, oldest first; other files are passed over."""
    return sorted(snapshot for path in _entries(directory) if (snapshot := parse_snapshot(path)) is not None)


def list_lookalikes(directory: Path) -> list[Path]:
    """Files called ``log.…`` or ``snapshot.…`` that are neither, such as a tool's ``log.5.fixed``.

    They are not read; names ending in ``.tmp`` (our own unfinished files) are left out. Apache's server takes some of
    them for logs, so whoever put them there should be told.
    """
    return sorted(
        path
        for path in _entries(directory)
        if path.name.startswith(("log.", "snapshot."))
        and not path.name.endswith(".tmp")
        and parse_log(path) is None
        and parse_snapshot(path) is None
    )


def list_unfinished(directory: Path) -> list[Path]:
    """Files that a server of ours or Apache's was writing under a temporary name when it was killed."""
    return sorted(path for path in _entries(directory) if path.name.endswith(".tmp") and path.is_file())


def check_layout(snapshot_directory: Path, log_directory: Path) -> None:
    """Raise :class:`DirectoryLayoutError` if snapshots lie among the logs or logs among the snapshots.

    Such files are the trace of a changed ``dataLogDir``: starting without them would lose what they hold. With one
    directory for both there is nothing to check.
    """
    if snapshot_directory.resolve() == log_directory.resolve():
        return
    if snapshots := list_snapshots(log_directory):
        raise DirectoryLayoutError(
            f"a snapshot in the log directory; snapshots belong into {snapshot_directory}: "
            "move it there, or correct dataDir and dataLogDir",
            snapshots[0].path,
        )
    if logs := list_logs(snapshot_directory):
        raise DirectoryLayoutError(
            f"a transaction log in the snapshot directory; logs belong into {log_directory}: "
            "move it there, or correct dataDir and dataLogDir",
            logs[0].path,
        )


def read_number(path: Path) -> int | None:
    """The decimal number that a small file (myid, an epoch) holds; None if there is no such file."""
    try:
        text = path.read_bytes().decode("ascii", "replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DiskError("read the file", error, path) from error
    if re.fullmatch(r"-?[0-9]{1,19}", text) is None:
        raise StorageError(f"a decimal number was expected, not {text[:40]!r}", path)
    return int(text)


def write_number(path: Path, number: int, filesystem: FileSystem = REAL) -> None:
    """Replace the number that a small file holds, safely against a crash."""
    replace_file(path, str(number).encode("ascii"), filesystem)


def _entries(directory: Path) -> Iterator[Path]:
    try:
        yield from directory.iterdir()
    except FileNotFoundError:
        return
    except OSError as error:
        raise DiskError("list the directory", error, directory) from error
