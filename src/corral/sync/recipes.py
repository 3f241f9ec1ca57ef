"""The blocking twins of :mod:`corral.recipes`.

Written by tools/blocking.py: change the original, not this.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Generic, TypeVar

from corral.client import OPEN
from corral.recipes import (
    CURATOR,
    KAZOO,
    Answer,
    AnswerState,
    Change,
    Codec,
    Command,
    ConfigurationChange,
    ConfigurationChangeKind,
    DataclassCodec,
    Dialect,
    Instance,
    InstanceState,
    InvalidConfigurationError,
    JsonCodec,
    Layout,
    Load,
    Member,
    MemberEvent,
    MemberEventKind,
    Message,
    Missed,
    NobodyThereError,
    Notice,
    OwnershipLostError,
    Policy,
    Progress,
    Reading,
    Report,
    ReportEvent,
    Revision,
)
from corral.recipes.balancing import Balancer as AsyncBalancer
from corral.recipes.barrier import Barrier as AsyncBarrier
from corral.recipes.barrier import DoubleBarrier as AsyncDoubleBarrier
from corral.recipes.cold_standby import ColdStandby as AsyncColdStandby
from corral.recipes.configuration import HISTORY
from corral.recipes.configuration import Configuration as AsyncConfiguration
from corral.recipes.counter import AtomicBytes as AsyncAtomicBytes
from corral.recipes.counter import AtomicFloat as AsyncAtomicFloat
from corral.recipes.counter import AtomicValue as AsyncAtomicValue
from corral.recipes.counter import Counter as AsyncCounter
from corral.recipes.delay_queue import DelayQueue as AsyncDelayQueue
from corral.recipes.dispatch import KEPT
from corral.recipes.dispatch import CommandReceiver as AsyncCommandReceiver
from corral.recipes.dispatch import Console as AsyncConsole
from corral.recipes.dispatch import SentCommand as AsyncSentCommand
from corral.recipes.election import Election as AsyncElection
from corral.recipes.election import LeaderLatch as AsyncLeaderLatch
from corral.recipes.execution import COMMIT_INTERVAL_S
from corral.recipes.execution import Execution as AsyncExecution
from corral.recipes.lease import Lease as AsyncLease
from corral.recipes.lock import Lock as AsyncLock
from corral.recipes.locking_queue import ClaimedItem as AsyncClaimedItem
from corral.recipes.locking_queue import LockingQueue as AsyncLockingQueue
from corral.recipes.membership import Members as AsyncMembers
from corral.recipes.membership import Registration as AsyncRegistration
from corral.recipes.naming import Names as AsyncNames
from corral.recipes.notification import Listener as AsyncListener
from corral.recipes.notification import notify as async_notify
from corral.recipes.ownership import Held as AsyncHeld
from corral.recipes.progress import REPORT_INTERVAL_S
from corral.recipes.progress import ProgressBoard as AsyncProgressBoard
from corral.recipes.progress import ProgressReporter as AsyncProgressReporter
from corral.recipes.pubsub import KEPT as PUBSUB_KEPT
from corral.recipes.pubsub import Subscription as AsyncSubscription
from corral.recipes.pubsub import Topic as AsyncTopic
from corral.recipes.queue import DEFAULT_PRIORITY
from corral.recipes.queue import PriorityQueue as AsyncPriorityQueue
from corral.recipes.queue import Queue as AsyncQueue
from corral.recipes.read_write_lock import ReadLock as AsyncReadLock
from corral.recipes.read_write_lock import ReadWriteLock as AsyncReadWriteLock
from corral.recipes.read_write_lock import WriteLock as AsyncWriteLock
from corral.recipes.semaphore import Semaphore as AsyncSemaphore
from corral.recipes.standby import HotStandby as AsyncHotStandby
from corral.recipes.standby import instances as async_instances
from corral.recipes.standby import register_task as async_register_task
from corral.recipes.unique_ids import UniqueIds as AsyncUniqueIds
from corral.sync.client import Client, Session
from corral.sync.twin import Twin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from random import Random
    from types import TracebackType
    from typing import Self

    from corral.client import Acl, Created, Znode

_T = TypeVar("_T")

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
    "ReadLock",
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
    "WriteLock",
    "instances",
    "notify",
    "register_task",
]


class Balancer(Twin[AsyncBalancer], of=AsyncBalancer):
    """Picks a member of a group for each request::

        with Members(zk, "/services/web") as members:
            balancer = Balancer(zk, members, "/balance/web", Policy.LEAST_VISITED)
            member = balancer.pick()
            with balancer.use() as member:      # counted as long as the block lasts
                ...

    The counts are those of all clients that use the same path, and outlive them; uses end with the session of the
    client at the latest. Picks are exact: two clients never count the same pick, the second one looks again. A
    member that is new, or back after it had left, begins one visit behind the least visited of the others, so that
    it is not flooded until it has caught up.

    Lost connections and sessions are ridden out. A pick whose answer is lost, or that is cancelled, may be counted
    though nobody uses it.
    """

    def __init__(
        self,
        zk: Client,
        members: Members,
        path: str,
        policy: Policy = Policy.LEAST_VISITED,
        *,
        weight: Callable[[Member], float] | None = None,
        acl: Sequence[Acl] = OPEN,
    ) -> None:
        """Prepare it; nothing is sent yet.

        Args:
            members: who is there; to be started by the caller.
            path: where the counts are; not below the group. It is created if it is missing.
            policy: who is picked.
            weight: for WEIGHTED and LEAST_USED: a member's weight, mostly out of its data; positive.
            acl: of what is created.
        """
        portal = zk._portal
        self._stand_for(
            portal, portal.run(AsyncBalancer, zk._original, members._original, path, policy, weight=weight, acl=acl)
        )

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def policy(self) -> Policy:
        return self._original.policy

    def pick(self) -> Member:
        """The member for the next request; counts the visit. Raises NobodyThereError."""
        return self._portal.call(self._original.pick)

    def use(self) -> AbstractContextManager[Member]:
        """The member for the next request, which counts as used as long as the ``with`` block lasts.

        The use ends with the session at the latest: after the loss of a session it is not counted any more. Leaving
        the block, also by cancellation, waits for a connection, at most until the session has ended. Raises
        NobodyThereError.
        """
        return self._portal.context(self._original.use, lambda each: each)

    def loads(self) -> list[Load]:
        """The members and their counts, by name."""
        return self._portal.call(self._original.loads)


class Barrier(Twin[AsyncBarrier], of=AsyncBarrier):
    """Holds up whoever waits until somebody removes it."""

    def __init__(self, zk: Client, path: str) -> None:
        """Prepare it; nothing is sent."""
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncBarrier, zk._original, path))

    @property
    def path(self) -> str:
        return self._original.path

    def create(self) -> None:
        """Set it up, if it is not there yet. It stays when its maker ends."""
        self._portal.call(self._original.create)

    def remove(self) -> bool:
        """Take it away: all who wait go on. Returns whether it was there, or may have been as answers were lost."""
        return self._portal.call(self._original.remove)

    def wait(self) -> None:
        """Return when it is not there. It waits over lost connections and sessions, and leaves nothing behind."""
        self._portal.call(self._original.wait)


class ColdStandby(Twin[AsyncColdStandby], of=AsyncColdStandby):
    """A worker that looks through the tasks of its group and takes those that nobody runs::

        ColdStandby(zk, "/groups/billing/tasks", work, capacity=4).run()

    It tries the ``instances`` of each: with the smallest number it runs the task, otherwise it deletes its instance
    and goes on to the next. It looks again when tasks come, or end, or lose their worker. A task that it loses,
    with its session or because somebody deletes its instance, is cancelled and left, and may be taken by another
    worker.

    Compared with :class:`~corral.sync.recipes.HotStandby`: one worker serves many tasks, and idle tasks cost no
    waiting workers; but a successor has to be found, and has nothing prepared. Progress is stored in the same way,
    so that the successor goes on where the task was.
    """

    def __init__(
        self,
        zk: Client,
        group: str,
        work: Callable[[Execution], object],
        *,
        identifier: str | None = None,
        capacity: int | None = None,
        commit_interval: float = COMMIT_INTERVAL_S,
        retry_after: float = 5.0,
        on_failure: Callable[[str, Exception], object] | None = None,
        acl: Sequence[Acl] = OPEN,
        random: Random | None = None,
    ) -> None:
        """Prepare it; nothing is sent yet.

        Args:
            group: the path whose children are the tasks; it is created if it is missing.
            work: what is to be done with a task, a function that gets an
                :class:`~corral.sync.recipes.Execution`. When it returns, the task is finished, for ever (until
                ``finished`` is deleted).
            identifier: this worker, for others to see; the default is ``host:pid``.
            capacity: how many tasks it runs at the same time; None: any number.
            commit_interval: seconds between two stores of progress.
            retry_after: seconds for which this worker leaves a task alone whose work has failed.
            on_failure: called with the name of a task and what its work raised; that is logged in any case.
            acl: of all that is created.
            random: for the order in which tasks are tried, so that workers do not all begin with the same one.
        """
        portal = zk._portal
        self._stand_for(
            portal,
            portal.run(
                AsyncColdStandby,
                zk._original,
                group,
                portal.body(work),
                identifier=identifier,
                capacity=capacity,
                commit_interval=commit_interval,
                retry_after=retry_after,
                on_failure=portal.callback(on_failure),
                acl=acl,
                random=random,
            ),
        )

    @property
    def group(self) -> str:
        return self._original.group

    @property
    def running(self) -> list[str]:
        """The names of the tasks that it runs."""
        return self._original.running

    def run(self) -> None:
        """Take tasks and run them until cancelled.

        Then the work is cancelled, its last progress stored, and every task left. Raises ClientClosedError when the
        client is closed, and what keeps it from looking for tasks, as NoAuthError.
        """
        self._portal.call(self._original.run)


class CommandReceiver(Twin[AsyncCommandReceiver], of=AsyncCommandReceiver):
    """A worker that obeys commands::

        def obey(command):
            return b"flushed"

        with CommandReceiver(zk, "/billing", "worker-1", obey):
            ...

    Commands are handled one after the other, in the order in which they were sent, also those that were sent to
    this worker while it was away, if they are still there. Each is handled at most once: it is marked as received
    before, and one that was received and not finished, by an earlier process of this name, is answered as
    INTERRUPTED. Answers are written over lost connections and lost sessions. What the handler raises is the answer
    FAILED.
    """

    def __init__(
        self,
        zk: Client,
        path: str,
        name: str,
        handler: Callable[[Command], bytes | None],
        *,
        data: bytes = b"",
        acl: Sequence[Acl] = OPEN,
    ) -> None:
        """Prepare it; nothing is sent yet.

        Args:
            path: of the group; created if it is missing.
            name: this worker's alone; see :class:`~corral.sync.recipes.Registration`.
            handler: a function that does what a command says and returns the result.
            data: what is to be known of this worker, beside its name.
            acl: of this worker's znode and its answers: a console reads the answers, and deletes them with the command.
        """
        portal = zk._portal
        self._stand_for(
            portal, portal.run(AsyncCommandReceiver, zk._original, path, name, portal.body(handler), data=data, acl=acl)
        )

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def name(self) -> str:
        return self._original.name

    def start(self) -> Self:
        """Register, and begin to handle commands; ``with`` does so by itself.

        Waits while another session has the name. Cancelled, it leaves nothing behind.
        """
        self._portal.call(self._original.start)
        return self

    def close(self) -> None:
        """Leave. A handler that is running is cancelled, and its command answered as INTERRUPTED."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.enter(self._original)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)


class Console(Twin[AsyncConsole], of=AsyncConsole):
    """Sends commands::

    with Console(zk, "/billing") as console:
        sent = console.send(b"flush")                     # to all that live
        sent = console.send(b"flush", to=["worker-1"])    # to some
        answers = sent.results()
    """

    def __init__(self, zk: Client, path: str, *, kept: int = KEPT, acl: Sequence[Acl] = OPEN) -> None:
        """Prepare it; nothing is sent yet.

        Args:
            path: of the group.
            kept: how many commands stay in the service, with their answers.
            acl: of the commands: workers create their answers below them.
        """
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncConsole, zk._original, path, kept=kept, acl=acl))

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def workers(self) -> Members:
        """Who lives."""
        return Members._of(self._portal, self._original.workers)

    def start(self) -> Self:
        """Follow who lives; ``with`` does so by itself."""
        self._portal.call(self._original.start)
        return self

    def close(self) -> None:
        """Follow it no more. Commands that have been sent stay."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.enter(self._original)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    def send(self, body: bytes, *, to: Iterable[str] | None = None) -> SentCommand:
        """Send a command to all workers that live, or to those named.

        Lost connections and sessions are ridden out, and it is sent once. Cancelled, it may have been sent or not.
        The oldest commands beyond ``kept`` are deleted.

        Raises ValueError if there is nobody to send it to, RequestTooLargeError.
        """
        return SentCommand._of(self._portal, self._portal.call(self._original.send, body, to=to))


class DoubleBarrier(Twin[AsyncDoubleBarrier], of=AsyncDoubleBarrier):
    """Members begin together when enough have come, and end together when all are done::

        with corral.sync.recipes.DoubleBarrier(zk, "/barrier", 3):
            ...  # the others are here as well

    At one moment at least ``count`` members were in it: then it opens for all who had come before. Who comes later
    waits for the next round, which begins when all have left. One object takes part once at a time, and again as
    often as it likes.
    """

    def __init__(self, zk: Client, path: str, count: int, *, name: str = "") -> None:
        """Prepare it; nothing is sent. ``name`` stands in the member's znode, for people to read."""
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncDoubleBarrier, zk._original, path, count, name=name))

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def count(self) -> int:
        return self._original.count

    def __enter__(self) -> Self:
        self._portal.enter(self._original)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    def enter(self) -> None:
        """Come, and return when enough have come.

        Cancelled, or upon any error, it leaves again; if it has opened just then, the others have gone on.

        Raises SessionExpired if the session ends meanwhile. Lost connections are ridden out.
        """
        self._portal.call(self._original.enter)

    def leave(self) -> None:
        """Go, and return when all of the round have gone: left, or lost their sessions.

        It goes on over lost connections and sessions. Cancelled, it has gone, and does not wait for the others.
        """
        self._portal.call(self._original.leave)


class Execution(Twin[AsyncExecution], of=AsyncExecution):
    """One worker's run of a task; given to the work.

    What it stores is stored in transactions that check the worker's instance: once another worker may run the task,
    nothing of this one's arrives any more.
    """

    def __init__(self, zk: Client, task: str, held: Held, acl: Sequence[Acl]) -> None:
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncExecution, zk._original, task, held._original, acl))

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def held(self) -> Held:
        """The ownership of the task: ``held.token`` is the fencing number for whatever else the work writes to."""
        return Held._of(self._portal, self._original.held)

    @property
    def definition(self) -> bytes:
        """The data of the task's znode when this run began."""
        return self._original.definition

    @property
    def last_commit(self) -> bytes | None:
        """What was stored last, by this run or one before; None if nothing ever was."""
        return self._original.last_commit

    @property
    def name(self) -> str:
        """The task's name."""
        return self._original.name

    def report(self, progress: bytes) -> None:
        """Let ``progress`` be stored when the timer comes round; what was reported before it is then passed over."""
        self._portal.run(self._original.report, progress)

    def commit(self, progress: bytes | None = None) -> None:
        """Store ``progress``, or what has been reported, now.

        Returns when a successor would find it. Rides out lost connections. Cancelled, it may have been stored or not.

        Raises OwnershipLostError if the task is this worker's no more: nothing has been stored then.
        """
        self._portal.call(self._original.commit, progress)


class Held(Twin[AsyncHeld], of=AsyncHeld):
    """Something that is owned; returned by ``acquire()`` and by ``with``.

    It is also a context manager of its own: leaving the block releases it, and raises OwnershipLostError if it was
    lost meanwhile and the block did not fail by itself.
    """

    def __init__(self, client: Client, session: Session, znode: Created) -> None:
        portal = client._portal
        self._stand_for(portal, portal.run(AsyncHeld, client._original, session._original, znode))

    @property
    def client(self) -> Client:
        return Client._of(self._portal, self._original.client)

    @property
    def session(self) -> Session:
        return Session._of(self._portal, self._original.session)

    @property
    def path(self) -> str:
        """The claim. A transaction with ``check(held.path)`` is done only as long as it is owned."""
        return self._original.path

    @property
    def token(self) -> int:
        """The fencing number: larger than that of every owner before. Who is given it refuses smaller ones."""
        return self._original.token

    @property
    def is_held(self) -> bool:
        """Whether it is still owned, as far as is known: neither lost nor released."""
        return self._original.is_held

    @property
    def is_certain(self) -> bool:
        """Whether it is owned and there is a connection. Without one it may be lost at any moment."""
        return self._original.is_certain

    @property
    def is_lost(self) -> bool:
        """Whether it ended otherwise than by its release."""
        return self._original.is_lost

    def lost(self) -> None:
        """Return when it is lost; also when it is released, and then ``is_lost`` is false."""
        self._portal.call(self._original.lost)

    def on_lost(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` when it is lost; at once if it is already."""
        self._portal.run(self._original.on_lost, self._portal.callback(callback))

    def off_lost(self, callback: Callable[[], object]) -> None:
        """Do so no more."""
        self._portal.run(self._original.off_lost, self._portal.callback(callback))

    def check(self) -> None:
        """Raise OwnershipLostError unless it is held, as far as is known. Asks nobody."""
        self._portal.run(self._original.check)

    def release(self) -> None:
        """Give it up. Returns when the claim is gone; again, or after it was lost, does nothing.

        While there is no connection this waits for one, at most until the session ends. Cancelled, it goes on in the
        background.
        """
        self._portal.leave(self._original.release)

    def __enter__(self) -> Self:
        self._portal.enter(self._original)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    def cancelling(self) -> AbstractContextManager[None]:
        """A block that is cancelled the moment this is lost: it then raises OwnershipLostError."""
        return self._portal.context(self._original.cancelling, lambda each: each)


class HotStandby(Twin[AsyncHotStandby], of=AsyncHotStandby):
    """A worker that is ready for a task from the beginning::

        def replicate(execution):
            position = execution.last_commit or b"start"
            for event in source.read_from(position):
                ...
                execution.report(event.position)

        HotStandby(zk, "/tasks/orders", replicate).run()

    Of all the workers of a task the one with the smallest number is RUNNING, the others are on STANDBY, each
    watching the one before it. When the running one ends, the next begins with what is stored in ``last_commit``.

    Progress that the work reports is stored every ``commit_interval`` seconds, and before the worker leaves if
    there is still a session; ``execution.commit(...)`` stores it at once. What happened after the last commit is
    done again by the successor.

    When the session is lost, or somebody deletes the instance, the work is cancelled and the worker registers
    again, with a new number. While the connection is away the work goes on as long as the session may live, by the
    clock of the client, which ends it before the service does; a process that stood still for longer may run some
    steps beside its successor, but its progress is refused: it is stored in transactions that check the instance.
    """

    def __init__(
        self,
        zk: Client,
        task: str,
        work: Callable[[Execution], object],
        *,
        identifier: str | None = None,
        definition: bytes = b"",
        commit_interval: float = COMMIT_INTERVAL_S,
        acl: Sequence[Acl] = OPEN,
    ) -> None:
        """Prepare it; nothing is sent yet.

        Args:
            task: the path of the task's znode.
            work: what is to be done, a function that gets an :class:`~corral.sync.recipes.Execution`.
                When it returns, the task is finished, for all workers and for ever (until ``finished`` is deleted).
            identifier: this worker, for others to see; the default is ``host:pid``.
            definition: data of the task's znode, if it is this worker that registers the task.
            commit_interval: seconds between two stores of progress.
            acl: of all that is created.
        """
        portal = zk._portal
        self._stand_for(
            portal,
            portal.run(
                AsyncHotStandby,
                zk._original,
                task,
                portal.body(work),
                identifier=identifier,
                definition=definition,
                commit_interval=commit_interval,
                acl=acl,
            ),
        )

    @property
    def task(self) -> str:
        return self._original.task

    @property
    def identifier(self) -> str:
        """This worker, as others see it."""
        return self._original.identifier

    @property
    def state(self) -> InstanceState | None:
        """What it is to the task; None before and after :meth:`run`."""
        return self._original.state

    def on_state(self, callback: Callable[[InstanceState | None], object]) -> None:
        """Call ``callback`` with each state as it is entered."""
        self._portal.run(self._original.on_state, self._portal.callback(callback))

    def off_state(self, callback: Callable[[InstanceState | None], object]) -> None:
        """Do so no more."""
        self._portal.run(self._original.off_state, self._portal.callback(callback))

    def run(self) -> None:
        """Be ready for the task, and run it, until it is finished, by this worker or another.

        Raises what the work raises: the worker then leaves the task to the others. Cancelled, it cancels the work,
        stores its last progress and leaves; without a connection that lasts until there is one or the session has
        ended. Raises ClientClosedError when the client is closed.
        """
        self._portal.call(self._original.run)


class LeaderLatch(Twin[AsyncLeaderLatch], of=AsyncLeaderLatch):
    """Takes part in an election from start to close, and says whether it leads::

        with LeaderLatch(zk, "/services/billing/leader") as latch:
            latch.wait()
            while latch.is_leader:
                ...

    After a loss of the leadership it stands for election again. The arguments are those of
    :class:`~corral.sync.recipes.Lock`, with whose claims it competes; in CURATOR's dialect, those of its
    LeaderLatch.
    """

    def __init__(
        self,
        client: Client,
        path: str,
        identifier: str | None = None,
        *,
        acl: Sequence[Acl] = OPEN,
        dialect: Dialect = KAZOO,
    ) -> None:
        portal = client._portal
        self._stand_for(
            portal, portal.run(AsyncLeaderLatch, client._original, path, identifier, acl=acl, dialect=dialect)
        )

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def identifier(self) -> str:
        """Who it is, for others to see."""
        return self._original.identifier

    @property
    def is_leader(self) -> bool:
        """Whether it leads, as far as is known: false from the moment the leadership is lost."""
        return self._original.is_leader

    @property
    def is_certain(self) -> bool:
        """Whether it leads and there is a connection. Without one the leadership may be lost at any moment."""
        return self._original.is_certain

    @property
    def held(self) -> Held | None:
        """The leadership, with its fencing number; None while it does not lead."""
        return Held._of(self._portal, found) if (found := self._original.held) is not None else None

    def wait(self, *, timeout: float | None = None) -> Held:
        """Return the leadership when it leads. Raises TimeoutError, or whatever ended the participation."""
        return Held._of(self._portal, self._portal.call(self._original.wait, timeout=timeout))

    def on_change(self, callback: Callable[[bool], object]) -> None:
        """Call ``callback(True)`` when it becomes the leader, and ``callback(False)`` when it is so no more."""
        self._portal.run(self._original.on_change, self._portal.callback(callback))

    def off_change(self, callback: Callable[[bool], object]) -> None:
        """Do so no more."""
        self._portal.run(self._original.off_change, self._portal.callback(callback))

    def contenders(self) -> list[str]:
        """The identifiers of all who take part, the leader first."""
        return self._portal.call(self._original.contenders)

    def start(self) -> Self:
        """Stand for election, in the background; ``with`` does so by itself."""
        self._portal.call(self._original.start)
        return self

    def close(self) -> None:
        """Give up the leadership, or the place in the queue; returns when the claim is gone, or will be in a moment."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.enter(self._original)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)


class Lease(Twin[AsyncLease], of=AsyncLease):
    """The right to ``path`` for ``duration`` seconds, kept by whoever is called ``identifier``::

        lease = Lease(zk, "/leases/nightly", duration=4200)
        if lease.take():
            ...                              # until lease.remaining is 0; take() again renews it

    Args:
        client: where the lease is.
        path: its directory; it is created if need be, and stays.
        duration: seconds.
        identifier: who this is, the same over restarts; the default is the name of the host.
        acl: of all znodes that are created.
    """

    def __init__(
        self, client: Client, path: str, duration: float, identifier: str | None = None, *, acl: Sequence[Acl] = OPEN
    ) -> None:
        portal = client._portal
        self._stand_for(portal, portal.run(AsyncLease, client._original, path, duration, identifier, acl=acl))

    @property
    def client(self) -> Client:
        return Client._of(self._portal, self._original.client)

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def duration(self) -> float:
        return self._original.duration

    @property
    def identifier(self) -> str:
        return self._original.identifier

    @property
    def token(self) -> int | None:
        """The fencing number of the last success, larger than those of all holders before."""
        return self._original.token

    @property
    def remaining(self) -> float:
        """For how many more seconds it is held; 0 if it is not."""
        return self._original.remaining

    def take(self) -> bool:
        """Hold it for the whole duration from now on, if nobody else does; waits for nobody.

        While there is no connection it waits for one. Cancelled, it may have been taken all the same.
        Raises ValueError if what is there is no lease.
        """
        return self._portal.call(self._original.take)

    def release(self) -> None:
        """Give it up before its time; does nothing if it is not held. Raises as :meth:`take` does."""
        self._portal.leave(self._original.release)

    def holder(self) -> str | None:
        """Who holds it or held it last; None if nobody does, after a release."""
        return self._portal.call(self._original.holder)


class Listener(Twin[AsyncListener], of=AsyncListener):
    """Hears notifications, over lost connections and sessions::

        with Listener(zk, "/bells/reload") as listener:
            for notice in listener:
                ...

    It begins with the first notification after its start. A listener that is slow, or away for a while, hears the
    newest one, and how many it missed. Who must have them all uses a :class:`~corral.sync.recipes.Topic`.
    """

    def __init__(self, zk: Client, path: str) -> None:
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncListener, zk._original, path))

    @property
    def path(self) -> str:
        return self._original.path

    def start(self) -> Self:
        """Begin to listen; ``with`` does so by itself. Raises NoAuthError."""
        self._portal.call(self._original.start)
        return self

    def close(self) -> None:
        """Listen no more; whoever waits for the next notice gets none."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.enter(self._original)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    def __iter__(self) -> Self:
        self._original.__aiter__()
        return self

    def __next__(self) -> Notice:
        with self._turn:
            return self._portal.next(self._original.__anext__)


class Members(Twin[AsyncMembers], of=AsyncMembers):
    """The live list of a group's members, readable at memory speed.

        with Members(zk, "/services/web") as members:
            for member in members:
                print(member.name, member.data)
            for event in members.changes():
                ...

    It keeps what it knew while the connection is away, and catches up afterwards; ``is_current`` tells. Only
    ephemeral znodes count as members. Order: by name.
    """

    def __init__(self, zk: Client, group: str) -> None:
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncMembers, zk._original, group))

    @property
    def group(self) -> str:
        return self._original.group

    def start(self) -> Self:
        """Read the list and follow it; ``with`` does so by itself. The group need not exist yet.

        Raises NoAuthError if the list may not be read.
        """
        self._portal.call(self._original.start)
        return self

    def close(self) -> None:
        """Follow it no more; the list stays readable."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.enter(self._original)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    @property
    def is_current(self) -> bool:
        """Whether it is connected and has taken in everything it was told of."""
        return self._original.is_current

    def refresh(self) -> None:
        """Wait until the list has all that had happened when this was called."""
        self._portal.call(self._original.refresh)

    def get(self, name: str) -> Member | None:
        """The member of that name, None if it is not there."""
        return self._original.get(name)

    def __iter__(self) -> Iterator[Member]:
        return iter(self._portal.run(list, self._original))

    def __len__(self) -> int:
        return self._portal.run(self._original.__len__)

    def __contains__(self, name: object) -> bool:
        return name in self._original

    def on_change(self, callback: Callable[[MemberEvent], object]) -> None:
        """Call ``callback`` with each event from now on, when the list has it."""
        self._portal.run(self._original.on_change, self._portal.callback(callback))

    def off_change(self, callback: Callable[[MemberEvent], object]) -> None:
        """Do so no more."""
        self._portal.run(self._original.off_change, self._portal.callback(callback))

    def changes(self) -> Iterator[MemberEvent]:
        """Each event from now on. Ends when this or the client is closed."""
        return self._portal.iterate(self._original.changes)

    def wait_for(self, condition: Callable[[Members], bool]) -> None:
        """Wait until ``condition`` holds for the list: ``members.wait_for(lambda members: len(members) >= 3)``.

        Raises ClientClosedError when this or the client is closed before.
        """
        self._portal.call(self._original.wait_for, self._portal.in_place(condition))


class Names(Twin[AsyncNames], of=AsyncNames):
    """The names of one namespace::

        names = corral.sync.recipes.Names(zk, "/names")
        names.register("billing/db", b"db7.example:5432")
        print(names.look_up("billing/db").data)

    Changes are made exactly once over lost connections. If the session ends at the moment of a change they raise
    ConnectionLoss: it may have been made or not. So it is when one is cancelled.
    """

    def __init__(self, zk: Client, namespace: str) -> None:
        """Prepare it; nothing is sent."""
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncNames, zk._original, namespace))

    @property
    def namespace(self) -> str:
        return self._original.namespace

    def close(self) -> None:
        """Clean up behind this object; the names stay. Without it, the end of the session does so."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.enter(self._original)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    def path(self, name: str) -> str:
        """The znode of a name. Raises BadArgumentsError for what is none: parts begin with no dot, none is empty."""
        return self._portal.run(self._original.path, name)

    def register(self, name: str, data: bytes = b"", *, ephemeral: bool = False) -> int:
        """Take a name that is free; returns the zxid, which is larger for each later owner of the name.

        An ``ephemeral`` name is free again when the session ends, and has no names below it.

        Raises NodeExistsError: somebody has it; or it is to be ephemeral, and there are names below it.
        """
        return self._portal.call(self._original.register, name, data, ephemeral=ephemeral)

    def unregister(self, name: str) -> None:
        """Give a name up, whoever has it; names below it stay. Raises NoNodeError if nobody has it."""
        self._portal.call(self._original.unregister, name)

    def look_up(self, name: str) -> Znode:
        """The data of a name, and the stat of its znode. Raises NoNodeError if nobody has it."""
        return self._portal.call(self._original.look_up, name)

    def list_names(self, below: str = "", *, recursive: bool = False) -> list[str]:
        """The whole names directly below one, or below the namespace: sorted, with folders; empty if there are none.

        With ``recursive``, all registered names at any depth, without folders.
        """
        return self._portal.call(self._original.list_names, below, recursive=recursive)

    def move(self, name: str, new_name: str) -> int:
        """Rename a name or a folder, with all below it, in one transaction; returns its zxid.

        Whoever looks sees either the old names or the new ones. The znodes are new ones, with the data, the ACLs and
        the kinds of the old.

        Raises:
            NoNodeError: there is no such name or folder.
            NodeExistsError: the new name is taken, or a folder.
            RequestTooLargeError: there is too much below it for one transaction; nothing has been done.
            BadArgumentsError: the new name is the old one or below it, or a name below belongs to the session of
                another client, from whom it cannot be taken.
        """
        return self._portal.call(self._original.move, name, new_name)


class ProgressBoard(Twin[AsyncProgressBoard], of=AsyncProgressBoard):
    """All workers that live, and how far each is, readable at memory speed::

    with ProgressBoard(zk, "/workers") as board:
        for report in board:
            print(report.worker, report.progress)
        for event in board.changes():
            ...
    """

    def __init__(self, zk: Client, group: str) -> None:
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncProgressBoard, zk._original, group))

    @property
    def members(self) -> Members:
        return Members._of(self._portal, self._original.members)

    def start(self) -> Self:
        """Read the board and follow it; ``with`` does so by itself."""
        self._portal.call(self._original.start)
        return self

    def close(self) -> None:
        """Follow it no more."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.enter(self._original)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    def get(self, worker: str) -> Report | None:
        """The report of a worker, None if it does not live."""
        return self._portal.run(self._original.get, worker)

    def __iter__(self) -> Iterator[Report]:
        return iter(self._portal.run(list, self._original))

    def __len__(self) -> int:
        return self._portal.run(self._original.__len__)

    def changes(self) -> Iterator[ReportEvent]:
        """Each event from now on. Ends when this or the client is closed."""
        return self._portal.iterate(self._original.changes)

    def wait_for(self, condition: Callable[[ProgressBoard], bool]) -> None:
        """Wait until ``condition`` holds. Raises ClientClosedError when this or the client is closed before."""
        self._portal.call(self._original.wait_for, self._portal.in_place(condition))


class ProgressReporter(Twin[AsyncProgressReporter], of=AsyncProgressReporter):
    """A worker's sign of life, and its progress, in an ephemeral znode of its own::

        with ProgressReporter(zk, "/workers", "worker-7") as reporter:
            for number, item in enumerate(items):
                ...
                reporter.report(number, len(items))

    The znode lives as long as the session does; the client's pings are the heartbeat. After the loss of a session
    it is put back. Reports are written at most once per ``interval`` seconds, the newest one wins, and the last one
    is written before the end.
    """

    def __init__(
        self, zk: Client, group: str, name: str, *, interval: float = REPORT_INTERVAL_S, acl: Sequence[Acl] = OPEN
    ) -> None:
        """Prepare it; nothing is sent yet. ``name`` must be this worker's alone: see :class:`Registration`."""
        portal = zk._portal
        self._stand_for(
            portal, portal.run(AsyncProgressReporter, zk._original, group, name, interval=interval, acl=acl)
        )

    def start(self) -> Self:
        """Register, with no progress; ``with`` does so by itself. Waits while another session has the name."""
        self._portal.call(self._original.start)
        return self

    def close(self) -> None:
        """Write the last report, and vanish from the board."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.enter(self._original)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    def report(self, done: float, total: float | None = None, note: str = "") -> None:
        """Let others know, soon. Never waits. Raises ValueError for what is no number."""
        self._portal.run(self._original.report, done, total, note)


class ReadWriteLock(Twin[AsyncReadWriteLock], of=AsyncReadWriteLock):
    """A read-write lock on ``path``::

        lock = ReadWriteLock(zk, "/locks/report")
        with lock.read:
            ...
        with lock.write as held:
            ...
            lock.write.downgrade(held)      # go on as a reader

    ``read`` and ``write`` are used as :class:`~corral.sync.recipes.Lock` is, whose arguments this takes too. Who
    holds the one and waits for the other waits for itself: a reader cannot become a writer.
    """

    def __init__(
        self,
        client: Client,
        path: str,
        identifier: str | None = None,
        *,
        acl: Sequence[Acl] = OPEN,
        dialect: Dialect = KAZOO,
    ) -> None:
        portal = client._portal
        self._stand_for(
            portal, portal.run(AsyncReadWriteLock, client._original, path, identifier, acl=acl, dialect=dialect)
        )

    @property
    def read(self) -> ReadLock:
        return ReadLock._of(self._portal, self._original.read)

    @property
    def write(self) -> WriteLock:
        return WriteLock._of(self._portal, self._original.write)


class Registration(Twin[AsyncRegistration], of=AsyncRegistration):
    """Keeps a member registered, from the start to the close.

        with Registration(zk, "/services/web", "web-1", b"10.0.0.5:8080") as member:
            ...
            member.update(b"10.0.0.5:8081")

    After the loss of its session, or if somebody deletes it, it is put back at once, with the newest data. A znode
    of the same name that belongs to another session is left alone until it is gone: after a crash that is what the
    process's own last session leaves behind, until it expires. What the name held before is then replaced.
    """

    def __init__(self, zk: Client, group: str, name: str, data: bytes = b"", *, acl: Sequence[Acl] = OPEN) -> None:
        """Prepare it; nothing is sent yet. The group is created if it is missing, with the same ``acl``."""
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncRegistration, zk._original, group, name, data, acl=acl))

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def name(self) -> str:
        return self._original.name

    def start(self) -> Self:
        """Register; ``with`` does so by itself. Waits while another session holds the name.

        Raises what the service refuses it with, as NoAuthError. Cancelled, it leaves nothing behind.
        """
        self._portal.call(self._original.start)
        return self

    def close(self) -> None:
        """Leave. Without a connection this waits for one, at most until the session has ended."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.enter(self._original)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    @property
    def is_registered(self) -> bool:
        """Whether it is registered in a session that is not known to have ended."""
        return self._original.is_registered

    @property
    def zxid(self) -> int:
        """Of the transaction that registered it; -1 before. It grows with each time that it is put back."""
        return self._original.zxid

    @property
    def data(self) -> bytes:
        """As it is to be registered."""
        return self._original.data

    def registered(self) -> None:
        """Wait until it is registered: again, after the loss of a session."""
        self._portal.call(self._original.registered)

    def update(self, data: bytes) -> None:
        """Change the data; returns when it is written. Cancelled, it will nevertheless be written."""
        self._portal.call(self._original.update, data)


class SentCommand(Twin[AsyncSentCommand], of=AsyncSentCommand):
    """A command that has been sent, and its answers."""

    def __init__(self, zk: Client, workers: Members, path: str, recipients: tuple[str, ...]) -> None:
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncSentCommand, zk._original, workers._original, path, recipients))

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def recipients(self) -> tuple[str, ...]:
        return self._original.recipients

    def acknowledged(self) -> dict[str, Answer]:
        """Wait until every recipient has received it, or is not there; returns all answers, by worker."""
        return self._portal.call(self._original.acknowledged)

    def results(self) -> dict[str, Answer]:
        """Wait until every recipient has finished it, or is not there; returns all answers, by worker.

        A worker that has just lost its session is not there until it has registered again, though it may still work on
        the command: :meth:`answers` tells later. Raises NoNodeError if the command has been deleted.
        """
        return self._portal.call(self._original.results)

    def answers(self) -> dict[str, Answer]:
        """All answers as they are now, by worker."""
        return self._portal.call(self._original.answers)

    def delete(self) -> None:
        """Delete the command and its answers: a worker that has not received it will not get it any more."""
        self._portal.call(self._original.delete)


class Subscription(Twin[AsyncSubscription], of=AsyncSubscription):
    """The messages of a topic, as an iterator of :class:`Message` and :class:`Missed`; made by a :class:`Topic`.

    It goes on over lost connections and sessions, without loss as long as the messages are kept. Waiting for the
    next message may be cancelled and begun anew. A subscription with a name gets again, after a restart, what it
    has not acknowledged. It ends when it or the client is closed.
    """

    def __init__(self, zk: Client, topic: str, name: str | None, *, from_oldest: bool, acl: Sequence[Acl]) -> None:
        portal = zk._portal
        self._stand_for(
            portal, portal.run(AsyncSubscription, zk._original, topic, name, from_oldest=from_oldest, acl=acl)
        )

    @property
    def name(self) -> str | None:
        return self._original.name

    def start(self) -> Self:
        """Begin: no message from now on is passed over. ``with`` does so by itself."""
        self._portal.call(self._original.start)
        return self

    def close(self) -> None:
        """End it; how far a subscriber with a name is, stays known."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.enter(self._original)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    def __iter__(self) -> Self:
        self._original.__aiter__()
        return self

    def __next__(self) -> Message | Missed:
        with self._turn:
            return self._portal.next(self._original.__anext__)

    def acknowledge(self, message: Message) -> None:
        """Note that this message and all before it are done with; for a subscription with a name.

        Rides out lost connections and sessions. Cancelled, it may be noted or not. Raises RuntimeError without a name.
        """
        self._portal.call(self._original.acknowledge, message)


class Topic(Twin[AsyncTopic], of=AsyncTopic):
    """Messages for whoever subscribes::

        topic = Topic(zk, "/topics/prices")
        topic.publish(b"...")

        with topic.subscribe() as messages:
            for message in messages:
                match message:
                    case Missed(messages): ...
                    case Message(number, data): ...

    For small messages, some hundred a second: each is a transaction of the service, and kept in its memory. Between
    ``kept`` and 1.1 times as many are kept.
    """

    def __init__(self, zk: Client, path: str, *, kept: int = PUBSUB_KEPT, acl: Sequence[Acl] = OPEN) -> None:
        """Prepare it; nothing is sent yet. ``acl`` is that of all that is created."""
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncTopic, zk._original, path, kept=kept, acl=acl))

    @property
    def path(self) -> str:
        return self._original.path

    def publish(self, data: bytes) -> int:
        """Publish a message; returns its number.

        Lost connections and sessions are ridden out, and it is published once. Cancelled, it may be published or not.
        Raises RequestTooLargeError, NoAuthError, QuotaExceededError.
        """
        return self._portal.call(self._original.publish, data)

    def subscribe(self, name: str | None = None, *, from_oldest: bool = False) -> Subscription:
        """All messages from the start of the subscription on; see :class:`Subscription`.

        Args:
            name: under which the service keeps how far the subscriber is: after a pause it goes on where it was.
            from_oldest: begin with the oldest message that is kept, if nothing is known of ``name``.
        """
        return Subscription._of(self._portal, self._portal.run(self._original.subscribe, name, from_oldest=from_oldest))

    def forget(self, name: str) -> None:
        """Forget how far a subscriber is."""
        self._portal.call(self._original.forget, name)


class UniqueIds(Twin[AsyncUniqueIds], of=AsyncUniqueIds):
    """Hands out ids of one type::

        jobs = corral.sync.recipes.UniqueIds(zk, "/ids", "type2", "job-", block=100)
        print(jobs.next())  # type2-job-0000000003

    No id is handed out twice, whatever happens to processes, sessions and connections, as long as the type's znode
    is not deleted. There are gaps: what a process has reserved and not used when it ends, and numbers whose
    reservation was cancelled or whose answer was lost. Ids of one object ascend; among several with blocks, they
    are not in the order of time.

    Numbers have ten digits, and more from 10,000,000,000 on. From 2,147,483,647 on, where the service's sequence
    ends, the counter takes over by itself.
    """

    def __init__(self, zk: Client, path: str, kind: str, prefix: str = "", *, block: int = 1) -> None:
        """Prepare it; nothing is sent.

        Args:
            zk: the client.
            path: where the types are.
            kind: the type. It goes in front of each id, so that ids of different types differ.
            prefix: of the sequential znode; it stands between the type and the number.
            block: how many ids are reserved at once; it may differ among processes.
        """
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncUniqueIds, zk._original, path, kind, prefix, block=block))

    @property
    def path(self) -> str:
        return self._original.path

    def next(self) -> str:
        """A new id. It goes on over lost connections and sessions. Cancelled, it leaves a gap at most.

        Raises ValueError if the data of the type's znode is no counter of ids.
        """
        return self._portal.call(self._original.next)

    def take(self, count: int) -> list[str]:
        """So many new ids in a row, reserved at once."""
        return self._portal.call(self._original.take, count)


class ClaimedItem(Held, of=AsyncClaimedItem):
    """An item while it is processed; leaving the block without an exception acknowledges it, otherwise returns it.

    As a :class:`~corral.sync.recipes.Held` it has a fencing number and tells of its loss: when the session ends,
    somebody else gets the item.
    """

    _original: AsyncClaimedItem

    def __init__(self, zk: Client, session: Session, claim: Created, entry: str, data: bytes) -> None:
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncClaimedItem, zk._original, session._original, claim, entry, data))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    @property
    def data(self) -> bytes:
        return self._original.data

    def ack(self) -> None:
        """Delete the item: it has been processed. Returns when it is gone.

        While there is no connection this waits for one, at most until the session ends. Cancelled, it goes on in the
        background.

        Raises OwnershipLostError when the session has ended: the item will be delivered again, unless the
        acknowledgement was just under way.
        """
        self._portal.call(self._original.ack)


class Configuration(Twin[AsyncConfiguration[_T]], Generic[_T], of=AsyncConfiguration):
    """A configuration object that every process has in memory, and that anyone may publish anew.

        with Configuration(zk, "/config/web", DataclassCodec(Limits), validate=check) as limits:
            limits.value.requests_per_second
            for change in limits.changes():
                ...

    A running process takes each valid value as soon as its watch fires, and keeps it over lost connections and
    sessions. A value that is not valid, set by whatever means, never takes the place of a good one: the change is
    told as REJECTED. A process that starts while the current value is not valid takes the newest valid one of the
    history, else ``default``.

    Publishing validates first, and is atomic with the entry in the history. :meth:`publish`, :meth:`rollback` and
    :meth:`history` need no start. They ride out lost connections and sessions: what they raise otherwise is
    certain. Cancelled, a publication may or may not have been done.
    """

    def __init__(
        self,
        zk: Client,
        path: str,
        codec: Codec[_T],
        *,
        validate: Callable[[_T], object] | None = None,
        default: _T | None = None,
        history: int = HISTORY,
        author: str = "",
        acl: Sequence[Acl] = OPEN,
    ) -> None:
        """Prepare it; nothing is sent yet.

        Args:
            path: the znode; created, with its parents, at the first publication.
            codec: how the object is written; see :mod:`corral.recipes.codecs`.
            validate: raises an exception for a value that must not be used.
            default: in force as long as nothing valid has been published. None: :meth:`start` raises then.
            history: how many versions are kept, the current one included.
            author: stands in the history for what this process publishes.
            acl: of what is created.
        """
        portal = zk._portal
        self._stand_for(
            portal,
            portal.run(
                AsyncConfiguration,
                zk._original,
                path,
                codec,
                validate=validate,
                default=default,
                history=history,
                author=author,
                acl=acl,
            ),
        )

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def author(self) -> str:
        return self._original.author

    @property
    def rejected(self) -> Exception | None:
        """Why the value that is published now is not in force in this process; None if it is."""
        return self._original.rejected

    def start(self) -> Self:
        """Read it and watch it; ``with`` does so by itself.

        Raises:
            NoNodeError: nothing has been published, and there is no default.
            InvalidConfigurationError: nothing valid has been published, and there is no default.
        """
        self._portal.call(self._original.start)
        return self

    def close(self) -> None:
        """Watch it no more; the value stays readable."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.enter(self._original)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    @property
    def value(self) -> _T:
        """The value in force."""
        return self._original.value

    @property
    def version(self) -> int | None:
        """Its version; None for the default."""
        return self._original.version

    @property
    def zxid(self) -> int:
        """Of the transaction that set it; -1 for the default."""
        return self._original.zxid

    def refresh(self) -> None:
        """Wait until all that had been published when this was called is in force, or rejected."""
        self._portal.call(self._original.refresh)

    def on_change(self, callback: Callable[[ConfigurationChange[_T]], object]) -> None:
        """Call ``callback`` with each change, once it is in force."""
        self._portal.run(self._original.on_change, self._portal.callback(callback))

    def off_change(self, callback: Callable[[ConfigurationChange[_T]], object]) -> None:
        """Do so no more."""
        self._portal.run(self._original.off_change, self._portal.callback(callback))

    def changes(self) -> Iterator[ConfigurationChange[_T]]:
        """Each change from now on. A reader that is slower than the publishers gets the newest of each kind.

        Ends when the configuration or the client is closed.
        """
        return self._portal.iterate(self._original.changes)

    def publish(self, value: _T, *, version: int | None = None, note: str = "") -> int:
        """Put ``value`` in force everywhere; returns its version.

        Args:
            version: the current version that it is to follow; None: whatever is there. 0 is the first there can be.
            note: for the history.

        Raises:
            InvalidConfigurationError: it is not valid; nothing was sent.
            BadVersionError: another version is current; nothing has been published.
            NoNodeError: a version was given, and nothing has been published yet.
            RequestTooLargeError: value and history entry together exceed a request (about 1 MB).
        """
        return self._portal.call(self._original.publish, value, version=version, note=note)

    def initialise(self, value: _T, *, note: str = "") -> bool:
        """Publish ``value`` if nothing has been published; returns whether it was this call that did."""
        return self._portal.call(self._original.initialise, value, note=note)

    def rollback(self, to: int, *, version: int | None = None, note: str = "") -> int:
        """Publish anew what version ``to`` was; returns the new version. It is validated as of now.

        Raises:
            LookupError: ``to`` is not in the history any more, or never was.
            InvalidConfigurationError, BadVersionError: as :meth:`publish`.
        """
        return self._portal.call(self._original.rollback, to, version=version, note=note)

    def history(self) -> list[Revision[_T]]:
        """The versions that are kept, the oldest first; empty if nothing has been published."""
        return self._portal.call(self._original.history)


class AtomicValue(Twin[AsyncAtomicValue[_T]], Generic[_T], of=AsyncAtomicValue):
    """A value that is changed by compare-and-set on the version of its znode.

    All changes are made exactly once over lost connections. If the session ends at the moment of a change they
    raise ConnectionLoss: it may have been made or not. So it is when one is cancelled.
    """

    def __init__(self, zk: Client, path: str, start: _T) -> None:
        """Prepare it; nothing is sent. The first change creates the znode; until then the value is ``start``."""
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncAtomicValue, zk._original, path, start))

    @property
    def path(self) -> str:
        return self._original.path

    def close(self) -> None:
        """Clean up behind this object; the value stays. Without it, the end of the session does so."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.enter(self._original)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    def get(self) -> Reading[_T]:
        """The value, as the client's server knows it. Raises ValueError if the data is no such value."""
        return self._portal.call(self._original.get)

    def set(self, value: _T) -> Change[_T]:
        """Replace it by ``value``, whatever it is; the result tells what it was."""
        return self._portal.call(self._original.set, value)

    def compare_and_set(self, expected: _T, value: _T) -> Change[_T] | None:
        """Replace it by ``value`` if it is ``expected``; None if it is not."""
        return self._portal.call(self._original.compare_and_set, expected, value)

    def update(self, function: Callable[[_T], _T]) -> Change[_T]:
        """Replace it by ``function`` of it.

        The function is called again with the newer value when somebody else is faster, so it should do nothing else.
        What it raises ends the update, with nothing changed.
        """
        return self._portal.call(self._original.update, function)


class Semaphore(Twin[AsyncSemaphore], of=AsyncSemaphore):
    """At most ``permits`` owners of ``path`` at a time::

        semaphore = Semaphore(zk, "/limits/imports", 3)
        with semaphore as held:
            ...

    One object can hold several permits, each got by an ``acquire()`` or ``hold()`` of its own. Permits are handed
    out in the order of arrival; ``try_acquire()`` also gives None while somebody else is just being served.

    Args:
        client: where the semaphore is.
        path: its znode; it is created if need be, with the number of permits as data, and stays.
        permits: how many there are. All must say the same.
        identifier: who this is, for others to see; the default is ``host:pid``.
        acl: of all znodes that are created.
        dialect: KAZOO to share the permits with kazoo's semaphores, CURATOR for InterProcessSemaphoreV2.

    ``acquire()`` and ``try_acquire()`` also raise ValueError if the semaphore has another number of permits.
    """

    def __init__(
        self,
        client: Client,
        path: str,
        permits: int,
        identifier: str | None = None,
        *,
        acl: Sequence[Acl] = OPEN,
        dialect: Dialect = KAZOO,
    ) -> None:
        portal = client._portal
        self._stand_for(
            portal, portal.run(AsyncSemaphore, client._original, path, permits, identifier, acl=acl, dialect=dialect)
        )

    @property
    def client(self) -> Client:
        return Client._of(self._portal, self._original.client)

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def identifier(self) -> str:
        """Who it is, for those who look into the queue."""
        return self._original.identifier

    @property
    def is_held(self) -> bool:
        """Whether what was last acquired through this object is still held."""
        return self._original.is_held

    def acquire(self, *, timeout: float | None = None) -> Held:
        """Wait until it is owned.

        It waits over lost connections and lost sessions too: without a ``timeout`` (in seconds) for ever. Cancelled or
        timed out, it leaves nothing behind: its claim is removed in the background, as soon as there is a connection.

        Raises:
            TimeoutError: it was not obtained in time.
            RuntimeError: this object already holds it, or waits for it.
            ClientClosedError: the client has been closed, or was never started.
            KeeperError: the service refuses the claim (NoAuthError, ...).
        """
        return Held._of(self._portal, self._portal.call(self._original.acquire, timeout=timeout))

    def try_acquire(self) -> Held | None:
        """Own it if nobody else is in the way; None otherwise. Raises as :meth:`acquire` does.

        While there is no connection it waits for one.
        """
        return (
            Held._of(self._portal, found)
            if (found := self._portal.call(self._original.try_acquire)) is not None
            else None
        )

    def hold(self, *, timeout: float | None = None, cancel_when_lost: bool = False) -> AbstractContextManager[Held]:
        """Acquire it for a ``with`` block.

        With ``cancel_when_lost`` the block is cancelled the moment it is lost. Otherwise it runs to its end, and looks
        itself (``held.is_held``, ``held.lost()``). Either way the block then raises OwnershipLostError.
        """
        return self._portal.context(
            lambda: self._original.hold(timeout=timeout, cancel_when_lost=cancel_when_lost),
            lambda each: Held._of(self._portal, each),
        )

    def __enter__(self) -> Held:
        return Held._of(self._portal, self._portal.enter(self._original))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._portal.leave(self._original.__aexit__, kind, error, trace)

    @property
    def permits(self) -> int:
        return self._original.permits

    @property
    def dialect(self) -> Dialect:
        return self._original.dialect

    @property
    def queue_path(self) -> str:
        return self._original.queue_path

    @property
    def leases_path(self) -> str:
        return self._original.leases_path

    def agree(self) -> None:
        """Make sure that the znodes exist, and that all mean the same number of permits."""
        self._portal.call(self._original.agree)

    def holders(self) -> list[str]:
        """The identifiers of those who hold permits, in no order."""
        return self._portal.call(self._original.holders)


class AtomicBytes(AtomicValue[bytes], of=AsyncAtomicBytes):
    """Any data."""

    _original: AsyncAtomicBytes

    def __init__(self, zk: Client, path: str) -> None:
        """Prepare it; nothing is sent. It is empty until it is set."""
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncAtomicBytes, zk._original, path))


class AtomicFloat(AtomicValue[float], of=AsyncAtomicFloat):
    """A floating-point number, as kazoo's Counter of floats writes it."""

    _original: AsyncAtomicFloat

    def __init__(self, zk: Client, path: str, start: float = 0.0) -> None:
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncAtomicFloat, zk._original, path, start))

    def add(self, amount: float) -> Change[float]:
        """Add ``amount``, which may be negative."""
        return self._portal.call(self._original.add, amount)


class Counter(AtomicValue[int], of=AsyncCounter):
    """A whole number::

    counter = corral.sync.recipes.Counter(zk, "/visits")
    change = counter.add()
    print(change.before, change.after)
    """

    _original: AsyncCounter

    def __init__(self, zk: Client, path: str, start: int = 0, *, layout: Layout = Layout.DECIMAL) -> None:
        """Prepare it; nothing is sent. All that use the counter give the same ``layout``."""
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncCounter, zk._original, path, start, layout=layout))

    def add(self, amount: int = 1) -> Change[int]:
        """Add ``amount``, which may be negative. Raises ValueError if the result does not fit the layout."""
        return self._portal.call(self._original.add, amount)


class Election(Twin[AsyncElection], of=AsyncElection):
    """An election at ``path``, for a function that must run in one place only::

        def lead(held):
            ...                              # held.token is the fencing number

        Election(zk, "/services/billing/leader").run(lead)

    The arguments are those of :class:`~corral.sync.recipes.Lock`, as which it can also be used.
    """

    def __init__(
        self,
        client: Client,
        path: str,
        identifier: str | None = None,
        *,
        acl: Sequence[Acl] = OPEN,
        dialect: Dialect = KAZOO,
    ) -> None:
        portal = client._portal
        self._stand_for(portal, portal.run(AsyncElection, client._original, path, identifier, acl=acl, dialect=dialect))

    @property
    def client(self) -> Client:
        return Client._of(self._portal, self._original.client)

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def identifier(self) -> str:
        """Who it is, for those who look into the queue."""
        return self._original.identifier

    @property
    def is_held(self) -> bool:
        """Whether what was last acquired through this object is still held."""
        return self._original.is_held

    def acquire(self, *, timeout: float | None = None) -> Held:
        """Wait until it is owned.

        It waits over lost connections and lost sessions too: without a ``timeout`` (in seconds) for ever. Cancelled or
        timed out, it leaves nothing behind: its claim is removed in the background, as soon as there is a connection.

        Raises:
            TimeoutError: it was not obtained in time.
            RuntimeError: this object already holds it, or waits for it.
            ClientClosedError: the client has been closed, or was never started.
            KeeperError: the service refuses the claim (NoAuthError, ...).
        """
        return Held._of(self._portal, self._portal.call(self._original.acquire, timeout=timeout))

    def try_acquire(self) -> Held | None:
        """Own it if nobody else is in the way; None otherwise. Raises as :meth:`acquire` does.

        While there is no connection it waits for one.
        """
        return (
            Held._of(self._portal, found)
            if (found := self._portal.call(self._original.try_acquire)) is not None
            else None
        )

    def hold(self, *, timeout: float | None = None, cancel_when_lost: bool = False) -> AbstractContextManager[Held]:
        """Acquire it for a ``with`` block.

        With ``cancel_when_lost`` the block is cancelled the moment it is lost. Otherwise it runs to its end, and looks
        itself (``held.is_held``, ``held.lost()``). Either way the block then raises OwnershipLostError.
        """
        return self._portal.context(
            lambda: self._original.hold(timeout=timeout, cancel_when_lost=cancel_when_lost),
            lambda each: Held._of(self._portal, each),
        )

    def __enter__(self) -> Held:
        return Held._of(self._portal, self._portal.enter(self._original))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._portal.leave(self._original.__aexit__, kind, error, trace)

    def contenders(self) -> list[str]:
        """The identifiers of all who hold it or wait for it, in the order of their claims."""
        return self._portal.call(self._original.contenders)

    def run(self, lead: Callable[[Held], _T]) -> _T:
        """Take part until ``lead(held)`` has been run to its end as the leader; returns what it returns.

        It is cancelled the moment the leadership is lost, and called anew after the next victory: it should then come
        to an end quickly, for another leader may be there. A lost connection is not yet a lost leadership:
        ``held.is_certain`` tells. What ``lead`` raises ends the participation. Cancelled, this cancels ``lead``.

        Raises RuntimeError if this object already takes part, and ClientClosedError when the client is closed.
        """
        return self._portal.call(self._original.run, self._portal.body(lead))

    def leader(self) -> str | None:
        """The identifier of the one that leads, or will as soon as it learns of it; None if nobody takes part."""
        return self._portal.call(self._original.leader)


class Lock(Twin[AsyncLock], of=AsyncLock):
    """An exclusive lock on ``path``::

        lock = Lock(zk, "/locks/orders")
        with lock as held:
            ...                              # held.token is the fencing number, held.lost() tells of the loss

    One object is one contender, and not re-entrant: acquiring it again while it is held raises RuntimeError. After
    it was lost, it can be acquired again.

    Args:
        client: where the lock is.
        path: the directory of the claims; it is created if need be, and stays.
        identifier: who this is, for others to see; the default is ``host:pid``.
        acl: of the claims, and of the directory if it is created.
        dialect: whose names the claims get. kazoo's locks and elections see those of KAZOO, Curator's
            InterProcessMutex those of CURATOR; this lock sees both, whatever its own.
    """

    def __init__(
        self,
        client: Client,
        path: str,
        identifier: str | None = None,
        *,
        acl: Sequence[Acl] = OPEN,
        dialect: Dialect = KAZOO,
    ) -> None:
        portal = client._portal
        self._stand_for(portal, portal.run(AsyncLock, client._original, path, identifier, acl=acl, dialect=dialect))

    @property
    def client(self) -> Client:
        return Client._of(self._portal, self._original.client)

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def identifier(self) -> str:
        """Who it is, for those who look into the queue."""
        return self._original.identifier

    @property
    def is_held(self) -> bool:
        """Whether what was last acquired through this object is still held."""
        return self._original.is_held

    def acquire(self, *, timeout: float | None = None) -> Held:
        """Wait until it is owned.

        It waits over lost connections and lost sessions too: without a ``timeout`` (in seconds) for ever. Cancelled or
        timed out, it leaves nothing behind: its claim is removed in the background, as soon as there is a connection.

        Raises:
            TimeoutError: it was not obtained in time.
            RuntimeError: this object already holds it, or waits for it.
            ClientClosedError: the client has been closed, or was never started.
            KeeperError: the service refuses the claim (NoAuthError, ...).
        """
        return Held._of(self._portal, self._portal.call(self._original.acquire, timeout=timeout))

    def try_acquire(self) -> Held | None:
        """Own it if nobody else is in the way; None otherwise. Raises as :meth:`acquire` does.

        While there is no connection it waits for one.
        """
        return (
            Held._of(self._portal, found)
            if (found := self._portal.call(self._original.try_acquire)) is not None
            else None
        )

    def hold(self, *, timeout: float | None = None, cancel_when_lost: bool = False) -> AbstractContextManager[Held]:
        """Acquire it for a ``with`` block.

        With ``cancel_when_lost`` the block is cancelled the moment it is lost. Otherwise it runs to its end, and looks
        itself (``held.is_held``, ``held.lost()``). Either way the block then raises OwnershipLostError.
        """
        return self._portal.context(
            lambda: self._original.hold(timeout=timeout, cancel_when_lost=cancel_when_lost),
            lambda each: Held._of(self._portal, each),
        )

    def __enter__(self) -> Held:
        return Held._of(self._portal, self._portal.enter(self._original))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._portal.leave(self._original.__aexit__, kind, error, trace)

    def contenders(self) -> list[str]:
        """The identifiers of all who hold it or wait for it, in the order of their claims."""
        return self._portal.call(self._original.contenders)


class LockingQueue(Twin[AsyncLockingQueue], of=AsyncLockingQueue):
    """Each item is delivered until somebody has processed it::

        queue = corral.sync.recipes.LockingQueue(zk, "/jobs")
        with queue.take() as item:
            process(item.data)

    At least once: an item comes again when its taker dies, loses its session, or fails; so also when the session
    ends after the work and before the acknowledgement. Of two takers at most one has a session that lives; the
    other one's ``token`` is smaller.

    Items are taken in the order of priority, then of putting; one that comes again does so at its place. Takers
    that get in each other's way take from among the first few of the same priority.
    """

    def __init__(self, zk: Client, path: str, *, name: str | None = None, random: Random | None = None) -> None:
        """Prepare it; nothing is sent. ``name`` stands in the claims, for people to read."""
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncLockingQueue, zk._original, path, name=name, random=random))

    @property
    def path(self) -> str:
        return self._original.path

    def close(self) -> None:
        """Clean up behind this object; the queue and its items stay. Without it, the end of the session does so."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.enter(self._original)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    def size(self) -> int:
        """How many items there are, as the client's server knows; with those that are being processed."""
        return self._portal.call(self._original.size)

    def put(self, item: bytes, priority: int = DEFAULT_PRIORITY) -> None:
        """As :meth:`Queue.put <corral.sync.recipes.Queue.put>`; ``priority`` is from 0, the most urgent, to 999."""
        self._portal.call(self._original.put, item, priority)

    def put_many(self, items: Iterable[bytes], priority: int = DEFAULT_PRIORITY) -> None:
        """Put all or none, with the same priority. Raises as :meth:`put`; all must fit in one request."""
        self._portal.call(self._original.put_many, items, priority)

    def take(self) -> ClaimedItem:
        """Claim the next item that nobody processes; waits for one.

        It goes on over lost connections and sessions. Cancelled, it leaves no claim behind (which waits for the
        connection, if it is lost, at most until the session ends).
        """
        return ClaimedItem._of(self._portal, self._portal.call(self._original.take))

    def take_now(self) -> ClaimedItem | None:
        """The same, or None if there is no item to be had, as far as the client's server knows."""
        return (
            ClaimedItem._of(self._portal, found)
            if (found := self._portal.call(self._original.take_now)) is not None
            else None
        )


class ReadLock(Twin[AsyncReadLock], of=AsyncReadLock):
    """The reading side of a :class:`ReadWriteLock`: waits for the writers before it."""

    def __init__(
        self,
        client: Client,
        path: str,
        identifier: str | None = None,
        *,
        acl: Sequence[Acl] = OPEN,
        dialect: Dialect = KAZOO,
    ) -> None:
        portal = client._portal
        self._stand_for(portal, portal.run(AsyncReadLock, client._original, path, identifier, acl=acl, dialect=dialect))

    @property
    def client(self) -> Client:
        return Client._of(self._portal, self._original.client)

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def identifier(self) -> str:
        """Who it is, for those who look into the queue."""
        return self._original.identifier

    @property
    def is_held(self) -> bool:
        """Whether what was last acquired through this object is still held."""
        return self._original.is_held

    def acquire(self, *, timeout: float | None = None) -> Held:
        """Wait until it is owned.

        It waits over lost connections and lost sessions too: without a ``timeout`` (in seconds) for ever. Cancelled or
        timed out, it leaves nothing behind: its claim is removed in the background, as soon as there is a connection.

        Raises:
            TimeoutError: it was not obtained in time.
            RuntimeError: this object already holds it, or waits for it.
            ClientClosedError: the client has been closed, or was never started.
            KeeperError: the service refuses the claim (NoAuthError, ...).
        """
        return Held._of(self._portal, self._portal.call(self._original.acquire, timeout=timeout))

    def try_acquire(self) -> Held | None:
        """Own it if nobody else is in the way; None otherwise. Raises as :meth:`acquire` does.

        While there is no connection it waits for one.
        """
        return (
            Held._of(self._portal, found)
            if (found := self._portal.call(self._original.try_acquire)) is not None
            else None
        )

    def hold(self, *, timeout: float | None = None, cancel_when_lost: bool = False) -> AbstractContextManager[Held]:
        """Acquire it for a ``with`` block.

        With ``cancel_when_lost`` the block is cancelled the moment it is lost. Otherwise it runs to its end, and looks
        itself (``held.is_held``, ``held.lost()``). Either way the block then raises OwnershipLostError.
        """
        return self._portal.context(
            lambda: self._original.hold(timeout=timeout, cancel_when_lost=cancel_when_lost),
            lambda each: Held._of(self._portal, each),
        )

    def __enter__(self) -> Held:
        return Held._of(self._portal, self._portal.enter(self._original))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._portal.leave(self._original.__aexit__, kind, error, trace)

    def contenders(self) -> list[str]:
        """The identifiers of all who hold it or wait for it, in the order of their claims."""
        return self._portal.call(self._original.contenders)


class WriteLock(Twin[AsyncWriteLock], of=AsyncWriteLock):
    """The writing side of a :class:`ReadWriteLock`: waits for all before it."""

    def __init__(
        self,
        client: Client,
        path: str,
        identifier: str | None = None,
        *,
        acl: Sequence[Acl] = OPEN,
        dialect: Dialect = KAZOO,
    ) -> None:
        portal = client._portal
        self._stand_for(
            portal, portal.run(AsyncWriteLock, client._original, path, identifier, acl=acl, dialect=dialect)
        )

    @property
    def client(self) -> Client:
        return Client._of(self._portal, self._original.client)

    @property
    def path(self) -> str:
        return self._original.path

    @property
    def identifier(self) -> str:
        """Who it is, for those who look into the queue."""
        return self._original.identifier

    @property
    def is_held(self) -> bool:
        """Whether what was last acquired through this object is still held."""
        return self._original.is_held

    def acquire(self, *, timeout: float | None = None) -> Held:
        """Wait until it is owned.

        It waits over lost connections and lost sessions too: without a ``timeout`` (in seconds) for ever. Cancelled or
        timed out, it leaves nothing behind: its claim is removed in the background, as soon as there is a connection.

        Raises:
            TimeoutError: it was not obtained in time.
            RuntimeError: this object already holds it, or waits for it.
            ClientClosedError: the client has been closed, or was never started.
            KeeperError: the service refuses the claim (NoAuthError, ...).
        """
        return Held._of(self._portal, self._portal.call(self._original.acquire, timeout=timeout))

    def try_acquire(self) -> Held | None:
        """Own it if nobody else is in the way; None otherwise. Raises as :meth:`acquire` does.

        While there is no connection it waits for one.
        """
        return (
            Held._of(self._portal, found)
            if (found := self._portal.call(self._original.try_acquire)) is not None
            else None
        )

    def hold(self, *, timeout: float | None = None, cancel_when_lost: bool = False) -> AbstractContextManager[Held]:
        """Acquire it for a ``with`` block.

        With ``cancel_when_lost`` the block is cancelled the moment it is lost. Otherwise it runs to its end, and looks
        itself (``held.is_held``, ``held.lost()``). Either way the block then raises OwnershipLostError.
        """
        return self._portal.context(
            lambda: self._original.hold(timeout=timeout, cancel_when_lost=cancel_when_lost),
            lambda each: Held._of(self._portal, each),
        )

    def __enter__(self) -> Held:
        return Held._of(self._portal, self._portal.enter(self._original))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._portal.leave(self._original.__aexit__, kind, error, trace)

    def contenders(self) -> list[str]:
        """The identifiers of all who hold it or wait for it, in the order of their claims."""
        return self._portal.call(self._original.contenders)

    def downgrade(self, held: Held) -> None:
        """Turn what is held for writing into a lock for reading, with no moment in between at which it is not held.

        It keeps its place in the queue, so no writer that waits comes in between, and its token. This object can then
        be acquired for writing again, by which it waits for that reader too.

        Raises:
            OwnershipLostError: it is not held any more.
            ValueError: it is not held through this object.
        """
        self._portal.call(self._original.downgrade, held._original)


class DelayQueue(Twin[AsyncDelayQueue], of=AsyncDelayQueue):
    """Items become due after a delay; those that are due are taken in the order of their times.

    Times are by the clocks of those who put and take: keep the machines' clocks together. An item comes late when
    all takers are busy, and never early by the taker's clock.
    """

    def __init__(
        self, zk: Client, path: str, *, clock: Callable[[], float] = time.time, random: Random | None = None
    ) -> None:
        """Prepare it; nothing is sent. ``clock`` gives seconds since the epoch."""
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncDelayQueue, zk._original, path, clock=clock, random=random))

    @property
    def path(self) -> str:
        return self._original.path

    def close(self) -> None:
        """Clean up behind this object; the queue and its items stay. Without it, the end of the session does so."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.enter(self._original)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    def size(self) -> int:
        """How many items there are, as the client's server knows; with those that are being processed."""
        return self._portal.call(self._original.size)

    def take(self) -> bytes:
        """The next item; waits for one.

        An item that is taken is deleted in the same transaction that makes sure who has taken it, so that a lost
        connection neither loses nor doubles it. Cancelled, this puts an item back, at its place, if it has been taken
        by then (which waits for the connection, if it is lost).

        Raises:
            ConnectionLoss: the session has ended at the moment of taking, and nobody knows whether an item was taken.
                If it was, it is lost: this queue delivers at most once.
        """
        return self._portal.call(self._original.take)

    def take_now(self) -> bytes | None:
        """The next item, or None if there is none, as far as the client's server knows. Raises as :meth:`take`."""
        return self._portal.call(self._original.take_now)

    def take_many(self, at_most: int) -> list[bytes]:
        """Up to so many items, in one transaction; waits for the first. Raises as :meth:`take`."""
        return self._portal.call(self._original.take_many, at_most)

    def put(self, item: bytes, delay: float = 0.0) -> None:
        """As :meth:`Queue.put <corral.sync.recipes.Queue.put>`, to be taken in ``delay`` seconds at the earliest.

        Raises ValueError for a negative delay.
        """
        self._portal.call(self._original.put, item, delay)

    def put_at(self, item: bytes, due: float) -> None:
        """The same, to be taken at ``due``, in seconds since the epoch, at the earliest."""
        self._portal.call(self._original.put_at, item, due)


class PriorityQueue(Twin[AsyncPriorityQueue], of=AsyncPriorityQueue):
    """The item with the smallest number goes first; among equals, the one that was put first.

    Otherwise it is as :class:`Queue`. An item that is put overtakes at once, as soon as takers have heard of it.
    """

    def __init__(self, zk: Client, path: str, *, random: Random | None = None) -> None:
        """Prepare it; nothing is sent. ``random`` is for takers that get in each other's way."""
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncPriorityQueue, zk._original, path, random=random))

    @property
    def path(self) -> str:
        return self._original.path

    def close(self) -> None:
        """Clean up behind this object; the queue and its items stay. Without it, the end of the session does so."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.enter(self._original)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    def size(self) -> int:
        """How many items there are, as the client's server knows; with those that are being processed."""
        return self._portal.call(self._original.size)

    def take(self) -> bytes:
        """The next item; waits for one.

        An item that is taken is deleted in the same transaction that makes sure who has taken it, so that a lost
        connection neither loses nor doubles it. Cancelled, this puts an item back, at its place, if it has been taken
        by then (which waits for the connection, if it is lost).

        Raises:
            ConnectionLoss: the session has ended at the moment of taking, and nobody knows whether an item was taken.
                If it was, it is lost: this queue delivers at most once.
        """
        return self._portal.call(self._original.take)

    def take_now(self) -> bytes | None:
        """The next item, or None if there is none, as far as the client's server knows. Raises as :meth:`take`."""
        return self._portal.call(self._original.take_now)

    def take_many(self, at_most: int) -> list[bytes]:
        """Up to so many items, in one transaction; waits for the first. Raises as :meth:`take`."""
        return self._portal.call(self._original.take_many, at_most)

    def put(self, item: bytes, priority: int = DEFAULT_PRIORITY) -> None:
        """As :meth:`Queue.put`; ``priority`` is from 0, the most urgent, to 999. Raises ValueError for another one."""
        self._portal.call(self._original.put, item, priority)

    def put_many(self, items: Iterable[bytes], priority: int = DEFAULT_PRIORITY) -> None:
        """Put all or none, with the same priority. Raises as :meth:`put`; all must fit in one request."""
        self._portal.call(self._original.put_many, items, priority)


class Queue(Twin[AsyncQueue], of=AsyncQueue):
    """First in, first out::

        queue = corral.sync.recipes.Queue(zk, "/jobs")
        queue.put(b"resize 17.png")
        item = queue.take()

    One taker gets the items in the order in which they were put. Several takers that get in each other's way take
    from among the first few: as many as it needs for each to find one of its own.

    A taker hears of every item that comes or goes from its first :meth:`take` on: an event for each, and no
    request. Close the queue to hear no more.
    """

    def __init__(self, zk: Client, path: str, *, random: Random | None = None) -> None:
        """Prepare it; nothing is sent. ``random`` is for takers that get in each other's way."""
        portal = zk._portal
        self._stand_for(portal, portal.run(AsyncQueue, zk._original, path, random=random))

    @property
    def path(self) -> str:
        return self._original.path

    def close(self) -> None:
        """Clean up behind this object; the queue and its items stay. Without it, the end of the session does so."""
        self._portal.leave(self._original.close)

    def __enter__(self) -> Self:
        self._portal.enter(self._original)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.leave(self._original.__aexit__, kind, error, trace)

    def size(self) -> int:
        """How many items there are, as the client's server knows; with those that are being processed."""
        return self._portal.call(self._original.size)

    def take(self) -> bytes:
        """The next item; waits for one.

        An item that is taken is deleted in the same transaction that makes sure who has taken it, so that a lost
        connection neither loses nor doubles it. Cancelled, this puts an item back, at its place, if it has been taken
        by then (which waits for the connection, if it is lost).

        Raises:
            ConnectionLoss: the session has ended at the moment of taking, and nobody knows whether an item was taken.
                If it was, it is lost: this queue delivers at most once.
        """
        return self._portal.call(self._original.take)

    def take_now(self) -> bytes | None:
        """The next item, or None if there is none, as far as the client's server knows. Raises as :meth:`take`."""
        return self._portal.call(self._original.take_now)

    def take_many(self, at_most: int) -> list[bytes]:
        """Up to so many items, in one transaction; waits for the first. Raises as :meth:`take`."""
        return self._portal.call(self._original.take_many, at_most)

    def put(self, item: bytes) -> None:
        """Put one item, exactly once, whatever happens to connections.

        Cancelled, it may have been put or not.

        Raises:
            RequestTooLargeError: the item does not fit in a request; nothing was sent.
            ConnectionLoss: the session has ended just then: it may have been put or not.
            NoAuthError, QuotaExceededError: as the service answers; nothing was put.
        """
        self._portal.call(self._original.put, item)

    def put_many(self, items: Iterable[bytes]) -> None:
        """Put all or none, one behind the other. Raises as :meth:`put`; all must fit in one request."""
        self._portal.call(self._original.put_many, items)


def instances(zk: Client, task: str) -> list[Instance]:
    """The workers of a task: the one that runs it first, then those on standby in the order of their turns.

    Raises ConnectionLoss, SessionExpired, NoAuthError.
    """
    return zk._portal.call(async_instances, zk._original, task)


def notify(zk: Client, path: str, data: bytes = b"", *, acl: Sequence[Acl] = OPEN) -> None:
    """Let all listeners of ``path`` hear ``data``, which replaces what was there; ``acl`` is for the first.

    Rides out lost connections and sessions; then it may be heard twice. Cancelled, it may be heard or not.
    """
    zk._portal.call(async_notify, zk._original, path, data, acl=acl)


def register_task(zk: Client, task: str, definition: bytes = b"", *, acl: Sequence[Acl] = OPEN) -> bool:
    """Create a task unless it exists; returns whether it was this call that did, as far as is known.

    Rides out lost connections and sessions. An existing task keeps its definition.
    """
    return zk._portal.call(async_register_task, zk._original, task, definition, acl=acl)
