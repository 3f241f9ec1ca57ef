"""The machine that the figures come from, in words."""

import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from bench.errors import BenchError
from bench.sides import REPOSITORY, Side

_MEMORY_FILE_SYSTEMS = {"tmpfs", "ramfs"}
_SYNC_PROBES = 200


def file_system(directory: Path) -> str:
    """The kind of file system that the directory is on; BenchError when that is memory: a sync costs nothing there."""
    device = directory.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, rest = line.partition(" - ")
        if mount.split()[2] == wanted:
            kind = rest.split()[0]
            if kind in _MEMORY_FILE_SYSTEMS:
                raise BenchError(
                    f"the base directory is on {kind}, where a sync costs nothing: name another (--base-dir)"
                )
            return kind
    return "unknown file system"


def sync_us(directory: Path) -> float:
    """Median time that appending 4 KiB to a file and syncing it takes."""
    path = directory / "sync-probe"
    took = []
    with path.open("wb", buffering=0) as file:
        for _ in range(_SYNC_PROBES):
            begin = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - begin)
    path.unlink()
    return median(took) * 1e6


def description(base: Path, sides: tuple[Side, Side]) -> str:
    """When, where and between which servers: a Markdown list."""
    facts = [
        f"date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, revision {_revision()}",
        f"servers: {sides[0].describe()}; {sides[1].describe()}",
        f"machine: {os.cpu_count()} cores ({_cpu_model()}), {_memory_gib():.0f} GiB memory",
        f"disk: {file_system(base)}, 4 KiB appended and synced in {sync_us(base):.0f} us (median)",
        f"load average before: {os.getloadavg()[0]:.1f}",
        f"system: {platform.system()} {platform.release()}, Python {platform.python_version()}, {_java_version()}",
    ]
    return "\n".join(f"- {fact}" for fact in facts) + "\n"


def _revision() -> str:
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]
    return _first_line(command) or "unknown"


def _java_version() -> str:
    return _first_line(["java", "-version"]) or "no Java"


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    if done.returncode:
        return ""
    lines = (done.stdout or done.stderr).splitlines()
    return lines[0] if lines else ""


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
