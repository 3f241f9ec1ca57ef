"""What members answer to the admin words on their client ports."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

import corral
from corral.cli.words import ask
from corral.testing import Ensemble

LEADER_FIGURES = {
    "zk_learners",
    "zk_synced_followers",
    "zk_synced_non_voting_followers",
    "zk_synced_observers",
    "zk_pending_syncs",
    "zk_leader_uptime",
    "zk_last_proposal_size",
    "zk_max_proposal_size",
    "zk_min_proposal_size",
}
"""What Apache's leader reports and no other server."""
NOT_SERVING = "This ZooKeeper instance is not currently serving requests\n"


@pytest.fixture(scope="module")
def ensemble() -> Iterator[Ensemble]:
    with Ensemble(3, observers=1) as ensemble:
        yield ensemble


def told(ensemble: Ensemble, sid: int, word: str) -> str:
    host, _, port = ensemble.addresses[sid].partition(":")
    return ask(host, int(port), word)


def role_told(ensemble: Ensemble, sid: int) -> str:
    """What ``isro`` says; nothing from one that stops serving at that moment."""
    try:
        return told(ensemble, sid, "isro")
    except ConnectionError:
        return ""


def figures(ensemble: Ensemble, sid: int) -> dict[str, str]:
    return dict(line.split("\t") for line in told(ensemble, sid, "mntr").splitlines())


def follower(ensemble: Ensemble) -> int:
    return next(sid for sid in ensemble.voters if sid != ensemble.leader())


def test_leader(ensemble: Ensemble) -> None:
    leader = ensemble.leader()
    lines = told(ensemble, leader, "srvr").splitlines()
    assert lines[-3] == "Mode: leader"
    assert lines[-1] == "Proposal sizes last/min/max: -1/-1/-1"
    found = figures(ensemble, leader)
    assert found.keys() >= LEADER_FIGURES
    assert list(found)[:3] == ["zk_version", "zk_server_state", "zk_peer_state"]
    expected = {
        "zk_server_state": "leader",
        "zk_peer_state": "leading - broadcast",
        "zk_quorum_size": "3",
        "zk_learners": "3",
        "zk_synced_followers": "2",
        "zk_synced_non_voting_followers": "0",
        "zk_synced_observers": "1",
        "zk_pending_syncs": "0",
    }
    assert {key: found[key] for key in expected} == expected
    assert "\nSession Sets (" in told(ensemble, leader, "dump")


def test_follower(ensemble: Ensemble) -> None:
    lines = told(ensemble, follower(ensemble), "srvr").splitlines()
    assert lines[-2] == "Mode: follower"
    assert lines[-1].startswith("Node count: ")
    found = figures(ensemble, follower(ensemble))
    assert not found.keys() & LEADER_FIGURES
    assert found["zk_peer_state"] == "following - broadcast"
    assert found["zk_quorum_size"] == "3"
    assert "\nGlobal Sessions(0):\n" in told(ensemble, follower(ensemble), "dump")


def test_observer(ensemble: Ensemble) -> None:
    assert "\nMode: observer\n" in told(ensemble, 4, "stat")
    found = figures(ensemble, 4)
    assert not found.keys() & LEADER_FIGURES
    assert found["zk_peer_state"] == "observing - broadcast"
    assert found["zk_observer_master_id"] == str(ensemble.leader())


def test_configuration(ensemble: Ensemble) -> None:
    own, membership = told(ensemble, 4, "conf").split("membership: \n")
    quorum = ensemble.config(4).quorum
    lines = dict(line.split("=", 1) for line in own.splitlines())
    address = quorum.members[4].addresses[0]
    expected = {
        "serverId": "4",
        "initLimit": str(quorum.init_limit),
        "syncLimit": str(quorum.sync_limit),
        "electionAlg": "3",
        "electionPort": str(address.election_port),
        "quorumPort": str(address.quorum_port),
        "peerType": "1",
    }
    assert {key: lines[key] for key in expected} == expected
    servers = [line for line in membership.splitlines() if line.startswith("server.")]
    assert [line.rpartition(":")[2] for line in servers] == ["participant"] * 3 + ["observer"]
    assert membership.splitlines()[-1].startswith("version=")


def test_while_there_is_no_leader() -> None:
    with Ensemble(3, four_letter_words=["srvr", "mntr", "hash", "ruok", "isro", "envi", "gtmk"]) as ensemble:
        for sid in (1, 2):
            ensemble.stop(sid)
        while ensemble.standing(3).mode is not None:
            pass
        assert told(ensemble, 3, "isro") == "null"
        assert told(ensemble, 3, "srvr") == NOT_SERVING
        assert told(ensemble, 3, "mntr") == NOT_SERVING
        assert told(ensemble, 3, "hash") == NOT_SERVING.rstrip()
        assert told(ensemble, 3, "ruok") == "imok"
        assert told(ensemble, 3, "gtmk") == "306"
        assert told(ensemble, 3, "envi").startswith("Environment:\n")
        assert told(ensemble, 3, "cons") == "cons is not executed because it is not in the whitelist.\n"
        host, _, port = ensemble.addresses[3].partition(":")
        with socket.create_connection((host, int(port)), 10) as visitor:
            # The beginning of a connect request.
            visitor.sendall(b"\0\0\0\x2d\0\0\0\0")
            assert visitor.recv(1) == b""


def test_leader_that_serves_no_clients() -> None:
    with Ensemble(3, leaderServes=False) as ensemble:
        while not (silent := [sid for sid in ensemble.voters if told(ensemble, sid, "srvr") == NOT_SERVING]):
            pass
        (leader,) = silent
        others = [told(ensemble, sid, "srvr") for sid in ensemble.voters if sid != leader]
        assert all("\nMode: follower\n" in answer for answer in others)


def test_what_members_count() -> None:
    async def write(hosts: str) -> None:
        async with corral.connect(hosts) as zk:
            await zk.create("/a")

    with Ensemble(3, observers=1) as ensemble:
        leader = ensemble.leader()
        asyncio.run(write(ensemble.address))
        zxid = ensemble.standing(leader).zxid
        while any(ensemble.standing(sid).zxid != zxid for sid in ensemble.addresses):
            pass
        # A session, a znode, and the end of the session.
        found = figures(ensemble, leader)
        assert found["zk_proposal_count"] == found["zk_commit_count"] == "3"
        # An election may have to be repeated on a busy machine.
        looked = int(found["zk_looking_count"])
        assert looked == int(found["zk_cnt_election_time"]) >= int(found["zk_cnt_unavailable_time"]) >= 1
        assert int(found["zk_diff_count"]) + int(found["zk_snap_count"]) >= 3
        assert int(found["zk_min_proposal_size"]) <= int(found["zk_last_proposal_size"])
        followed = figures(ensemble, follower(ensemble))
        assert followed["zk_learner_proposal_received_count"] == followed["zk_learner_commit_received_count"] == "3"
        assert int(followed["zk_cnt_follower_sync_time"]) >= 1
        observed = figures(ensemble, 4)
        assert observed["zk_learner_commit_received_count"] == "3"
        assert observed["zk_learner_proposal_received_count"] == "0"
        assert int(observed["zk_cnt_observer_sync_time"]) >= 1
        ensemble.kill(leader)
        ensemble.wait_until_serving()
        # What was counted before is not forgotten with the term.
        assert int(figures(ensemble, ensemble.leader())["zk_looking_count"]) >= 2
