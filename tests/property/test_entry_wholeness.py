"""Entries that others send: what is taken for whole can be applied to any tree."""

from __future__ import annotations

import random
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.trees import EXTENDED, Grower, log_entry

from corral.jute.errors import KeeperError
from corral.jute.ops import OpCode
from corral.jute.records import (
    Acl,
    CheckVersionTxn,
    CloseSessionTxn,
    CreateContainerTxn,
    CreateSessionTxn,
    CreateTtlTxn,
    CreateTxn,
    DeleteTxn,
    ErrorTxn,
    Id,
    MultiTxn,
    SetAclTxn,
    SetDataTxn,
    SubTxn,
)
from corral.storage.txnlog import is_whole

ZXID = 7
OPEN = [Acl(31, Id("world", "anyone"))]
OTHER = [Acl(1, Id("ip", "::1")), Acl(31, Id("digest", "ann:secret"))]
RECORDS = [
    (OpCode.CREATE, CreateTxn(b"/a/b", b"data", OPEN, False, 1)),
    (OpCode.CREATE2, CreateTxn(b"/a/c", None, OTHER, True, 2)),
    (OpCode.CREATE_TTL, CreateTtlTxn(b"/t", b"", OPEN, 3, 1000)),
    (OpCode.CREATE_CONTAINER, CreateContainerTxn(b"/c", b"", OTHER, 4)),
    (OpCode.DELETE, DeleteTxn(b"/a")),
    (OpCode.SET_DATA, SetDataTxn(b"/a", b"other", 1)),
    (OpCode.SET_ACL, SetAclTxn(b"/a", OTHER, 1)),
    (OpCode.CREATE_SESSION, CreateSessionTxn(4000)),
    (OpCode.CLOSE_SESSION, CloseSessionTxn([b"/a", b"/gone"])),
    (OpCode.ERROR, ErrorTxn(-101)),
    (
        OpCode.MULTI,
        MultiTxn(
            [
                SubTxn(OpCode.CREATE, CreateTxn(b"/m", b"", OPEN, False, 5).to_bytes()),
                SubTxn(OpCode.CHECK, CheckVersionTxn(b"/m", 0).to_bytes()),
                SubTxn(OpCode.DELETE, DeleteTxn(b"/m").to_bytes()),
            ]
        ),
    ),
]
ENTRIES = [(int(kind), log_entry(ZXID, kind, 0x1000, record.to_bytes())) for kind, record in RECORDS]


def test_what_is_whole_is_taken_for_it_and_half_of_it_is_not() -> None:
    for kind, entry in ENTRIES:
        assert is_whole(kind, entry, EXTENDED)
        if kind != OpCode.CLOSE_SESSION:
            assert not is_whole(kind, entry[:35], EXTENDED)
    assert not is_whole(99, ENTRIES[0][1], EXTENDED)


@given(st.randoms(use_true_random=False), st.sampled_from(ENTRIES))
@settings(max_examples=200, deadline=None)
def test_what_is_taken_for_whole_can_be_applied(chance: random.Random, which: tuple[int, bytes]) -> None:
    kind, entry = which
    data = bytearray(entry)
    for _ in range(chance.randint(1, 3)):
        at = chance.choice((0, chance.randrange(len(data)), chance.randrange(len(data))))
        match chance.randrange(4):
            case 0:
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                del data[max(at, 32) :]
            case 2:
                data[at:at] = bytes([chance.choice((0, 255, 0x2F))]) * chance.randint(1, 4)
            case _:
                data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
    if not is_whole(kind, bytes(data), EXTENDED):
        return
    grower = Grower()
    grower.create(b"/a", b"data")
    with suppress(KeeperError):
        grower.tree.apply(kind, ZXID, 0, int.from_bytes(data[:8], "big", signed=True), bytes(data), 32)
