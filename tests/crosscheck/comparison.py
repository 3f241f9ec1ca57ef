"""Finds where two transcripts of one plan differ.

Zxids are compared as offsets from the start of each run. A server that consumes one too many is reported once, at the
first reply that shows it; from there on the new offset counts, so that one difference does not hide the next.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.crosscheck.replies import Zxid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.crosscheck.plan import Step
    from tests.crosscheck.runner import Frame, StepRecord, Transcript


@dataclass(frozen=True, slots=True)
class Part:
    """One differing place inside two contents: where it is, and what each side has there."""

    place: str
    left: Any
    right: Any

    def __str__(self) -> str:
        return f"{self.place}: {self.left!r} | {self.right!r}"


ABSENT: Final = "(nothing)"

SHOWN_CHARACTERS: Final = 1500
"""Of one answer or step in a report."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Two servers answered differently. `left` or `right` is ``None`` where one got nothing."""

    number: int
    step: Step
    connection: str
    about: str
    left: Frame | None
    right: Frame | None
    parts: tuple[Part, ...]

    @property
    def operation(self) -> str:
        """The operation's name, or what else the answer was about."""
        return self.about.partition("(")[0]

    @property
    def signature(self) -> tuple[str, ...]:
        """What makes it the same difference in another run."""
        kinds = [frame.kind if frame is not None else ABSENT for frame in (self.left, self.right)]
        return (self.operation, *kinds, *sorted({part.place for part in self.parts}))

    def __str__(self) -> str:
        lines = [f"step {self.number}, on {self.connection}, {self.about}"]
        lines += [f"  differs in {part}" for part in self.parts]
        if self.about != str(self.step):
            lines.append(f"  step:  {_shortened(str(self.step))}")
        if all(frame is None or frame.kind != "survey" for frame in (self.left, self.right)):
            lines += [f"  left:  {_described(self.left)}", f"  right: {_described(self.right)}"]
        return "\n".join(lines)


def _described(frame: Frame | None) -> str:
    return ABSENT if frame is None else _shortened(f"{frame.kind}: {frame.content!r}")


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}... ({len(text)} characters)"


class ZxidMap:
    """Which zxid of the right side stands for one of the left."""

    def __init__(self, left_first: int, right_first: int) -> None:
        self._starts = [0]
        self._offsets = [right_first - left_first]

    def translate(self, left: int) -> int:
        if left <= 0:
            return left
        return left + self._offsets[bisect_right(self._starts, left) - 1]

    def learn(self, left: int, right: int) -> None:
        """From `left` on, zxids differ by another offset."""
        if left > self._starts[-1]:
            self._starts.append(left)
            self._offsets.append(right - left)


def compare(left: Transcript, right: Transcript) -> Iterator[Difference]:
    """All differences, in the order of the steps. Both transcripts must be of the same plan."""
    zxids = ZxidMap(left.first_zxid, right.first_zxid)
    for left_record, right_record in zip(left.records, right.records, strict=True):
        yield from _compare_steps(left_record, right_record, zxids)


def _compare_steps(left: StepRecord, right: StepRecord, zxids: ZxidMap) -> Iterator[Difference]:
    for connection in sorted({*left.frames, *right.frames}):
        left_frames = left.frames.get(connection, [])
        right_frames = right.frames.get(connection, [])
        aligned = [frame.kind for frame in left_frames] == [frame.kind for frame in right_frames]
        for i in range(max(len(left_frames), len(right_frames))):
            left_frame = left_frames[i] if i < len(left_frames) else None
            right_frame = right_frames[i] if i < len(right_frames) else None
            parts = _frame_parts(left_frame, right_frame, zxids)
            if not parts:
                continue
            shown = left_frame or right_frame
            assert shown is not None
            yield Difference(left.number, left.step, connection, shown.about, left_frame, right_frame, parts)
            if not aligned:
                break  # what follows is compared with the wrong neighbour
    if zxids.translate(left.zxid) != right.zxid:
        part = Part("zxid after the step", left.zxid, right.zxid)
        yield Difference(left.number, left.step, "(server)", "zxids consumed", None, None, (part,))
        zxids.learn(left.zxid, right.zxid)


def _frame_parts(left: Frame | None, right: Frame | None, zxids: ZxidMap) -> tuple[Part, ...]:
    if left is None or right is None or left.kind != right.kind:
        return (Part("kind", left.kind if left else ABSENT, right.kind if right else ABSENT),)
    parts = tuple(_parts(left.content, right.content, "", zxids))
    if left.kind == "reply":
        _learn_reply(left.content.get("zxid"), right.content.get("zxid"), zxids)
    return parts


def _learn_reply(left: Any, right: Any, zxids: ZxidMap) -> None:
    if not (isinstance(left, Zxid) and isinstance(right, Zxid)) or left.value <= 0 or right.value <= 0:
        return
    if zxids.translate(left.value) != right.value:
        zxids.learn(left.value, right.value)


def _parts(left: Any, right: Any, place: str, zxids: ZxidMap) -> Iterator[Part]:
    if isinstance(left, Zxid) and isinstance(right, Zxid):
        if zxids.translate(left.value) != right.value:
            yield Part(place, left.value, right.value)
    elif isinstance(left, dict) and isinstance(right, dict):
        for key in [*left, *(key for key in right if key not in left)]:
            inner = f"{place}.{key}" if place else str(key)
            yield from _parts(left.get(key, ABSENT), right.get(key, ABSENT), inner, zxids)
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for i in range(len(left)):
            yield from _parts(left[i], right[i], f"{place}[{i}]", zxids)
    elif left != right:
        yield Part(place, left, right)
