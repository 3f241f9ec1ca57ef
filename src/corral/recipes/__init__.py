"""What applications build with a coordination service."""

from corral.recipes.barrier import Barrier, DoubleBarrier
from corral.recipes.counter import AtomicBytes, AtomicFloat, AtomicValue, Change, Counter, Layout, Reading
from corral.recipes.delay_queue import DelayQueue
from corral.recipes.election import Election, LeaderLatch
from corral.recipes.lease import Lease
from corral.recipes.lock import Lock
from corral.recipes.locking_queue import ClaimedItem, LockingQueue
from corral.recipes.ownership import Held, OwnershipLostError
from corral.recipes.queue import PriorityQueue, Queue
from corral.recipes.queue_of_claims import CURATOR, KAZOO, Dialect
from corral.recipes.read_write_lock import ReadWriteLock
from corral.recipes.semaphore import Semaphore

__all__ = [
    "CURATOR",
    "KAZOO",
    "AtomicBytes",
    "AtomicFloat",
    "AtomicValue",
    "Barrier",
    "Change",
    "ClaimedItem",
    "Counter",
    "DelayQueue",
    "Dialect",
    "DoubleBarrier",
    "Election",
    "Held",
    "Layout",
    "LeaderLatch",
    "Lease",
    "Lock",
    "LockingQueue",
    "OwnershipLostError",
    "PriorityQueue",
    "Queue",
    "ReadWriteLock",
    "Reading",
    "Semaphore",
]
