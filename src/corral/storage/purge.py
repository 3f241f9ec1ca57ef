"""Deciding which old snapshots and logs can go, and removing them.

Kept are the newest ``keep`` snapshots that can be loaded and every log that may hold transactions after the oldest of
them: the logs from its zxid on and the last one that begins before. A snapshot that cannot be loaded never counts, or
an invalid one could cost the last valid. Source of the rule: Apache ZooKeeper's PurgeTxnLog.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corral.storage.errors import DiskError
from corral.storage.files import SnapshotFile, list_logs, list_snapshots
from corral.storage.filesystem import REAL, FileSystem, remove_if_present

FEWEST_KEPT: Final = 3
"""``autopurge.snapRetainCount`` may not be less."""


@dataclass(frozen=True, slots=True)
class PurgePlan:
    """The files to remove, oldest first, and the zxid of the oldest snapshot that stays (None: nothing to go by)."""

    snapshots: tuple[Path, ...]
    logs: tuple[Path, ...]
    oldest_kept_zxid: int | None

    @property
    def paths(self) -> tuple[Path, ...]:
        """In the order of removal: what is left in between can always be loaded.

        The logs first. That a log was left for a tree from another server (ZOOKEEPER-2846) can be seen only by the
        tree's snapshot, which no log leads to.
        """
        return self.logs + self.snapshots


def plan_purge(
    snapshot_directory: Path, log_directory: Path, keep: int, is_valid: Callable[[SnapshotFile], bool]
) -> PurgePlan:
    """What can be removed while ``keep`` valid snapshots stay; ``is_valid`` says whether one could be loaded.

    With fewer valid snapshots than ``keep``, only what is older than all of them goes; with none, nothing.
    """
    if keep < FEWEST_KEPT:
        raise ValueError(f"at least {FEWEST_KEPT} snapshots must be kept, not {keep}")
    snapshots = list_snapshots(snapshot_directory)
    oldest_kept: int | None = None
    valid = 0
    for snapshot in reversed(snapshots):
        if is_valid(snapshot):
            oldest_kept = snapshot.zxid
            valid += 1
            if valid == keep:
                break
    if oldest_kept is None:
        return PurgePlan((), (), None)
    logs = list_logs(log_directory)
    first_needed = max((log.zxid for log in logs if log.zxid <= oldest_kept), default=oldest_kept)
    return PurgePlan(
        tuple(snapshot.path for snapshot in snapshots if snapshot.zxid < oldest_kept),
        tuple(log.path for log in logs if log.zxid < first_needed),
        oldest_kept,
    )


def purge(plan: PurgePlan, filesystem: FileSystem = REAL) -> None:
    """Remove what the plan names; files already gone are fine. Raises :class:`~corral.storage.errors.DiskError`."""
    _remove(plan.logs, filesystem)
    for directory in {path.parent for path in plan.logs}:
        try:
            filesystem.sync_directory(directory)
        except OSError as error:
            raise DiskError("sync the directory", error, directory) from error
    _remove(plan.snapshots, filesystem)


def _remove(paths: tuple[Path, ...], filesystem: FileSystem) -> None:
    for path in paths:
        try:
            remove_if_present(path, filesystem)
        except OSError as error:
            raise DiskError("remove the file", error, path) from error
