"""Owners that leave a record of what they owned when, in the service itself, for tests of exclusion."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from corral.client import ConnectionLoss
from corral.client.errors import BadVersionError, NodeExistsError, NoNodeError, TransactionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.client import Client
    from corral.recipes import Held

LEDGER = "/ledger"
_SEPARATOR = b"\n"


async def open_ledger(client: Client) -> None:
    """Make the ledger, if it is not there."""
    try:
        await client.create(LEDGER)
    except NodeExistsError:
        return


async def _write(held: Held, word: str) -> None:
    """Add a record, unless ownership is over: nothing is written then, and TransactionError raised."""
    client = held.client
    while True:
        znode = await client.get(LEDGER)
        record = b"%d %s" % (held.token, word.encode())
        data = _SEPARATOR.join([*filter(None, znode.data.split(_SEPARATOR)), record])
        try:
            async with client.transaction() as transaction:
                transaction.check(held.path)
                transaction.set(LEDGER, data, version=znode.stat.version)
        except TransactionError as error:
            if not isinstance(error.__cause__, BadVersionError):
                raise
        else:
            return


async def own(held: Held) -> None:
    """What an owner does: its first record, and its last one."""
    await _write(held, "in")
    await _write(held, "out")


async def records(client: Client) -> list[tuple[int, str]]:
    """The fencing number and the word of each record."""
    data = (await client.get(LEDGER)).data
    pairs = (line.decode().split() for line in data.split(_SEPARATOR) if line)
    return [(int(token), word) for token, word in pairs]


async def check_ledger(client: Client) -> None:
    """One owner at a time: their numbers grow, and nobody writes once a later one has begun."""
    written = await records(client)
    tokens = [token for token, _ in written]
    assert tokens == sorted(tokens), written
    begun = [token for token, word in written if word == "in"]
    assert len(begun) == len(set(begun)), written


async def until_children(client: Client, path: str, condition: Callable[[list[str]], bool]) -> list[str]:
    """Wait until the names of the children satisfy ``condition``; a directory that is not there has none."""
    while True:
        changed = asyncio.Event()

        def wake(_: object, changed: asyncio.Event = changed) -> None:
            changed.set()

        try:
            names = await client.get_children(path, watch=wake)
        except NoNodeError:
            names = []
            await client.exists(path, watch=wake)
        except ConnectionLoss:
            continue
        if condition(names):
            return names
        await changed.wait()
