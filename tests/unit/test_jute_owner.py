"""What a stored ephemeralOwner says."""

from __future__ import annotations

import pytest

from corral.jute.owner import CONTAINER_OWNER, TTL_MAX_MS, OwnerKind, OwnerRules, ttl_owner

PLAIN = OwnerRules()
EXTENDED = OwnerRules(extended_types=True)
EMULATED = OwnerRules(extended_types=True, emulate_353_ttl=True)
OLD_TTL = -(1 << 63) | 5000
HIGH_SESSION = -(1 << 63) | 0x7F << 48
UNKNOWN = -(1 << 56) | 1 << 40


@pytest.mark.parametrize("rules", [PLAIN, EXTENDED, EMULATED])
def test_what_every_server_reads_alike(rules: OwnerRules) -> None:
    assert rules.kind(0) is OwnerKind.PERSISTENT
    assert rules.kind(CONTAINER_OWNER) is OwnerKind.CONTAINER
    assert rules.kind(0x100001F126E0000) is OwnerKind.EPHEMERAL


@pytest.mark.parametrize(
    ("owner", "rules", "kind"),
    [
        (ttl_owner(1), PLAIN, OwnerKind.EPHEMERAL),
        (ttl_owner(1), EXTENDED, OwnerKind.TTL),
        (ttl_owner(TTL_MAX_MS), EXTENDED, OwnerKind.TTL),
        (OLD_TTL, PLAIN, OwnerKind.EPHEMERAL),
        (OLD_TTL, EXTENDED, OwnerKind.EPHEMERAL),
        (OLD_TTL, EMULATED, OwnerKind.TTL),
        (HIGH_SESSION, EXTENDED, OwnerKind.EPHEMERAL),
        (UNKNOWN, PLAIN, OwnerKind.EPHEMERAL),
    ],
)
def test_what_depends_on_the_rules(owner: int, rules: OwnerRules, kind: OwnerKind) -> None:
    assert rules.kind(owner) is kind


def test_an_extended_type_that_nobody_knows() -> None:
    with pytest.raises(ValueError, match="0xff00010000000000 is of the unknown extended type 1"):
        EXTENDED.kind(UNKNOWN)


def test_times_to_live() -> None:
    assert TTL_MAX_MS == 1_099_511_627_775
    assert ttl_owner(100_000) & (2**64 - 1) == 0xFF000000000186A0
    for ttl_ms in (1, 100_000, TTL_MAX_MS):
        assert EXTENDED.ttl_ms(ttl_owner(ttl_ms)) == ttl_ms
    assert EMULATED.ttl_ms(OLD_TTL) == 5000
