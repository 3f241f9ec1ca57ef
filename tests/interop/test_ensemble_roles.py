"""An ensemble of Apache's servers and one of Corral's, after the same requests: what each role tells the admin."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from tests.interop.peers import four_letter_word
from tests.interop.test_admin_words import keys, lines, shape, shapes
from tests.interop.test_mixed_ensembles import Mixed, mixed

import corral
from corral.client import WatchEvent

ROLES: Final = ("leader", "follower", "observer")
COMPARED_BY: Final = {
    "ruok": lines,
    "isro": lines,
    "conf": keys,
    "cons": shape,
    "dirs": shape,
    "dump": shapes,
    "envi": keys,
    "hash": lines,
    "srvr": shape,
    "stat": shape,
    "wchs": lines,
    "wchp": shapes,
    "wchc": shapes,
}
"""The words, and how the answers to each are compared."""
ONLY_APACHES: Final = re.compile(
    r"zk_(avg|min|max|cnt|sum|p\d+)_(\d+_ack_latency|\d+_learner_handler_qp_(size|time_ms)|[^_]+_(read|write)_per_namespace)"
)
"""Figures for each learner's queue and each top-level znode: see docs/divergence.md."""
SAME_FIGURES: Final = (
    "server_state",
    "peer_state",
    "quorum_size",
    "observer_master_id",
    "learners",
    "synced_followers",
    "synced_non_voting_followers",
    "synced_observers",
    "pending_syncs",
    "last_proposal_size",
    "max_proposal_size",
    "min_proposal_size",
    "proposal_count",
    "commit_count",
    "cnt_quorum_ack_latency",
    "cnt_proposal_latency",
    "cnt_commit_propagation_latency",
    "cnt_propagation_latency",
    "cnt_updatelatency",
    "sum_sync_processor_batch_size",
    "learner_proposal_received_count",
    "learner_commit_received_count",
    "znode_count",
    "ephemerals_count",
    "watch_count",
    "approximate_data_size",
    "global_sessions",
    "local_sessions",
    "num_alive_connections",
    "outstanding_requests",
    "connection_request_count",
)
"""Those of ``mntr`` that have to be equal after the same requests, in whatever role."""


@asynccontextmanager
async def looked_upon(directory: Path, kind: str) -> AsyncIterator[Mixed]:
    """Three members, of whom 2 leads, and an observer."""
    directory.mkdir()
    async with mixed(directory, kind * 3, kind) as them:
        them.settings["4lw.commands.whitelist"] = "*"
        await them.start(1, 2)
        assert await them.leader() == 2
        await them.start(3, 4)
        while "down" in [await them.mode(sid) for sid in them.running]:
            await asyncio.sleep(0.05)
        yield them


def ignore(event: WatchEvent) -> None:
    """Watches that nobody waits for."""


async def ask_all(directory: Path, kind: str) -> dict[str, dict[str, str]]:
    """The answers to all words by role, while a client of each member has a znode of each sort and watches."""
    async with looked_upon(directory, kind) as them, AsyncExitStack() as connections:
        clients = []
        for sid in them.running:
            opening = corral.connect(them.hosts(sid), session_timeout=20, connect_timeout=60)
            zk = await connections.enter_async_context(opening)
            clients.append(zk)
            await zk.create(f"/ephemeral-{sid}", ephemeral=True)
            await zk.create(f"/node-{sid}", b"x" * 10)
            await zk.get(f"/node-{sid}", watch=ignore)
            await zk.exists("/missing", watch=ignore)
        for zk in clients:
            # Behind this everything is applied where its client is.
            await zk.sync()
        found = {}
        for sid in (2, 1, 4):
            answers = {word: await asyncio.to_thread(four_letter_word, them.ports[sid], word) for word in WORDS}
            found[await them.mode(sid)] = answers
        return found


WORDS: Final = (*COMPARED_BY, "mntr")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, str]]]:
    """By kind of server, role and word."""
    return {kind: asyncio.run(ask_all(tmp_path_factory.mktemp("ensemble") / kind, kind)) for kind in "AC"}


@pytest.mark.parametrize("role", ROLES)
def test_words_tell_the_same(told: dict[str, dict[str, dict[str, str]]], role: str) -> None:
    theirs, ours = told["A"][role], told["C"][role]
    for word, compared in COMPARED_BY.items():
        assert compared(ours[word]) == compared(theirs[word]), word


def figures(answer: str) -> dict[str, str]:
    pairs = (line.split("\t", 1) for line in answer.splitlines())
    return {key: value for key, value in pairs if not ONLY_APACHES.fullmatch(key)}


@pytest.mark.parametrize("role", ROLES)
def test_figures_are_the_same(told: dict[str, dict[str, dict[str, str]]], role: str) -> None:
    theirs, ours = figures(told["A"][role]["mntr"]), figures(told["C"][role]["mntr"])
    assert sorted(ours) == sorted(theirs)
    same = [f"zk_{name}" for name in SAME_FIGURES if f"zk_{name}" in theirs]
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    assert ours["zk_server_state"] == role


def test_each_role_has_figures_of_its_own(told: dict[str, dict[str, dict[str, str]]]) -> None:
    for kind in "AC":
        leader, follower, observer = (figures(told[kind][role]["mntr"]).keys() for role in ROLES)
        assert observer - follower == {"zk_observer_master_id"}
        assert "zk_synced_followers" in leader - follower
        assert len(leader - follower) == 9
