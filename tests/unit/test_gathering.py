"""When a batch of writes is held back for those who ask again."""

from __future__ import annotations

from corral.server.gathering import WORTH_MAX, WORTH_MIN, Gathering


def test_most_of_those_who_were_answered_are_waited_for() -> None:
    gathering = Gathering()
    assert gathering.target == 0
    gathering.answered(20, 10)
    assert 20 < gathering.target < 30


def test_nobody_is_kept_waiting_for_a_few_nor_by_a_crowd() -> None:
    gathering = Gathering()
    for count, waiting in ((1, 0), (WORTH_MIN - 1, 0), (WORTH_MAX, 1), (1, WORTH_MAX)):
        gathering.answered(count, waiting)
        assert gathering.target == 0


def test_who_waits_in_vain_waits_for_fewer_and_soon_for_nobody() -> None:
    gathering = Gathering()
    targets = []
    for _ in range(6):
        gathering.answered(15, 1)
        targets.append(gathering.target)
        gathering.disappointed()
        assert gathering.target == 0
    assert targets == sorted(targets, reverse=True)
    gathering.answered(15, 1)
    assert gathering.target == 1


def test_hope_comes_back_where_it_is_fulfilled() -> None:
    gathering = Gathering()
    gathering.answered(30, 0)
    first = gathering.target
    gathering.disappointed()
    gathering.answered(30, 0)
    assert gathering.target <= first / 2
    for _ in range(50):
        gathering.fulfilled()
    gathering.answered(30, 0)
    assert gathering.target == first
