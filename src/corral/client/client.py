"""The client: every operation of the protocol, on a session that is kept over reconnections."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from contextlib import suppress
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final, TypeVar

from corral.client.addresses import parse_hosts
from corral.client.cache import Cache
from corral.client.calls import Call
from corral.client.errors import (
    BadArgumentsError,
    ClientClosedError,
    ConnectionLoss,
    KeeperError,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    NotSent,
    NoWatcherError,
    RequestTooLargeError,
    SessionExpired,
)
from corral.client.follow import Follower
from corral.client.keeper import SessionKeeper, Settings
from corral.client.linearizable import Barrier, LinearizableRead, QuorumSync
from corral.client.multi import add_operation, decode_results, finish
from corral.client.results import (
    NULL,
    OPEN,
    Created,
    Listing,
    Stat,
    Znode,
    decode_acl,
    decode_created,
    decode_identities,
    decode_listing,
    decode_names,
    decode_nothing,
    decode_number,
    decode_stat,
    decode_znode,
    encode_acl,
)
from corral.client.states import State
from corral.client.transaction import Transaction
from corral.client.watch import Watch
from corral.client.watches import Lasting, OneShot
from corral.jute.errors import ErrorCode
from corral.jute.ops import GET_DATA, SET_DATA, CreateMode, OpCode, WatcherType
from corral.jute.owner import TTL_MAX_MS
from corral.jute.paths import CONFIG, ZOOKEEPER, validate_path
from corral.jute.primitives import DEFAULT_MAX_BUFFER
from corral.jute.records import ReconfigRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
    from ssl import SSLContext
    from types import TracebackType
    from typing import Self

    from corral.client.connection import Connection
    from corral.client.results import AccessList, Acl, Identity
    from corral.client.states import Session
    from corral.client.watches import WatchEvent

_T = TypeVar("_T")

_INT: Final = struct.Struct(">i")
_CREATE_TAIL: Final = struct.Struct(">iq")
_OPEN_BYTES: Final = encode_acl(OPEN)
_HEADER_BYTES: Final = 8
_INT_MAX: Final = 0x7FFFFFFF
_CONNECTED: Final = (State.CONNECTED, State.CONNECTED_READ_ONLY)
_WINDOW: Final = 500
"""Requests in flight while a subtree is walked or deleted."""
_DELETE_ROUNDS: Final = 10
"""How often a subtree is deleted anew because others go on creating in it."""


class Client:
    """A client of a coordination service; made by :func:`connect`.

    Methods that return an awaitable send their request at once, so that many can be under way::

        await asyncio.gather(*[zk.get(path) for path in paths])

    Requests are done in the order in which they were made. Reads are asked again when the connection breaks; a write
    then ends with ConnectionLoss, for it may or may not have been done. While there is no connection, calls wait for
    one, as long as a session lasts. All paths are below the chroot of the connect string.
    """

    def __init__(self, settings: Settings, random: Random) -> None:
        self.settings = settings
        self._keeper = SessionKeeper(settings, random)
        self._random = random
        self._chroot = settings.chroot.encode()
        self._chroot_length = len(settings.chroot)
        self._newest_barrier: tuple[Barrier, Connection, int] | None = None
        """By which connection it goes, and how often that had sent something by then."""

    def __repr__(self) -> str:
        hosts = ",".join(map(str, self.settings.addresses))
        return f"<corral.Client {hosts}{self.settings.chroot} {self.state.value}, session {self.session}>"

    # Life

    async def start(self) -> Self:
        """Connect; ``async with`` does so by itself. Raises ConnectionLoss, naming each server and what it said."""
        await self._keeper.start()
        return self

    async def close(self) -> None:
        """End the session, with its ephemeral znodes. What is under way ends first; closing again does nothing.

        Without a connection, and when the server does not answer within 5 s, the service ends the session only when
        it has not heard of it for a session timeout. Cancelled, the client is closed all the same.
        """
        await self._keeper.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def reconnect(self) -> None:
        """Leave the server for the next one, if connected; the session goes on there."""
        if self._keeper.connection is not None:
            self._keeper.connection.abort("the client wants another server")

    @property
    def state(self) -> State:
        """What it is now."""
        return self._keeper.feed.state

    @property
    def session(self) -> Session | None:
        """The session; None before the first connection, and from one's end to the next one's beginning."""
        return self._keeper.session

    @property
    def server(self) -> str | None:
        """``host:port`` of the server that it is connected to."""
        connection = self._keeper.connection
        return str(connection.address) if connection is not None else None

    @property
    def last_zxid(self) -> int:
        """The newest transaction that the service has told of."""
        return self._keeper.last_zxid

    async def connected(self) -> None:
        """Return when it is connected."""
        await self._reached(*_CONNECTED)

    async def suspended(self) -> None:
        """Return when the connection is lost, even if it is back by then."""
        await self._reached(State.SUSPENDED)

    async def lost(self) -> None:
        """Return when the session has ended, even if there is another one by then."""
        await self._reached(State.LOST)

    async def closed(self) -> None:
        """Return when the client has been closed."""
        await self._keeper.feed.reached(State.CLOSED)

    async def _reached(self, *states: State) -> None:
        if await self._keeper.feed.reached(*states) is State.CLOSED:
            raise ClientClosedError("the client is closed")

    def states(self) -> AsyncIterator[State]:
        """The current state and every later one; none is left out, however short. Ends with CLOSED."""
        return self._keeper.feed.changes()

    def on_state(self, callback: Callable[[State], object]) -> None:
        """Call ``callback`` with each state as it is entered, at once and in order; it must not block."""
        self._keeper.feed.listeners.append(callback)

    def off_state(self, callback: Callable[[State], object]) -> None:
        """Do so no more."""
        if callback in self._keeper.feed.listeners:
            self._keeper.feed.listeners.remove(callback)

    # Paths, and what the other modules of this package need

    def key(self, path: str) -> bytes:
        """The full path on the server, encoded. Raises BadArgumentsError for what is no path."""
        if not isinstance(path, str):
            raise TypeError(f"a path is a str, not {path!r}")
        try:
            key = path.encode()
        except UnicodeEncodeError as error:
            raise BadArgumentsError(f"path {path!r} has a character that is not allowed at {error.start}") from None
        validate_path(key)
        if self._chroot:
            return self._chroot + key if key != b"/" else self._chroot
        return key

    def shown(self, path: str) -> str:
        """A path on the server as the program sees it."""
        return path[self._chroot_length :] or "/" if self._chroot_length else path

    def _is_below_chroot(self, path: str) -> bool:
        return (path + "/").startswith(self.settings.chroot + "/")

    def submit(
        self,
        code: int,
        body: bytes,
        decode: Callable[[bytes, int, int], _T],
        path: str,
        *,
        repeatable: bool,
        answered: Callable[[int], None] | None = None,
        linearizable: bool = False,
    ) -> asyncio.Future[_T]:
        """Send any request; ``decode`` makes the result of a frame and the bounds of its body.

        ``answered`` is called with the error code of the reply (0: none), also if the future was cancelled meanwhile.
        ``linearizable`` is for requests that only read.
        """
        return self._submit(
            code, body, decode, path, repeatable=repeatable, answered=answered, linearizable=linearizable
        )

    def _submit(
        self,
        code: int,
        body: bytes,
        decode: Callable[[bytes, int, int], object],
        path: str,
        *,
        repeatable: bool,
        answered: Callable[[int], None] | None = None,
        kind: type[Call] = Call,
        linearizable: bool = False,
    ) -> asyncio.Future[Any]:
        if len(body) + _HEADER_BYTES > self.settings.max_request_bytes:
            raise RequestTooLargeError(
                f"{path}: a request of {len(body) + _HEADER_BYTES} bytes; servers accept "
                f"{self.settings.max_request_bytes} unless jute.maxbuffer and max_request_bytes say more"
            )
        future = self.future()
        call = kind(code, body, decode, future, path, repeatable=repeatable, answered=answered)
        if linearizable:
            self._send_behind_barrier(call)
        else:
            self.send(call)
        return future

    def _send_behind_barrier(self, read: Call) -> None:
        # What a thread sends may be written at once: nobody else can share its barrier.
        is_shared = asyncio.isfuture(read.future)
        barrier = self._unwritten_barrier() if is_shared else None
        if barrier is None:
            barrier = Barrier(self.future())
            self.send(barrier)
            connection = self._keeper.connection
            if is_shared and connection is not None:
                self._newest_barrier = (barrier, connection, connection.sends)
        self.send(LinearizableRead(read, barrier, self._send_again))

    def _unwritten_barrier(self) -> Barrier | None:
        """The newest barrier, if nothing has been written since: it will leave after all that is asked until then."""
        if self._newest_barrier is None:
            return None
        barrier, connection, sends = self._newest_barrier
        return barrier if self._keeper.connection is connection and connection.sends == sends else None

    def _send_again(self, read: LinearizableRead) -> None:
        """A thread's barrier was overtaken by its read, or it was given up for the connections that it was on broke."""
        read.barrier = Barrier(asyncio.get_running_loop().create_future())
        self._keeper.submit(read.barrier)
        self._keeper.submit(read)

    def future(self) -> asyncio.Future[Any]:
        """Into which the result of a request goes."""
        return asyncio.get_running_loop().create_future()

    def send(self, call: Call) -> None:
        """Let a request go its way: every one passes here."""
        self._keeper.submit(call)

    # Reading

    def get(
        self, path: str, *, watch: Callable[[WatchEvent], object] | None = None, linearizable: bool = False
    ) -> Awaitable[Znode]:
        """The data and stat of a znode. ``watch`` is called once, with the next change of the data or the deletion.

        With ``linearizable``, as of a moment after the call: all that anybody had written until then is seen.

        Raises:
            NoNodeError: there is none; then nothing is watched.
            NoAuthError: its ACL does not let this client read.
            UnimplementedError: ``linearizable``, and the server or its leader cannot do that, as Apache's cannot.
        """
        key = self.key(path)
        if watch is not None:
            return self._watch_once(OneShot.DATA, watch, GET_DATA, key, decode_znode, path, linearizable)
        body = _INT.pack(len(key)) + key + b"\0"
        return self.submit(GET_DATA, body, decode_znode, path, repeatable=True, linearizable=linearizable)

    def exists(
        self, path: str, *, watch: Callable[[WatchEvent], object] | None = None, linearizable: bool = False
    ) -> Awaitable[Stat | None]:
        """The stat of a znode, None if there is none. ``watch`` is called once: also with the creation.

        ``linearizable`` as for :meth:`get`.
        """
        key = self.key(path)
        body = _INT.pack(len(key)) + key
        how: Any = {"repeatable": True, "kind": _ExistsCall, "linearizable": linearizable}
        if watch is None:
            return self._submit(OpCode.EXISTS, body + b"\0", decode_stat, path, **how)

        def answered(error: int) -> None:
            if error in (0, ErrorCode.NO_NODE) and not future.cancelled():
                self._keeper.watches.add_one_shot(OneShot.EXISTS if error else OneShot.DATA, key.decode(), watch)

        future: asyncio.Future[Stat | None] = self._submit(
            OpCode.EXISTS, body + b"\1", decode_stat, path, answered=answered, **how
        )
        return future

    def get_children(
        self, path: str, *, watch: Callable[[WatchEvent], object] | None = None, linearizable: bool = False
    ) -> Awaitable[list[str]]:
        """The names of a znode's children, in no order. ``watch`` is called once, when one comes or goes.

        ``linearizable`` as for :meth:`get`.
        """
        return self._list(OpCode.GET_CHILDREN, path, decode_names, watch, linearizable)

    def get_listing(
        self, path: str, *, watch: Callable[[WatchEvent], object] | None = None, linearizable: bool = False
    ) -> asyncio.Future[Listing]:
        """The names of a znode's children, and its stat; otherwise as :meth:`get_children`."""
        return self._list(OpCode.GET_CHILDREN2, path, decode_listing, watch, linearizable)

    def _list(
        self,
        code: int,
        path: str,
        decode: Callable[[bytes, int, int], _T],
        watch: Callable[[WatchEvent], object] | None,
        linearizable: bool,
    ) -> asyncio.Future[_T]:
        key = self.key(path)
        if watch is not None:
            return self._watch_once(OneShot.CHILDREN, watch, code, key, decode, path, linearizable)
        body = _INT.pack(len(key)) + key + b"\0"
        return self.submit(code, body, decode, path, repeatable=True, linearizable=linearizable)

    def _watch_once(
        self,
        table: OneShot,
        watch: Callable[[WatchEvent], object],
        code: int,
        key: bytes,
        decode: Callable[[bytes, int, int], _T],
        path: str,
        linearizable: bool = False,
    ) -> asyncio.Future[_T]:
        """Read, and call ``watch`` with the next event."""

        def answered(error: int) -> None:
            # Who has given up meanwhile is not called.
            if not error and not future.cancelled():
                self._keeper.watches.add_one_shot(table, key.decode(), watch)

        body = _INT.pack(len(key)) + key + b"\1"
        future = self.submit(code, body, decode, path, repeatable=True, answered=answered, linearizable=linearizable)
        return future

    def get_many(self, paths: Iterable[str], *, linearizable: bool = False) -> Awaitable[list[Znode | KeeperError]]:
        """Many znodes as they are at one moment; an exception stands for one that cannot be read.

        ``linearizable`` as for :meth:`get`.
        """
        wanted = list(paths)
        out = bytearray()
        for path in wanted:
            key = self.key(path)
            add_operation(out, GET_DATA, _INT.pack(len(key)) + key + b"\0")

        def decode(frame: bytes, start: int, end: int) -> list[Znode | KeeperError]:
            return decode_results(frame, start, end, wanted, self.shown)

        what = f"reading {len(wanted)} znodes"
        body = finish(out)
        return self.submit(OpCode.MULTI_READ, body, decode, what, repeatable=True, linearizable=linearizable)

    def get_acl(self, path: str) -> Awaitable[AccessList]:
        """Who may do what, and the stat. Raises NoNodeError, NoAuthError."""
        return self.submit(OpCode.GET_ACL, self._encode_path(path), decode_acl, path, repeatable=True)

    def get_ephemerals(self, prefix: str = "/") -> Awaitable[list[str]]:
        """The paths of this session's ephemeral znodes that begin with ``prefix``."""

        def decode(frame: bytes, start: int, end: int) -> list[str]:
            # The service compares texts: it also finds what is beside the chroot and begins like it.
            return [self.shown(path) for path in decode_names(frame, start, end) if self._is_below_chroot(path)]

        return self.submit(OpCode.GET_EPHEMERALS, self._encode_path(prefix), decode, prefix, repeatable=True)

    def count_descendants(self, path: str) -> Awaitable[int]:
        """How many znodes there are below ``path``, at all depths."""
        body = self._encode_path(path)
        return self.submit(OpCode.GET_ALL_CHILDREN_NUMBER, body, decode_number, path, repeatable=True)

    def sync(self, path: str = "/", *, quorum: bool = False) -> Awaitable[None]:
        """Let the server catch up with its leader: reads made after this see what had been written before it.

        Apache's servers do not ask whether that leader still leads; one that has been replaced and does not know it
        lacks what the new one has written. Corral's ask a quorum, and ``quorum`` makes sure that it was so.

        Raises UnimplementedError with ``quorum``: the server or its leader cannot do that, as Apache's cannot.
        """
        if quorum:
            future: asyncio.Future[None] = self.future()
            self.send(QuorumSync(path, future, self._encode_path(path)))
            return future
        return self.submit(OpCode.SYNC, self._encode_path(path), decode_nothing, path, repeatable=True)

    # Writing

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
    ) -> Awaitable[Created]:
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
        kind = {"ephemeral": ephemeral, "sequential": sequential, "container": container, "ttl": ttl}
        code, body = self.encode_create(path, data, acl=acl, **kind)  # type: ignore[arg-type]
        if protected:
            if not sequential:
                raise BadArgumentsError(f"{path}: protected is for sequential znodes")
            return self._create_protected(path, data, acl, kind, parents=parents)
        if parents:
            return self._create_with_parents(path, data, acl, kind)
        return self.submit(code, body, self._decode_created, path, repeatable=False)

    def set(self, path: str, data: bytes, *, version: int | None = None) -> Awaitable[Stat]:
        """Replace the data of a znode, if ``version`` is its current one; returns the new stat.

        Raises NoNodeError, BadVersionError, NoAuthError, QuotaExceededError.
        """
        return self.submit(SET_DATA, self.encode_set(path, data, version), decode_stat, path, repeatable=False)

    def delete(self, path: str, *, version: int | None = None) -> Awaitable[None]:
        """Delete a znode, if ``version`` is its current one.

        Raises NoNodeError, NotEmptyError, BadVersionError, NoAuthError.
        """
        body = self.encode_versioned(path, version)
        return self.submit(OpCode.DELETE, body, decode_nothing, path, repeatable=False)

    def set_acl(self, path: str, acl: Sequence[Acl], *, version: int | None = None) -> Awaitable[Stat]:
        """Replace the ACL of a znode, if ``version`` is the current one of its ACL; returns the new stat."""
        body = self._encode_path(path) + encode_acl(acl) + _INT.pack(_version(version))
        return self.submit(OpCode.SET_ACL, body, decode_stat, path, repeatable=False)

    def transaction(self) -> Transaction:
        """Several writes that are done together or not at all."""
        return Transaction(self)

    # Whole branches

    async def ensure(self, path: str, *, acl: Sequence[Acl] = OPEN) -> None:
        """Create ``path`` and all that is missing above it, the chroot included; what exists stays as it is.

        Raises NoAuthError, ConnectionLoss (then some may have been created), SessionExpired.
        """
        missing = [self.key(path)]
        while missing:
            key = missing[-1]
            try:
                await self._create_plain(key, acl)
            except NodeExistsError:
                pass
            except NoNodeError:
                missing.append(key[: key.rindex(b"/")] or b"/")
                continue
            except NoAuthError:
                # The service says so first, whether it is there or not.
                if not await self._is_there(key):
                    raise
            except ConnectionLoss:
                if not await self._is_there(key):
                    continue
            missing.pop()

    async def walk(self, path: str = "/") -> AsyncIterator[tuple[str, Listing]]:
        """Each znode of the subtree with its children's names and its stat: breadth first, children sorted.

        What comes and goes meanwhile may be in or not; a znode that vanishes is left out. Raises NoNodeError if there
        is no ``path`` at all, NoAuthError if a part may not be read.
        """
        asked: deque[tuple[str, asyncio.Future[Listing]]] = deque([(path, self.get_listing(path))])
        later: deque[str] = deque()
        try:
            while asked:
                at, answer = asked.popleft()
                try:
                    listing = await answer
                except NoNodeError:
                    if at == path:
                        raise
                else:
                    listing.names.sort()
                    prefix = at if at.endswith("/") else at + "/"
                    later.extend(prefix + name for name in listing.names)
                    yield at, listing
                while later and len(asked) < _WINDOW:
                    child = later.popleft()
                    asked.append((child, self.get_listing(child)))
        finally:
            for _, answer in asked:
                answer.cancel()

    async def delete_tree(self, path: str) -> int:
        """Delete ``path`` and all below it; returns how many znodes that were, as far as it knows.

        Of ``/`` all is deleted but itself and the service's own ``/zookeeper``. It goes on where it was when the
        connection breaks. Raises NoNodeError, NotEmptyError when others create in it faster than it is deleted,
        NoAuthError when part of it may not be deleted (the rest may be gone by then).
        """
        deleted = 0
        for remaining in reversed(range(_DELETE_ROUNDS)):
            try:
                found = [each async for each, _ in self.walk(path) if not self._is_kept(each, path)]
            except NoNodeError:
                if remaining == _DELETE_ROUNDS - 1:
                    raise
                break
            outcomes = await self._delete_all(found)
            deleted += outcomes.count(None)
            failures = [each for each in outcomes if each is not None and not isinstance(each, NoNodeError)]
            if not failures:
                break
            for failure in failures:
                if not remaining or not isinstance(failure, (NotEmptyError, ConnectionLoss)):
                    raise failure
        return deleted

    def _is_kept(self, path: str, top: str) -> bool:
        if path == "/":
            return True
        own = ZOOKEEPER.decode() + "/"
        return not self._chroot and (path + "/").startswith(own) and not (top + "/").startswith(own)

    async def _delete_all(self, found: Sequence[str]) -> list[BaseException | None]:
        """Delete what a walk has found, the deepest first; returns what became of each."""
        outcomes: list[BaseException | None] = []
        for first in range(0, len(found), _WINDOW):
            batch = found[::-1][first : first + _WINDOW]
            outcomes += await asyncio.gather(*[self.delete(each) for each in batch], return_exceptions=True)
        return outcomes

    # Watching

    def watch(
        self, path: str, *, recursive: bool = False, callback: Callable[[WatchEvent], object] | None = None
    ) -> Watch:
        """All events of a znode, or with ``recursive`` of it and everything below it; see :class:`Watch`.

        The znode need not exist. Without a ``callback``, the watch is an async iterator of the events.
        """
        return Watch(self, path, Lasting.RECURSIVE if recursive else Lasting.PERSISTENT, callback)

    def follow(self, path: str) -> Follower:
        """The newest state of every znode of a subtree, over lost connections too; see :class:`Follower`."""
        return Follower(self, path)

    def cache(self, path: str) -> Cache:
        """A subtree kept in memory; see :class:`Cache`."""
        return Cache(self, path)

    def add_watch(
        self, path: str, callback: Callable[[WatchEvent], object], *, recursive: bool = False
    ) -> Awaitable[None]:
        """Call ``callback`` with every event, until the client closes. :meth:`watch` also ends before.

        Cancelled or failed, it is as if it had never been asked.
        """
        table = Lasting.RECURSIVE if recursive else Lasting.PERSISTENT
        key = self.key(path)
        name = key.decode()

        def over(future: asyncio.Future[None]) -> None:
            if future.cancelled() or future.exception() is not None:
                self.forget_watch(name, path, table, callback)

        future = self.submit(
            OpCode.ADD_WATCH, _INT.pack(len(key)) + key + _INT.pack(table), decode_nothing, path, repeatable=True
        )
        # Known from now on, so that whoever ends a watch of the same meanwhile does not end this one on the server.
        self._keeper.watches.add_lasting(table, name, callback)
        future.add_done_callback(over)
        return future

    async def drop_watch(self, key: str, path: str, table: Lasting, callback: Callable[[WatchEvent], object]) -> None:
        """End what :meth:`add_watch` began; the server is told when nobody else watches the same."""
        removal = self.forget_watch(key, path, table, callback)
        if removal is not None:
            # Whether the server has done so or not: it sends events at most that nobody waits for any more.
            await asyncio.wait([removal])

    def forget_watch(
        self, key: str, path: str, table: Lasting, callback: Callable[[WatchEvent], object]
    ) -> asyncio.Future[None] | None:
        """Do so without waiting for the server; returns the future of its answer, if it is asked at all."""
        if not self._keeper.watches.remove_lasting(table, key, callback) or not self.state.is_connected:
            return None
        kind = WatcherType.PERSISTENT_RECURSIVE if table is Lasting.RECURSIVE else WatcherType.PERSISTENT
        body = self._encode_path(path) + _INT.pack(kind)
        removal = self.submit(OpCode.REMOVE_WATCHES, body, decode_nothing, path, repeatable=True)
        # An error, as from a server that knows no such kind, is not for anybody to see.
        removal.add_done_callback(lambda future: future.cancelled() or future.exception())
        return removal

    def remove_watches(self, path: str, kind: WatcherType = WatcherType.ANY) -> Awaitable[None]:
        """Let the server forget watches of this client, and tell those who set them.

        Raises NoWatcherError if it has none of that kind.
        """
        key = self.key(path)
        name = key.decode()
        lasting = self._keeper.watches.lasting(kind, name)

        def answered(error: int) -> None:
            if not error:
                self._keeper.tell(self._keeper.watches.forget(kind, name, lasting))

        body = _INT.pack(len(key)) + key + _INT.pack(kind)
        return self.submit(OpCode.REMOVE_WATCHES, body, decode_nothing, path, repeatable=True, answered=answered)

    def forget_watches(self, path: str, kind: WatcherType = WatcherType.ANY) -> None:
        """Forget watches here only, for while there is no connection: no later one sets them anew."""
        watches, name = self._keeper.watches, self.key(path).decode()
        self._keeper.tell(watches.forget(kind, name, watches.lasting(kind, name)))

    async def has_watches(self, path: str, kind: WatcherType = WatcherType.ANY) -> bool:
        """Whether the server has watches of this client there."""
        key = self.key(path)
        body = _INT.pack(len(key)) + key + _INT.pack(kind)
        try:
            await self.submit(OpCode.CHECK_WATCHES, body, decode_nothing, path, repeatable=True)
        except NoWatcherError:
            return False
        return True

    # Who one is

    async def add_auth(self, scheme: str, credential: str | bytes) -> None:
        """Prove to be somebody (``"digest", "user:password"``), now and on every later connection.

        Raises AuthFailedError, upon which the server also closes the connection.
        """
        await self._keeper.authenticate(scheme, credential.encode() if isinstance(credential, str) else credential)

    def who_am_i(self) -> Awaitable[list[Identity]]:
        """What this connection has proved to be."""
        return self.submit(OpCode.WHO_AM_I, b"", decode_identities, "who am I", repeatable=True)

    # The ensemble

    def get_config(self, *, watch: Callable[[WatchEvent], object] | None = None) -> Awaitable[Znode]:
        """The ensemble's members, as ``zoo.cfg.dynamic`` has them, and the version."""
        path = CONFIG.decode()
        if watch is not None:
            return self._watch_once(OneShot.DATA, watch, GET_DATA, CONFIG, decode_znode, path)
        return self.submit(GET_DATA, _INT.pack(len(CONFIG)) + CONFIG + b"\0", decode_znode, path, repeatable=True)

    def reconfig(
        self,
        *,
        joining: Sequence[str] = (),
        leaving: Sequence[str] = (),
        members: Sequence[str] = (),
        from_version: int = -1,
    ) -> Awaitable[Znode]:
        """Change the ensemble: ``joining`` and ``members`` as ``server.3=host:2888:3888;2181``, ``leaving`` as ids.

        Either all ``members``, or those that join and leave. ``from_version`` makes it conditional. Returns the new
        configuration. Raises ReconfigDisabledError, NoAuthError, NewConfigNoQuorumError, ReconfigInProgressError,
        BadVersionError, BadArgumentsError.
        """
        if bool(members) == bool(joining or leaving):
            raise BadArgumentsError("reconfig: give either members, or joining and leaving ones")
        request = ReconfigRequest(
            ",".join(joining) or None, ",".join(leaving) or None, ",".join(members) or None, from_version
        )
        return self.submit(OpCode.RECONFIG, request.to_bytes(), decode_znode, "reconfig", repeatable=False)

    # Over a lost connection

    async def persist(self, operation: Callable[[], Awaitable[_T]]) -> _T:
        """Call ``operation`` again each time it ends with ConnectionLoss: for what may be done twice.

        Raises whatever else it raises, and SessionExpired when the session in which it began has ended: what the next
        one does is for the caller to decide.
        """
        session = self.session
        while True:
            try:
                return await operation()
            except ConnectionLoss:
                await self._reached(*_CONNECTED, State.LOST)
                if session is not None and session.has_ended:
                    raise SessionExpired(f"session {session} has ended") from None

    # Encoding

    def _encode_path(self, path: str) -> bytes:
        key = self.key(path)
        return _INT.pack(len(key)) + key

    def encode_versioned(self, path: str, version: int | None) -> bytes:
        """A path and the version it must have."""
        return self._encode_path(path) + _INT.pack(_version(version))

    def encode_set(self, path: str, data: bytes, version: int | None) -> bytes:
        """The body of a setData."""
        return self._encode_path(path) + _encode_data(data, path) + _INT.pack(_version(version))

    def encode_create(
        self,
        path: str,
        data: bytes,
        *,
        acl: Sequence[Acl],
        ephemeral: bool,
        sequential: bool,
        container: bool,
        ttl: float | None,
    ) -> tuple[int, bytes]:
        """The op code and body of a creation. Raises BadArgumentsError for kinds that do not go together."""
        if container and (ephemeral or sequential or ttl is not None):
            raise BadArgumentsError(f"{path}: a container is neither ephemeral nor sequential and has no ttl")
        if ephemeral and ttl is not None:
            raise BadArgumentsError(f"{path}: an ephemeral znode has no ttl")
        # Only what the service makes of a sequential one needs to be a path.
        key = self.key(f"{path}0")[:-1] if sequential and isinstance(path, str) else self.key(path)
        access = _OPEN_BYTES if acl is OPEN else encode_acl(acl)
        body = _INT.pack(len(key)) + key + _encode_data(data, path) + access
        if ttl is not None:
            if not 1 <= ttl * 1000 <= TTL_MAX_MS:
                raise BadArgumentsError(f"{path}: a ttl of {ttl} s is not between 0.001 and {TTL_MAX_MS / 1000} s")
            ttl_ms = round(ttl * 1000)
            mode = CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL if sequential else CreateMode.PERSISTENT_WITH_TTL
            return OpCode.CREATE_TTL, body + _CREATE_TAIL.pack(mode, ttl_ms)
        if container:
            return OpCode.CREATE_CONTAINER, body + _INT.pack(CreateMode.CONTAINER)
        return OpCode.CREATE2, body + _INT.pack(ephemeral | sequential << 1)

    def _decode_created(self, frame: bytes, start: int, end: int) -> Created:
        created = decode_created(frame, start, end)
        return Created(self.shown(created), created.stat) if self._chroot_length else created

    # Creating over a lost connection

    async def _create_with_parents(self, path: str, data: bytes, acl: Sequence[Acl], kind: dict[str, Any]) -> Created:
        while True:
            try:
                return await self.create(path, data, acl=acl, **kind)
            except NoNodeError:
                await self.ensure(path[: path.rindex("/")] or "/", acl=acl)

    async def _create_protected(
        self, path: str, data: bytes, acl: Sequence[Acl], kind: dict[str, Any], *, parents: bool
    ) -> Created:
        """Curator's protection: a name that nobody else uses, looked for when the answer is lost."""
        head, _, name = path.rpartition("/")
        parent = head or "/"
        marker = f"_c_{self._random.getrandbits(128):032x}-"
        session = self.session
        try:
            while True:
                try:
                    return await self.create(f"{head}/{marker}{name}", data, acl=acl, parents=parents, **kind)
                except NotSent:
                    raise
                except ConnectionLoss:
                    await self._reached(*_CONNECTED, State.LOST)
                if session is not None and session.has_ended:
                    # What was created belongs to it, and will vanish with it (CURATOR-498).
                    raise SessionExpired(f"{path}: session {session} has ended")
                session = session or self.session
                for found in await self._find_marked(parent, marker):
                    if not kind["ephemeral"] or (session is not None and found.stat.ephemeral_owner == session.id):
                        return found
        except asyncio.CancelledError:
            self._keeper.tidy(self._remove_marked(parent, marker), f"removal of what {path} has become")
            raise

    async def _find_marked(self, parent: str, marker: str) -> list[Created]:
        """What has been created under the marker, by any session."""
        # The request may still be on its way in the service. A read may overtake it, and so may a sync; no write does.
        with suppress(NoNodeError, NoAuthError):
            await self.persist(lambda: self.delete(f"{parent.rstrip('/')}/{marker}"))
        try:
            names = await self.persist(lambda: self.get_children(parent))
        except NoNodeError:
            return []
        found = []
        for name in names:
            if name.startswith(marker):
                path = f"{parent.rstrip('/')}/{name}"
                if (stat := await self.persist(partial(self.exists, path))) is not None:
                    found.append(Created(path, stat))
        return found

    async def _remove_marked(self, parent: str, marker: str) -> None:
        with suppress(KeeperError, ClientClosedError):
            for found in await self._find_marked(parent, marker):
                with suppress(NoNodeError):
                    await self.persist(partial(self.delete, found))

    # Full paths, the chroot and what is above it included

    def _create_plain(self, key: bytes, acl: Sequence[Acl]) -> Awaitable[Created]:
        body = _INT.pack(len(key)) + key + _INT.pack(0) + encode_acl(acl) + _INT.pack(CreateMode.PERSISTENT)
        return self.submit(OpCode.CREATE2, body, decode_created, key.decode(), repeatable=False)

    async def _is_there(self, key: bytes) -> bool:
        body = _INT.pack(len(key)) + key + b"\0"
        future = self._submit(OpCode.EXISTS, body, decode_stat, key.decode(), repeatable=True, kind=_ExistsCall)
        return await future is not None


class _ExistsCall(Call):
    __slots__ = ()

    def refuse(self, code: int) -> None:
        """A znode that is not there is an answer."""
        if code != ErrorCode.NO_NODE:
            super().refuse(code)
            return
        if self.answered is not None:
            self.answered(code)
        if not self.future.done():
            self.future.set_result(None)


def _version(version: int | None) -> int:
    if version is None:
        return -1
    if not -_INT_MAX - 1 <= version <= _INT_MAX:
        raise BadArgumentsError(f"version {version} is not one that a znode can have")
    return version


def _encode_data(data: bytes, path: str) -> bytes:
    if data is NULL:
        return b"\xff\xff\xff\xff"
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"{path}: data is bytes, not {type(data).__name__}")
    return _INT.pack(len(data)) + data


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
    """A client, for ``async with``::

        async with corral.connect("host1:2181,host2:2181/chroot") as zk:
            print(await zk.get("/path"))

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
    addresses, chroot = parse_hosts(hosts)
    for name, value in {
        "session_timeout": session_timeout,
        "connect_timeout": connect_timeout,
        "backoff_first": backoff_first,
        "backoff_max": backoff_max,
        "max_request_bytes": max_request_bytes,
        "max_reply_bytes": max_reply_bytes,
    }.items():
        if not value > 0:
            raise ValueError(f"{name}={value!r} is not positive")
    if not 1 <= session_timeout * 1000 <= _INT_MAX:
        raise ValueError(f"session_timeout={session_timeout!r} is not between 0.001 and {_INT_MAX / 1000} s")
    settings = Settings(
        addresses,
        chroot,
        session_timeout,
        connect_timeout,
        read_only,
        ssl,
        backoff_first,
        backoff_max,
        max_request_bytes,
        max_reply_bytes,
        heartbeat,
    )
    return Client(settings, random if random is not None else Random())
