"""Access control lists: interning, checking, completing (sources: ReferenceCountedACLCache, checkACL, fixupACL).

An *identity* is a pair (scheme, id) that a connection has proved. What an ACL entry of a scheme means is told by the
scheme's :class:`Scheme`; the server hands in those that are configured.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from corral.jute.errors import InvalidAclError, MarshallingError, NoAuthError
from corral.jute.ops import Permission
from corral.jute.primitives import Reader, write_int
from corral.jute.records import Acl, Id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Identity = tuple[str, str]

OPEN_ACL_ID: Final = -1
"""Stands for world:anyone with all permissions, without an entry in the table."""
OPEN_ACL: Final = (Acl(int(Permission.ALL), Id("world", "anyone")),)
READ_ONLY_ACL: Final = (Acl(int(Permission.READ), Id("world", "anyone")),)


def encode_acl(acl: Sequence[Acl]) -> bytes:
    """The vector as it stands in requests, transactions and snapshots."""
    out = bytearray()
    write_int(out, len(acl))
    for entry in acl:
        entry.encode(out)
    return bytes(out)


def decode_acl(reader: Reader) -> list[Acl]:
    """Read an ACL vector; null reads as empty."""
    return [Acl.decode(reader) for _ in range(reader.read_int())]


OPEN_ACL_BYTES: Final = encode_acl(OPEN_ACL)


class AclTable:
    """Every distinct ACL once, under a small number that znodes refer to; unused ones are dropped."""

    def __init__(self) -> None:
        self._ids: dict[bytes, int] = {}
        self._encoded: dict[int, bytes] = {}
        self._entries: dict[int, tuple[Acl, ...]] = {OPEN_ACL_ID: OPEN_ACL}
        self._uses: dict[int, int] = {}
        self._last_id = 0

    def __len__(self) -> int:
        return len(self._encoded)

    def intern(self, encoded: bytes) -> int:
        """The number of an encoded ACL; counts one more use of it."""
        if encoded == OPEN_ACL_BYTES:
            return OPEN_ACL_ID
        acl_id = self._ids.get(encoded)
        if acl_id is None:
            self._last_id = acl_id = self._last_id + 1
            self.restore(acl_id, encoded)
        self._uses[acl_id] += 1
        return acl_id

    def restore(self, acl_id: int, encoded: bytes) -> None:
        """Take an entry from a snapshot, as yet unused."""
        self._last_id = max(self._last_id, acl_id)
        self._ids[encoded] = acl_id
        self._encoded[acl_id] = encoded
        self._entries[acl_id] = tuple(decode_acl(Reader(encoded)))
        self._uses[acl_id] = 0

    def add_use(self, acl_id: int) -> None:
        if acl_id in self._uses:
            self._uses[acl_id] += 1

    def release(self, acl_id: int) -> None:
        """One use less."""
        uses = self._uses.get(acl_id)
        if uses is None:
            return
        if uses > 1:
            self._uses[acl_id] = uses - 1
        else:
            self._drop(acl_id)

    def drop_unused(self) -> None:
        for acl_id in [acl_id for acl_id, uses in self._uses.items() if uses <= 0]:
            self._drop(acl_id)

    def _drop(self, acl_id: int) -> None:
        encoded = self._encoded.pop(acl_id)
        if self._ids.get(encoded) == acl_id:
            del self._ids[encoded]
        del self._entries[acl_id]
        del self._uses[acl_id]

    def entries(self, acl_id: int) -> tuple[Acl, ...]:
        """The ACL of that number. An unknown number (a damaged snapshot) grants nothing to anyone but super."""
        return self._entries.get(acl_id, ())

    def knows(self, acl_id: int) -> bool:
        return acl_id in self._entries

    def encoded(self, acl_id: int) -> bytes:
        return OPEN_ACL_BYTES if acl_id == OPEN_ACL_ID else self._encoded.get(acl_id, b"\x00\x00\x00\x00")

    def items(self) -> list[tuple[int, bytes]]:
        """All entries but the open one, by number."""
        return sorted(self._encoded.items())


@dataclass(frozen=True, slots=True)
class Scheme:
    """What an authentication scheme contributes to ACLs.

    ``matches(connection_id, acl_id)`` tells whether the proved id satisfies the ACL's; ``is_valid`` whether an id may
    stand in an ACL at all; ``is_authenticated`` whether the ``auth`` scheme expands to ids of this one.
    """

    name: str
    matches: Callable[[str, str], bool]
    is_valid: Callable[[str], bool]
    is_authenticated: bool = True


def _equal(connection_id: str, acl_id: str) -> bool:
    return connection_id == acl_id


def _is_user_and_digest(acl_id: str) -> bool:
    return len(acl_id.rstrip(":").split(":")) == 2 and bool(acl_id)


def _network(acl_id: str) -> tuple[bytes, int] | None:
    address, slash, bits = acl_id.partition("/")
    try:
        packed = ipaddress.ip_address(address).packed
    except ValueError:
        return None
    if not slash:
        return packed, 8 * len(packed)
    if not re.fullmatch(r"[+-]?\d{1,9}", bits) or not 0 <= int(bits) <= 8 * len(packed):
        return None
    return packed, int(bits)


def _in_network(connection_id: str, acl_id: str) -> bool:
    network = _network(acl_id)
    own = _network(connection_id)
    if network is None or own is None or len(network[0]) != len(own[0]):
        return False
    shift = 8 * len(own[0]) - network[1]
    return int.from_bytes(own[0], "big") >> shift == int.from_bytes(network[0], "big") >> shift


DIGEST: Final = Scheme("digest", _equal, _is_user_and_digest)
IP: Final = Scheme("ip", _in_network, lambda acl_id: _network(acl_id) is not None, is_authenticated=False)


class AccessControl:
    """Decides by ACL. ``schemes`` are the configured ones; ``skip`` switches all checks off (``skipACL``)."""

    def __init__(self, schemes: Iterable[Scheme] = (DIGEST, IP), *, skip: bool = False) -> None:
        self.schemes: Mapping[str, Scheme] = {scheme.name: scheme for scheme in schemes}
        self.skip = skip

    def permits(self, acl: Sequence[Acl], wanted: int, identities: Sequence[Identity]) -> bool:
        """Whether one of ``identities`` is granted one of the permission bits ``wanted``."""
        if self.skip or acl == OPEN_ACL:
            return True
        for scheme, _ in identities:
            if scheme == "super":
                return True
        for entry in acl:
            if not entry.perms & wanted:
                continue
            if entry.id.scheme == "world" and entry.id.id == "anyone":
                return True
            scheme_rule = self.schemes.get(entry.id.scheme or "")
            if scheme_rule is None:
                continue
            for scheme, own_id in identities:
                if scheme == entry.id.scheme and scheme_rule.matches(own_id, entry.id.id or ""):
                    return True
        return False

    def check(self, acl: Sequence[Acl], wanted: int, identities: Sequence[Identity]) -> None:
        """Raise NoAuthError unless permitted."""
        if not self.permits(acl, wanted, identities):
            raise NoAuthError

    def complete(self, acl: Sequence[Acl] | None, identities: Sequence[Identity]) -> list[Acl]:
        """The ACL to store: duplicates dropped, ``auth`` replaced by what the connection proved.

        Raises InvalidAclError naming the entry that cannot stand in an ACL, MarshallingError for a missing id.
        """
        if not acl:
            raise InvalidAclError("the ACL is empty")
        unique: list[Acl] = []
        for entry in acl:
            if entry not in unique:
                unique.append(entry)
        completed: list[Acl] = []
        for entry in unique:
            scheme, name = entry.id.scheme, entry.id.id
            if name is None and (scheme == "world" or scheme in self.schemes):
                raise MarshallingError(f"an ACL entry of scheme {scheme} has no id")
            if scheme == "world" and name == "anyone":
                completed.append(entry)
            elif scheme == "auth":
                own = [
                    Acl(entry.perms, Id(own_scheme, own_id))
                    for own_scheme, own_id in identities
                    if own_scheme in self.schemes and self.schemes[own_scheme].is_authenticated
                ]
                if not own:
                    raise InvalidAclError("auth in an ACL needs a connection that has authenticated")
                completed.extend(own)
            elif scheme is None or scheme not in self.schemes or not self.schemes[scheme].is_valid(name or ""):
                raise InvalidAclError(f"{scheme}:{name} cannot stand in an ACL")
            else:
                completed.append(entry)
        return completed
