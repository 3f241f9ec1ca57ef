"""The differences between Apache's server (left) and Corral (right) that are meant to be; no other is let through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.crosscheck.comparison import Difference
from tests.crosscheck.plan import Batch

from corral.jute.errors import ErrorCode
from corral.jute.ops import OpCode

REQUESTS: Final = frozenset(OpCode) - {OpCode.NOTIFICATION, OpCode.CHECK, OpCode.ERROR}
"""Operations that a request may have by itself."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """`applies` says whether a difference is this deliberate one."""

    reason: str
    applies: Callable[[Difference], bool]


def _unknown_operation_leaves_the_connection_open(difference: Difference) -> bool:
    if difference.about != "end" or difference.right is None or difference.right.content != {"end": "left open"}:
        return False
    return isinstance(difference.step, Batch) and difference.step.calls[-1].op not in REQUESTS


def _half_a_multi_read(difference: Difference) -> bool:
    left, right = difference.left, difference.right
    if left is None or right is None or difference.operation != OpCode.MULTI_READ.name.lower():
        return False
    refused = ErrorCode.MARSHALLING_ERROR
    return left.content["err"] == right.content["err"] == refused and {part.right for part in difference.parts} == {
        "(nothing)"
    }


def _descendants_of_the_empty_path(difference: Difference) -> bool:
    return difference.about.startswith("get_all_children_number('')") and [part.place for part in difference.parts] == [
        "number"
    ]


ALLOWANCES: Final[tuple[Allowance, ...]] = (
    Allowance(
        "An unknown operation gets its error, and the connection stays: a client that is newer than the server should "
        "not lose its connection over it.",
        _unknown_operation_leaves_the_connection_open,
    ),
    Allowance(
        "A multiRead that is refused as a whole has no body. Apache's carries the results up to the operation with the "
        "null path; no client reads them.",
        _half_a_multi_read,
    ),
    Allowance(
        "getAllChildrenNumber of the empty path is that of the root. Apache counts one more: its table holds the root "
        "under two names.",
        _descendants_of_the_empty_path,
    ),
)


def is_allowed(difference: Difference) -> bool:
    """Whether some allowance applies."""
    return any(allowance.applies(difference) for allowance in ALLOWANCES)
