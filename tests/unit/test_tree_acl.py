"""Access control lists: the table, who is let in, what may be stored."""

from __future__ import annotations

import pytest

from corral.jute.errors import InvalidAclError, MarshallingError, NoAuthError
from corral.jute.ops import Permission
from corral.jute.primitives import Reader
from corral.jute.records import Acl, Id
from corral.tree.acl import (
    OPEN_ACL,
    OPEN_ACL_BYTES,
    OPEN_ACL_ID,
    READ_ONLY_ACL,
    AccessControl,
    AclTable,
    Identity,
    decode_acl,
    encode_acl,
)

ACCESS = AccessControl()
ANN: Identity = ("digest", "ann:x")
BOB: Identity = ("digest", "bob:y")
HERE: Identity = ("ip", "10.1.2.3")
SUPER: Identity = ("super", "")


def acl(*entries: tuple[int, str | None, str | None]) -> list[Acl]:
    return [Acl(perms, Id(scheme, name)) for perms, scheme, name in entries]


@pytest.mark.parametrize(
    ("entries", "wanted", "identities", "permitted"),
    [
        ([(31, "world", "anyone")], 1, [], True),
        ([(1, "world", "anyone")], 1, [], True),
        ([(1, "world", "anyone")], 2, [HERE, ANN], False),
        ([(1, "world", "anyone")], 3, [], True),
        ([(1, "world", "other")], 1, [], False),
        ([(31, "digest", "ann:x")], 1, [HERE, ANN], True),
        ([(31, "digest", "ann:x")], 1, [BOB], False),
        ([(31, "digest", "ann:x")], 1, [("sasl", "ann:x")], False),
        ([(1, "digest", "ann:x"), (2, "digest", "bob:y")], 2, [BOB], True),
        ([(1, "digest", "ann:x"), (2, "digest", "bob:y")], 2, [ANN], False),
        ([(0, "world", "anyone")], 31, [SUPER], True),
        ([], 1, [SUPER], True),
        ([(31, "nobody", "knows")], 1, [("nobody", "knows")], False),
        ([(31, "ip", "10.1.2.3")], 1, [HERE], True),
        ([(31, "ip", "10.1.2.3/32")], 1, [HERE], True),
        ([(31, "ip", "10.1.2.4")], 1, [HERE], False),
        ([(31, "ip", "10.1.0.0/16")], 1, [HERE], True),
        ([(31, "ip", "10.1.2.3/0")], 1, [("ip", "99.9.9.9")], True),
        ([(31, "ip", "10.128.0.0/9")], 1, [HERE], False),
        ([(31, "ip", "10.0.0.0/9")], 1, [HERE], True),
        ([(31, "ip", "::1")], 1, [HERE], False),
        ([(31, "ip", "fe80::/10")], 1, [("ip", "fe80::1")], True),
        ([(31, "ip", "no address")], 1, [HERE], False),
        ([(31, "ip", "10.1.2.3")], 1, [("ip", "")], False),
    ],
)
def test_who_is_let_in(
    entries: list[tuple[int, str, str]], wanted: int, identities: list[Identity], permitted: bool
) -> None:
    assert ACCESS.permits(acl(*entries), wanted, identities) is permitted
    if permitted:
        ACCESS.check(acl(*entries), wanted, identities)
    else:
        with pytest.raises(NoAuthError):
            ACCESS.check(acl(*entries), wanted, identities)


def test_an_empty_acl_lets_in_nobody() -> None:
    """No server stores one: it stands for an ACL that was lost."""
    assert not ACCESS.permits([], 1, [ANN])


def test_checks_may_be_skipped() -> None:
    assert AccessControl(skip=True).permits(acl((0, "digest", "ann:x")), 31, [])


def test_a_scheme_that_is_switched_off_matches_nobody() -> None:
    assert not AccessControl(()).permits(acl((31, "digest", "ann:x")), 1, [ANN])


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ([(31, "world", "anyone")], [(31, "world", "anyone")]),
        (
            [(1, "digest", "a:b"), (1, "digest", "a:b"), (2, "digest", "a:b")],
            [(1, "digest", "a:b"), (2, "digest", "a:b")],
        ),
        ([(7, "auth", "ignored")], [(7, "digest", "ann:x"), (7, "digest", "bob:y")]),
        ([(7, "auth", None)], [(7, "digest", "ann:x"), (7, "digest", "bob:y")]),
        ([(255, "ip", "10.0.0.0/8")], [(255, "ip", "10.0.0.0/8")]),
        ([(1, "ip", "::1/128")], [(1, "ip", "::1/128")]),
        ([(1, "digest", ":x")], [(1, "digest", ":x")]),
        ([(1, "digest", "a:b:")], [(1, "digest", "a:b:")]),
    ],
)
def test_what_is_stored(given: list[tuple[int, str, str]], stored: list[tuple[int, str, str]]) -> None:
    assert ACCESS.complete(acl(*given), [HERE, ANN, BOB]) == acl(*stored)


@pytest.mark.parametrize(
    "entry",
    [
        (31, "world", "someone"),
        (31, "world", ""),
        (31, "digest", "nocolon"),
        (31, "digest", "a:b:c"),
        (31, "digest", "a:"),
        (31, "digest", ""),
        (31, "ip", ""),
        (31, "ip", "10.0.0"),
        (31, "ip", "10.0.0.1/33"),
        (31, "ip", "10.0.0.1/-1"),
        (31, "ip", "10.0.0.1/"),
        (31, "ip", "::1/129"),
        (31, "super", ""),
        (31, "sasl", "ann"),
        (31, "", ""),
        (31, None, None),
        (31, None, "x"),
    ],
)
def test_what_cannot_stand_in_an_acl(entry: tuple[int, str | None, str | None]) -> None:
    with pytest.raises(InvalidAclError):
        ACCESS.complete(acl((31, "world", "anyone"), entry), [HERE, ANN])


@pytest.mark.parametrize("scheme", ["world", "digest", "ip"])
def test_a_missing_id_is_no_acl_entry_at_all(scheme: str) -> None:
    with pytest.raises(MarshallingError):
        ACCESS.complete(acl((31, scheme, None)), [])


def test_an_acl_needs_entries_and_auth_somebody() -> None:
    with pytest.raises(InvalidAclError):
        ACCESS.complete(None, [ANN])
    with pytest.raises(InvalidAclError):
        ACCESS.complete([], [ANN])
    with pytest.raises(InvalidAclError, match="authenticated"):
        ACCESS.complete(acl((31, "auth", "")), [HERE])


def test_the_encoding() -> None:
    assert OPEN_ACL_BYTES.hex() == "000000010000001f00000005776f726c6400000006616e796f6e65"
    assert decode_acl(Reader(encode_acl(READ_ONLY_ACL))) == list(READ_ONLY_ACL)
    assert decode_acl(Reader(b"\xff\xff\xff\xff")) == []


def test_the_table_holds_each_acl_once_and_as_long_as_it_is_used() -> None:
    table = AclTable()
    first, second = encode_acl(acl((1, "digest", "a:b"))), encode_acl(acl((2, "digest", "a:b")))
    assert table.intern(OPEN_ACL_BYTES) == OPEN_ACL_ID
    assert [table.intern(first), table.intern(second), table.intern(first)] == [1, 2, 1]
    assert table.items() == [(1, first), (2, second)]
    assert table.entries(1) == tuple(acl((1, "digest", "a:b")))
    table.release(1)
    assert table.knows(1)
    table.release(1)
    assert not table.knows(1)
    assert table.entries(1) == ()
    assert table.intern(first) == 3
    assert len(table) == 2
    table.release(OPEN_ACL_ID)
    table.release(99)
    assert table.entries(OPEN_ACL_ID) == OPEN_ACL
    assert table.encoded(OPEN_ACL_ID) == OPEN_ACL_BYTES
    assert table.encoded(2) == second
    assert table.encoded(99) == b"\0\0\0\0"


def test_a_restored_table_counts_on() -> None:
    table = AclTable()
    used, unused = encode_acl(acl((1, "digest", "a:b"))), encode_acl(acl((2, "digest", "a:b")))
    table.restore(7, used)
    table.restore(3, unused)
    table.add_use(7)
    table.add_use(99)
    table.drop_unused()
    assert table.items() == [(7, used)]
    assert table.intern(unused) == 8
    assert table.intern(used) == 7


def test_two_numbers_for_one_acl_do_not_confuse_the_table() -> None:
    """A snapshot of Apache's may hold an ACL twice."""
    table = AclTable()
    encoded = encode_acl(acl((1, "digest", "a:b")))
    for number in (1, 2):
        table.restore(number, encoded)
        table.add_use(number)
    table.release(1)
    assert table.intern(encoded) == 2
    assert table.entries(2)


def test_all_permissions_are_asked_for_by_bits() -> None:
    entries = acl((int(Permission.READ | Permission.ADMIN), "world", "anyone"))
    single = [Permission.READ, Permission.WRITE, Permission.CREATE, Permission.DELETE, Permission.ADMIN]
    assert [each for each in single if ACCESS.permits(entries, each, [])] == [Permission.READ, Permission.ADMIN]
