"""Each bug that is put in on purpose is found, and within how many seeds."""

from __future__ import annotations

import pytest
from tests.simulation.deliberate_bugs import BUGS, Bug

from corral.simulation.run import Scenario, simulate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_is_found(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.make(monkeypatch)
    scenario = Scenario(bug.servers, clients=bug.clients, seconds=bug.seconds, kinds=bug.kinds, pause_s=bug.pause_s)
    assert any(simulate(seed, scenario).violations for seed in range(bug.within))
