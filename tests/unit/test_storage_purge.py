from __future__ import annotations

from pathlib import Path

import pytest
from tests.faulty_disk import FailingFileSystem, input_output_error

from corral.storage.errors import DiskError
from corral.storage.files import SnapshotFile
from corral.storage.purge import plan_purge, purge


def directory_of(tmp_path: Path, *names: str) -> Path:
    for name in names:
        (tmp_path / name).touch()
    return tmp_path


def names_of(paths: tuple[Path, ...]) -> list[str]:
    return [path.name for path in paths]


def always_valid(snapshot: SnapshotFile) -> bool:
    return True


def test_the_newest_snapshots_and_the_logs_they_need_stay(tmp_path: Path) -> None:
    directory = directory_of(
        tmp_path,
        *("snapshot.0", "snapshot.10", "snapshot.20.gz", "snapshot.30", "snapshot.40"),
        *("log.1", "log.8", "log.11", "log.18", "log.21", "log.31", "log.41"),
        *("currentEpoch", "log.1.fixed"),
    )
    plan = plan_purge(directory, directory, 3, always_valid)
    assert plan.oldest_kept_zxid == 0x20
    assert names_of(plan.snapshots) == ["snapshot.0", "snapshot.10"]
    # log.18 may hold what came after 0x20: it is the last that begins no later.
    assert names_of(plan.logs) == ["log.1", "log.8", "log.11"]
    purge(plan)
    assert sorted(path.name for path in directory.iterdir()) == [
        *("currentEpoch", "log.1.fixed", "log.18", "log.21", "log.31", "log.41"),
        *("snapshot.20.gz", "snapshot.30", "snapshot.40"),
    ]


def test_a_log_that_begins_at_the_snapshot_is_enough(tmp_path: Path) -> None:
    directory = directory_of(tmp_path, "snapshot.10", "snapshot.20", "snapshot.30", "log.1", "log.10")
    assert names_of(plan_purge(directory, directory, 3, always_valid).logs) == ["log.1"]


def test_zookeeper_3231_invalid_snapshots_do_not_count(tmp_path: Path) -> None:
    directory = directory_of(
        tmp_path, "snapshot.1", "snapshot.2", "snapshot.3", "snapshot.4", "snapshot.5", "snapshot.6", "log.1", "log.2"
    )
    plan = plan_purge(directory, directory, 3, lambda snapshot: snapshot.zxid not in (4, 6))
    assert plan.oldest_kept_zxid == 2
    assert names_of(plan.paths) == ["log.1", "snapshot.1"]


def test_too_few_valid_snapshots_all_stay(tmp_path: Path) -> None:
    directory = directory_of(tmp_path, "snapshot.1", "snapshot.2", "snapshot.3", "snapshot.4", "log.1", "log.3")
    plan = plan_purge(directory, directory, 3, lambda snapshot: snapshot.zxid == 2)
    assert names_of(plan.paths) == ["snapshot.1"]


def test_without_a_valid_snapshot_everything_stays(tmp_path: Path) -> None:
    directory = directory_of(tmp_path, "snapshot.1", "snapshot.2", "snapshot.3", "snapshot.4", "log.1", "log.3")
    plan = plan_purge(directory, directory, 3, lambda snapshot: False)
    assert plan.paths == ()
    assert plan.oldest_kept_zxid is None


def test_no_more_snapshots_are_checked_than_needed(tmp_path: Path) -> None:
    directory = directory_of(tmp_path, *(f"snapshot.{zxid}" for zxid in range(1, 9)))
    checked: list[int] = []

    def check(snapshot: SnapshotFile) -> bool:
        checked.append(snapshot.zxid)
        return True

    plan_purge(directory, directory, 3, check)
    assert checked == [8, 7, 6]


def test_fewer_than_three_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 3 snapshots must be kept, not 2"):
        plan_purge(tmp_path, tmp_path, 2, always_valid)


def test_two_directories(tmp_path: Path) -> None:
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "logs").mkdir()
    snapshots = directory_of(tmp_path / "snapshots", *(f"snapshot.{zxid}" for zxid in range(1, 6)))
    logs = directory_of(tmp_path / "logs", "log.1", "log.2", "log.3", "log.4")
    plan = plan_purge(snapshots, logs, 3, always_valid)
    assert names_of(plan.paths) == ["log.1", "log.2", "snapshot.1", "snapshot.2"]


def test_a_file_that_is_gone_is_fine_and_one_that_stays_is_told(tmp_path: Path) -> None:
    directory = directory_of(tmp_path, *(f"snapshot.{zxid}" for zxid in range(1, 6)))
    plan = plan_purge(directory, directory, 3, always_valid)
    (directory / "snapshot.1").unlink()
    filesystem = FailingFileSystem()
    filesystem.fail("unlink", input_output_error, after=1)
    with pytest.raises(DiskError, match=r"snapshot\.2: cannot remove the file: Input/output error"):
        purge(plan, filesystem)
    purge(plan)
    assert len(list(directory.iterdir())) == 3
