"""Which ensemble a seed stands for, as far as nobody says otherwise."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Final, TypedDict, Unpack

from corral.simulation.administrator import VOTERS_MIN
from corral.simulation.run import Scenario

SECONDS: Final = 15.0
"""How long things go wrong in a simulation of which nobody says how long it is."""


class Given(TypedDict, total=False):
    """What somebody says about a simulation; what is missing is drawn."""

    servers: int
    observers: int
    clients: int
    seconds: float
    faults: bool


def draw_scenario(seed: int, **given: Unpack[Given]) -> Scenario:
    """What is not given is drawn: small ensembles mostly, and settings that make each way into step a common one."""
    chance = random.Random(f"{seed} scenario")
    drawn = Scenario(
        seconds=SECONDS,
        servers=chance.choice((3, 3, 3, 3, 3, 4, 5, 5)),
        observers=chance.choice((0, 0, 0, 1, 1, 2)),
        clients=chance.choice((2, 3, 3, 4, 6)),
        pause_s=chance.choice((0.03, 0.1, 0.1, 0.5)),
        recent=chance.choice((5, 20, 500)),
        settings={
            "snapCount": str(chance.choice((20, 60, 200))),
            "snapshotSizeFactor": str(chance.choice((0.33, 5, 50))),
            "leaderServes": chance.choice(("yes", "yes", "yes", "no")),
        },
    )
    scenario = replace(drawn, **given)
    # Three voters stay always, so somebody else must be there who may go.
    reconfigures = chance.random() < 0.3 and scenario.faults and len(scenario.members) > VOTERS_MIN
    return replace(scenario, reconfigures=reconfigures)
