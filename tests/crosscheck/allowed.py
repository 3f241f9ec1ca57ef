"""The differences between Apache's server and Corral that are meant to be, and why. Nothing else is let through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.crosscheck.comparison import Difference


@dataclass(frozen=True, slots=True)
class Allowance:
    """`applies` says whether a difference is this deliberate one."""

    reason: str
    applies: Callable[[Difference], bool]


ALLOWANCES: Final[tuple[Allowance, ...]] = ()


def is_allowed(difference: Difference) -> bool:
    return any(allowance.applies(difference) for allowance in ALLOWANCES)
