"""Time, handed in: the wall clock stamps transactions, the monotonic one runs sessions and timeouts."""

from __future__ import annotations

import time


class Clock:
    """The machine's clocks; a simulator stands in another."""

    def wall_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Milliseconds of a clock that never goes back."""
        return time.monotonic_ns() // 1_000_000
