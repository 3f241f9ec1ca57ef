"""When a batch of writes is held back for those who ask again."""

from __future__ import annotations

from corral.quorum.gathering import HOLD_MAX_S, HOLD_MIN_S, WORTH_MAX, WORTH_MIN, Gathering
from corral.server.pipeline import SHARES


def test_most_of_those_who_were_answered_are_waited_for() -> None:
    gathering = Gathering()
    assert gathering.target == 0
    gathering.answered(30, 0)
    assert 30 / SHARES / 2 < gathering.target < 30 / SHARES


def test_nobody_is_kept_waiting_for_a_few_nor_by_a_crowd() -> None:
    gathering = Gathering()
    for population in (1, WORTH_MIN - 1, WORTH_MAX + 1):
        gathering.answered(population, 0)
        assert gathering.target == 0


def test_who_waits_in_vain_waits_for_fewer_and_soon_for_nobody() -> None:
    gathering = Gathering()
    targets = []
    for _ in range(6):
        gathering.answered(48, 0)
        targets.append(gathering.target)
        gathering.disappointed()
        assert gathering.target == 0
    assert targets == sorted(targets, reverse=True)
    gathering.answered(48, 0)
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


def test_the_wait_is_short_beside_what_a_batch_takes() -> None:
    gathering = Gathering()
    waits = []
    for took_ms in (0, 2, 8, 1000):
        gathering.answered(20, took_ms)
        waits.append(gathering.hold_s)
    assert waits == [HOLD_MIN_S, 0.001, 0.004, HOLD_MAX_S]
