"""The cross-check must find differences: what it would overlook is tested here, without any server."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from tests.crosscheck.comparison import compare
from tests.crosscheck.crosscheck import parse_atoms
from tests.crosscheck.generator import make_plan
from tests.crosscheck.minimiser import minimise
from tests.crosscheck.normaliser import Normaliser, wall_ms
from tests.crosscheck.plan import Atom, Batch, Bytes, Call, Step, SubHeader, atoms, keep
from tests.crosscheck.replies import Moment, SessionId, Zxid, decode_body, session_password
from tests.crosscheck.runner import Frame, StepRecord, Transcript

from corral.jute.ops import OpCode
from corral.jute.records import Stat

STEP = Batch("c1", (Call(OpCode.SYNC, (Bytes(b"/a"),)),))


def reply(zxid: int, **content: Any) -> Frame:
    return Frame("reply", "sync('/a')", {"xid": 1, "zxid": Zxid(zxid), "err": 0, **content})


def event(zxid: int, path: bytes = b"/a") -> Frame:
    return Frame("event", "watch event", {"zxid": Zxid(zxid), "type": 3, "path": path})


def transcript(first_zxid: int, *steps: list[Frame]) -> Transcript:
    records = [
        StepRecord(number, STEP, {"c1": frames} if frames else {}, max(f.content["zxid"].value for f in frames))
        for number, frames in enumerate(steps)
    ]
    return Transcript(first_zxid, records)


def test_a_plan_depends_on_its_seed_alone() -> None:
    assert make_plan(7, 300) == make_plan(7, 300)
    assert make_plan(7, 300) != make_plan(8, 300)


def test_a_plan_asks_for_every_operation() -> None:
    asked: Counter[int] = Counter()
    for step in make_plan(1, 6000):
        if isinstance(step, Batch):
            for call in step.calls:
                asked[call.op] += 1
                asked.update(argument.type for argument in call.arguments if isinstance(argument, SubHeader))
    never = {OpCode.NOTIFICATION, OpCode.CREATE_SESSION, OpCode.ERROR}
    assert {op.name for op in OpCode if not asked[op]} <= {op.name for op in never}


def test_equal_transcripts_do_not_differ_whatever_their_first_zxid() -> None:
    left = transcript(1, [reply(5, path=b"/a")], [event(6), reply(6)])
    right = transcript(101, [reply(105, path=b"/a")], [event(106), reply(106)])
    assert list(compare(left, right)) == []


@pytest.mark.parametrize(
    "right",
    [
        [reply(5, path=b"/b"), event(6)],
        [reply(5, path=None), event(6)],
        [reply(5), event(6)],
        [reply(5, path=b"/a", more=1), event(6)],
        [event(6), reply(5, path=b"/a")],
        [reply(5, path=b"/a")],
        [reply(5, path=b"/a"), event(6), event(6)],
        [reply(5, path=b"/a"), event(6, b"/b")],
    ],
)
def test_every_kind_of_difference_is_found(right: list[Frame]) -> None:
    left = transcript(1, [reply(5, path=b"/a"), event(6)])
    assert list(compare(left, transcript(1, right)))


def test_a_zxid_too_many_is_reported_once() -> None:
    left = transcript(1, [reply(5)], [reply(6)], [reply(7)])
    right = transcript(1, [reply(5)], [reply(7)], [reply(8)])
    differences = list(compare(left, right))
    assert [difference.number for difference in differences] == [1]
    assert differences[0].parts[0].place == "zxid"


def test_a_zxid_consumed_unseen_is_reported() -> None:
    left = Transcript(1, [StepRecord(0, STEP, {}, 5)])
    right = Transcript(1, [StepRecord(0, STEP, {}, 6)])
    assert [difference.operation for difference in compare(left, right)] == ["zxids consumed"]


def test_times_must_lie_in_their_step_and_agree() -> None:
    normaliser = Normaliser()
    normaliser.begin_step()
    now = wall_ms()
    normaliser.end_step(10)
    assert normaliser.moment(Moment(now, 10)) == "of its zxid"
    assert normaliser.moment(Moment(now + 1, 10)) == "+1 ms from another stat of the same transaction"
    assert normaliser.moment(Moment(now - 60_000, 9)).endswith("ms from the start of its step, which took 0 ms")
    assert normaliser.moment(Moment(0, 0)) == "0 ms"


def test_session_ids_are_named() -> None:
    normaliser = Normaliser()
    normaliser.name_session(0x1234, "s1")
    assert normaliser.value({"ephemeralOwner": SessionId(0x1234)}) == {"ephemeralOwner": "s1"}
    assert normaliser.value(SessionId(0x99)) == "unknown session 0x99"
    assert normaliser.text("0x1234\n\t/a") == "s1\n\t/a"


def test_session_passwords_are_those_of_known_ids() -> None:
    assert session_password(1).hex() == "054cc74a37327db215e702e20c73f005"
    assert session_password(0x3000022105A0000).hex() == "74962824f178f9f372d00d282275e211"


def test_nothing_of_a_body_is_lost() -> None:
    stat = Stat(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11).to_bytes()
    assert decode_body(OpCode.EXISTS, 0, stat)["stat"]["numChildren"] == 10
    assert decode_body(OpCode.EXISTS, 0, stat + b"x")["bytes left over"] == b"x"
    assert decode_body(OpCode.EXISTS, 0, stat[:-1])["bytes"] == stat[:-1]
    assert decode_body(OpCode.EXISTS, -101, stat)["stat"]["numChildren"] == 10
    assert decode_body(OpCode.EXISTS, -101, b"") == {}
    assert decode_body(OpCode.DELETE, 0, b"x")["bytes left over"] == b"x"
    assert "bytes" in decode_body(OpCode.MULTI, 0, b"\x00\x00\x00\x63\x00\x00\x00\x00\x00")


def test_minimising_leaves_what_the_failure_needs() -> None:
    plan: list[Step] = [dataclasses.replace(STEP, calls=STEP.calls * 3) for _ in range(30)]
    needed = {(4, 1), (20, 0), (20, 2)}

    def fails(kept: list[Atom]) -> bool:
        return needed <= set(kept)

    kept = minimise(list(atoms(plan)), lambda candidate: fails(list(candidate)), limit_s=10.0)
    assert set(kept) == needed
    assert [(number, len(step.calls)) for number, step in keep(plan, kept) if isinstance(step, Batch)] == [
        (4, 1),
        (20, 2),
    ]


def test_minimising_stops_in_time() -> None:
    whole = [(number, 0) for number in range(100)]
    assert minimise(whole, lambda candidate: True, limit_s=0.0) == whole


def test_a_reproduction_can_be_read_back() -> None:
    assert parse_atoms("3.0,17.2") == [(3, 0), (17, 2)]


def test_minimising_tries_guesses_first() -> None:
    whole = [(number, 0) for number in range(64)]
    tried: list[int] = []

    def fails(kept: Sequence[Atom]) -> bool:
        tried.append(len(kept))
        return (8, 0) in kept

    assert minimise(whole, fails, 10.0, [lambda atom: atom[0] % 2 == 1, lambda atom: atom[0] == 8]) == [(8, 0)]
    assert tried[:2] == [32, 31]
