"""What simulations have found in the servers, one test each."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.log_entries import append

from corral.jute.ops import OpCode
from corral.jute.records import CreateTxn, TxnHeader
from corral.quorum.history import apply
from corral.simulation.disk import Disk
from corral.simulation.durable import History
from corral.simulation.run import Scenario, simulate
from corral.simulation.scenarios import draw_scenario
from corral.storage.errors import DiskError
from corral.storage.txnlog import TxnLogWriter, read_from
from corral.tree.datatree import DataTree


class LosingAll(random.Random):
    """Draws the worst for what is not synced: none of it stays."""

    def random(self) -> float:
        return 0.3

    def randint(self, a: int, b: int) -> int:
        return a


def test_what_recovery_has_read_back_from_the_page_cache_outlives_the_power(tmp_path: Path) -> None:
    """Seed 1027: a member was killed before its sync, took part with what it found in its log, and then lost that."""
    directory = tmp_path / "version-2"
    disk = Disk(tmp_path / "attic", LosingAll(), lambda call: None)
    disk.make_directory(directory)
    writer = TxnLogWriter(directory, force_sync=False, filesystem=disk)
    for zxid in (1, 2, 3):
        append(writer, zxid)
    disk.process_dies()
    disk.revive()
    replay = read_from(directory, 0)
    assert [zxid for zxid, _ in replay] == [1, 2, 3]
    replay.mend(disk)
    disk.process_dies()
    disk.lose_power()
    assert [zxid for zxid, _ in read_from(directory, 0)] == [1, 2, 3]


def test_what_was_not_synced_is_lost_with_the_power(tmp_path: Path) -> None:
    """The same without recovery: the disk does forget."""
    directory = tmp_path / "version-2"
    disk = Disk(tmp_path / "attic", LosingAll(), lambda call: None)
    disk.make_directory(directory)
    writer = TxnLogWriter(directory, filesystem=disk)
    append(writer, 1)
    writer.force_sync = False
    append(writer, 2)
    disk.process_dies()
    disk.lose_power()
    assert [zxid for zxid, _ in read_from(directory, 0)] == [1]


def test_what_was_synced_is_durable_though_more_was_written_since(tmp_path: Path) -> None:
    """Seed 1795386241: a leader committed what was on its disk when the next write's sync had failed."""
    disk = Disk(tmp_path / "attic", LosingAll(), lambda call: None)
    (tmp_path / "version-2").mkdir()
    writer = TxnLogWriter(tmp_path / "version-2", filesystem=disk)
    append(writer, 1)
    append(writer, 2)
    member: Any = SimpleNamespace(data_directory=tmp_path, disk=disk, life=1)
    history = History(member)
    disk.fails_to_sync = True
    with pytest.raises(DiskError):
        append(writer, 3)
    assert [history.has(zxid) for zxid in (1, 2, 3)] == [True, True, False]
    assert history.last_logged() == 3
    disk.process_dies()
    disk.lose_power()
    assert [zxid for zxid, _ in read_from(tmp_path / "version-2", 0)] == [1, 2]


def test_a_client_that_two_members_claim_is_not_forgotten() -> None:
    """Seed 25: a slow member's word, that it has the client, came after that of the one where the client really was.

    The leader then dropped what came by the right one without a word, and the client waited for ever.
    """
    kinds = ("slow link", "cut one way", "break connections")
    assert simulate(25, Scenario(seconds=20, kinds=kinds, clients=6, pause_s=0.03)).violations == []


@pytest.mark.parametrize("seed", [7000237, 8000437])
def test_a_leader_whose_log_is_damaged_after_it_was_read_has_what_it_had(seed: int) -> None:
    """The ledger believed the disk, where the log seemed to end."""
    verdict = simulate(seed, draw_scenario(seed, seconds=10))
    assert verdict.violations == [], verdict


def test_two_without_a_vote_have_nothing_to_say_to_each_other() -> None:
    """Seed 6000031: an observer, and a member that had left, answered each other's answers for ever."""
    verdict = simulate(6000031, draw_scenario(6000031, seconds=10))
    assert verdict.violations == [], verdict


@pytest.mark.parametrize("seed", [1024, 1226])
def test_a_voter_that_has_promised_a_later_epoch_is_let_in(seed: int) -> None:
    """It had heard of an epoch that came to nothing, and was shut out for the whole term of another leader."""
    assert simulate(seed, Scenario(servers=3, seconds=20)).violations == []


def test_a_log_that_a_snapshot_has_gone_beyond_serves_nobody() -> None:
    """Seed 459: a leader had the end of its history as a tree only, and sent a learner the log without that end."""
    assert simulate(459, Scenario(servers=3, seconds=15)).violations == []


def test_what_is_applied_before_a_server_serves_is_told_to_no_watch_later() -> None:
    """Seed 87: a follower had a tree anew, applied what was committed until it served, and led later.

    With the first sync that it then answered, whoever watched by then was told of all that once more.
    """
    tree = DataTree()
    entry = TxnHeader(1, 1, 5, 0, OpCode.CREATE).to_bytes() + CreateTxn(b"/n", b"", [], False, 1).to_bytes()
    apply(tree, 5, entry)
    assert b"/n" in tree.nodes
    assert tree.changes == []


def test_a_member_whose_acknowledgement_a_change_of_members_needs_can_join_again() -> None:
    """Seed 251: the leader had a quorum of the old members; one that was away had logged that there would be more."""
    verdict = simulate(251, draw_scenario(251, seconds=10))
    assert verdict.violations == [], verdict


def test_an_empty_disk_is_not_waited_for_by_a_change_that_waits_for_it() -> None:
    """Seed 972: an observer was to become a voter, and the voter whose word that took had lost its disk."""
    verdict = simulate(972, draw_scenario(972, seconds=10))
    assert verdict.violations == [], verdict


def test_what_a_leader_inherits_is_known_though_a_sector_of_its_log_went_bad() -> None:
    """Seed 227: the ledger could not read that log."""
    verdict = simulate(227, draw_scenario(227, seconds=10))
    assert verdict.violations == [], verdict


def test_an_observer_that_is_to_vote_is_told_so_while_the_change_waits_for_its_vote() -> None:
    """Seed 5000188: one of the voters had lost its disk, and no leader had a quorum of those who were to vote."""
    verdict = simulate(5000188, draw_scenario(5000188, seconds=10))
    assert verdict.violations == [], verdict


def test_who_missed_that_a_member_is_to_join_elects_it() -> None:
    """Seed 7000091: the one to join had the longest log, and the vote of the one that had been away was needed."""
    verdict = simulate(7000091, draw_scenario(7000091, seconds=10))
    assert verdict.violations == [], verdict
