"""What the kernel knows of a process and its children: CPU time, memory, open files."""

import os
import resource
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError

_CLOCK_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """The process and all its living descendants."""
    members = [pid]
    for member in members:
        for children in Path(f"/proc/{member}/task").glob("*/children"):
            try:
                members.extend(int(child) for child in children.read_text().split())
            except FileNotFoundError:
                continue  # the thread has ended meanwhile
    return members


def cpu_seconds(pid: int) -> float:
    """CPU time, user and system, that the process and its descendants have used, ended children included."""
    ticks = 0
    for member in family(pid):
        try:
            stat = Path(f"/proc/{member}/stat").read_text()
        except FileNotFoundError:
            continue
        fields = stat.rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime: proc(5)
    return ticks / _CLOCK_TICKS_PER_SECOND


def resident_mib(pid: int) -> float:
    """Resident memory of the process and its descendants now."""
    return sum(_status_kib(member, "VmRSS") for member in family(pid)) / 1024


def peak_resident_mib(pid: int) -> float:
    """The most memory that the process itself ever had resident."""
    return _status_kib(pid, "VmHWM") / 1024


@dataclass(frozen=True)
class Memory:
    """What processes have in memory; several of one program share some of it with each other."""

    resident_mib: float
    """All pages of each, those that they share counted in each of them."""
    proportional_mib: float
    """A page that so many processes share counts as that fraction in each."""
    own_mib: float
    """Pages that no other process has."""


def memory_of(pids: Iterable[int]) -> Memory:
    """The sums over some processes, their descendants not included."""
    kib: Counter[str] = Counter()
    for pid in pids:
        kib.update(_rolled_up(Path(f"/proc/{pid}/smaps_rollup").read_text()))
    own = kib["Private_Clean"] + kib["Private_Dirty"]
    return Memory(kib["Rss"] / 1024, kib["Pss"] / 1024, own / 1024)


def _rolled_up(text: str) -> dict[str, int]:
    """KiB by key of a `smaps_rollup`: proc(5)."""
    fields = (line.split() for line in text.splitlines()[1:])
    return {words[0].rstrip(":"): int(words[1]) for words in fields}


def _status_kib(pid: int, key: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), 0)


def lift_file_limit(count: int) -> None:
    """Lets this process and those it starts have as many files open as the hard limit allows, at least `count`."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count:
        raise BenchError(f"{count} open files are needed, the hard limit is {hard} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
