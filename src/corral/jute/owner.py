"""What a znode's stored ``ephemeralOwner`` says about its kind (sources: EphemeralType, EphemeralTypeEmulate353)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

CONTAINER_OWNER: Final = -(1 << 63)
TTL_MAX_MS: Final = 0xFFFFFFFFFF
"""The longest time to live in milliseconds: 40 bits."""
_TTL_TAG: Final = 0xFF << 56
_OLD_TTL_TAG: Final = 1 << 63


class OwnerKind(Enum):
    """What becomes of a znode by itself."""

    PERSISTENT = "persistent"
    EPHEMERAL = "ephemeral"
    CONTAINER = "container"
    TTL = "ttl"


@dataclass(frozen=True, slots=True)
class OwnerRules:
    """How this server reads owners: ``extendedTypesEnabled`` and ``emulate353TTLNodes``."""

    extended_types: bool = False
    emulate_353_ttl: bool = False

    def kind(self, owner: int) -> OwnerKind:
        """The kind a stored owner stands for. ValueError for an extended type that nobody knows."""
        if owner == 0:
            return OwnerKind.PERSISTENT
        if owner == CONTAINER_OWNER:
            return OwnerKind.CONTAINER
        if owner > 0 or not self.extended_types:
            return OwnerKind.EPHEMERAL
        if (owner >> 56) & 0xFF == 0xFF:
            feature = (owner >> 40) & 0xFFFF
            if feature != 0:
                raise ValueError(f"ephemeralOwner {owner & (2**64 - 1):#x} is of the unknown extended type {feature}")
            return OwnerKind.TTL
        return OwnerKind.TTL if self.emulate_353_ttl else OwnerKind.EPHEMERAL

    def ttl_ms(self, owner: int) -> int:
        """The time to live that an owner of kind TTL carries."""
        if (owner >> 56) & 0xFF == 0xFF:
            return owner & TTL_MAX_MS
        return owner & ~_OLD_TTL_TAG & (2**63 - 1)


def ttl_owner(ttl_ms: int) -> int:
    """The owner stored for a znode with that time to live."""
    return (_TTL_TAG | ttl_ms) - (1 << 64)
