"""The connect string: which servers there are, and below which znode the client lives."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Final

from corral.jute.errors import BadArgumentsError
from corral.jute.paths import validate_path

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

DEFAULT_PORT: Final = 2181


@dataclass(frozen=True, slots=True)
class Address:
    """A server as the user named it; the name is looked up anew at each attempt to connect."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_hosts(hosts: str | Iterable[str]) -> tuple[tuple[Address, ...], str]:
    """The servers and the chroot of ``host:port,[v6]:port,host/chroot``; the chroot is ``""`` if there is none.

    Raises:
        ValueError: the string names no server, or a part of it is no address or no path.
    """
    text = hosts if isinstance(hosts, str) else ",".join(hosts)
    servers, slash, below = text.partition("/")
    chroot = f"/{below}" if slash and below else ""
    if chroot:
        try:
            validate_path(chroot.encode())
        except BadArgumentsError as error:
            raise ValueError(f"connect string {text!r}: {error}") from None
    addresses = tuple(_parse_address(part.strip(), text) for part in servers.split(",") if part.strip())
    if not addresses:
        raise ValueError(f"connect string {text!r} names no server")
    return addresses, chroot


def _parse_address(part: str, whole: str) -> Address:
    host, colon, port = part.rpartition(":")
    if part.startswith("["):
        end = part.find("]")
        host, rest = part[1:end], part[end + 1 :]
        if end < 0 or not host or (rest and not rest.startswith(":")):
            raise ValueError(f"connect string {whole!r}: {part!r} is no [IPv6 address]:port")
        colon, port = rest[:1], rest[1:]
    elif ":" in host:
        # A bare IPv6 address has colons of its own, and then no port.
        host, colon, port = part, "", ""
        try:
            IPv6Address(host)
        except ValueError:
            raise ValueError(f"connect string {whole!r}: {part!r} is no host:port") from None
    elif not colon:
        host, port = part, ""
    if any(char.isspace() or not char.isprintable() for char in host):
        raise ValueError(f"connect string {whole!r}: {host!r} is no host")
    if not colon:
        return Address(host, DEFAULT_PORT)
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"connect string {whole!r}: {part!r} is no host:port")
    return Address(host, int(port))


class HostList:
    """Hands out the servers one after another, in an order that is shuffled once: clients spread over the servers."""

    def __init__(self, addresses: Iterable[Address], random: Random) -> None:
        self.addresses = list(addresses)
        random.shuffle(self.addresses)
        self._next = 0

    def __len__(self) -> int:
        return len(self.addresses)

    def next(self) -> Address:
        """The server to try now."""
        address = self.addresses[self._next % len(self.addresses)]
        self._next += 1
        return address

    def prefer(self, address: Address) -> None:
        """Let ``address`` be the next one."""
        self._next = self.addresses.index(address)
