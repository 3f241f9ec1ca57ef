"""What clients under load were told, and what must therefore be so."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right
from itertools import pairwise
from typing import Final, NamedTuple

NANOSECOND_S: Final = 1e-9
COUNTER: Final = "/counter"


class Hold(NamedTuple):
    """A lock was held all the time from one moment to the other, by the machine's monotonic clock.

    At both moments, and so in between, the service knew the claim: names of claims never come again.
    """

    lock: str
    holder: str
    token: int
    """The transaction that made the claim."""
    entered_ns: int
    left_ns: int


class Journal:
    """Written by many threads. A line of :meth:`read` is one record of a program in another language."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._times_ns: list[int] = []
        self.created: set[str] = set()
        self.perhaps_created: set[str] = set()
        self.counted = 0
        self.perhaps_counted = 0
        self.holds: list[Hold] = []
        self.ended_sessions: list[str] = []
        self.wrong: list[str] = []

    def _acknowledged(self) -> None:
        self._times_ns.append(time.monotonic_ns())
        self._changed.notify_all()

    def create(self, path: str, *, is_certain: bool) -> None:
        """The creation of a znode whose data is its path was acknowledged, or may have been done."""
        with self._changed:
            if is_certain:
                self.created.add(path)
                self._acknowledged()
            else:
                self.perhaps_created.add(path)

    def count(self, *, is_certain: bool) -> None:
        """One was added to the counter, or perhaps."""
        with self._changed:
            if is_certain:
                self.counted += 1
                self._acknowledged()
            else:
                self.perhaps_counted += 1

    def hold(self, hold: Hold) -> None:
        with self._changed:
            self.holds.append(hold)
            self._acknowledged()

    def end_session(self, whose: str) -> None:
        with self._changed:
            self.ended_sessions.append(whose)

    def complain(self, what: str) -> None:
        """Something that must not happen."""
        with self._changed:
            self.wrong.append(what)

    def read(self, line: str) -> None:
        kind, _, rest = line.rstrip("\n").partition(" ")
        match kind:
            case "created" | "perhaps-created":
                self.create(rest, is_certain=kind == "created")
            case "counted" | "perhaps-counted":
                self.count(is_certain=kind == "counted")
            case "held":
                lock, holder, *numbers = rest.split(" ")
                self.hold(Hold(lock, holder, *map(int, numbers)))
            case "ended":
                self.end_session(rest)
            case "wrong":
                self.complain(rest)
            case _:
                self.complain(f"a client prints {line!r}")

    # Looking

    def wait_for_writes(self, number: int, limit_s: float) -> bool:
        """Waits until so many more writes are acknowledged; False if that takes longer than `limit_s`."""
        with self._changed:
            wanted = len(self._times_ns) + number
            return self._changed.wait_for(lambda: len(self._times_ns) >= wanted, limit_s)

    @property
    def acknowledged(self) -> int:
        return len(self._times_ns)

    def longest_gap_s(self, since_ns: int, until_ns: int) -> float:
        """The longest time without any acknowledged write between two moments."""
        with self._changed:
            times = self._times_ns[bisect_left(self._times_ns, since_ns) : bisect_right(self._times_ns, until_ns)]
        moments = [since_ns, *times, until_ns]
        return max(later - earlier for earlier, later in pairwise(moments)) * NANOSECOND_S

    def faults(self, found: dict[str, bytes], counter: int) -> list[str]:
        """What is wrong, if one member holds `found` below the directories of the load, and that counter."""
        faults = list(self.wrong)
        lost = self.created - found.keys()
        if lost:
            faults.append(f"{len(lost)} acknowledged creates are lost, one of them {min(lost)}")
        made_up = found.keys() - self.created - self.perhaps_created
        if made_up:
            faults.append(f"{len(made_up)} znodes that nobody has created, one of them {min(made_up)}")
        changed = [path for path, data in found.items() if data != path.encode()]
        if changed:
            faults.append(f"{len(changed)} znodes with other data, one of them {min(changed)}")
        if not self.counted <= counter <= self.counted + self.perhaps_counted:
            faults.append(
                f"the counter is {counter} after {self.counted} acknowledged additions, "
                f"{self.perhaps_counted} uncertain"
            )
        return faults + self._faults_of_locks()

    def _faults_of_locks(self) -> list[str]:
        faults = []
        by_lock: dict[str, list[Hold]] = {}
        for hold in self.holds:
            by_lock.setdefault(hold.lock, []).append(hold)
        for holds in by_lock.values():
            holds.sort(key=lambda hold: hold.entered_ns)
            for earlier, later in pairwise(holds):
                if later.entered_ns < earlier.left_ns:
                    faults.append(f"two holders at once: {earlier} and {later}")
                if later.token <= earlier.token:
                    faults.append(f"out of turn: {earlier} before {later}")
        return faults
