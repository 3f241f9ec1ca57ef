"""What applications build with a coordination service."""

from corral.recipes.election import Election, LeaderLatch
from corral.recipes.lock import Lock
from corral.recipes.ownership import Held, OwnershipLostError
from corral.recipes.queue_of_claims import CURATOR, KAZOO, Dialect
from corral.recipes.read_write_lock import ReadWriteLock
from corral.recipes.semaphore import Semaphore

__all__ = [
    "CURATOR",
    "KAZOO",
    "Dialect",
    "Election",
    "Held",
    "LeaderLatch",
    "Lock",
    "OwnershipLostError",
    "ReadWriteLock",
    "Semaphore",
]
