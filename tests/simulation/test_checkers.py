"""Checkers that no deliberate bug proves, since what breaks them is said before it is applied, and judged then."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from corral.jute.ops import OpCode
from corral.jute.record import Record
from corral.jute.records import (
    CloseSessionTxn,
    CreateSessionTxn,
    CreateTxn,
    ErrorTxn,
    MultiTxn,
    SetDataTxn,
    SubTxn,
    TxnHeader,
)
from corral.simulation import workload
from corral.simulation.checkers import check_history
from corral.simulation.invariants import Invariant
from corral.simulation.ledger import Ledger
from corral.simulation.model import Model
from corral.simulation.zab import Zab

SESSION = 0x1000
PROVEN_HERE = {Invariant.LOCAL_PRIMARY_ORDER, Invariant.GLOBAL_PRIMARY_ORDER, Invariant.REAL_TIME}


class Broken(list[Invariant]):
    """Which invariants are said to be violated."""

    def __call__(self, invariant: Invariant, what: str) -> None:
        self.append(invariant)


def entry(zxid: int, kind: int, record: Record) -> bytes:
    return TxnHeader(SESSION, 1, zxid, 0, kind).to_bytes() + record.to_bytes()


@pytest.mark.parametrize(
    ("zxids", "violated"),
    [
        ([0x100000001, 0x100000002, 0x200000001, 0x200000002], []),
        ([0x100000001, 0x100000003], [Invariant.LOCAL_PRIMARY_ORDER]),
        ([0x100000001, 0x200000002], [Invariant.LOCAL_PRIMARY_ORDER]),
        ([0x200000001, 0x100000001], [Invariant.GLOBAL_PRIMARY_ORDER]),
    ],
)
def test_the_order_of_what_is_applied(zxids: list[int], violated: list[Invariant]) -> None:
    broken = Broken()
    ledger = Ledger(Zab(broken), broken)
    history = SimpleNamespace(recent=deque(maxlen=2), last_zxid=0, tree=SimpleNamespace(digest=0))
    term = SimpleNamespace(server=object(), history=history, leader=1, epoch=1)
    config = SimpleNamespace(storage=SimpleNamespace(digest_enabled=False))
    member: Any = SimpleNamespace(
        sid=2,
        peer=SimpleNamespace(term=term, history=history, config=config),
        host=SimpleNamespace(name="server-2"),
        trace=SimpleNamespace(tell=lambda who, what: None),
    )
    ledger.look(member)
    for zxid in zxids:
        history.recent.append((zxid, entry(zxid, OpCode.ERROR, ErrorTxn(-101))))
        ledger.look(member)
    assert broken == violated


@pytest.mark.parametrize(
    ("begun_at", "session", "violated"),
    [
        (0.5, 0, []),
        (2.0, 0, [Invariant.REAL_TIME]),
        (0.5, SESSION, [Invariant.CLIENT_ORDER]),
    ],
)
def test_a_write_that_comes_before_one_that_was_asked_for_earlier(
    begun_at: float, session: int, violated: list[Invariant]
) -> None:
    """``/early`` is asked for at 0 and answered at 1."""
    broken = Broken()
    model = Model(broken)
    model.apply(1, entry(1, OpCode.CREATE_SESSION, CreateSessionTxn(2000)))
    testimony = workload.Testimony()
    for zxid, path, at in ((2, "/late", begun_at), (3, "/early", 0.0)):
        data = path.encode()
        model.apply(zxid, entry(zxid, OpCode.CREATE, CreateTxn(data, data, [], False, zxid - 1)))
        write = workload.Write("client", session, at, 0, "create", (path,), data, None)
        write.ended_at, write.committed = at + 1, 3
        testimony.writes.insert(0, write)
    check_history(model, testimony, broken)
    assert broken == violated


@pytest.mark.parametrize(("second", "version"), [(SubTxn(OpCode.ERROR, ErrorTxn(-101).to_bytes()), 0), (None, 1)])
def test_of_a_multi_that_is_refused_nothing_is_done(second: SubTxn | None, version: int) -> None:
    """Seed 6000010: it set one of two registers, before the other was there."""
    broken = Broken()
    model = Model(broken)
    model.apply(1, entry(1, OpCode.CREATE, CreateTxn(b"/register", b"", [], False, 1)))
    first = SubTxn(OpCode.SET_DATA, SetDataTxn(b"/register", b"", 1).to_bytes())
    model.apply(2, entry(2, OpCode.MULTI, MultiTxn([first] if second is None else [first, second])))
    stat = model.pasts["/register"].now.stat
    assert stat is not None
    assert stat.version == version
    assert broken == []


@pytest.mark.parametrize(
    ("kind", "late", "violated"),
    [
        (OpCode.CLOSE_SESSION, CloseSessionTxn([]), []),
        (OpCode.CLOSE_SESSION, CloseSessionTxn([b"/held"]), [Invariant.EPHEMERAL]),
        (OpCode.SET_DATA, SetDataTxn(b"/other", b"", 1), [Invariant.EPHEMERAL]),
    ],
)
def test_what_comes_of_a_session_that_has_ended(kind: int, late: Record, violated: list[Invariant]) -> None:
    """Seed 1795393753: it expired while its client's wish to end it was on the way."""
    broken = Broken()
    model = Model(broken)
    model.apply(1, entry(1, OpCode.CREATE_SESSION, CreateSessionTxn(2000)))
    model.apply(2, entry(2, OpCode.CREATE, CreateTxn(b"/held", b"", [], True, 1)))
    model.apply(3, entry(3, OpCode.CREATE, CreateTxn(b"/other", b"", [], False, 2)))
    model.apply(4, entry(4, OpCode.CLOSE_SESSION, CloseSessionTxn([b"/held"])))
    assert broken == []
    model.apply(5, entry(5, kind, late))
    assert broken[:1] == violated
