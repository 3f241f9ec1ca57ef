"""Weights and groups in ensembles of both kinds of server: both count alike."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest
from tests.interop.test_mixed_ensembles import mixed, trees

import corral


@pytest.mark.parametrize("layout", ["CCA", "AAC"])
def test_one_that_weighs_more_than_the_others_serves_alone(tmp_path: Path, layout: str) -> None:
    async def main() -> None:
        async with mixed(tmp_path, layout) as them:
            weights = {1: 1, 2: 1, 3: 3}
            them.ensemble = dataclasses.replace(them.ensemble, groups={1: frozenset({1, 2, 3})}, weights=weights)

            async def all_serve() -> None:
                while "down" in [await them.mode(sid) for sid in them.running]:
                    await asyncio.sleep(0.05)

            await them.start(1, 2, 3)
            await all_serve()
            async with corral.connect(them.hosts(3), session_timeout=20, connect_timeout=40) as zk:
                await zk.create("/by-all")
                await them.stop(1, 2)
                await zk.persist(lambda: zk.ensure("/by-one"))
                assert await them.leader() == 3
                await them.start(1, 2)
                await all_serve()
                first, *others = await trees(them)
                assert others == [first, first]
                assert {"/by-all", "/by-one"} <= first.keys()

    asyncio.run(main())
