"""Subtrees that are large: in number, and in bytes."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from tests.e2e.test_shell_subtree_commands import shell

from corral.cli.shell.subtree.copying import Place, Policy, copy, move
from corral.cli.shell.subtree.reading import HELD_BYTES_MAX
from corral.cli.shell.subtree.writing import Outcome, Tally
from corral.client import connect
from corral.testing import Server

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

ZNODES = 20_000
LARGE_BYTES = 200_000
LARGE_ZNODES = 300


async def plant_many(address: str) -> None:
    async with connect(address) as zk:
        await zk.create("/many")
        for branch in range(ZNODES // 1000):
            await zk.create(f"/many/{branch}")
            await asyncio.gather(*[zk.create(f"/many/{branch}/{number}", b"x" * 20) for number in range(999)])


def test_many_znodes(tmp_path: Path) -> None:
    with Server(in_process=False) as server, Server(in_process=False) as other:
        asyncio.run(plant_many(server.address))
        file = tmp_path / "many.jsonl"
        results = shell(
            server.address,
            f"cp /many {other.address}/many",
            f"diff /many {other.address}/many",
            f"export /many {file}",
            f"diff {other.address}/many @{file}",
            f"import {file} /again",
            "mv /again /moved",
            "diff --acl /many /moved",
            "du /moved",
        )
        assert [result.status for result in results] == [0] * 8
        assert results[5].err == f"{ZNODES + 1} created, {ZNODES + 1} deleted\n"
        assert results[7].out.split()[-3:] == [str(999 * 20 * (ZNODES // 1000)), str(ZNODES + 1), "/moved"]


def test_the_data_of_a_subtree_is_never_held_as_a_whole() -> None:
    async def run() -> int:
        async with connect(server.address) as zk:
            await zk.create("/large")
            for number in range(LARGE_ZNODES):
                await zk.create(f"/large/{number}", number.to_bytes(4, "big") * (LARGE_BYTES // 4))
            tally = Tally()
            tracemalloc.start()
            await copy(Place(zk, "/large"), Place(zk, "/copy"), Policy(), tally)
            await move(Place(zk, "/copy"), Place(zk, "/moved"), Policy(), tally)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert tally.counts == {Outcome.CREATED: 2 * (LARGE_ZNODES + 1), Outcome.DELETED: LARGE_ZNODES + 1}
            return peak

    with Server(in_process=False) as server:
        # What is being read, what is being written, what is read again, and the buffers of the connection.
        assert asyncio.run(run()) < 4.5 * HELD_BYTES_MAX < LARGE_ZNODES * LARGE_BYTES * 0.7
