"""In which batches writes go to the log, and in which order they are done."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from corral.jute.ops import OpCode
from corral.jute.records import PathRequest, Stat
from corral.server.pipeline import WritePipeline
from corral.tree.acl import DIGEST, IP, AccessControl
from corral.tree.datatree import DataTree
from corral.tree.prepare import Preparer
from corral.tree.watches import WatchTables

if TYPE_CHECKING:
    from corral.server.connection import Connection

SESSION = 7


class Asking:
    """A client's connection that takes replies."""

    closed = False
    write_latency_ms = 0
    writes_answered = 0

    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.waiting: deque[None] = deque([None] * 1000)

    def flush(self) -> None:
        return

    @property
    def answered(self) -> list[int]:
        """The xids of what was answered."""
        return [struct.unpack_from(">i", piece, 4)[0] for piece in self.out if len(piece) == 20]


class TwoAtOnce(WritePipeline):
    """As a leader's: it has more than a disk."""

    batches_max = 2


class Pipelined:
    """A pipeline whose turns of the loop, and whose log, are the test's."""

    def __init__(self, kind: type[WritePipeline] = TwoAtOnce) -> None:
        tree = DataTree()
        self.turns: list[Callable[[], None]] = []
        self.appended: list[int] = []
        self.under_way: list[tuple[list[int], Callable[[], None]]] = []
        self.pipeline = kind(
            tree=tree,
            preparer=Preparer(tree, AccessControl((DIGEST, IP))),
            watches=WatchTables(),
            log=cast("Any", self),
            clock=cast("Any", self),
            sync=self._sync,
            soon=self.turns.append,
            logged=lambda count: None,
            session_opened=lambda connection, session: None,
            session_ended=lambda connection, session, xid: None,
        )
        tree.sessions[SESSION] = 30_000
        self.client = Asking()
        self.xid = 0

    def wall_ms(self) -> int:
        return 1_700_000_000_000

    def append(self, zxid: int, _: bytes) -> None:
        self.appended.append(zxid)

    def _sync(self, done: Callable[[], None]) -> None:
        self.under_way.append((self.appended, done))
        self.appended = []

    def _submit(self, op: OpCode, body: bytes) -> None:
        self.xid += 1
        asking = cast("Connection", self.client)
        assert self.pipeline.submit(asking, SESSION, self.xid, op, body, ()) is None

    def write(self, count: int = 1) -> None:
        for _ in range(count):
            self._submit(OpCode.SET_DATA, struct.pack(">i1sii", 1, b"/", 0, -1))

    def sync(self) -> None:
        self._submit(OpCode.SYNC, PathRequest(b"/").to_bytes())

    def turn(self) -> None:
        """The loop comes round until nothing is due."""
        while self.turns:
            turns = self.turns[:]
            self.turns.clear()
            for each in turns:
                each()

    def durable(self) -> None:
        """The oldest batch is on disk."""
        self.under_way.pop(0)[1]()
        self.turn()

    @property
    def batches(self) -> list[list[int]]:
        """The zxids that are under way, by batches."""
        return [zxids for zxids, _ in self.under_way]


def test_a_disk_has_one_batch_at_a_time() -> None:
    pipelined = Pipelined(WritePipeline)
    for _ in range(3):
        pipelined.write()
        pipelined.turn()
    assert pipelined.batches == [[1]]
    pipelined.durable()
    assert pipelined.batches == [[2, 3]]


def test_the_next_batch_goes_while_one_is_under_way_and_no_more_than_that() -> None:
    pipelined = Pipelined()
    for _ in range(3):
        pipelined.write()
        pipelined.turn()
    assert pipelined.batches == [[1], [2]]
    pipelined.durable()
    assert pipelined.client.answered == [1]
    assert pipelined.batches == [[2], [3]]
    pipelined.durable()
    pipelined.durable()
    assert pipelined.client.answered == [1, 2, 3]
    assert not pipelined.pipeline.busy


def test_beside_another_a_batch_is_no_smaller_than_its_share() -> None:
    pipelined = Pipelined()
    pipelined.write(30)
    pipelined.turn()
    pipelined.write(30)
    pipelined.turn()
    pipelined.durable()
    assert len(pipelined.batches) == 1
    pipelined.write()
    pipelined.turn()
    assert len(pipelined.batches) == 1
    pipelined.write(25)
    pipelined.turn()
    assert list(map(len, pipelined.batches)) == [30, 26]


def test_what_waits_goes_when_nothing_is_under_way_any_more() -> None:
    pipelined = Pipelined()
    for _ in range(2):
        pipelined.write(30)
        pipelined.turn()
    pipelined.durable()
    pipelined.write()
    pipelined.turn()
    pipelined.durable()
    assert pipelined.batches == [[61]]


def test_versions_count_over_all_that_is_under_way() -> None:
    pipelined = Pipelined()
    for _ in range(3):
        pipelined.write(2)
        pipelined.turn()
    for _ in range(3):
        pipelined.durable()
    assert Stat.from_bytes(pipelined.pipeline.tree.stat(b"/")).version == 6


def test_a_sync_does_not_overtake_the_writes_before_it() -> None:
    pipelined = Pipelined()
    pipelined.write()
    pipelined.turn()
    pipelined.sync()
    pipelined.turn()
    assert pipelined.client.answered == []
    pipelined.durable()
    assert pipelined.client.answered == [1, 2]
    assert not pipelined.pipeline.busy


def test_writes_do_not_overtake_a_sync_that_is_asked_of_others() -> None:
    class Asked(TwoAtOnce):
        def _finish_syncs(self) -> None:
            asked.append(self._synced)

    asked: list[Callable[[], None]] = []
    pipelined = Pipelined(Asked)
    pipelined.sync()
    pipelined.turn()
    assert len(asked) == 1
    pipelined.write()
    pipelined.turn()
    assert pipelined.batches == []
    asked[0]()
    pipelined.turn()
    assert pipelined.batches == [[1]]
