"""How fast new connections are let in: a bucket of tokens, and random drops (BlueThrottle)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

    from corral.server.clock import Clock
    from corral.server.config import ConnectionThrottle


class ConnectThrottle:
    """Off while the bucket's size is 0. ``chance`` draws the random drops."""

    def __init__(self, config: ConnectionThrottle, clock: Clock, chance: random.Random) -> None:
        self.config = config
        self.clock = clock
        self.chance = chance
        self.drop_probability = 0.0
        unit = config.global_session_weight if config.weight_enabled else 1
        self._size = config.tokens * unit
        self._fill = config.fill_count * unit
        self.tokens = self._size
        self._filled_ms = self._adjusted_ms = clock.monotonic_ms()

    @property
    def deficit(self) -> int:
        """Tokens that are missing from a full bucket."""
        return self._size - self.tokens

    def admits(self, *, renewing: bool, local: bool = False) -> bool:
        """Take the tokens of one connect request; False if it is to be dropped. ``local``: new sessions are local."""
        config = self.config
        if config.tokens <= 0:
            return True
        cost = 1
        if config.weight_enabled:
            new = config.local_session_weight if local else config.global_session_weight
            cost = config.renew_session_weight if renewing else new
        now_ms = self.clock.monotonic_ms()
        fillings = (now_ms - self._filled_ms) // config.fill_time_ms
        if fillings > 0:
            self.tokens = min(self._size, self.tokens + fillings * self._fill)
            self._filled_ms += fillings * config.fill_time_ms
        if config.freeze_time_ms != -1 and not self._survives_chance(now_ms):
            return False
        if self.tokens < cost:
            return False
        self.tokens -= cost
        return True

    def _survives_chance(self, now_ms: int) -> bool:
        config = self.config
        if now_ms - self._adjusted_ms > config.freeze_time_ms:
            if self.tokens <= 0:
                self.drop_probability = min(1.0, self.drop_probability + config.drop_increase)
            elif self.tokens > self._size * config.decrease_ratio:
                self.drop_probability = max(0.0, self.drop_probability - config.drop_decrease)
            self._adjusted_ms = now_ms
        return self.chance.random() >= self.drop_probability
