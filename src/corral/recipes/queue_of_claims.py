"""A queue of claims: the children of a directory, in the order of the numbers that end their names.

Every contender makes an ephemeral sequential znode and waits for the nearest one before it that is in its way, and
only for that one: the end of a claim wakes one waiter, not all. The words in the names are those of kazoo and Curator,
so that contenders of all three keep each other out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Dialect(NamedTuple):
    """The names that a kind of client gives to what it creates."""

    lock: str
    read: str
    write: str
    latch: str
    semaphore_queue: str
    """Where those queue who want a permit, relative to the semaphore's path."""
    semaphore_leases: str
    """Where the permits in use are, relative to the semaphore's path."""


KAZOO: Final = Dialect("__lock__", "__rlock__", "__lock__", "__lock__", "-__lock__", "")
CURATOR: Final = Dialect("lock-", "__READ__", "__WRIT__", "latch-", "/locks", "/leases")

_CLAIM: Final = re.compile(
    r"(__lock__|lock-|__WRIT__|latch-|(?P<shared>__rlock__|__READ__))(?P<number>\d{10}|-\d{9,10})$"
)
_MARKER: Final = re.compile(r"_c_[0-9a-f]{32}-")
_COUNTER_MASK: Final = (1 << 32) - 1
_HALF: Final = 1 << 31


class _Claim(NamedTuple):
    number: int
    is_shared: bool


def _parse(name: str) -> _Claim | None:
    match = _CLAIM.search(name)
    return _Claim(int(match["number"]), match["shared"] is not None) if match else None


def _distance(first: int, second: int) -> int:
    """How many claims after ``first`` the ``second`` one came; the counter has 32 bits and begins again."""
    distance = (second - first) & _COUNTER_MASK
    return distance if distance < _HALF else distance - _COUNTER_MASK - 1


def blocker_of(own: str, names: Iterable[str], *, shared: bool) -> str | None:
    """The nearest claim before ``own`` that is in its way; None if there is none. Shared ones let each other pass."""
    own_claim = _parse(own)
    if own_claim is None:
        raise ValueError(f"{own!r} is not the name of a claim")
    nearest: str | None = None
    least = _HALF
    for name in names:
        claim = _parse(name)
        if claim is None or (shared and claim.is_shared):
            continue
        distance = _distance(claim.number, own_claim.number)
        if 0 < distance < least:
            nearest, least = name, distance
    return nearest


def strays_of(own: str, names: Iterable[str]) -> list[str]:
    """Claims that the same attempt may have made: of a creation that was repeated although it had been done."""
    marker = _MARKER.match(own)
    if marker is None:
        return []
    return [name for name in names if name != own and name.startswith(marker.group())]


def in_order(names: Iterable[str]) -> list[str]:
    """The claims among ``names``, the first one first."""
    claims = [(name, claim) for name in names if (claim := _parse(name)) is not None]
    if not claims:
        return []
    reference = claims[0][1].number
    return [name for name, claim in sorted(claims, key=lambda each: _distance(reference, each[1].number))]


def as_shared(own: str, dialect: Dialect) -> str:
    """The name of a shared claim at the same place in the queue as the exclusive ``own``."""
    match = _CLAIM.search(own)
    if match is None:
        raise ValueError(f"{own!r} is not the name of a claim")
    return own[: match.start()] + dialect.read + match["number"]
