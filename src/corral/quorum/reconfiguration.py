"""What a request to change the members asks for (sources: PrepRequestProcessor, LeaderZooKeeperServer, QuorumMaj)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corral.jute.errors import BadArgumentsError, BadVersionError, ReconfigInProgressError
from corral.jute.ops import RECONFIG
from corral.jute.primitives import Reader
from corral.jute.records import SetDataTxn
from corral.quorum.ensemble import Ensemble, parse_ensemble
from corral.server.config.membership import Member, parse_member

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corral.jute.records import ReconfigRequest

_ANY_VERSION: Final = -1
_HEADER_BYTES: Final = 32
_KIND: Final = RECONFIG.to_bytes(4, "big")


def is_reconfiguration(entry: bytes) -> bool:
    """Whether a transaction, as it stands in the log, changes the members."""
    return entry[_HEADER_BYTES - 4 : _HEADER_BYTES] == _KIND


def read_reconfiguration(entry: bytes) -> Ensemble:
    """The members that such a transaction brings. Raises ValueError."""
    data = SetDataTxn.decode(Reader(entry, _HEADER_BYTES)).data
    return parse_ensemble((data or b"").decode("utf-8"))


def next_ensemble(
    committed: Ensemble,
    last_seen: Ensemble | None,
    request: ReconfigRequest,
    zxid: int,
    *,
    voters_min: int,
) -> Ensemble:
    """The members that ``request`` wants; ``zxid``, its transaction's, becomes the version.

    ``voters_min`` is how many voters have to be left.

    Raises:
        ReconfigInProgressError: an earlier change is not committed yet.
        BadVersionError: the request was made for another configuration.
        BadArgumentsError: it does not say what it should, or nobody could decide any more.
    """
    if last_seen is not None and last_seen.version != committed.version:
        raise ReconfigInProgressError(f"version {last_seen.version:x} is on its way")
    if request.current_config_id not in (_ANY_VERSION, committed.version):
        raise BadVersionError(f"the version is {committed.version:x}, not {request.current_config_id:x}")
    try:
        wanted = _wanted(committed, request)
        ensemble = Ensemble(wanted.members, zxid, wanted.groups, wanted.weights)
    except ValueError as error:
        raise BadArgumentsError(str(error)) from None
    if len(ensemble.voters) < voters_min:
        raise BadArgumentsError(f"fewer than {voters_min} voters would be left")
    return ensemble


def _wanted(committed: Ensemble, request: ReconfigRequest) -> Ensemble:
    if request.new_members is not None:
        return parse_ensemble(request.new_members.replace(",", "\n"))
    if committed.groups:
        raise ValueError("a hierarchical ensemble is only changed as a whole")
    members = dict(committed.members)
    for text in _parts(request.leaving_servers):
        if not text.lstrip("-").isdigit():
            raise ValueError(f"{text!r} is not a server's number")
        members.pop(int(text), None)
    for text in _parts(request.joining_servers):
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"{text!r} is not server.N=host:port:port;port")
        # Apache looks at the number alone.
        member = parse_member(f"server.{key.strip().rpartition('.')[2]}", value.strip())
        if member.client is None and member.secure_client is None:
            raise ValueError(f"{text!r} does not say where clients are taken")
        _check_addresses(member, (each for sid, each in members.items() if sid != member.server_id))
        members[member.server_id] = member
    return Ensemble(members)


def _parts(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def _check_addresses(joining: Member, others: Iterable[Member]) -> None:
    """Refuse a member at an address that another one has."""
    taken: dict[tuple[str, int], int] = {}
    for other in others:
        taken |= dict.fromkeys(_places(other), other.server_id)
    for place in _places(joining):
        if place in taken:
            raise ValueError(f"server {taken[place]} is at {place[0]}:{place[1]} already")


def _places(member: Member) -> list[tuple[str, int]]:
    places = [(each.host, port) for each in member.addresses for port in (each.quorum_port, each.election_port)]
    clients = [each for each in (member.client, member.secure_client) if each is not None]
    return places + [(each.host, each.port) for each in clients if each.host is not None]
