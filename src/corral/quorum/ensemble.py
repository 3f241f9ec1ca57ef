"""Who belongs to the ensemble, and which of them are enough to decide.

The text form is Apache's (``toString`` of QuorumMaj and QuorumHierarchical): it travels in notifications and
NEWLEADER, is the content of ``/zookeeper/config``, and lies in ``zoo.cfg.dynamic``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from corral.server.config.membership import (
    LARGEST_VERSION,
    ClientAddress,
    Member,
    PeerAddress,
    check_members,
    parse_member,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from corral.server.config import QuorumConfig


@dataclass(frozen=True, slots=True)
class Ensemble:
    """One configuration of the ensemble. Equal ones have the same members, groups, weights and version."""

    members: Mapping[int, Member]
    version: int = 0
    """The zxid of the reconfiguration that made it; 0 for one that comes from ``zoo.cfg``."""
    groups: Mapping[int, frozenset[int]] = field(default_factory=dict)
    """The members of each group of a hierarchical quorum; none where a majority decides."""
    weights: Mapping[int, int] = field(default_factory=dict)
    """Only of a hierarchical quorum; a member that is not named weighs 1."""

    def __post_init__(self) -> None:
        """Raise ValueError if nobody could ever decide, or a group is not what it should be."""
        check_members(self.members, self.groups, self.weights)
        if not 0 <= self.version <= LARGEST_VERSION:
            raise ValueError(f"{self.version:x} is not a version")

    @property
    def voters(self) -> frozenset[int]:
        """Who takes part in votes."""
        return frozenset(sid for sid, member in self.members.items() if member.is_participant)

    @property
    def observers(self) -> frozenset[int]:
        """Who only follows."""
        return frozenset(self.members) - self.voters

    def weight(self, sid: int) -> int:
        """What the vote of ``sid`` counts; who weighs nothing can never lead."""
        return self.weights.get(sid, 1) if self.groups else 1

    def is_quorum(self, sids: Collection[int]) -> bool:
        """Whether ``sids`` are enough: a majority of the voters, or of the weight in a majority of the groups."""
        if not self.groups:
            return 2 * len(self.voters.intersection(sids)) > len(self.voters)
        won = counted = 0
        for group in self.groups.values():
            whole = sum(self.weight(sid) for sid in group & self.voters)
            if whole:
                counted += 1
                won += 2 * sum(self.weight(sid) for sid in group & self.voters if sid in sids) > whole
        return 2 * won > counted

    def to_text(self) -> str:
        """The lines, without one at the end that is empty."""
        lines = [f"server.{sid}={_member_text(member)}" for sid, member in sorted(self.members.items())]
        lines += [f"group.{gid}={':'.join(map(str, sorted(group)))}" for gid, group in sorted(self.groups.items())]
        if self.groups:
            lines += [f"weight.{sid}={self.weight(sid)}" for sid in sorted(self.members)]
        lines.append(f"version={self.version:x}")
        return "\n".join(lines)


def ensemble_of(quorum: QuorumConfig) -> Ensemble:
    """The ensemble that the settings of a member describe."""
    return Ensemble(quorum.members, quorum.version, quorum.groups, quorum.weights)


def parse_ensemble(text: str) -> Ensemble:
    """The configuration that ``text`` describes. Raises ValueError, naming what is wrong."""
    members: dict[int, Member] = {}
    groups: dict[int, frozenset[int]] = {}
    weights: dict[int, int] = {}
    version = 0
    for line in text.splitlines():
        key, equals, value = (part.strip() for part in line.partition("="))
        if not key and not equals:
            continue
        kind, _, number = key.partition(".")
        if key == "version":
            version = _number(value, line, 16)
        elif kind == "server":
            member = parse_member(key, value)
            members[member.server_id] = member
        elif kind == "group":
            groups[_number(number, line)] = frozenset(_number(part, line) for part in value.split(":"))
        elif kind == "weight":
            weights[_number(number, line)] = _number(value, line)
        else:
            raise ValueError(f"{line!r} is neither a server nor a group, a weight or the version")
    return Ensemble(members, version, groups, weights)


def _number(text: str, line: str, base: int = 10) -> int:
    try:
        return int(text, base)
    except ValueError:
        raise ValueError(f"{line!r}: {text!r} is not a number") from None


def _member_text(member: Member) -> str:
    role = "participant" if member.is_participant else "observer"
    addresses = "|".join(f"{_peer_text(each)}:{role}" for each in member.addresses)
    clients = [_client_text(each) for each in (member.client, member.secure_client)]
    while clients and not clients[-1]:
        clients.pop()
    return ";".join([addresses, *clients])


def _peer_text(address: PeerAddress) -> str:
    return f"{_host_text(address.host)}:{address.quorum_port}:{address.election_port}"


def _client_text(address: ClientAddress | None) -> str:
    if address is None:
        return ""
    return f"{_host_text(address.host or '0.0.0.0')}:{address.port}"


def _host_text(host: str) -> str:
    return f"[{host}]" if ":" in host else host
