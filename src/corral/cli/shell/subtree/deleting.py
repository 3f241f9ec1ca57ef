"""Deletes exactly the znodes that were seen, and only as they were then."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from corral.cli.shell.subtree.reading import WINDOW, stat_of
from corral.cli.shell.subtree.writing import ROUNDS_MAX, Outcome, Tally, all_of
from corral.client import ConnectionLoss, KeeperError, SessionExpired
from corral.client.errors import BadVersionError, NoAuthError, NoNodeError, NotEmptyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corral.client import Client, Stat

__all__ = ["Deleter", "Doomed"]


class Doomed(NamedTuple):
    """A znode that is to be deleted, as long as it is the one that was seen."""

    path: str
    czxid: int
    mzxid: int
    version: int

    @classmethod
    def seen(cls, path: str, stat: Stat) -> Doomed:
        """The one that had this stat."""
        return cls(path, stat.czxid, stat.mzxid, stat.version)


class Deleter:
    """Deletes what was seen; what has changed since, or has other children, or may not be deleted, stays."""

    def __init__(self, client: Client, tally: Tally, *, on_deleted: Callable[[str], None] | None = None) -> None:
        self._client = client
        self._tally = tally
        self._on_deleted = on_deleted
        self.stay: list[str] = []
        """The paths of what was not deleted; the tally has the reasons."""

    async def delete(self, doomed: Sequence[Doomed]) -> None:
        """Delete them, the last one first: children stand after their parents. Deleted by others is deleted as well.

        Raises ConnectionLoss or SessionExpired after ROUNDS_MAX attempts; what is counted in the tally is done.
        """
        for end in range(len(doomed), 0, -WINDOW):
            await self._delete_batch(doomed[max(0, end - WINDOW) : end][::-1])

    async def _delete_batch(self, batch: Sequence[Doomed]) -> None:
        for _ in range(ROUNDS_MAX):
            batch, error = await self._try(await self._still_as_seen(batch))
            if error is None:
                return
        assert error is not None
        raise error

    async def _still_as_seen(self, batch: Sequence[Doomed]) -> list[Doomed]:
        """Those that are what they were: one deleted and made anew may have the same version, but no such zxids."""
        same: list[Doomed] = []
        stats = await all_of(stat_of(self._client, each.path) for each in batch)
        for each, stat in zip(batch, stats, strict=True):
            if stat is None or (stat.czxid, stat.mzxid) == (each.czxid, each.mzxid):
                same.append(each)
            else:
                self._keep(each, "has changed meanwhile")
        return same

    async def _try(self, batch: Sequence[Doomed]) -> tuple[list[Doomed], KeeperError | None]:
        """Delete them; those whose answers were lost, and the reason."""
        self._tally.in_doubt = len(batch)
        results = await asyncio.gather(
            *[self._client.delete(each.path, version=each.version) for each in batch], return_exceptions=True
        )
        lost: list[Doomed] = []
        loss: KeeperError | None = None
        failure: BaseException | None = None
        for each, result in zip(batch, results, strict=True):
            match result:
                case None | NoNodeError():
                    self._tally.add(Outcome.DELETED)
                    if self._on_deleted is not None:
                        self._on_deleted(each.path)
                case ConnectionLoss() | SessionExpired():
                    lost.append(each)
                    loss = result
                case NotEmptyError() if lost:
                    # Its children may be among those.
                    lost.append(each)
                case NotEmptyError():
                    self._keep(each, "has children that stay")
                case BadVersionError():
                    self._keep(each, "has changed meanwhile")
                case NoAuthError():
                    self._keep(each, "may not be deleted")
                case _:
                    failure = failure or result
        self._tally.in_doubt = len(lost)
        if failure is not None:
            raise failure
        return lost, loss

    def _keep(self, each: Doomed, why: str) -> None:
        self.stay.append(each.path)
        self._tally.complaints.append(f"{each.path}: not deleted, for it {why}")
