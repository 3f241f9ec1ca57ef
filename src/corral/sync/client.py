"""The blocking twins of :mod:`corral.client`.

Written by tools/blocking.py: change the original, not this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from corral.client import (
    CREATOR,
    NULL,
    OPEN,
    READ_ONLY,
    AccessList,
    Acl,
    AuthenticationRequiredError,
    AuthFailedError,
    BadArgumentsError,
    BadVersionError,
    Change,
    ChangeKind,
    ClientClosedError,
    ConnectionLoss,
    Created,
    EphemeralOnLocalSessionError,
    ErrorCode,
    EventKind,
    Identity,
    InvalidAclError,
    KeeperError,
    Listing,
    NewConfigNoQuorumError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    NotReadOnlyError,
    NotSent,
    NoWatcherError,
    QuotaExceededError,
    ReconfigDisabledError,
    ReconfigInProgressError,
    ReplyTooLargeError,
    RequestTooLargeError,
    RuntimeInconsistencyError,
    SessionExpired,
    Stat,
    State,
    ThrottledError,
    TransactionError,
    UnimplementedError,
    WatcherType,
    WatchEvent,
    Znode,
)
from corral.client.cache import Cache as AsyncCache
from corral.client.client import Client as AsyncClient
from corral.client.client import connect as async_connect
from corral.client.follow import Follower as AsyncFollower
from corral.client.states import Session as AsyncSession
from corral.client.transaction import Transaction as AsyncTransaction
from corral.client.watch import Watch as AsyncWatch
from corral.jute.primitives import DEFAULT_MAX_BUFFER
from corral.sync.calls import ThreadedClient
from corral.sync.portal import Portal
from corral.sync.twin import Twin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from random import Random
    from ssl import SSLContext
    from types import TracebackType
    from typing import Any, Self

    from corral.client.keeper import Settings

_T = TypeVar("_T")

__all__ = [
    "CREATOR",
    "NULL",
    "OPEN",
    "READ_ONLY",
    "AccessList",
    "Acl",
    "AuthFailedError",
    "AuthenticationRequiredError",
    "BadArgumentsError",
    "BadVersionError",
    "Cache",
    "Change",
    "ChangeKind",
    "Client",
    "ClientClosedError",
    "ConnectionLoss",
    "Created",
    "EphemeralOnLocalSessionError",
    "ErrorCode",
    "EventKind",
    "Follower",
    "Identity",
    "InvalidAclError",
    "KeeperError",
    "Listing",
    "NewConfigNoQuorumError",
    "NoAuthError",
    "NoChildrenForEphemeralsError",
    "NoNodeError",
    "NoWatcherError",
    "NodeExistsError",
    "NotEmptyError",
    "NotReadOnlyError",
    "NotSent",
    "QuotaExceededError",
    "ReconfigDisabledError",
    "ReconfigInProgressError",
    "ReplyTooLargeError",
    "RequestTooLargeError",
    "RuntimeInconsistencyError",
    "Session",
    "SessionExpired",
    "Stat",
    "State",
    "ThrottledError",
    "Transaction",
    "TransactionError",
    "UnimplementedError",
    "Watch",
    "WatchEvent",
    "WatcherType",
    "Znode",
    "connect",
]


class Cache(Twin[AsyncCache], of=AsyncCache):
    """The znodes of a subtree by their paths, read at memory speed.

        with zk.cache("/services") as cache:
            for name in cache.children("/services"):
                print(cache["/services/" + name].data)

    Entered, it holds the whole subtree. From then on it follows the service: each change in order, within the time
    that an event and a read take. While the connection is away it keeps what it has, and :attr:`is_current` is
    false; afterwards it reads again what has changed. :meth:`sync` waits for all that has been written before.
    """

    @property
    def path(self) -> str:
        """The top of the subtree."""
        return self._original.path

    def start(self) -> Self:
        """Begin; ``with`` does so by itself. Raises what reading the subtree raises; it need not exist."""
        self._portal.call(self._original.start)
        return self

    def close(self) -> None:
        """End it; what it holds can still be read."""
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

    def sync(self) -> None:
        """Wait until it holds all that had been written, by anybody, when this was called."""
        self._portal.call(self._original.sync)

    def get(self, path: str) -> Znode | None:
        """The znode, None if there is none."""
        return self._original.get(path)

    def __getitem__(self, path: str) -> Znode:
        return self._original[path]

    def __contains__(self, path: object) -> bool:
        return path in self._original

    def __len__(self) -> int:
        return len(self._original)

    def __iter__(self) -> Iterator[str]:
        """The paths, in no order."""
        return iter(self._portal.run(list, self._original))

    def children(self, path: str) -> list[str]:
        """The names of a znode's children, sorted; empty for one that is not there."""
        return self._original.children(path)

    def snapshot(self) -> dict[str, Znode]:
        """All znodes by path, as they are now."""
        return self._original.snapshot()

    def on_change(self, callback: Callable[[Change], object]) -> None:
        """Call ``callback`` with each change from now on, when the cache has it."""
        self._portal.run(self._original.on_change, self._portal.callback(callback))

    def off_change(self, callback: Callable[[Change], object]) -> None:
        """Do so no more."""
        self._portal.run(self._original.off_change, self._portal.callback(callback))

    def changes(self) -> Iterator[Change]:
        """Each change from now on. Ends when the cache or the client is closed."""
        return self._portal.iterate(self._original.changes)


class Client(Twin[AsyncClient], of=AsyncClient):
    """A blocking client of a coordination service; made by :func:`connect`.

    Any number of threads may use it at once. The requests of each thread are done in the order in which they were
    made. Reads are asked again when the connection breaks; a write then ends with ConnectionLoss, for it may or may
    not have been done. While there is no connection, calls wait for one, as long as a session lasts. All paths are
    below the chroot of the connect string.

    Callbacks run one after the other in a thread of their own, and may make blocking calls. A call that is
    interrupted, by KeyboardInterrupt or a :class:`~corral.sync.CancelScope`, is cancelled: that is what docstrings
    mean by it.
    """

    @property
    def settings(self) -> Settings:
        return self._original.settings

    def start(self) -> Self:
        """Connect; ``with`` does so by itself. Raises ConnectionLoss, naming each server and what it said."""
        self._portal.start(self._original.start)
        return self

    def close(self) -> None:
        """End the session, with its ephemeral znodes. What is under way ends first; closing again does nothing.

        Without a connection, and when the server does not answer within 5 s, the service ends the session only when
        it has not heard of it for a session timeout. Cancelled, the client is closed all the same.
        """
        self._portal.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def reconnect(self) -> None:
        """Leave the server for the next one, if connected; the session goes on there."""
        self._portal.run(self._original.reconnect)

    @property
    def state(self) -> State:
        """What it is now."""
        return self._original.state

    @property
    def session(self) -> Session | None:
        """The session; None before the first connection, and from one's end to the next one's beginning."""
        return Session._of(self._portal, found) if (found := self._original.session) is not None else None

    @property
    def server(self) -> str | None:
        """``host:port`` of the server that it is connected to."""
        return self._original.server

    @property
    def last_zxid(self) -> int:
        """The newest transaction that the service has told of."""
        return self._original.last_zxid

    def connected(self) -> None:
        """Return when it is connected."""
        self._portal.call(self._original.connected)

    def suspended(self) -> None:
        """Return when the connection is lost, even if it is back by then."""
        self._portal.call(self._original.suspended)

    def lost(self) -> None:
        """Return when the session has ended, even if there is another one by then."""
        self._portal.call(self._original.lost)

    def closed(self) -> None:
        """Return when the client has been closed."""
        self._portal.call(self._original.closed)

    def states(self) -> Iterator[State]:
        """The current state and every later one; none is left out, however short. Ends with CLOSED."""
        return self._portal.iterate(self._original.states)

    def on_state(self, callback: Callable[[State], object]) -> None:
        """Call ``callback`` with each state as it is entered, at once and in order; it must not block."""
        self._portal.run(self._original.on_state, self._portal.callback(callback))

    def off_state(self, callback: Callable[[State], object]) -> None:
        """Do so no more."""
        self._portal.run(self._original.off_state, self._portal.callback(callback))

    def future(self) -> Any:
        """Into which the result of a request goes."""
        return self._portal.ask(self._original.future)

    def get(
        self, path: str, *, watch: Callable[[WatchEvent], object] | None = None, linearizable: bool = False
    ) -> Znode:
        """The data and stat of a znode. ``watch`` is called once, with the next change of the data or the deletion.

        With ``linearizable``, as of a moment after the call: all that anybody had written until then is seen.

        Raises:
            NoNodeError: there is none; then nothing is watched.
            NoAuthError: its ACL does not let this client read.
            UnimplementedError: ``linearizable``, and the server or its leader cannot do that, as Apache's cannot.
        """
        if watch is not None:
            return self._portal.call(
                self._original.get, path, watch=self._portal.callback(watch), linearizable=linearizable
            )
        return self._portal.ask(self._original.get, path, linearizable=linearizable)

    def exists(
        self, path: str, *, watch: Callable[[WatchEvent], object] | None = None, linearizable: bool = False
    ) -> Stat | None:
        """The stat of a znode, None if there is none. ``watch`` is called once: also with the creation.

        ``linearizable`` as for :meth:`get`.
        """
        if watch is not None:
            return self._portal.call(
                self._original.exists, path, watch=self._portal.callback(watch), linearizable=linearizable
            )
        return self._portal.ask(self._original.exists, path, linearizable=linearizable)

    def get_children(
        self, path: str, *, watch: Callable[[WatchEvent], object] | None = None, linearizable: bool = False
    ) -> list[str]:
        """The names of a znode's children, in no order. ``watch`` is called once, when one comes or goes.

        ``linearizable`` as for :meth:`get`.
        """
        if watch is not None:
            return self._portal.call(
                self._original.get_children, path, watch=self._portal.callback(watch), linearizable=linearizable
            )
        return self._portal.ask(self._original.get_children, path, linearizable=linearizable)

    def get_listing(
        self, path: str, *, watch: Callable[[WatchEvent], object] | None = None, linearizable: bool = False
    ) -> Listing:
        """The names of a znode's children, and its stat; otherwise as :meth:`get_children`."""
        if watch is not None:
            return self._portal.call(
                self._original.get_listing, path, watch=self._portal.callback(watch), linearizable=linearizable
            )
        return self._portal.ask(self._original.get_listing, path, linearizable=linearizable)

    def get_many(self, paths: Iterable[str], *, linearizable: bool = False) -> list[Znode | KeeperError]:
        """Many znodes as they are at one moment; an exception stands for one that cannot be read.

        ``linearizable`` as for :meth:`get`.
        """
        return self._portal.ask(self._original.get_many, paths, linearizable=linearizable)

    def get_acl(self, path: str) -> AccessList:
        """Who may do what, and the stat. Raises NoNodeError, NoAuthError."""
        return self._portal.ask(self._original.get_acl, path)

    def get_ephemerals(self, prefix: str = "/") -> list[str]:
        """The paths of this session's ephemeral znodes that begin with ``prefix``."""
        return self._portal.ask(self._original.get_ephemerals, prefix)

    def count_descendants(self, path: str) -> int:
        """How many znodes there are below ``path``, at all depths."""
        return self._portal.ask(self._original.count_descendants, path)

    def sync(self, path: str = "/", *, quorum: bool = False) -> None:
        """Let the server catch up with its leader: reads made after this see what had been written before it.

        Apache's servers do not ask whether that leader still leads; one that has been replaced and does not know it
        lacks what the new one has written. Corral's ask a quorum, and ``quorum`` makes sure that it was so.

        Raises UnimplementedError with ``quorum``: the server or its leader cannot do that, as Apache's cannot.
        """
        self._portal.ask(self._original.sync, path, quorum=quorum)

    def create(
        self,
        path: str,
        data: bytes = b"",
        *,
        acl: Sequence[Acl] = OPEN,
        ephemeral: bool = False,
        sequential: bool = False,
        container: bool = False,
        ttl: float | None = None,
        parents: bool = False,
        protected: bool = False,
    ) -> Created:
        """Create a znode; the result is its path, with its ``stat``.

        Args:
            path: a sequential one may end with ``/``: the name is then just the number.
            data: at most about 1 MB; NULL for none at all.
            acl: who may do what.
            ephemeral: it ends with this session, and has no children.
            sequential: a number of ten digits is appended, larger than of any before under the same parent.
            container: the service deletes it when its last child has gone.
            ttl: the service deletes it when it has had no children and no change for so many seconds.
            parents: create those that are missing, as persistent znodes with the same ACL.
            protected: a marker in the name makes it certain whether it was created, over a lost connection too.
                For sequential znodes, whose name nobody can guess otherwise. Cancelled, it leaves no znode behind,
                unless the client is closed while it has no connection.

        Raises:
            NodeExistsError, NoNodeError (no parent), NoChildrenForEphemeralsError, NoAuthError, InvalidAclError,
            QuotaExceededError: as the service answers.
            BadArgumentsError: the arguments do not go together; nothing was sent.
            UnimplementedError: a TTL, of a server whose ``extendedTypesEnabled`` is off.
            ConnectionLoss: it may or may not have been created; never with ``protected``, except NotSent.
            SessionExpired: with ``protected``, the session ended while it was made; an ephemeral znode is gone, too.
        """
        return self._portal.ask(
            self._original.create,
            path,
            data,
            acl=acl,
            ephemeral=ephemeral,
            sequential=sequential,
            container=container,
            ttl=ttl,
            parents=parents,
            protected=protected,
        )

    def set(self, path: str, data: bytes, *, version: int | None = None) -> Stat:
        """Replace the data of a znode, if ``version`` is its current one; returns the new stat.

        Raises NoNodeError, BadVersionError, NoAuthError, QuotaExceededError.
        """
        return self._portal.ask(self._original.set, path, data, version=version)

    def delete(self, path: str, *, version: int | None = None) -> None:
        """Delete a znode, if ``version`` is its current one.

        Raises NoNodeError, NotEmptyError, BadVersionError, NoAuthError.
        """
        self._portal.ask(self._original.delete, path, version=version)

    def set_acl(self, path: str, acl: Sequence[Acl], *, version: int | None = None) -> Stat:
        """Replace the ACL of a znode, if ``version`` is the current one of its ACL; returns the new stat."""
        return self._portal.ask(self._original.set_acl, path, acl, version=version)

    def transaction(self) -> Transaction:
        """Several writes that are done together or not at all."""
        return Transaction._of(self._portal, self._original.transaction())

    def ensure(self, path: str, *, acl: Sequence[Acl] = OPEN) -> None:
        """Create ``path`` and all that is missing above it, the chroot included; what exists stays as it is.

        Raises NoAuthError, ConnectionLoss (then some may have been created), SessionExpired.
        """
        self._portal.call(self._original.ensure, path, acl=acl)

    def walk(self, path: str = "/") -> Iterator[tuple[str, Listing]]:
        """Each znode of the subtree with its children's names and its stat: breadth first, children sorted.

        What comes and goes meanwhile may be in or not; a znode that vanishes is left out. Raises NoNodeError if there
        is no ``path`` at all, NoAuthError if a part may not be read.
        """
        return self._portal.iterate(self._original.walk, path)

    def delete_tree(self, path: str) -> int:
        """Delete ``path`` and all below it; returns how many znodes that were, as far as it knows.

        Of ``/`` all is deleted but itself and the service's own ``/zookeeper``. It goes on where it was when the
        connection breaks. Raises NoNodeError, NotEmptyError when others create in it faster than it is deleted,
        NoAuthError when part of it may not be deleted (the rest may be gone by then).
        """
        return self._portal.call(self._original.delete_tree, path)

    def watch(
        self, path: str, *, recursive: bool = False, callback: Callable[[WatchEvent], object] | None = None
    ) -> Watch:
        """All events of a znode, or with ``recursive`` of it and everything below it; see :class:`Watch`.

        The znode need not exist. Without a ``callback``, the watch is an iterator of the events.
        """
        return Watch._of(
            self._portal, self._original.watch(path, recursive=recursive, callback=self._portal.callback(callback))
        )

    def follow(self, path: str) -> Follower:
        """The newest state of every znode of a subtree, over lost connections too; see :class:`Follower`."""
        return Follower._of(self._portal, self._original.follow(path))

    def cache(self, path: str) -> Cache:
        """A subtree kept in memory; see :class:`Cache`."""
        return Cache._of(self._portal, self._original.cache(path))

    def add_watch(self, path: str, callback: Callable[[WatchEvent], object], *, recursive: bool = False) -> None:
        """Call ``callback`` with every event, until the client closes. :meth:`watch` also ends before.

        Cancelled or failed, it is as if it had never been asked.
        """
        self._portal.call(self._original.add_watch, path, self._portal.callback(callback), recursive=recursive)

    def remove_watches(self, path: str, kind: WatcherType = WatcherType.ANY) -> None:
        """Let the server forget watches of this client, and tell those who set them.

        Raises NoWatcherError if it has none of that kind.
        """
        self._portal.ask(self._original.remove_watches, path, kind)

    def forget_watches(self, path: str, kind: WatcherType = WatcherType.ANY) -> None:
        """Forget watches here only, for while there is no connection: no later one sets them anew."""
        self._portal.run(self._original.forget_watches, path, kind)

    def has_watches(self, path: str, kind: WatcherType = WatcherType.ANY) -> bool:
        """Whether the server has watches of this client there."""
        return self._portal.call(self._original.has_watches, path, kind)

    def add_auth(self, scheme: str, credential: str | bytes) -> None:
        """Prove to be somebody (``"digest", "user:password"``), now and on every later connection.

        Raises AuthFailedError, upon which the server also closes the connection.
        """
        self._portal.call(self._original.add_auth, scheme, credential)

    def who_am_i(self) -> list[Identity]:
        """What this connection has proved to be."""
        return self._portal.ask(self._original.who_am_i)

    def get_config(self, *, watch: Callable[[WatchEvent], object] | None = None) -> Znode:
        """The ensemble's members, as ``zoo.cfg.dynamic`` has them, and the version."""
        if watch is not None:
            return self._portal.call(self._original.get_config, watch=self._portal.callback(watch))
        return self._portal.ask(self._original.get_config)

    def reconfig(
        self,
        *,
        joining: Sequence[str] = (),
        leaving: Sequence[str] = (),
        members: Sequence[str] = (),
        from_version: int = -1,
    ) -> Znode:
        """Change the ensemble: ``joining`` and ``members`` as ``server.3=host:2888:3888;2181``, ``leaving`` as ids.

        Either all ``members``, or those that join and leave. ``from_version`` makes it conditional. Returns the new
        configuration. Raises ReconfigDisabledError, NoAuthError, NewConfigNoQuorumError, ReconfigInProgressError,
        BadVersionError, BadArgumentsError.
        """
        return self._portal.ask(
            self._original.reconfig, joining=joining, leaving=leaving, members=members, from_version=from_version
        )

    def persist(self, operation: Callable[[], _T]) -> _T:
        """Call ``operation`` again each time it ends with ConnectionLoss: for what may be done twice.

        Raises whatever else it raises, and SessionExpired when the session in which it began has ended: what the next
        one does is for the caller to decide.
        """
        return self._portal.call(self._original.persist, self._portal.body(operation))


class Follower(Twin[AsyncFollower], of=AsyncFollower):
    """Every change of a subtree, over lost connections and sessions too; an iterator of :class:`Change`.

        with zk.follow("/services") as changes:
            for change in changes:
                print(change.kind, change.path, change.znode)

    First comes a PUT for each znode that is there, then what changes. A reader that is slower than the changes gets
    the newest state of each znode, once. After a connection was lost, a RESYNCHRONISED comes before what has
    changed meanwhile: states in between may have been left out, but no znode's newest state is.

    It ends when it or the client is closed. Raises what makes it impossible to go on.
    """

    @property
    def path(self) -> str:
        """The top of the subtree."""
        return self._original.path

    def start(self) -> Self:
        """Begin; ``with`` does so by itself."""
        self._portal.call(self._original.start)
        return self

    def close(self) -> None:
        """End it."""
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

    def __next__(self) -> Change:
        with self._turn:
            return self._portal.next(self._original.__anext__)


class Session(Twin[AsyncSession], of=AsyncSession):
    """One session, from its first connection to its end. A client that loses its session gets another one."""

    @property
    def id(self) -> int:
        """Signed, as on the wire and in ``Stat.ephemeral_owner``."""
        return self._original.id

    @property
    def password(self) -> bytes:
        return self._original.password

    @property
    def timeout(self) -> float:
        """As negotiated, in seconds."""
        return self._original.timeout

    @property
    def read_only(self) -> bool:
        """Whether it has never been known to a server that takes writes."""
        return self._original.read_only

    def __str__(self) -> str:
        return str(self._original)

    @property
    def has_ended(self) -> bool:
        """Whether it is known to have expired, or has been closed."""
        return self._original.has_ended

    def ended(self) -> None:
        """Wait until it has expired or has been closed."""
        self._portal.call(self._original.ended)


class Transaction(Twin[AsyncTransaction], of=AsyncTransaction):
    """Collects writes; leaving the ``with`` block without an exception commits them.

        with zk.transaction() as t:
            t.check("/config", version=4)
            t.set("/config", b"new")
            t.create("/config/history-", b"old", sequential=True)
        path = t.results[2]

    ``results`` then has what each would have returned: the path of a new znode, the stat of a changed one, None.

    Raises on commit:
        TransactionError: nothing has been done; tells which operation was refused, and why.
        ConnectionLoss: all has been done, or nothing.
    """

    @property
    def results(self) -> list[Created | Stat | None]:
        return self._original.results

    def __len__(self) -> int:
        return len(self._original)

    def __enter__(self) -> Self:
        self._portal.enter(self._original)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal.call(self._original.__aexit__, kind, error, trace)

    def create(
        self,
        path: str,
        data: bytes = b"",
        *,
        acl: Sequence[Acl] = OPEN,
        ephemeral: bool = False,
        sequential: bool = False,
        container: bool = False,
        ttl: float | None = None,
    ) -> None:
        """Add the creation of a znode."""
        self._original.create(
            path, data, acl=acl, ephemeral=ephemeral, sequential=sequential, container=container, ttl=ttl
        )

    def set(self, path: str, data: bytes, *, version: int | None = None) -> None:
        """Add a change of a znode's data."""
        self._original.set(path, data, version=version)

    def delete(self, path: str, *, version: int | None = None) -> None:
        """Add the deletion of a znode."""
        self._original.delete(path, version=version)

    def check(self, path: str, *, version: int | None = None) -> None:
        """Add a condition: the znode exists, and its data has that version."""
        self._original.check(path, version=version)

    def commit(self) -> list[Created | Stat | None]:
        """Do it all; the ``with`` block does so by itself.

        Raises TransactionError, and then nothing has been done; ConnectionLoss, and then all of it or nothing has been;
        SessionExpired; RequestTooLargeError.
        """
        return self._portal.call(self._original.commit)


class Watch(Twin[AsyncWatch], of=AsyncWatch):
    """Every event of a znode, or of a whole subtree, from the start to the close.

        with zk.watch("/services", recursive=True) as events:
            for event in events:
                ...

    ``for event in zk.watch(path)`` starts it by itself; it then ends with the client. A connection that breaks
    loses events: a :attr:`~corral.sync.client.EventKind.MISSED` is put in their place. Who needs every state rather
    than every event uses :meth:`Client.follow` or :meth:`Client.cache`, which read again what has changed.
    """

    @property
    def path(self) -> str:
        return self._original.path

    def start(self) -> Self:
        """Set it; when this returns, no later change is missed while the connection lives.

        Raises ConnectionLoss or SessionExpired when there is no connection in time; cancelled or failed, it is not set,
        and can be started again.
        """
        self._portal.call(self._original.start)
        return self

    def close(self) -> None:
        """End it, also on the server if nobody else watches the same."""
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

    def __next__(self) -> WatchEvent:
        with self._turn:
            return self._portal.next(self._original.__anext__)


def connect(
    hosts: str | Iterable[str] = "127.0.0.1:2181",
    *,
    session_timeout: float = 10.0,
    connect_timeout: float = 15.0,
    read_only: bool = False,
    ssl: SSLContext | None = None,
    backoff_first: float = 0.05,
    backoff_max: float = 2.0,
    max_request_bytes: int = DEFAULT_MAX_BUFFER,
    max_reply_bytes: int = 64 * 1024 * 1024,
    heartbeat: bool = True,
    random: Random | None = None,
) -> Client:
    """A client, for ``with``::

        with corral.sync.connect("host1:2181,host2:2181/chroot") as zk:
            print(zk.get("/path"))

    Args:
        hosts: the servers and the chroot. They are tried in random order, their names looked up at each attempt.
        session_timeout: seconds; servers may grant more or less. What this client owns vanishes when no server has
            heard of it for so long.
        connect_timeout: seconds for the first connection, over all servers.
        read_only: also take a server that has lost its ensemble, for reading, until one is found that takes writes.
        ssl: how to speak TLS, if the servers do.
        backoff_first: seconds after the first time that all servers have failed; doubled each time, with jitter.
        backoff_max: seconds between attempts, at most.
        max_request_bytes: larger requests are refused here: a server closes the connection upon them.
        max_reply_bytes: larger replies fail their call with ReplyTooLargeError.
        heartbeat: ping from a thread of its own while the program keeps the event loop busy (not through TLS).
        random: for the order of the servers and the jitter.

    Raises ValueError if ``hosts`` is no connect string, or a number makes no sense.
    """
    client = ThreadedClient.like(
        async_connect(
            hosts,
            session_timeout=session_timeout,
            connect_timeout=connect_timeout,
            read_only=read_only,
            ssl=ssl,
            backoff_first=backoff_first,
            backoff_max=backoff_max,
            max_request_bytes=max_request_bytes,
            max_reply_bytes=max_reply_bytes,
            heartbeat=heartbeat,
            random=random,
        )
    )
    return Client._of(Portal(client), client)
