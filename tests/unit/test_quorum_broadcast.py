"""What a leader has under way: proposed, logged and committed in its order, and syncs in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from tests.unit.test_quorum_confirmation import ENSEMBLE, ME, Rounds

from corral.jute.extensions import QUORUM
from corral.quorum.broadcast import Broadcast
from corral.quorum.packets import PacketReader, PacketType
from corral.server.machine import Machine
from corral.server.stats import ServerStats


class _Learner:
    def __init__(self, sid: int) -> None:
        self.sid = sid
        self.is_observer = False
        self.got: list[str] = []

    def send(self, data: bytes) -> None:
        reader = PacketReader()
        reader.feed(data)
        while (packet := reader.packet()) is not None:
            name = PacketType(packet.type).name
            mark = "+" if packet.data == QUORUM else ""
            self.got.append(f"{name}{mark}" if packet.type == PacketType.SYNC else f"{name} {packet.zxid}")


class _Disk:
    """Stands for history and database: what is synced is durable when the test says so."""

    last_zxid = 0

    def __init__(self) -> None:
        self.database = self
        self.machine = Machine()
        self.stats = ServerStats(0)
        self.appended: list[int] = []
        self.batches: list[tuple[list[int], Callable[[], None]]] = []

    def extend(self, transactions: Sequence[tuple[int, bytes]]) -> None:
        self.appended += [zxid for zxid, _ in transactions]

    def sync(self, done: Callable[[], None]) -> None:
        self.batches.append((self.appended, done))
        self.appended = []

    def durable(self) -> None:
        """The oldest batch is on disk."""
        self.batches.pop(0)[1]()

    def note(self, transactions: Sequence[tuple[int, bytes]]) -> None:
        return


class Leading:
    """A broadcast of server 1 of five to one learner."""

    def __init__(self) -> None:
        self.rounds = Rounds()
        self.disk = _Disk()
        nothing: Any = lambda *_: None  # noqa: E731
        self.broadcast = Broadcast(
            ME, cast("Any", self.disk), lambda: [ENSEMBLE], nothing, nothing, self.rounds.confirmation
        )
        self.learner = _Learner(2)
        self.broadcast.listeners[2] = self.learner
        self.committed: list[list[int]] = []

    def gather(self, *zxids: int) -> None:
        for zxid in zxids:
            self.broadcast.append(zxid, bytes(40))

    def propose(self, *zxids: int) -> None:
        self.gather(*zxids)
        self.broadcast.sync(lambda: self.committed.append(list(zxids)))

    def sync(self, data: bytes | None = None) -> None:
        self.broadcast.sync_with(self.learner, data)

    def confirm(self) -> None:
        self.rounds.turn()
        self.rounds.answer(3, 4, number=self.rounds.confirmation.round)

    def acknowledge(self, zxid: int) -> None:
        self.disk.durable()
        self.broadcast.acknowledge(3, zxid)
        self.broadcast.acknowledge(4, zxid)

    @property
    def told(self) -> list[str]:
        return [each for each in self.learner.got if not each.startswith("PROPOSAL")]


def test_sync_without_writes_waits_for_a_round() -> None:
    leading = Leading()
    leading.sync()
    leading.sync(QUORUM)
    assert leading.told == []
    assert leading.broadcast.pending_syncs == 2
    leading.confirm()
    assert leading.told == ["SYNC", "SYNC+"]
    assert leading.broadcast.pending_syncs == 0


def test_sync_before_a_proposal_is_confirmed_by_its_commit() -> None:
    leading = Leading()
    leading.gather(1)
    leading.sync()
    leading.gather(2)
    leading.propose()
    leading.acknowledge(2)
    assert leading.told == ["COMMIT 1", "SYNC", "COMMIT 2"]
    assert leading.rounds.pings == 0


def test_sync_after_a_proposal_is_not_confirmed_by_its_commit() -> None:
    leading = Leading()
    leading.propose(1)
    # The logs of the others may have had it long ago.
    leading.sync()
    leading.acknowledge(1)
    assert leading.told == ["COMMIT 1"]
    leading.confirm()
    assert leading.told == ["COMMIT 1", "SYNC"]


def test_sync_waits_for_what_was_proposed_before() -> None:
    leading = Leading()
    leading.propose(1)
    leading.sync()
    leading.confirm()
    assert leading.told == []
    leading.acknowledge(1)
    assert leading.told == ["COMMIT 1", "SYNC"]


def test_sync_stands_before_what_was_proposed_after_it() -> None:
    leading = Leading()
    leading.sync()
    leading.propose(1)
    leading.acknowledge(1)
    assert leading.told == ["SYNC", "COMMIT 1"]
    leading.confirm()
    assert leading.told == ["SYNC", "COMMIT 1"]


def test_sync_of_a_learner_that_came_anew_meanwhile_is_forgotten() -> None:
    leading = Leading()
    leading.sync()
    again = leading.broadcast.listeners[2] = _Learner(2)
    leading.confirm()
    assert leading.told == []
    assert again.got == []


def test_a_batch_is_proposed_before_the_one_ahead_of_it_is_committed() -> None:
    leading = Leading()
    leading.propose(1, 2)
    leading.propose(3)
    assert leading.learner.got == ["PROPOSAL 1", "PROPOSAL 2", "PROPOSAL 3"]
    assert [zxid for zxid, _ in leading.broadcast.under_way] == [1, 2, 3]
    assert leading.committed == []


def test_batches_are_committed_in_their_order_each_with_a_quorum() -> None:
    leading = Leading()
    leading.propose(1, 2)
    leading.propose(3)
    leading.propose(4)
    leading.disk.durable()
    leading.disk.durable()
    leading.broadcast.acknowledge(3, 4)
    assert leading.committed == []
    leading.broadcast.acknowledge(2, 2)
    assert leading.committed == [[1, 2]]
    leading.broadcast.acknowledge(5, 3)
    assert leading.committed == [[1, 2], [3]]
    assert leading.told == ["COMMIT 1", "COMMIT 2", "COMMIT 3"]
    assert [zxid for zxid, _ in leading.broadcast.under_way] == [4]
    leading.broadcast.acknowledge(2, 4)
    assert leading.committed == [[1, 2], [3], [4]]
    assert leading.broadcast.under_way == []


def test_one_acknowledgement_may_commit_several_batches() -> None:
    leading = Leading()
    leading.propose(1)
    leading.propose(2)
    leading.disk.durable()
    leading.disk.durable()
    leading.broadcast.acknowledge(3, 2)
    assert leading.committed == []
    leading.broadcast.acknowledge(4, 2)
    assert leading.committed == [[1], [2]]


def test_the_log_takes_at_once_what_was_proposed_while_it_was_busy() -> None:
    leading = Leading()
    for zxid in (1, 2, 3):
        leading.propose(zxid)
    assert [zxids for zxids, _ in leading.disk.batches] == [[1]]
    leading.disk.durable()
    assert [zxids for zxids, _ in leading.disk.batches] == [[2, 3]]
    leading.disk.durable()
    assert leading.disk.batches == []


def test_nothing_is_committed_that_is_not_in_the_leaders_own_log() -> None:
    leading = Leading()
    leading.propose(1)
    leading.propose(2)
    for sid in (2, 3, 4, 5):
        leading.broadcast.acknowledge(sid, 2)
    assert leading.committed == []
    leading.disk.durable()
    assert leading.committed == [[1]]
    leading.disk.durable()
    assert leading.committed == [[1], [2]]


def test_what_becomes_durable_after_the_term_is_not_committed_and_nothing_more_is_logged() -> None:
    leading = Leading()
    leading.propose(1)
    leading.propose(2)
    for sid in (2, 3):
        leading.broadcast.acknowledge(sid, 2)
    leading.broadcast.stop()
    leading.disk.durable()
    assert leading.committed == []
    assert leading.disk.batches == []


def test_sync_between_two_batches_under_way_is_confirmed_by_neither() -> None:
    leading = Leading()
    leading.propose(1)
    leading.propose(2)
    leading.sync()
    for _ in range(2):
        leading.disk.durable()
    leading.broadcast.acknowledge(3, 2)
    leading.broadcast.acknowledge(4, 2)
    assert leading.told == ["COMMIT 1", "COMMIT 2"]
    leading.confirm()
    assert leading.told == ["COMMIT 1", "COMMIT 2", "SYNC"]
