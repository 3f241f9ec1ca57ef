"""A subtree in the order in which zkCli lists it."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

from corral.cli.shell.command import about
from corral.client.errors import NoNodeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from corral.client import Client, WatchEvent

__all__ = ["walk"]

_AHEAD: Final = 200
"""Siblings that are asked for their children at once."""


async def walk(client: Client, path: str, watch: Callable[[WatchEvent], object] | None = None) -> AsyncIterator[str]:
    """Each path: all children of a znode, sorted, and then what is below the first, the second and so on.

    With ``watch``, the data of the top and the children of every znode are watched. What vanishes meanwhile is passed
    over. Raises NoNodeError if there is no ``path``, CommandError where a znode may not be read.
    """
    await client.get(path, watch=watch)
    yield path
    asked: dict[str, asyncio.Future[list[str]]] = {}
    levels = [deque([path])]
    try:
        while levels:
            level = levels[-1]
            if not level:
                levels.pop()
                continue
            if level[0] not in asked:
                for each in islice(level, _AHEAD):
                    asked[each] = asyncio.ensure_future(client.get_children(each, watch=watch))
            at = level.popleft()
            with about(at):
                try:
                    names = sorted(await asked.pop(at))
                except NoNodeError:
                    continue
            prefix = at if at == "/" else f"{at}/"
            below = deque(prefix + name for name in names)
            for each in below:
                yield each
            levels.append(below)
    finally:
        for future in asked.values():
            future.cancel()
