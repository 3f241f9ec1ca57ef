"""Shortens a plan while its difference stays: delta debugging, bounded in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tests.crosscheck.plan import Atom

Fails = Callable[[Sequence[Atom]], bool]
Guess = Callable[[Atom], bool]
"""Says which atoms probably do not matter."""


def minimise(whole: Sequence[Atom], fails: Fails, limit_s: float, guesses: Sequence[Guess] = ()) -> list[Atom]:
    """The shortest list found of those atoms with which `fails` still says yes. Stops after `limit_s` seconds.

    `fails(whole)` is taken for granted. First all atoms of each guess are left out at once, then chunks of halving size
    in turn, from the end to the beginning, because what comes late rarely matters to what came before.
    """
    deadline = time.monotonic() + limit_s
    kept = list(whole)
    for guess in guesses:
        candidate = [atom for atom in kept if not guess(atom)]
        if len(candidate) < len(kept) and time.monotonic() < deadline and fails(candidate):
            kept = candidate
    size = max(1, len(kept) // 2)
    while True:
        shorter = False
        end = len(kept)
        while end > 0:
            start = max(0, end - size)
            candidate = kept[:start] + kept[end:]
            if time.monotonic() > deadline:
                return kept
            if candidate and fails(candidate):
                kept, shorter = candidate, True
            end = start
        if size == 1 and not shorter:
            return kept
        size = max(1, size // 2)
