from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from corral.storage.errors import DirectoryInUseError, DiskError, StorageError
from corral.storage.files import list_logs, list_snapshots
from corral.storage.lock import LOCK_FILE, DirectoryLock

HOLDER = """
import sys, pathlib
from corral.storage.lock import DirectoryLock
lock = DirectoryLock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_lock_is_refused_naming_directory_and_process(tmp_path: Path) -> None:
    with DirectoryLock(tmp_path), pytest.raises(DirectoryInUseError) as refusal:
        DirectoryLock(tmp_path)
    assert str(refusal.value) == f"{tmp_path}: in use by another server (process {os.getpid()})"


def test_a_released_lock_can_be_taken_again(tmp_path: Path) -> None:
    DirectoryLock(tmp_path).close()
    with DirectoryLock(tmp_path):
        pass
    lock = DirectoryLock(tmp_path)
    lock.close()
    lock.close()


def test_a_killed_holder_lets_go(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(DirectoryInUseError, match=f"process {holder.pid}"):
            DirectoryLock(tmp_path)
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
        DirectoryLock(tmp_path).close()


def test_the_lock_file_is_neither_log_nor_snapshot(tmp_path: Path) -> None:
    with DirectoryLock(tmp_path):
        assert (tmp_path / LOCK_FILE).exists()
        assert list_logs(tmp_path) == []
        assert list_snapshots(tmp_path) == []


def refuse_to_open(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)


def test_a_read_only_file_system_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_to_open(monkeypatch, errno.EROFS)
    with pytest.raises(StorageError, match=f"{tmp_path}: the file system is read-only"):
        DirectoryLock(tmp_path)


def test_a_directory_of_someone_else_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_to_open(monkeypatch, errno.EACCES)
    with pytest.raises(StorageError, match=rf"not writable for this user \(user id {os.geteuid()}, .* belongs to"):
        DirectoryLock(tmp_path)


def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"none/corral\.lock: cannot create the lock file: No such file or directory"):
        DirectoryLock(tmp_path / "none")


def test_a_full_disk_does_not_stop_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with DirectoryLock(tmp_path), pytest.raises(DirectoryInUseError, match=r"in use by another server$"):
        DirectoryLock(tmp_path)
