"""The order of claims, and who waits for whom."""

from __future__ import annotations

import pytest

from corral.recipes.queue_of_claims import CURATOR, KAZOO, as_shared, blocker_of, in_order, strays_of

OURS = "_c_" + "a" * 32 + "-"
KAZOOS = "f" * 32
CURATORS = "_c_01234567-89ab-cdef-0123-456789abcdef-"


def test_number_decides_not_the_name() -> None:
    own = f"{OURS}__lock__0000000005"
    names = [f"{KAZOOS}__lock__0000000004", own, f"{CURATORS}lock-0000000003", f"{'0' * 32}__lock__0000000006"]
    assert blocker_of(own, names, shared=False) == f"{KAZOOS}__lock__0000000004"
    assert in_order(names) == [names[2], names[0], own, names[3]]


def test_the_first_waits_for_nobody() -> None:
    own = f"{OURS}__lock__0000000002"
    assert blocker_of(own, [own, f"{KAZOOS}__lock__0000000003"], shared=False) is None


@pytest.mark.parametrize("name", ["leases", "lease-0000000001", "__lock__", "__lock__123", "x__lock__0000000001x", ""])
def test_what_is_no_claim_is_left_out(name: str) -> None:
    own = f"{OURS}__lock__0000000002"
    assert blocker_of(own, [own, name], shared=False) is None
    assert in_order([own, name]) == [own]
    with pytest.raises(ValueError, match="not the name of a claim"):
        blocker_of(name, [own], shared=False)


@pytest.mark.parametrize("shared_word", ["__rlock__", "__READ__"])
@pytest.mark.parametrize("exclusive_word", ["__lock__", "lock-", "__WRIT__", "latch-"])
def test_shared_claims_let_each_other_pass(shared_word: str, exclusive_word: str) -> None:
    writer, reader = f"{KAZOOS}{exclusive_word}0000000001", f"{KAZOOS}{shared_word}0000000002"
    own_read, own_write = f"{OURS}{shared_word}0000000003", f"{OURS}{exclusive_word}0000000003"
    assert blocker_of(own_read, [reader, own_read], shared=True) is None
    assert blocker_of(own_read, [writer, reader, own_read], shared=True) == writer
    assert blocker_of(own_write, [writer, reader, own_write], shared=False) == reader


def test_counter_begins_again_below_zero() -> None:
    """The counter of a directory has 32 bits: after 2147483647 comes -2147483648."""
    last, first = f"{KAZOOS}__lock__2147483647", f"{OURS}__lock__-2147483648"
    assert blocker_of(first, [first, last], shared=False) == last
    assert blocker_of(last, [first, last], shared=False) is None
    assert in_order([first, last]) == [last, first]
    minus_one, zero = f"{KAZOOS}__lock__-000000001", f"{OURS}__lock__0000000000"
    assert blocker_of(zero, [minus_one, zero], shared=False) == minus_one


def test_strays_have_the_marker_of_the_own_claim() -> None:
    own, stray = f"{OURS}__lock__0000000005", f"{OURS}__lock__0000000004"
    assert strays_of(own, [stray, own, f"{KAZOOS}__lock__0000000003"]) == [stray]
    assert strays_of(f"{KAZOOS}__lock__0000000001", [stray]) == []


def test_downgraded_claim_keeps_its_place() -> None:
    assert as_shared(f"{OURS}__lock__0000000005", KAZOO) == f"{OURS}__rlock__0000000005"
    assert as_shared(f"{OURS}__WRIT__-2147483648", CURATOR) == f"{OURS}__READ__-2147483648"
    with pytest.raises(ValueError, match="not the name of a claim"):
        as_shared("lease-1", KAZOO)
