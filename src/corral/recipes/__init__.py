"""What applications build with a coordination service."""

from corral.recipes.balancing import Balancer, Load, NobodyThereError, Policy
from corral.recipes.barrier import Barrier, DoubleBarrier
from corral.recipes.codecs import Codec, DataclassCodec, JsonCodec
from corral.recipes.cold_standby import ColdStandby
from corral.recipes.configuration import (
    Configuration,
    ConfigurationChange,
    ConfigurationChangeKind,
    InvalidConfigurationError,
    Revision,
)
from corral.recipes.counter import AtomicBytes, AtomicFloat, AtomicValue, Change, Counter, Layout, Reading
from corral.recipes.delay_queue import DelayQueue
from corral.recipes.dispatch import Answer, AnswerState, Command, CommandReceiver, Console, SentCommand
from corral.recipes.election import Election, LeaderLatch
from corral.recipes.execution import Execution
from corral.recipes.lease import Lease
from corral.recipes.lock import Lock
from corral.recipes.locking_queue import ClaimedItem, LockingQueue
from corral.recipes.membership import Member, MemberEvent, MemberEventKind, Members, Registration
from corral.recipes.naming import Names
from corral.recipes.notification import Listener, Notice, notify
from corral.recipes.ownership import Held, OwnershipLostError
from corral.recipes.progress import Progress, ProgressBoard, ProgressReporter, Report, ReportEvent
from corral.recipes.pubsub import Message, Missed, Subscription, Topic
from corral.recipes.queue import PriorityQueue, Queue
from corral.recipes.queue_of_claims import CURATOR, KAZOO, Dialect
from corral.recipes.read_write_lock import ReadWriteLock
from corral.recipes.semaphore import Semaphore
from corral.recipes.standby import HotStandby, Instance, InstanceState, instances, register_task
from corral.recipes.unique_ids import UniqueIds

__all__ = [
    "CURATOR",
    "KAZOO",
    "Answer",
    "AnswerState",
    "AtomicBytes",
    "AtomicFloat",
    "AtomicValue",
    "Balancer",
    "Barrier",
    "Change",
    "ClaimedItem",
    "Codec",
    "ColdStandby",
    "Command",
    "CommandReceiver",
    "Configuration",
    "ConfigurationChange",
    "ConfigurationChangeKind",
    "Console",
    "Counter",
    "DataclassCodec",
    "DelayQueue",
    "Dialect",
    "DoubleBarrier",
    "Election",
    "Execution",
    "Held",
    "HotStandby",
    "Instance",
    "InstanceState",
    "InvalidConfigurationError",
    "JsonCodec",
    "Layout",
    "LeaderLatch",
    "Lease",
    "Listener",
    "Load",
    "Lock",
    "LockingQueue",
    "Member",
    "MemberEvent",
    "MemberEventKind",
    "Members",
    "Message",
    "Missed",
    "Names",
    "NobodyThereError",
    "Notice",
    "OwnershipLostError",
    "Policy",
    "PriorityQueue",
    "Progress",
    "ProgressBoard",
    "ProgressReporter",
    "Queue",
    "ReadWriteLock",
    "Reading",
    "Registration",
    "Report",
    "ReportEvent",
    "Revision",
    "Semaphore",
    "SentCommand",
    "Subscription",
    "Topic",
    "UniqueIds",
    "instances",
    "notify",
    "register_task",
]
