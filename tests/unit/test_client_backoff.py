"""The pauses between attempts to connect."""

from __future__ import annotations

from random import Random

from corral.client.backoff import Backoff


class Highest(Random):
    """Always the upper bound."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_bounds_double_up_to_the_longest() -> None:
    backoff = Backoff(0.05, 0.5, Highest())
    assert [backoff.next() for _ in range(6)] == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]
    backoff.reset()
    assert backoff.next() == 0.05


def test_the_first_is_not_longer_than_the_longest() -> None:
    assert Backoff(3.0, 0.5, Highest()).next() == 0.5


def test_pauses_are_spread() -> None:
    first = set()
    for seed in range(100):
        backoff = Backoff(1.0, 8.0, Random(seed))
        pauses = [backoff.next() for _ in range(5)]
        first.add(pauses[0])
        assert 0 <= pauses[0] <= 1
        for pause, bound in zip(pauses[1:], (2, 4, 8, 8), strict=True):
            assert bound / 2 <= pause <= bound
    assert len(first) == 100
