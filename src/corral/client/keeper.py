"""Keeps a session over one connection after another.

One task connects, and connects again; calls made meanwhile wait here. A connection that breaks fails the requests
that may have changed something and keeps those that only ask; the session's end fails them all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from corral.client.addresses import HostList
from corral.client.backoff import Backoff
from corral.client.calls import Call
from corral.client.connection import Connection, dial, look_up
from corral.client.errors import ClientClosedError, ConnectionLoss, ErrorCode, NotSent, SessionExpired
from corral.client.heartbeat import Heartbeat
from corral.client.results import decode_nothing
from corral.client.states import Session, State, StateFeed
from corral.client.watches import KINDS_TOLD, WatchEvent, WatchRegistry
from corral.jute.errors import error_of
from corral.jute.ops import OpCode, Xid
from corral.jute.primitives import JuteError, decode_text
from corral.jute.records import AuthPacket, ConnectRequest, ConnectResponse, WatcherEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from random import Random
    from ssl import SSLContext

    from corral.client.addresses import Address

_NO_PASSWORD: Final = bytes(16)
_REPEATS_MAX: Final = 5
"""Connections on which one request is tried: a request that breaks each of them must not go on for ever."""
_CLOSE_PATIENCE_S: Final = 5.0
_SEEK_FIRST_S: Final = 0.1
_SEEK_MAX_S: Final = 60.0
"""Pauses between looks for a server that takes writes, while connected to one that does not (as Apache's client)."""
_SEEK_PATIENCE_S: Final = 1.0

log = logging.getLogger("corral.client")


@dataclass(frozen=True, slots=True)
class Settings:
    """How a client lives. All times in seconds."""

    addresses: tuple[Address, ...]
    chroot: str
    session_timeout: float
    connect_timeout: float
    """For the first connection, over all servers."""
    read_only: bool
    ssl: SSLContext | None
    backoff_first: float
    backoff_max: float
    max_request_bytes: int
    max_reply_bytes: int
    heartbeat: bool


class SessionKeeper:
    """The life of a client's sessions and connections; an :class:`~corral.client.connection.Owner`."""

    def __init__(self, settings: Settings, random: Random) -> None:
        self.settings = settings
        self.feed = StateFeed()
        self.watches = WatchRegistry(settings.chroot)
        self.session: Session | None = None
        self.connection: Connection | None = None
        """The one that requests go through; None while there is none."""
        self._random = random
        self._hosts = HostList(settings.addresses, random)
        self._loop: asyncio.AbstractEventLoop
        self._waiting: deque[Call] = deque()
        self._credentials: list[tuple[str, bytes]] = []
        self._zxid = 0
        self._runner: asyncio.Task[None] | None = None
        self._seeker: asyncio.Task[None] | None = None
        self._connection_over = asyncio.Event()
        self._patience: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._failures: dict[Address, str] = {}
        self._is_ending = False
        """Whether it is being closed: what is being tidied up may still be sent."""
        self._closing = False
        """Whether nothing is sent any more."""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._chores: set[asyncio.Task[None]] = set()
        self._heartbeat = Heartbeat(lambda: self.connection) if settings.heartbeat else None

    # Life

    async def start(self) -> None:
        """Connect for the first time.

        Raises:
            ConnectionLoss: no server took the client within ``connect_timeout``; the client is closed.
            ClientClosedError: it was closed meanwhile, or before.
        """
        if self._runner is not None or self._closing:
            raise ClientClosedError("a client is started once; make another one")
        self._loop = asyncio.get_running_loop()
        self._runner = self.spawn(self._run(), "connections")
        if self._heartbeat is not None:
            self._heartbeat.start()
        try:
            async with asyncio.timeout(self.settings.connect_timeout):
                reached = await self.feed.reached(State.CONNECTED, State.CONNECTED_READ_ONLY)
        except TimeoutError:
            await self.close()
            raise ConnectionLoss(
                f"no server took the client within {self.settings.connect_timeout:g} s: {self._what_failed()}"
            ) from None
        except BaseException:
            await self.close()
            raise
        if reached is State.CLOSED:
            raise ClientClosedError("the client was closed before it was connected")

    async def close(self) -> None:
        """End the session and the connection; what is still under way ends first, or with ConnectionLoss."""
        if self._is_ending or self._closing:
            await self.feed.reached(State.CLOSED)
            await self._all_over()
            return
        self._is_ending = True
        try:
            if self.connection is not None:
                with contextlib.suppress(ConnectionLoss, TimeoutError):
                    async with asyncio.timeout(min(_CLOSE_PATIENCE_S, self.connection.timeout)):
                        await self._end_session()
        finally:
            self._closing = True
            self._shut_down()
            await self._all_over()

    async def _end_session(self) -> None:
        if chores := {*self._chores} - {asyncio.current_task()}:
            await asyncio.wait(chores)
        self._closing = True
        if self.connection is not None:
            await self._ask(OpCode.CLOSE_SESSION, "closing the session")

    async def _all_over(self) -> None:
        # A watch's callback may be what closes the client.
        if left := {*self._tasks} - {asyncio.current_task()}:
            await asyncio.wait(left)

    def _shut_down(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.stop()
        for timer in (self._patience, self._expiry):
            if timer is not None:
                timer.cancel()
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort("the client was closed")
            self._fail(connection.in_flight, ConnectionLoss("the client was closed"))
        while self._waiting:
            call = self._waiting.popleft()
            call.fail((ConnectionLoss if call.tries else NotSent)(f"{call.path}: the client was closed"))
        if self.session is not None:
            self.session.end()
        self.feed.change(State.CLOSED)
        self.tell(self.watches.session_lost())
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()

    def spawn(self, work: Coroutine[Any, Any, None], what: str) -> asyncio.Task[None]:
        """Let ``work`` go on by itself, until the client closes; ``what`` it is stands in the report if it fails."""
        task = self._loop.create_task(work, name=f"corral-client: {what}")
        self._tasks.add(task)
        task.add_done_callback(self._task_over)
        if self.feed.state is State.CLOSED:
            task.cancel()
        return task

    def tidy(self, work: Coroutine[Any, Any, None], what: str) -> None:
        """As :meth:`spawn`, for what must not be left undone: a close waits for it, while there is a connection."""
        task = self.spawn(work, what)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    def _task_over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            failure = {"message": f"{task.get_name()} failed", "exception": error, "task": task}
            self._loop.call_exception_handler(failure)
        if task is self._runner and not self._closing:
            # A mistake of ours, or the program ends without a close. Nobody must wait for a connection that nobody will
            # make, and the heartbeat must not keep a session alive that nobody uses any more.
            self._closing = True
            self._shut_down()

    def _ask(self, code: int, what: str) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        assert self.connection is not None
        self.connection.send(Call(code, b"", decode_nothing, future, what, repeatable=False))
        return future

    # Calls

    def submit(self, call: Call) -> None:
        """Send it, or keep it until there is a connection."""
        connection = self.connection
        if connection is not None and not self._closing:
            connection.send(call)
        else:
            self._wait(call)

    @property
    def last_zxid(self) -> int:
        """The newest transaction that a server has told of."""
        return max(self._zxid, self.connection.zxid) if self.connection is not None else self._zxid

    def _wait(self, call: Call) -> None:
        if self._closing or self._runner is None:
            call.fail(self._closed_error())
            return
        call.waits_until = self._loop.time() + self._session_timeout
        self._waiting.append(call)
        if self._patience is None:
            self._patience = self._loop.call_at(call.waits_until, self._lose_patience)

    @property
    def _session_timeout(self) -> float:
        return self.session.timeout if self.session is not None else self.settings.session_timeout

    def _lose_patience(self) -> None:
        """Give up the calls that have waited for a connection for a whole session timeout."""
        self._patience = None
        now = self._loop.time()
        while self._waiting and self._waiting[0].waits_until <= now:
            call = self._waiting.popleft()
            error = ConnectionLoss if call.tries else NotSent
            call.fail(error(f"{call.path}: no connection for {self._session_timeout:g} s: {self._what_failed()}"))
        if self._waiting:
            self._patience = self._loop.call_at(self._waiting[0].waits_until, self._lose_patience)

    def _fail(self, calls: deque[Call], error: Exception) -> None:
        while calls:
            call = calls.popleft()
            call.fail(type(error)(f"{call.path}: {error}"))

    def _closed_error(self) -> ClientClosedError:
        return ClientClosedError("the client is closed" if self._closing else "the client was not started")

    def _what_failed(self) -> str:
        return "; ".join(f"{address}: {why}" for address, why in self._failures.items()) or "none was tried yet"

    # Authentication

    async def authenticate(self, scheme: str, credential: bytes) -> None:
        """Prove to be somebody, on this connection and all later ones.

        Raises:
            AuthFailedError: the server refused it; it will not be offered again.
            ConnectionLoss: the connection broke meanwhile; it will be offered on the next one. NotSent, which is one of
                them: there was no connection in time; it will not be offered.
        """
        if self._closing or self._runner is None:
            raise self._closed_error()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._session_timeout):
                while self.connection is None and not self._closing:
                    await self.feed.reached(State.CONNECTED, State.CONNECTED_READ_ONLY)
        if self._closing:
            raise self._closed_error()
        if self.connection is None:
            raise NotSent(f"authentication by {scheme}: no connection: {self._what_failed()}")
        answer: asyncio.Future[None] = self._loop.create_future()
        entry = (scheme, credential)

        def answered(error: int) -> None:
            if not answer.done():
                if error:
                    answer.set_exception(error_of(error, f"authentication by {scheme}"))
                else:
                    answer.set_result(None)

        if entry not in self._credentials:
            self._credentials.append(entry)
        self._send_credential(self.connection, entry, answered)
        await answer

    def _send_credential(
        self, connection: Connection, entry: tuple[str, bytes], answered: Callable[[int], None] | None = None
    ) -> None:
        scheme, credential = entry

        def check(error: int) -> None:
            if error == ErrorCode.AUTH_FAILED and entry in self._credentials:
                # A server closes the connection upon it: offered again, it would close each.
                self._credentials.remove(entry)
                log.error("%s refused the %s credential; it is not offered again", connection.address, scheme)
            if answered is not None:
                answered(error)

        connection.send_aside(Xid.AUTH, OpCode.AUTH, AuthPacket(0, scheme, credential).to_bytes(), check)

    # Connecting

    async def _run(self) -> None:
        backoff = Backoff(self.settings.backoff_first, self.settings.backoff_max, self._random)
        failed = 0
        while True:
            if failed == len(self._hosts):
                failed = 0
                await asyncio.sleep(backoff.next())
            address = self._hosts.next()
            try:
                connection = await self._connect(address)
            except (OSError, UnicodeError) as error:
                # UnicodeError: a host name that is none.
                failed += 1
                self._failures[address] = str(error) or type(error).__name__
                log.info("%s: %s", address, self._failures[address])
                continue
            if connection is None:
                # The session was refused, which is an answer: begin another one at once.
                self._hosts.prefer(address)
                continue
            failed = 0
            self._failures.clear()
            began_at = self._loop.time()
            await self._connection_over.wait()
            if self._loop.time() - began_at > self.settings.backoff_max:
                # One that ends at once is as good as none: a server that takes every client and then fails would
                # otherwise see them all come back without a pause.
                backoff.reset()
            await asyncio.sleep(backoff.next())

    async def _connect(self, address: Address) -> Connection | None:
        """Try a server, by each address that its name stands for now; None if it says that the session has expired."""
        patience = max(1.0, self._session_timeout / len(self._hosts))
        async with asyncio.timeout(patience):
            places = await look_up(address)
        self._random.shuffle(places)
        patience = max(1.0, patience / len(places))
        for place in places[:-1]:
            with contextlib.suppress(OSError):
                return await self._attempt(address, place, patience)
        return await self._attempt(address, places[-1], patience)

    async def _attempt(self, address: Address, place: str, patience: float) -> Connection | None:
        settings, session = self.settings, self.session
        # A session that only a read-only server knows means nothing to the others.
        known = session if session is not None and not session.read_only else None
        request = ConnectRequest(
            0,
            self._zxid,
            round(settings.session_timeout * 1000),
            known.id if known is not None else 0,
            known.password if known is not None else _NO_PASSWORD,
        )
        connection, response, read_only = await dial(
            self,
            address,
            place,
            request,
            read_only=settings.read_only,
            ssl=settings.ssl,
            timeout=patience,
            max_reply_bytes=settings.max_reply_bytes,
        )
        if connection.has_ended:
            raise ConnectionResetError(connection.reason)
        if response.timeout_ms <= 0:
            connection.abort("the server refused the session")
            if known is None:
                raise ConnectionRefusedError("the server refused a new session")
            if self.session is known:
                self._lose_session(f"{address} says that it has expired")
            return None
        if self.session is not session:
            # It was given up while this attempt was under way.
            connection.abort("the session has been given up")
            return None
        self._establish(connection, response, read_only=read_only)
        return connection

    def _establish(self, connection: Connection, response: ConnectResponse, *, read_only: bool) -> None:
        for timer in (self._expiry, self._patience):
            if timer is not None:
                timer.cancel()
        self._expiry = self._patience = None
        self._connection_over.clear()
        timeout = response.timeout_ms / 1000
        password = response.password or _NO_PASSWORD
        if self.session is not None and self.session.id != response.session_id:
            if self.session.read_only:
                self.session.end()
                self.session = None
            else:
                self._lose_session(f"{connection.address} gave another one")
        session = self.session
        is_resumed = session is not None
        if session is None:
            session = self.session = Session(response.session_id, password, timeout, read_only=read_only)
        else:
            # Each server grants what its own settings allow.
            session.timeout, session.password = timeout, password
            if not read_only:
                session.read_only = False
        self.connection = connection
        connection.establish(timeout)
        if self._heartbeat is not None:
            self._heartbeat.look()
        for entry in self._credentials:
            self._send_credential(connection, entry)
        for code, body in self.watches.restore(self._zxid):
            connection.send_aside(Xid.SET_WATCHES, code, body, self._watches_restored)
        log.info(
            "session %s %s at %s%s",
            session,
            "continued" if is_resumed else "begun",
            connection.address,
            ", read-only" if read_only else "",
        )
        waiting, self._waiting = self._waiting, deque()
        for call in waiting:
            # Those that were cancelled meanwhile need not be sent.
            if not call.future.done():
                connection.send(call)
        connection.open_to_threads()
        if read_only:
            self._seeker = self.spawn(self._seek_writable(connection), "search for a server that takes writes")
        self.tell(self.watches.resumed())
        if self.connection is connection:
            # Whoever was told may have left this server again.
            self.feed.change(State.CONNECTED_READ_ONLY if read_only else State.CONNECTED)

    def _watches_restored(self, error: int) -> None:
        if error not in (0, ErrorCode.CONNECTION_LOSS):
            log.error("the server refused to set the watches anew: error %d", error)
            if self.connection is not None:
                self.connection.abort("the watches could not be set anew")

    # Owner

    def notified(self, zxid: int, event: WatcherEvent) -> None:
        """A watch fired: tell whoever set it."""
        try:
            kind = KINDS_TOLD[event.type]
        except KeyError:
            log.warning("an event of the unknown type %d", event.type)
            return
        path = decode_text(event.path or b"")
        if not path.startswith("/"):
            raise JuteError(f"an event of {path!r}, which is no path")
        self.tell(self.watches.fire(kind, path, zxid))

    def connection_ended(self, connection: Connection, reason: str) -> None:
        """The connection is over: fail what may have been done, keep what only asks."""
        if connection is not self.connection:
            return
        self.connection = None
        if self._seeker is not None:
            self._seeker.cancel()
            self._seeker = None
        self._zxid = max(self._zxid, connection.zxid)
        self._failures[connection.address] = reason
        log.info("connection to %s is over: %s", connection.address, reason)
        kept: list[Call] = []
        while connection.in_flight:
            call = connection.in_flight.popleft()
            call.tries += 1
            if call.future.done():
                continue
            if call.repeatable and call.tries < _REPEATS_MAX and not self._closing:
                kept.append(call)
            else:
                call.fail(ConnectionLoss(f"{call.path}: the connection to {connection.address} broke: {reason}"))
        session = self.session
        assert session is not None
        if not self._closing:
            for call in kept:
                self._wait(call)
            expires_at = connection.acknowledged_at + session.timeout
            self._expiry = self._loop.call_at(expires_at, self._expire, session)
            self.feed.change(State.SUSPENDED)
        self._connection_over.set()

    # The session's end

    def _expire(self, session: Session) -> None:
        self._expiry = None
        if session is self.session and self.connection is None:
            self._lose_session(f"no server heard of it for {session.timeout:g} s: {self._what_failed()}")

    def _lose_session(self, why: str) -> None:
        session, self.session = self.session, None
        assert session is not None
        log.warning("session %s is lost: %s", session, why)
        self._zxid = 0
        session.end()
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        self._fail(self._waiting, SessionExpired(f"session {session} has ended"))
        self.feed.change(State.LOST)
        self.tell(self.watches.session_lost())

    # Telling

    def tell(self, told: Iterable[tuple[Callable[[WatchEvent], object], WatchEvent]]) -> None:
        for callback, event in told:
            try:
                outcome = callback(event)
                if asyncio.iscoroutine(outcome):
                    self.spawn(outcome, f"watch callback for {event}")
            except Exception as error:
                self._loop.call_exception_handler({"message": f"watch callback for {event}", "exception": error})

    # From a read-only server to another one

    async def _seek_writable(self, connection: Connection) -> None:
        pause = _SEEK_FIRST_S
        while True:
            await asyncio.sleep(pause)
            pause = min(_SEEK_MAX_S, pause * 2)
            for address in self._hosts.addresses:
                if address != connection.address and await _takes_writes(address, self.settings.ssl):
                    self._hosts.prefer(address)
                    connection.abort(f"{address} takes writes")
                    return


async def _takes_writes(address: Address, ssl: SSLContext | None) -> bool:
    try:
        async with asyncio.timeout(_SEEK_PATIENCE_S):
            reader, writer = await asyncio.open_connection(address.host, address.port, ssl=ssl)
            try:
                writer.write(b"isro")
                return await reader.readexactly(2) == b"rw"
            finally:
                writer.transport.abort()
    except (OSError, EOFError, UnicodeError):
        return False
