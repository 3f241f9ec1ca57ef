"""The ``server.N`` lines: is this a standalone server or a member of an ensemble, and where is everybody?

Apache's server runs standalone if at most one participant is listed and ``standaloneEnabled`` is not ``false``; a
single ``server.1`` line is common (the official container image writes one), and its client address counts.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeVar

from corral.server.config.errors import ConfigError
from corral.server.config.sources import Entry

__all__ = [
    "ClientAddress",
    "Member",
    "Membership",
    "PeerAddress",
    "check_addresses",
    "check_members",
    "is_ensemble",
    "parse_member",
    "read_membership",
]

T = TypeVar("T")

PORT: Final = r"[0-9]{1,5}"
HOST: Final = r"\[[0-9a-fA-F:.%]+\]|[^\[\]:;|]+"
PEER_ADDRESS: Final = re.compile(rf"(?P<host>{HOST}):(?P<quorum>{PORT}):(?P<election>{PORT})(?::(?P<role>\w+))?")
CLIENT_ADDRESS: Final = re.compile(rf"(?:(?P<host>{HOST}):)?(?P<port>{PORT})")
SERVER_LINE: Final = (
    "host:port:port[:participant|:observer], more such addresses after |, then ;[host:]port for clients"
)
LARGEST_VERSION: Final = (1 << 63) - 1
"""Versions of the membership are zxids."""
ANY_ADDRESSES: Final = frozenset({"0.0.0.0", "::", "0:0:0:0:0:0:0:0"})


class ClientAddress(NamedTuple):
    """Where a member takes clients; no host is every address."""

    host: str | None
    port: int


class PeerAddress(NamedTuple):
    """One address at which the others reach a member."""

    host: str
    quorum_port: int
    """Where it listens while it leads."""
    election_port: int


class Member(NamedTuple):
    """One ``server.N`` line."""

    server_id: int
    addresses: tuple[PeerAddress, ...]
    is_participant: bool
    """Whether it votes; an observer does not."""
    client: ClientAddress | None
    secure_client: ClientAddress | None = None


def parse_member(key: str, text: str) -> Member:
    """The member that the line ``server.N=text`` describes. Raises ValueError if it is malformed."""
    number = key.removeprefix("server.")
    if not re.fullmatch(r"-?[0-9]{1,18}", number):
        raise ValueError(f"{number} is not a server number")
    peers, *clients = text.split(";")
    parsed = [parse_peer(address.strip()) for address in peers.split("|")]
    roles = {role for _, role in parsed}
    if len(roles) > 1:
        raise ValueError("the addresses of one server have different roles")
    if len(clients) > 2:
        raise ValueError("there are more than two client addresses")
    plain, secure = (parse_client_address(part.strip()) if part.strip() else None for part in (*clients, "", "")[:2])
    addresses = tuple(address for address, _ in parsed)
    return Member(int(number), addresses, roles == {"participant"}, plain, secure)


def parse_peer(text: str) -> tuple[PeerAddress, str]:
    """The address and the role that one ``host:port:port[:role]`` gives."""
    matched = PEER_ADDRESS.fullmatch(text)
    if matched is None:
        raise ValueError(f"{text!r} is not host:port:port[:role]")
    address = PeerAddress(matched["host"].strip("[]"), check_port(matched["quorum"]), check_port(matched["election"]))
    check_host(address.host)
    if address.quorum_port == address.election_port:
        raise ValueError("the port of the quorum and that of the election are the same")
    role = (matched["role"] or "participant").lower()
    if role not in ("participant", "observer"):
        raise ValueError(f"{role} is not a role; they are participant and observer")
    return address, role


def parse_client_address(text: str) -> ClientAddress:
    matched = CLIENT_ADDRESS.fullmatch(text)
    if matched is None:
        raise ValueError(f"{text!r} is not [host:]port")
    host = (matched["host"] or "0.0.0.0").strip("[]")
    return ClientAddress(None if host in ANY_ADDRESSES else host, check_port(matched["port"]))


def check_host(host: str) -> None:
    """Raise ValueError for what no resolver could be asked for."""
    try:
        host.encode("idna")
        is_host = bool(host.strip()) and "\0" not in host
    except ValueError:
        is_host = False
    if not is_host:
        raise ValueError(f"{host!r} is not a host")


def check_port(digits: str) -> int:
    port = int(digits)
    if port > 65_535:
        raise ValueError(f"{port} is not a port")
    return port


class Membership(NamedTuple):
    """Who belongs together, as it is written."""

    members: dict[int, Member]
    groups: dict[int, frozenset[int]]
    weights: dict[int, int]
    version: int

    @property
    def participants(self) -> list[Member]:
        """Those who vote."""
        return [member for member in self.members.values() if member.is_participant]


def read_membership(lines: Sequence[Entry]) -> Membership:
    """What the lines ``server.N``, ``group.N``, ``weight.N`` and ``version`` say.

    Raises:
        ConfigError: one of them is malformed.
    """
    membership = Membership({}, {}, {}, 0)
    places: dict[int, Entry] = {}
    for line in lines:
        kind, _, number = line.key.partition(".")
        if kind == "server":
            member = _read(line, line.text, partial(parse_member, line.key), SERVER_LINE)
            check_unique(places, member.server_id, line)
            membership.members[member.server_id] = member
        elif kind == "group":
            gid = _read(line, number, int, "a number after the dot")
            membership.groups[gid] = _read(line, line.text, _group, "numbers of servers with : between them")
        elif kind == "weight":
            sid = _read(line, number, int, "a number after the dot")
            membership.weights[sid] = _read(line, line.text, _weight, "a whole number, 0 or more")
        else:
            membership = membership._replace(version=_read(line, line.text, _version, "a hexadecimal number"))
    return membership


def check_unique(places: dict[int, Entry], server_id: int, line: Entry) -> None:
    """Raise ConfigError if there was another line for the server; of two, nobody knows which one is meant."""
    other = places.setdefault(server_id, line)
    if other is not line:
        raise ConfigError(f"{line.place}: server.{server_id} has a line already, {other.place}", line.key)


def _read(line: Entry, text: str, parse: Callable[[str], T], accepts: str) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise ConfigError(
            f"{line.place}: {line.name}={line.text} is refused: {error}; accepted is {accepts}", line.key
        ) from error


def _group(text: str) -> frozenset[int]:
    return frozenset(map(int, text.split(":")))


def _version(text: str) -> int:
    version = int(text, 16)
    if not 0 <= version <= LARGEST_VERSION:
        raise ValueError("it is no zxid")
    return version


def _weight(text: str) -> int:
    weight = int(text)
    if weight < 0:
        raise ValueError("it is negative")
    return weight


def is_ensemble(membership: Membership, *, standalone_enabled: bool, place: str) -> bool:
    """Whether there is more than a standalone server.

    Raises:
        ConfigError: nobody votes, or a standalone server has observers. ``place`` names the lines.
    """
    voters, members = len(membership.participants), len(membership.members)
    if voters == 0 and (members or not standalone_enabled):
        raise ConfigError(f"{place}: an ensemble needs a server.N line of a participant")
    if voters == 1 and standalone_enabled and members > 1:
        raise ConfigError(
            f"{place}: an observer needs an ensemble, and one participant is a standalone server;"
            " standaloneEnabled=false makes it an ensemble of one",
            "standaloneEnabled",
        )
    return voters > 1 or (voters == 1 and not standalone_enabled)


def check_addresses(members: Mapping[int, Member], *, multi_address: bool) -> None:
    """Raise ConfigError if two members are at one place, or one is at several and that is not enabled."""
    taken: dict[tuple[str, int], int] = {}
    for sid, member in members.items():
        if len(member.addresses) > 1 and not multi_address:
            key = f"server.{sid}"
            raise ConfigError(f"{key} has several addresses, which multiAddress.enabled=true would allow", key)
        for address in member.addresses:
            for port in (address.quorum_port, address.election_port):
                other = taken.setdefault((address.host, port), sid)
                if other != sid and address.host not in ANY_ADDRESSES:
                    keys = (f"server.{other}", f"server.{sid}")
                    raise ConfigError(f"{keys[0]} and {keys[1]} are both at {address.host}:{port}", *keys)


def check_members(
    members: Mapping[int, Member], groups: Mapping[int, Collection[int]], weights: Mapping[int, int]
) -> None:
    """Raise ConfigError if nobody could ever decide, or a group is not what it should be."""
    voters = {sid for sid, member in members.items() if member.is_participant}
    negative = [sid for sid, weight in weights.items() if weight < 0]
    if negative:
        raise ConfigError(f"the weight of server {negative[0]} is negative", f"weight.{negative[0]}")
    if not voters:
        raise ConfigError("no member of the ensemble votes")
    if not groups:
        if weights:
            raise ConfigError("weights are given, but no groups", *(f"weight.{sid}" for sid in weights))
        return
    grouped = [sid for group in groups.values() for sid in group]
    for sid in sorted(voters):
        if grouped.count(sid) != 1:
            keys = [f"group.{gid}" for gid, group in groups.items() if sid in group] or [f"server.{sid}"]
            number = grouped.count(sid)
            raise ConfigError(f"server {sid} is in {number} groups; every voter belongs to exactly one", *keys)
    unknown = (set(grouped) | set(weights)) - set(members)
    if unknown:
        sid = min(unknown)
        keys = [f"group.{gid}" for gid, group in groups.items() if sid in group]
        raise ConfigError(
            f"groups and weights name server {sid}, which is no member", *keys, *[f"weight.{sid}"] * (sid in weights)
        )
    if not any(weights.get(sid, 1) for sid in voters):
        raise ConfigError("the votes of all members weigh nothing", *(f"weight.{sid}" for sid in sorted(voters)))
