"""Servers and data directories with a million znodes, made once and used by several measurements."""

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.bench import Bench, say
from bench.errors import BenchError
from bench.processes import peak_resident_mib, resident_mib
from bench.programs import run
from bench.server import Server
from bench.sides import Apache, Side

VALUE_BYTES = 100
_CHILDREN_PER_DIRECTORY = 1000
_LIVE_SHARE = 1.5
_HEAP_STEP_MIB = 64
_QUIET_S = 3.0
_QUIET_LIMIT_S = 180.0


class Million:
    """Fills servers with `bench.znodes` znodes through pipelined creates, and keeps what they left on disk."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._images: dict[int, Path] = {}
        self._heap_mib = bench.fitted_heap_mib
        self.live_mib: float | None = None
        """What Apache's heap held after a full collection, where that was measured."""
        self.resident_mib: dict[int, tuple[float, float]] = {}
        """Resident memory after the filling, and its peak, by number of the side."""
        self.filled_per_s: dict[int, float] = {}

    def heap_mib(self) -> int:
        """Apache's heap fitted to the znodes: one and a half times what is alive in it once they are there."""
        if self._heap_mib is None:
            apache = next((side for side in self._bench.sides if isinstance(side, Apache)), None)
            if apache is None:
                return self._bench.heap_mib
            self.live_mib = self._measure_live_mib(apache)
            self._heap_mib = fitted_heap_mib(self.live_mib)
            say(f"Apache's heap: {self.live_mib:.0f} MiB alive, {self._heap_mib} MiB given")
        return self._heap_mib

    def image(self, index: int) -> Path:
        """The data directory that the side's server left after it was filled and stopped; not to be changed."""
        if index not in self._images:
            side = self._bench.sides[index]
            directory = self._bench.base / f"million-{index}"
            with self._bench.running(side, directory, self.heap_mib()) as server:
                self.filled_per_s[index] = self._fill(side, server)
                self.resident_mib[index] = resident_mib(server.pid), peak_resident_mib(server.pid)
            self._images[index] = server.data_directory
        return self._images[index]

    @contextmanager
    def copy(self, index: int) -> Iterator[Path]:
        """A directory for one run of a server, whose data directory is what the newest snapshot of the image needs."""
        with self._bench.directory() as directory:
            for source in _needed_files(self.image(index)):
                target = directory / "data" / source.relative_to(self.image(index))
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
            yield directory

    def _fill(self, side: Side, server: Server) -> float:
        znodes = self._bench.znodes
        say(f"{side.name}: creating {znodes:,} znodes")
        options = ("-n", znodes, "-b", VALUE_BYTES, "-f", _CHILDREN_PER_DIRECTORY)
        figures = run("zkfill", server.address, "/million", *options)[-1]
        if figures["errors"]:
            raise BenchError(f"{side.name} answered {figures['errors']:.0f} of {znodes} creates with errors")
        say(f"{side.name}: {figures['ops_s']:,.0f} creates/s")
        wait_until_quiet(server.data_directory)
        return figures["ops_s"]

    def _measure_live_mib(self, side: Apache) -> float:
        with self._bench.server(side) as server:
            self._fill(side, server)
            return live_heap_mib(server.pid)


def live_heap_mib(pid: int) -> float:
    """What is alive in the heap of a JVM, after a full collection."""
    _jcmd(pid, "GC.run")
    used = re.search(r"used (\d+)K", _jcmd(pid, "GC.heap_info"))
    if not used:
        raise BenchError("jcmd did not tell how much of the heap is used: give Apache's heap with --million-heap")
    return int(used[1]) / 1024


def fitted_heap_mib(live_mib: float) -> int:
    """The heap that is given for so much alive: one and a half times as much."""
    return -int(-live_mib * _LIVE_SHARE // _HEAP_STEP_MIB) * _HEAP_STEP_MIB


def _jcmd(pid: int, command: str) -> str:
    jcmd = shutil.which("jcmd")
    if not jcmd:
        raise BenchError("no jcmd to measure Apache's heap with: install a JDK or give the heap with --million-heap")
    done = subprocess.run([jcmd, str(pid), command], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise BenchError(f"jcmd {command} failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def wait_until_quiet(data_directory: Path) -> None:
    """Returns once nothing has been written into the directory for a while: no snapshot is under way any more."""
    before = None
    end = time.monotonic() + _QUIET_LIMIT_S
    while time.monotonic() < end:
        now = {path: path.stat().st_mtime_ns for path in data_directory.rglob("*") if path.is_file()}
        if now == before:
            return
        before = now
        time.sleep(_QUIET_S)
    raise BenchError(f"the server still writes to its directory {_QUIET_LIMIT_S:.0f} s after the last request")


def snapshots_in(data_directory: Path) -> list[Path]:
    """The snapshots in a data directory, oldest first."""
    return sorted(data_directory.rglob("snapshot.*"), key=_zxid)


def _needed_files(data_directory: Path) -> list[Path]:
    """The newest snapshot and the logs from its zxid on; the one log that begins before it may reach beyond it."""
    newest = snapshots_in(data_directory)[-1]
    logs = sorted(data_directory.rglob("log.*"), key=_zxid)
    earlier = [log for log in logs if _zxid(log) <= _zxid(newest)]
    return [newest, *earlier[-1:], *logs[len(earlier) :]]


def _zxid(path: Path) -> int:
    return int(path.suffixes[0][1:], 16)
