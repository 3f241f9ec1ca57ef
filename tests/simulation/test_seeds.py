"""Simulations of many seeds, and that a seed decides everything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool

import pytest
from click.testing import CliRunner

from corral.cli.main import corral
from corral.simulation.run import Scenario, Verdict, simulate
from corral.simulation.scenarios import draw_scenario
from corral.simulation.series import Series

QUICK = Scenario(seconds=6)
DRAWN = draw_scenario(4, seconds=6)
BATCHES = 40
SEEDS_PER_BATCH = 25


def test_without_faults_nothing_goes_wrong() -> None:
    verdict = simulate(1, Scenario(seconds=5, faults=False))
    assert verdict.violations == []
    assert verdict.epochs == 1
    assert verdict.unknown == 0
    assert verdict.acknowledged > 50
    assert verdict.reads > 30


@pytest.mark.parametrize("seed", range(3))
def test_with_faults(seed: int) -> None:
    verdict = simulate(seed, QUICK)
    assert verdict.violations == [], verdict


def test_five_members() -> None:
    assert simulate(0, Scenario(servers=5, seconds=3)).violations == []


def test_local_sessions_and_members_that_are_cut_off() -> None:
    settings = dict.fromkeys(("localSessionsEnabled", "localSessionsUpgradingEnabled", "readonlymode.enabled"), "true")
    verdict = simulate(3, Scenario(seconds=6, settings=settings))
    assert verdict.violations == [], verdict
    assert verdict.acknowledged > 50


def test_members_that_have_left_come_back_though_the_administrator_was_killed() -> None:
    scenario = Scenario(servers=4, clients=1, seconds=5, kinds=("kill client",), reconfigures=True)
    verdict = simulate(10, scenario)
    assert verdict.violations == [], verdict


def test_a_leader_needs_no_promise_of_those_who_become_voters_later() -> None:
    verdict = simulate(9269, draw_scenario(9269, seconds=5))
    assert verdict.violations == [], verdict


def test_a_seed_decides_everything() -> None:
    """Also in another process, where strings hash otherwise."""
    verdict = simulate(4, DRAWN)
    command = [sys.executable, "-m", "corral", "simulate", "--seed", "4", "--minutes", str(DRAWN.seconds / 60), "-q"]
    other = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": "12345"}, capture_output=True, text=True, check=True, timeout=60
    )
    assert other.stdout.splitlines()[-1] == f"digest {verdict.digest}"
    assert simulate(5, DRAWN).digest != verdict.digest


def test_the_command_shows_what_happens_and_that_it_goes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = CliRunner().invoke(
        corral, ["simulate", "--seed", "1", "--servers", "3", "--minutes", "0.02", "--no-faults", "--logs"]
    )
    assert shown.exit_code == 0
    assert "server-3    leads epoch 1" in shown.output
    assert "info: elected: leading server 3" in shown.output
    monkeypatch.setattr("corral.quorum.broadcast.is_quorum", lambda ensembles, sids: False)
    failed = CliRunner().invoke(
        corral, ["simulate", "--seed", "1", "--servers", "3", "--minutes", "0.02", "--no-faults", "-q"]
    )
    assert failed.exit_code == 1
    assert "seed 1 fails, after 1 seeds; again: corral simulate --seed 1 --servers 3 --observers" in failed.output


def test_a_search_may_go_on_behind_a_seed_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral.quorum.broadcast.is_quorum", lambda ensembles, sids: False)
    options = ["simulate", "--seed", "7", "--runs", "2", "--for", "5", "--servers", "3", "--minutes", "0.02"]
    failed = CliRunner().invoke(corral, [*options, "--keep-going"])
    assert failed.exit_code == 1
    assert "2 seeds, these have failed: 7, 8" in failed.output
    assert "again: corral simulate --seed 8 " in failed.output


def test_seeds_run_at_once_and_end_as_ever() -> None:
    options = ["simulate", "--seed", "7", "--runs", "3", "--minutes", "0.02", "-q"]
    at_once = CliRunner().invoke(corral, [*options, "--jobs", "2"])
    in_turn = CliRunner().invoke(corral, options)
    assert in_turn.exit_code == 0
    assert sorted(at_once.output.splitlines()) == sorted(in_turn.output.splitlines())


def test_a_long_search_tells_how_far_it_is_and_what_it_has_reached() -> None:
    options = ["simulate", "--seed", "7", "--runs", "2", "--for", "5", "--minutes", "0.02", "--counts"]
    shown = CliRunner().invoke(corral, options)
    assert shown.exit_code == 0
    assert "2 seeds, nothing wrong" in shown.output
    assert "with 2 of 2 seeds" in shown.output


def test_a_process_that_is_killed_ends_a_search_with_what_it_has_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_all(self: Series, seeds: Iterable[int], jobs: int) -> Iterator[Verdict]:
        yield self.run(next(iter(seeds)))
        raise BrokenProcessPool

    monkeypatch.setattr(Series, "run_all", run_all)
    options = ["simulate", "--seed", "7", "--for", "5", "--jobs", "2", "--minutes", "0.02"]
    shown = CliRunner().invoke(corral, options)
    assert shown.exit_code == 1
    assert "1 seeds, nothing wrong" in shown.output
    assert "one of the processes was killed" in shown.output


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_thousand_seeds(batch: int) -> None:
    for seed in range(batch * SEEDS_PER_BATCH, (batch + 1) * SEEDS_PER_BATCH):
        verdict = simulate(seed, draw_scenario(seed, seconds=10))
        assert verdict.violations == [], verdict
