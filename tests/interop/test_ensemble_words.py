"""What the admin words tell of members: both kinds of server, side by side in one ensemble."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from tests.interop.peers import four_letter_word
from tests.interop.test_mixed_ensembles import Mixed, mixed

import corral

SINGLE = re.compile(r"zk_\w+_(ack_latency|learner_handler_qp_\w+|(read|write)_per_namespace)")
"""Figures for each learner or top-level znode, which Apache's servers have as soon as there is traffic."""


async def told(them: Mixed, sid: int, word: str) -> str:
    return await asyncio.to_thread(four_letter_word, them.ports[sid], word)


async def figures(them: Mixed, sid: int) -> dict[str, str]:
    lines = [line.partition("\t") for line in (await told(them, sid, "mntr")).splitlines()]
    return {key: value for key, _, value in lines if not SINGLE.fullmatch(key)}


async def look(directory: Path, *order: int) -> dict[tuple[str, str], tuple[dict[str, str], str, str]]:
    """The figures, the names in ``conf`` and the form of ``srvr``, by the kind of server and what it is.

    Of the first two that are started the larger one leads; 3 is Apache's.
    """
    directory.mkdir()
    found = {}
    async with mixed(directory, "CCA") as them:
        them.settings["4lw.commands.whitelist"] = "*"
        first, second, third = order
        await them.start(first, second)
        await them.leader()
        await them.start(third)
        async with corral.connect(them.hosts(), connect_timeout=60) as zk:
            await zk.persist(lambda: zk.ensure("/a/b/c"))
            while "down" in {await them.mode(sid) for sid in them.running}:
                await asyncio.sleep(0.05)
            for sid in them.running:
                conf = "\n".join(line.partition("=")[0] for line in (await told(them, sid, "conf")).splitlines())
                srvr = re.sub(r"(?<=version: ).*|-?\d+(\.\d+)?", "N", await told(them, sid, "srvr"))
                found[them.kinds[sid], await them.mode(sid)] = (await figures(them, sid), conf, srvr)
    return found


def test_members_tell_the_same(tmp_path: Path) -> None:
    seen = asyncio.run(look(tmp_path / "one", 3, 1, 2)) | asyncio.run(look(tmp_path / "two", 1, 2, 3))
    assert set(seen) == {(kind, mode) for kind in "AC" for mode in ("leader", "follower")}
    for mode in ("leader", "follower"):
        (theirs, their_conf, their_srvr), (ours, our_conf, our_srvr) = seen["A", mode], seen["C", mode]
        assert set(ours) ^ set(theirs) == set()
        for key in ("zk_server_state", "zk_peer_state", "zk_quorum_size"):
            assert ours[key] == theirs[key]
        assert our_conf == their_conf
        assert our_srvr == their_srvr
    theirs, ours = seen["A", "leader"][0], seen["C", "leader"][0]
    for key in ("zk_learners", "zk_synced_followers", "zk_synced_observers", "zk_pending_syncs"):
        assert ours[key] == theirs[key]
