"""The ``server.N`` lines: does the configuration describe a standalone server, and where does it listen?

Apache's server runs standalone if at most one participant is listed and ``standaloneEnabled`` is not ``false``; a
single ``server.1`` line is common (the official container image writes one), and its client address counts.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from corral.server.config.errors import ConfigError
from corral.server.config.sources import Entry, wrong_value
from corral.server.config.values import Switch

__all__ = ["ClientAddress", "Member", "PeerAddress", "client_address", "parse_member"]

PORT: Final = r"[0-9]{1,5}"
HOST: Final = r"\[[0-9a-fA-F:.%]+\]|[^\[\]:;|]+"
PEER_ADDRESS: Final = re.compile(rf"(?P<host>{HOST}):(?P<quorum>{PORT}):(?P<election>{PORT})(?::(?P<role>\w+))?")
CLIENT_ADDRESS: Final = re.compile(rf"(?:(?P<host>{HOST}):)?(?P<port>{PORT})")
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


def check_port(digits: str) -> int:
    port = int(digits)
    if port > 65_535:
        raise ValueError(f"{port} is not a port")
    return port


def is_standalone(switch: Entry) -> bool:
    kind = Switch()
    try:
        return kind.parse(switch.text)
    except ValueError:
        raise wrong_value(switch, kind.accepts) from None


def client_address(
    lines: Sequence[Entry], *, standalone_switch: Entry | None, server_id: int | None
) -> ClientAddress | None:
    """Where the ``server.N`` lines say that this server takes clients; None if they do not say.

    A server without a ``myid`` file takes the only line for its own.

    Raises:
        ConfigError: a line is malformed, or they describe an ensemble.
    """
    if standalone_switch is not None and not is_standalone(standalone_switch):
        raise ConfigError(
            f"{standalone_switch.place}: standaloneEnabled=false asks for an ensemble;"
            " ensembles are not supported yet by Corral"
        )
    members = []
    for line in lines:
        try:
            members.append(parse_member(line.name, line.text))
        except ValueError as error:
            raise ConfigError(
                f"{line.place}: {line.name}={line.text} is refused: {error}; accepted is"
                " host:port:port[:participant|:observer], more such addresses after |,"
                " then ;[host:]port for clients"
            ) from error
    participants = [member for member in members if member.is_participant]
    if len(participants) > 1:
        raise ConfigError(
            f"{lines[0].place}: {len(participants)} servers form an ensemble;"
            " ensembles are not supported yet by Corral: keep at most one server.N line"
        )
    if len(members) > len(participants):
        raise ConfigError(f"{lines[0].place}: an observer needs an ensemble; ensembles are not supported yet by Corral")
    if not participants or server_id not in (None, participants[0].server_id):
        return None
    return participants[0].client
