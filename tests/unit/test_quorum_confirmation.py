"""Rounds by which a leader confirms that it still leads, and what waits for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from corral.jute.extensions import QUORUM
from corral.quorum.broadcast import Broadcast
from corral.quorum.confirmation import Confirmation
from corral.quorum.ensemble import parse_ensemble
from corral.quorum.packets import PacketReader, PacketType
from corral.server.machine import Machine
from corral.server.stats import ServerStats

ENSEMBLE = parse_ensemble("\n".join(f"server.{sid}=h{sid}:2888:3888:participant" for sid in range(1, 6)))
ME = 1


class Rounds:
    """A confirmation of server 1 of five, whose PINGs are counted and whose turns of the loop the test takes."""

    def __init__(self) -> None:
        self.pings = 0
        self.turns: list[Callable[[], None]] = []
        self.confirmation = Confirmation(ME, lambda: [ENSEMBLE], self._ping, self.turns.append)

    def _ping(self) -> None:
        self.pings += 1

    def turn(self) -> None:
        turns = self.turns[:]
        self.turns.clear()
        for each in turns:
            each()

    def answer(self, *sids: int, number: int) -> None:
        for sid in sids:
            self.confirmation.answered(sid, number)


def test_what_is_asked_in_one_turn_shares_a_round() -> None:
    rounds, told = Rounds(), list[str]()
    rounds.confirmation.ask(lambda: told.append("a"))
    rounds.confirmation.ask(lambda: told.append("b"))
    assert rounds.pings == 0
    rounds.turn()
    assert rounds.pings == 1
    rounds.answer(2, number=1)
    rounds.answer(2, number=1)
    assert told == []
    rounds.answer(5, number=1)
    assert told == ["a", "b"]
    rounds.answer(3, 4, number=1)
    assert told == ["a", "b"]


def test_answer_to_an_earlier_ping_proves_nothing() -> None:
    rounds, told = Rounds(), list[str]()
    rounds.confirmation.ask(lambda: told.append("a"))
    rounds.answer(2, 3, 4, 5, number=0)
    rounds.turn()
    rounds.answer(2, 3, 4, 5, number=0)
    assert told == []


def test_what_is_asked_while_a_round_is_under_way_needs_the_next() -> None:
    rounds, told = Rounds(), list[str]()
    assert rounds.confirmation.ask(lambda: told.append("a")) == 1
    rounds.turn()
    assert rounds.confirmation.ask(lambda: told.append("b")) == 2
    rounds.turn()
    assert rounds.pings == 1
    rounds.answer(2, 3, number=1)
    assert told == ["a"]
    rounds.turn()
    assert rounds.pings == 2
    rounds.answer(4, number=2)
    rounds.answer(5, number=1)
    assert told == ["a"]
    rounds.answer(5, number=2)
    assert told == ["a", "b"]


def test_those_that_do_not_vote_do_not_count() -> None:
    rounds, told = Rounds(), list[str]()
    rounds.confirmation.ask(lambda: told.append("a"))
    rounds.turn()
    rounds.answer(6, 7, 8, number=1)
    assert told == []


def test_one_that_is_a_quorum_by_itself_asks_nobody() -> None:
    alone = parse_ensemble("server.1=a:2888:3888:participant")
    turns: list[Callable[[], None]] = []
    told: list[str] = []
    Confirmation(ME, lambda: [alone], lambda: None, turns.append).ask(lambda: told.append("a"))
    turns[0]()
    assert told == ["a"]


def test_a_term_that_is_over_confirms_nothing() -> None:
    rounds, told = Rounds(), list[str]()
    rounds.confirmation.ask(lambda: told.append("a"))
    rounds.turn()
    rounds.confirmation.stop()
    rounds.answer(2, 3, number=1)
    rounds.confirmation.ask(lambda: told.append("b"))
    rounds.turn()
    assert told == []
    assert rounds.pings == 1


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
        self.durable: Callable[[], None] = lambda: None

    def extend(self, transactions: Sequence[tuple[int, bytes]]) -> None:
        return

    def sync(self, done: Callable[[], None]) -> None:
        self.durable = done

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

    def gather(self, *zxids: int) -> None:
        for zxid in zxids:
            self.broadcast.append(zxid, bytes(40))

    def propose(self) -> None:
        self.broadcast.sync(lambda: None)

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
    leading.gather(1)
    leading.propose()
    # The logs of the others may have had it long ago.
    leading.sync()
    leading.acknowledge(1)
    assert leading.told == ["COMMIT 1"]
    leading.confirm()
    assert leading.told == ["COMMIT 1", "SYNC"]


def test_sync_waits_for_what_was_proposed_before() -> None:
    leading = Leading()
    leading.gather(1)
    leading.propose()
    leading.sync()
    leading.confirm()
    assert leading.told == []
    leading.acknowledge(1)
    assert leading.told == ["COMMIT 1", "SYNC"]


def test_sync_stands_before_what_was_proposed_after_it() -> None:
    leading = Leading()
    leading.sync()
    leading.gather(1)
    leading.propose()
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
