"""Rounds by which a leader confirms that it still leads."""

from __future__ import annotations

from collections.abc import Callable

from corral.quorum.confirmation import Confirmation
from corral.quorum.ensemble import parse_ensemble

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
