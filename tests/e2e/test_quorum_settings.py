"""Settings of an ensemble that change how its members deal with each other."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest
from tests.e2e.test_quorum_peers import client, fill, members

from corral.quorum.leader import Leader


@pytest.mark.parametrize(("forced", "trees"), [("false", 0), ("true", 1)])
def test_a_member_that_was_away_gets_the_whole_tree_if_so_asked(tmp_path: Path, forced: str, trees: int) -> None:
    async def main() -> None:
        async with members(tmp_path, forceSnapshotSync=forced) as them:
            await them.start(1, 2, 3)
            async with client(them.hosts()) as zk:
                await fill(zk, "/w", 20)
                leader = await them.leader()
                away = next(sid for sid in (1, 2, 3) if sid != leader)
                await them.stop(away)
                await fill(zk, "/v", 20)
                figures = them.peers[leader].history.database.stats
                before = figures.counters["snap_count"]
                await them.start(away)
                while them.peers[away].server is None:
                    await asyncio.sleep(0.01)
                assert figures.counters["snap_count"] - before == trees
            first, *others = await them.trees()
            assert others == [first, first]

    asyncio.run(main())


def test_an_observer_is_sent_away_while_others_are_brought_into_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        settings = {"leader.maxConcurrentDiffSyncs": "1", "leader.maxConcurrentSnapSyncs": "1"}
        async with members(tmp_path, 3, 1, **settings) as them:
            await them.start(1, 2, 3)
            leader = them.peers[await them.leader()].term
            assert isinstance(leader, Leader)
            tree, difference = (leader.syncs.begin(is_snapshot=each, is_observer=False) for each in (True, False))
            with tree, difference, caplog.at_level(logging.INFO):
                await them.start(4)
                while "are being sent to others: come back later" not in caplog.text:
                    await asyncio.sleep(0.01)
                assert them.peers[4].server is None
            while them.peers[4].server is None:
                await asyncio.sleep(0.01)

    asyncio.run(main())
