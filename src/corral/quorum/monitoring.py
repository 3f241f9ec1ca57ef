"""What the admin words tell of a member: ``conf``, ``srvr`` and ``mntr``, by Apache's names.

Sources: QuorumZooKeeperServer, LeaderZooKeeperServer, ObserverZooKeeperServer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from corral.quorum.broadcast import Broadcast
    from corral.quorum.ensemble import Ensemble
    from corral.server.config import QuorumConfig


class LearnersInStep(NamedTuple):
    """How many learners a leader has."""

    connected: int
    followers: int
    non_voting_followers: int
    """Of the followers, those who are no voters."""
    observers: int


def configuration_text(me: int, quorum: QuorumConfig, ensemble: Ensemble) -> str:
    """What ``conf`` tells beyond what a standalone server does."""
    member = ensemble.members.get(me)
    addresses = member.addresses if member is not None else ()
    lines: Mapping[str, object] = {
        "initLimit": quorum.init_limit,
        "syncLimit": quorum.sync_limit,
        "electionAlg": quorum.election_algorithm,
        "electionPort": "|".join(str(address.election_port) for address in addresses),
        "quorumPort": "|".join(str(address.quorum_port) for address in addresses),
        "peerType": 0 if me in ensemble.voters else 1,
    }
    return "".join(f"{key}={value}\n" for key, value in lines.items()) + f"membership: \n{ensemble.to_text()}"


def proposals_text(broadcast: Broadcast) -> str:
    """The last line of a leader's ``srvr``."""
    sizes = broadcast.proposal_sizes
    return f"Proposal sizes last/min/max: {sizes.last}/{sizes.smallest}/{sizes.largest}\n"


def leader_figures(
    learners: LearnersInStep, broadcast: Broadcast, pending_syncs: int, uptime_ms: int
) -> Iterator[tuple[str, object]]:
    """What ``mntr`` tells of a leader."""
    sizes = broadcast.proposal_sizes
    yield "learners", learners.connected
    yield "synced_followers", learners.followers
    yield "synced_non_voting_followers", learners.non_voting_followers
    yield "synced_observers", learners.observers
    yield "pending_syncs", pending_syncs
    yield "leader_uptime", uptime_ms
    yield "last_proposal_size", sizes.last
    yield "max_proposal_size", sizes.largest
    yield "min_proposal_size", sizes.smallest
