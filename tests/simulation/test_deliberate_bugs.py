"""Each bug that is put in on purpose is found by the checker that it is meant for, and within how many seeds."""

from __future__ import annotations

import pytest
from tests.simulation.deliberate_bugs import BUGS, Bug
from tests.simulation.test_checkers import PROVEN_HERE

from corral.simulation.invariants import Invariant
from corral.simulation.run import simulate


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug.name} {bug.finds}")
def test_is_found(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.make(monkeypatch)
    found = (simulate(seed, bug.scenario).violations[:1] for seed in range(bug.within))
    assert any(first and first[0].startswith(f"{bug.finds}: ") for first in found)


def test_every_checker_is_proven() -> None:
    assert {bug.finds for bug in BUGS} | PROVEN_HERE == set(Invariant)
