"""What a leader counts: the epochs that are promised, and who has acknowledged what."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from corral.quorum.ensemble import Ensemble


def is_quorum(ensembles: Sequence[Ensemble], sids: Collection[int]) -> bool:
    """Whether ``sids`` are enough in each of the configurations that must agree."""
    return all(ensemble.is_quorum(sids) for ensemble in ensembles)


class EpochChoice:
    """Finds the new epoch: larger than any that a quorum has ever promised. Once found it stays."""

    def __init__(self, ensembles: Callable[[], Sequence[Ensemble]]) -> None:
        self._ensembles = ensembles
        self._heard: set[int] = set()
        self._epoch = 1
        self.chosen: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def hear(self, sid: int, accepted_epoch: int, *, votes: bool) -> None:
        """A member tells the newest epoch that it has promised to take part in."""
        if self.chosen.done():
            return
        self._epoch = max(self._epoch, accepted_epoch + 1)
        if votes:
            self._heard.add(sid)
            if is_quorum(self._ensembles(), self._heard):
                self.chosen.set_result(self._epoch)


class Acknowledgements:
    """Waits until a quorum has said yes to one thing."""

    def __init__(self, ensembles: Callable[[], Sequence[Ensemble]]) -> None:
        self._ensembles = ensembles
        self.given: set[int] = set()
        self.enough: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def give(self, sid: int) -> None:
        """``sid`` says yes."""
        self.given.add(sid)
        if not self.enough.done() and is_quorum(self._ensembles(), self.given):
            self.enough.set_result(None)
