"""How many learners are brought into step at a time. Source of the rule: LearnerSyncThrottler."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from corral.jute.primitives import JuteError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from corral.server.stats import ServerStats


class Syncs:
    """Counts what is being sent. Voters are counted and never sent away: the ensemble may need them."""

    def __init__(self, snapshots_max: int, differences_max: int, stats: ServerStats) -> None:
        self._limits = {True: snapshots_max, False: differences_max}
        self.under_way = {True: 0, False: 0}
        """How many whole trees (True), and how many differences, are being sent."""
        self._stats = stats

    def begin(self, *, is_snapshot: bool, is_observer: bool) -> AbstractContextManager[None]:
        """Begin one that ends with the ``with`` statement. Raises JuteError to an observer beyond the limit."""
        if is_observer and self.under_way[is_snapshot] >= self._limits[is_snapshot]:
            what = "trees" if is_snapshot else "differences"
            raise JuteError(f"{self._limits[is_snapshot]} {what} are being sent to others: come back later")
        return self._count(is_snapshot)

    @contextmanager
    def _count(self, is_snapshot: bool) -> Iterator[None]:
        self._add(is_snapshot, 1)
        try:
            yield
        finally:
            self._add(is_snapshot, -1)

    def _add(self, is_snapshot: bool, number: int) -> None:
        self.under_way[is_snapshot] += number
        self._stats.note("inflight_snap_count" if is_snapshot else "inflight_diff_count", self.under_way[is_snapshot])
