"""What happened, in order: for people to read, and summed up to compare two runs."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from corral.simulation.invariants import Invariant

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from corral.simulation.invariants import Broke
    from corral.simulation.loop import Timeline


class Trace:
    """Lines with a time and who did it. ``show`` gets each as it is written."""

    def __init__(self, timeline: Timeline, directory: Path, show: Callable[[str], object] | None = None) -> None:
        """``directory`` is where the files are; no line tells it, for it is another one each time."""
        self._timeline = timeline
        self._directory = f"{directory}/"
        self._show = show
        self._sum = hashlib.sha256()
        self.lines: list[str] = []
        self.counts: Counter[str] = Counter()
        """How often what has been reached: faults, steps at which a crash came, ways to bring a learner into step."""

    def tell(self, who: str, what: str) -> None:
        """Something happened."""
        line = f"{self._timeline.now:12.6f}  {who:<10}  {what.replace(self._directory, '')}"
        self.lines.append(line)
        self._sum.update(line.encode() + b"\n")
        if self._show is not None:
            self._show(line)

    def aside(self, who: str, what: str) -> None:
        """Something to be read that is not summed up."""
        if self._show is not None:
            self._show(f"{self._timeline.now:12.6f}  {who:<10}    | {what}")

    def hush(self) -> None:
        """Show nothing more."""
        self._show = None

    @property
    def digest(self) -> str:
        """Of all lines."""
        return self._sum.hexdigest()


class LogsInTrace(logging.Handler):
    """Shows what the programs log, in the trace. ``current`` tells whose turn it is."""

    def __init__(self, trace: Trace, current: Callable[[], str]) -> None:
        super().__init__(logging.DEBUG)
        self._trace = trace
        self._current = current

    def emit(self, record: logging.LogRecord) -> None:
        """See the base class."""
        self._trace.aside(self._current(), f"{record.levelname.lower()}: {record.getMessage()}")


class SyncWatch(logging.Handler):
    """Listens to the leaders: how do they bring learners into step? ``current`` tells who speaks."""

    _SAYS: Final = re.compile(r"<\w+ (\d+)>, at zxid (\w+), gets (DIFF|TRUNC|SNAP) and (\d+) transactions")

    def __init__(self, trace: Trace, current: Callable[[], str], reaches_back: Callable[[str], int]) -> None:
        """``reaches_back`` tells from which zxid on a leader has its history in memory."""
        super().__init__(logging.INFO)
        self._trace = trace
        self._current = current
        self._reaches_back = reaches_back

    def emit(self, record: logging.LogRecord) -> None:
        """See the base class."""
        said = self._SAYS.fullmatch(record.getMessage())
        if said is None:
            return
        sid, zxid, way, transactions = said.groups()
        leader = self._current()
        if way != "SNAP" and int(transactions) and int(zxid, 16) < self._reaches_back(leader):
            way += " from the log"
        self._trace.counts[f"sync: {way}"] += 1
        self._trace.tell(leader, f"brings server-{sid}, at {zxid}, into step: {way}, {transactions} transactions")


class ProtocolWatch(logging.Handler):
    """Listens to the clients: no server may ever answer what a server does not answer."""

    def __init__(self, broke: Broke) -> None:
        super().__init__(logging.INFO)
        self._broke = broke

    def emit(self, record: logging.LogRecord) -> None:
        """See the base class."""
        text = record.getMessage()
        if "does not speak the protocol" in text:
            self._broke(Invariant.PROGRAM, text)
