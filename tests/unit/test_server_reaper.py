"""Containers and znodes with a time to live go when their time has come."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest
from tests.in_process import Client, ManualClock, create, serving
from tests.trees import EXTENDED, NOW_MS, Grower

from corral.jute.ops import OpCode
from corral.jute.records import CreateTtlRequest, DeleteTxn, PathVersionRequest
from corral.server.config import TreeConfig
from corral.server.reaper import Reaper
from corral.tree.datatree import DataTree

HOUR_MS = 3_600_000


def due(grower: Grower, after_ms: int, never_used_ms: int = 0) -> list[bytes]:
    config = TreeConfig(container_max_never_used_interval_ms=never_used_ms)
    return list(Reaper(grower.tree, cast("Any", None), config).due(NOW_MS + after_ms))


@pytest.fixture
def grower() -> Grower:
    return Grower(DataTree(EXTENDED))


def test_a_container_goes_once_it_was_used_and_is_empty(grower: Grower) -> None:
    grower.create_container(b"/c")
    assert due(grower, HOUR_MS) == []
    grower.create(b"/c/x")
    assert due(grower, HOUR_MS) == []
    grower.apply(OpCode.DELETE, DeleteTxn(b"/c/x"))
    assert due(grower, 0) == [b"/c"]


def test_a_container_that_was_never_used_may_go_after_a_while(grower: Grower) -> None:
    grower.create_container(b"/c")
    assert due(grower, 1 + 5000, never_used_ms=5000) == []
    assert due(grower, 1 + 5001, never_used_ms=5000) == [b"/c"]


def test_a_time_to_live_begins_anew_with_each_change(grower: Grower) -> None:
    grower.create_ttl(b"/t", 1000)
    assert due(grower, 1 + 1000) == []
    assert due(grower, 1 + 1001) == [b"/t"]
    grower.set_data(b"/t", b"new")
    assert due(grower, 1 + 1001) == []
    assert due(grower, 2 + 1001) == [b"/t"]
    grower.create(b"/t/child")
    assert due(grower, HOUR_MS) == []
    grower.apply(OpCode.DELETE, DeleteTxn(b"/t/child"))
    assert due(grower, HOUR_MS) == [b"/t"]


def test_others_never_go(grower: Grower) -> None:
    grower.create(b"/p")
    grower.create(b"/e", ephemeral=True)
    assert due(grower, 1000 * HOUR_MS, never_used_ms=1) == []


@pytest.mark.parametrize(
    ("interval_ms", "per_minute", "at_once"),
    [(60_000, 10_000, 10_000), (1000, 600, 10), (1000, 6, 1), (120_000, 10, 20)],
)
def test_how_many_go_at_once(interval_ms: int, per_minute: int, at_once: int) -> None:
    config = TreeConfig(container_check_interval_ms=interval_ms, container_max_per_minute=per_minute)
    assert Reaper(DataTree(), cast("Any", None), config).most_per_check == at_once


def test_no_more_are_submitted_than_may_go_at_once(grower: Grower) -> None:
    submitted: list[bytes] = []

    class Pipeline:
        def submit(self, connection: None, session_id: int, xid: int, op: int, body: bytes, _: object) -> None:
            assert (connection, session_id, xid, op) == (None, 0, 0, OpCode.DELETE_CONTAINER)
            submitted.append(body)

    for number in range(5):
        grower.create_ttl(b"/t%d" % number, 1)
    config = TreeConfig(container_check_interval_ms=1000, container_max_per_minute=180)
    assert Reaper(grower.tree, cast("Any", Pipeline()), config).reap(NOW_MS + HOUR_MS) == 3
    assert submitted == [b"/t0", b"/t1", b"/t2"]


def test_on_a_server(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        tree = TreeConfig(extended_types_enabled=True, container_check_interval_ms=10)
        async with serving(tmp_path, clock, tree=tree) as server:
            client = Client(server)
            await client.connect()
            await client.ask(OpCode.CREATE_CONTAINER, create(b"/c", flags=4))
            await client.ask(OpCode.CREATE, create(b"/c/x"))
            ttl = CreateTtlRequest(b"/t", b"", create(b"/").acl, 5, 50)
            assert (await client.ask(OpCode.CREATE_TTL, ttl)).error == 0
            await asyncio.sleep(0.05)
            assert {b"/c", b"/t"} <= server.tree.nodes.keys()
            clock.now_ms += 100
            await client.ask(OpCode.DELETE, PathVersionRequest(b"/c/x", -1))
            async with asyncio.timeout(10):
                while server.tree.special_owners:
                    await asyncio.sleep(0.005)
            assert not {b"/c", b"/t"} & server.tree.nodes.keys()

    asyncio.run(scenario())
