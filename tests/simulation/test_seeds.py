"""Simulations of many seeds, and that a seed decides everything."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from corral.cli.main import corral
from corral.simulation.run import Scenario, simulate

QUICK = Scenario(seconds=6)
THOROUGH = Scenario(seconds=15)
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


def test_a_seed_decides_everything() -> None:
    """Also in another process, where strings hash otherwise."""
    verdict = simulate(4, QUICK)
    command = [sys.executable, "-m", "corral", "simulate", "--seed", "4", "--minutes", str(QUICK.seconds / 60), "-q"]
    other = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": "12345"}, capture_output=True, text=True, check=True, timeout=60
    )
    assert other.stdout.splitlines()[-1] == f"digest {verdict.digest}"
    assert simulate(5, QUICK).digest != verdict.digest


def test_the_command_shows_what_happens_and_that_it_goes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = CliRunner().invoke(corral, ["simulate", "--seed", "1", "--minutes", "0.02", "--no-faults", "--logs"])
    assert shown.exit_code == 0
    assert "server-3    leads epoch 1" in shown.output
    assert "info: elected: leading server 3" in shown.output
    monkeypatch.setattr("corral.quorum.broadcast.is_quorum", lambda ensembles, sids: False)
    failed = CliRunner().invoke(corral, ["simulate", "--seed", "1", "--minutes", "0.02", "--no-faults", "-q"])
    assert failed.exit_code == 1
    assert "1 of 1 seeds failed" in failed.output


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_thousand_seeds(batch: int) -> None:
    for seed in range(batch * SEEDS_PER_BATCH, (batch + 1) * SEEDS_PER_BATCH):
        scenario = THOROUGH if seed % 5 else Scenario(servers=5, seconds=10)
        verdict = simulate(seed, scenario)
        assert verdict.violations == [], verdict
