"""That what goes wrong in simulations does, and that the simulation notices what comes of it."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from tests.log_entries import write_log

from corral.quorum.leader import Leader
from corral.simulation.damage import draw_damage
from corral.simulation.disk import Disk
from corral.simulation.loop import Loop, Timeline
from corral.simulation.network import Network
from corral.simulation.operations import Operator
from corral.simulation.run import Scenario, Verdict, simulate
from corral.storage import recovery
from corral.storage.errors import StorageError
from corral.storage.txnlog import read_from
from corral.storage.txnlog.ending import SECTOR_BYTES


def sound(verdict: Verdict) -> Counter[str]:
    """What has been reached, if nothing was wrong."""
    assert verdict.violations == [], verdict
    return verdict.counts


def test_what_the_disk_has_spoiled_is_refused_and_the_member_comes_back_empty() -> None:
    counts = sound(simulate(1, Scenario(servers=3, seconds=8, kinds=("bad sector", "kill"))))
    assert counts["damage refused"] > 0
    assert counts["came back empty"] > 0


def test_members_are_restarted_by_operators_and_lose_their_disks() -> None:
    counts = sound(simulate(1, Scenario(servers=3, observers=1, seconds=8, kinds=("rolling restart", "lose a disk"))))
    assert counts["rolling restart finished"] > 0
    assert counts["came back empty"] > 0
    assert counts["sync: SNAP"] > 0


def test_members_leave_and_join_under_load() -> None:
    counts = sound(
        simulate(1, Scenario(servers=4, observers=1, seconds=7, kinds=("break connections",), reconfigures=True))
    )
    assert {what for what in counts if what.startswith("reconfigured")} > {"reconfigured: leave"}


RATES = {"quick": 1.25, "slow": 0.8}


def test_clocks_that_drift_measure_other_times() -> None:
    timeline = Timeline()
    network = Network(timeline, random.Random(1))
    quick, slow = (Loop(timeline, network.add(name, name), lambda *_: None, rate=rate) for name, rate in RATES.items())
    rung: list[tuple[str, float]] = []
    for loop in (slow, quick):
        loop.call_later(10, lambda loop=loop: rung.append((loop.host.name, timeline.now)))
    timeline.run(100)
    assert rung == [("quick", 8.0), ("slow", 12.5)]
    for loop in (slow, quick):
        loop.kill()


@pytest.mark.parametrize("seed", range(12))
def test_a_log_that_is_spoiled_is_refused_with_its_place(tmp_path: Path, seed: int) -> None:
    log = write_log(tmp_path, range(1, 101), preallocation_bytes=16384)
    damage = draw_damage(tmp_path, lambda path: True, random.Random(seed))
    assert damage is not None
    assert damage.path == log
    assert len(damage.data) in (1, SECTOR_BYTES)
    disk = Disk(tmp_path / "attic", random.Random(seed), lambda call: None)
    disk.spoil(damage.path, damage.offset, damage.data)
    with pytest.raises(StorageError, match=f"{log} at offset"):
        list(read_from(tmp_path, 0))


# What would come of it if nobody took care


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_snapshot_that_is_passed_over_though_it_is_needed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "_with_all_of", lambda passed_over, replay, directory: replay)
    kinds = ("bad sector", "kill", "lose a disk")
    assert any(simulate(seed, Scenario(servers=3, seconds=12, kinds=kinds)).violations for seed in range(80))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_member_that_comes_back_empty_too_early_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader is there, but perhaps nobody else has what the lost one had acknowledged."""

    def is_there(self: Operator, leader: object, without: object) -> bool:
        return bool(leader.peer is not None and isinstance(leader.peer.term, Leader) and leader.peer.term.server)  # type: ignore[attr-defined]

    monkeypatch.setattr(Operator, "_has_all", is_there)
    kinds = ("lose a disk", "slow disk", "partition")
    scenario = Scenario(servers=3, seconds=12, kinds=kinds, pause_s=0.03)
    assert any(simulate(seed, scenario).violations for seed in range(40))
