"""Clients that keep an ensemble busy while it is disturbed, and write down what they were told.

Three kinds: kazoo's, Corral's own (the blocking one), and Java's, a program of its own (java/EnsembleLoad.java). All do
the same: create znodes of known names, add to one counter by compare-and-set, and take locks, in the dialects that
the other kinds understand.
"""

from __future__ import annotations

import subprocess
import threading
import time
import traceback
from abc import ABC, abstractmethod
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from kazoo import exceptions as kazoo_errors
from kazoo.client import KazooClient, KazooState
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.retry import KazooRetry
from tests.interop.journal import COUNTER, Hold, Journal
from tests.interop.peers import CURATOR_JARS, HERE, QUIET_JVM, class_path

import corral
import corral.sync
from corral.client.errors import BadVersionError, ClientClosedError, NodeExistsError, NoNodeError, TransactionError
from corral.sync import recipes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import TracebackType

WORK: Final = "/load"
HOLDING: Final = "/holding"
LOCKS: Final = "/locks"
START_LIMIT_S: Final = 60.0
END_LIMIT_S: Final = 90.0
"""For what is under way when the load is told to end."""
PAUSE_S: Final = 0.01
"""Between two creations by one worker: what is created is read from every member at the end."""
LOCK_LIMIT_S: Final = 5.0


class UncertainError(Exception):
    """It may have been done or not."""


class RefusedError(Exception):
    """It was not done: another version, a znode that is there already, or one that is not."""


class ClaimLostError(Exception):
    """The claim of a lock is gone: its session has ended."""


class Service(ABC):
    """What the load needs of a client; everything may raise `UncertainError`."""

    kind: ClassVar[str]

    @abstractmethod
    def create(self, path: str, data: bytes) -> None:
        """Raises `RefusedError` if it is there."""

    @abstractmethod
    def get(self, path: str) -> tuple[bytes, int]:
        """Data and version. Raises `RefusedError` if it is not there."""

    @abstractmethod
    def set(self, path: str, data: bytes, version: int) -> None:
        """Raises `RefusedError` if it has another version."""

    @property
    @abstractmethod
    def session(self) -> int | None:
        """The session that there is now."""

    @abstractmethod
    def claim(self, path: str) -> tuple[int, int]:
        """The transaction that made the claim of a lock, and whose session it is. Raises `ClaimLostError`."""

    @abstractmethod
    def commit(self, claim: str, verb: str, path: str, data: bytes, version: int) -> None:
        """One of create, set and delete, if the claim is there. Raises `ClaimLostError`, `RefusedError`."""

    @abstractmethod
    def is_there(self, path: str) -> bool:
        """As of now, by all that is committed."""

    @abstractmethod
    def lock(self, path: str, name: str) -> AbstractContextManager[str | None]:
        """Holds a lock in the block, which gets the path of the claim, or None if it was not to be had in time."""

    @abstractmethod
    def close(self) -> None:
        """Ends the session if a server can be reached."""


def _patient() -> KazooRetry:
    return KazooRetry(max_tries=-1, delay=0.05, backoff=1, max_delay=0.2)


class KazooService(Service):
    """kazoo's client; the threads that share one share its session."""

    kind = "kazoo"

    def __init__(self, address: str, session_s: float, journal: Journal) -> None:
        self._client = KazooClient(address, timeout=session_s, connection_retry=_patient(), command_retry=_patient())
        self._client.add_listener(lambda state: journal.end_session("kazoo") if self._has_lost(state) else None)
        self._is_closing = False
        self._client.start(START_LIMIT_S)

    def _has_lost(self, state: str) -> bool:
        return state == KazooState.LOST and not self._is_closing

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (kazoo_errors.NoNodeError, kazoo_errors.NodeExistsError, kazoo_errors.BadVersionError) as error:
            raise RefusedError from error
        except (
            kazoo_errors.ConnectionLoss,
            kazoo_errors.ConnectionClosedError,
            kazoo_errors.SessionExpiredError,
            kazoo_errors.SessionMovedError,
            kazoo_errors.OperationTimeoutError,
            KazooTimeoutError,
        ) as error:
            raise UncertainError from error

    def create(self, path: str, data: bytes) -> None:
        with self._errors():
            self._client.create(path, data)

    def get(self, path: str) -> tuple[bytes, int]:
        with self._errors():
            data, stat = self._client.get(path)
        return data, stat.version

    def set(self, path: str, data: bytes, version: int) -> None:
        with self._errors():
            self._client.set(path, data, version)

    @property
    def session(self) -> int | None:
        session = self._client.client_id
        return int(session[0]) if session is not None else None

    def claim(self, path: str) -> tuple[int, int]:
        with self._errors():
            stat = self._client.exists(path)
        if stat is None:
            raise ClaimLostError
        return stat.czxid, stat.ephemeralOwner

    def commit(self, claim: str, verb: str, path: str, data: bytes, version: int) -> None:
        transaction = self._client.transaction()
        transaction.check(claim, -1)
        match verb:
            case "create":
                transaction.create(path, data)
            case "set":
                transaction.set_data(path, data, version)
            case _:
                transaction.delete(path, version)
        with self._errors():
            checked, done = transaction.commit()
            if isinstance(checked, kazoo_errors.NoNodeError):
                raise ClaimLostError
            if isinstance(done, Exception):
                raise done

    def is_there(self, path: str) -> bool:
        with self._errors():
            self._client.sync(path)
            return self._client.exists(path) is not None

    @contextmanager
    def lock(self, path: str, name: str) -> Iterator[str | None]:
        lock = self._client.Lock(path, name)
        # Without a limit: kazoo leaves its claim behind if the time is over while there is no connection.
        with self._errors():
            lock.acquire()
        try:
            yield f"{path}/{lock.node}"
        finally:
            with self._errors():
                lock.release()

    def close(self) -> None:
        self._is_closing = True
        self._client.stop()
        self._client.close()


class CorralService(Service):
    """Corral's own client, the blocking one."""

    kind = "corral"

    def __init__(self, address: str, session_s: float, journal: Journal) -> None:
        self._client = corral.sync.connect(
            address, session_timeout=session_s, connect_timeout=START_LIMIT_S, backoff_max=0.2
        )
        self._client.on_state(
            lambda state: journal.end_session("corral") if state is corral.State.LOST else None,
        )
        self._client.start()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (NoNodeError, NodeExistsError, BadVersionError) as error:
            raise RefusedError from error
        except (corral.ConnectionLoss, corral.SessionExpired, ClientClosedError) as error:
            raise UncertainError from error

    def create(self, path: str, data: bytes) -> None:
        with self._errors():
            self._client.create(path, data)

    def get(self, path: str) -> tuple[bytes, int]:
        with self._errors():
            znode = self._client.get(path)
        return znode.data, znode.stat.version

    def set(self, path: str, data: bytes, version: int) -> None:
        with self._errors():
            self._client.set(path, data, version=version)

    @property
    def session(self) -> int | None:
        session = self._client.session
        return session.id if session is not None else None

    def claim(self, path: str) -> tuple[int, int]:
        with self._errors():
            stat = self._client.exists(path)
        if stat is None:
            raise ClaimLostError
        return stat.czxid, stat.ephemeral_owner

    def commit(self, claim: str, verb: str, path: str, data: bytes, version: int) -> None:
        with self._errors():
            try:
                with self._client.transaction() as transaction:
                    transaction.check(claim)
                    match verb:
                        case "create":
                            transaction.create(path, data)
                        case "set":
                            transaction.set(path, data, version=version)
                        case _:
                            transaction.delete(path, version=version)
            except TransactionError as error:
                if error.index == 0:
                    raise ClaimLostError from error
                raise RefusedError from error

    def is_there(self, path: str) -> bool:
        with self._errors():
            self._client.sync(path)
            return self._client.exists(path) is not None

    @contextmanager
    def lock(self, path: str, name: str) -> Iterator[str | None]:
        dialect = recipes.CURATOR if path.endswith("curator") else recipes.KAZOO
        lock = recipes.Lock(self._client, path, name, dialect=dialect)
        held = None
        with self._errors(), suppress(TimeoutError):
            held = lock.acquire(timeout=LOCK_LIMIT_S)
        try:
            yield held.path if held is not None else None
        finally:
            if held is not None:
                with self._errors():
                    held.release()

    def close(self) -> None:
        self._client.close()


class Workers:
    """Threads that work with one client until they are told to end."""

    def __init__(self, service: Service, journal: Journal, ending: threading.Event, locks: tuple[str, ...]) -> None:
        self._service = service
        self._journal = journal
        self._ending = ending
        tasks: list[tuple[Callable[..., None], str]] = [(self._create, "a"), (self._create, "b"), (self._count, "c")]
        tasks += [(self._own, lock) for lock in locks]
        self._threads = [
            threading.Thread(target=self._guard, args=task, name=f"{service.kind} {task[1]}", daemon=True)
            for task in tasks
        ]
        for thread in self._threads:
            thread.start()

    def join(self, limit_s: float) -> None:
        """Waits for their last deeds; who does not come to an end is written down."""
        give_up_at = time.monotonic() + limit_s
        for thread in self._threads:
            thread.join(max(0.0, give_up_at - time.monotonic()))
            if thread.is_alive():
                self._journal.complain(f"{thread.name} has hung for {limit_s} s")

    def _guard(self, work: Callable[[str], None], what: str) -> None:
        try:
            work(what)
        except Exception:
            self._journal.complain(f"{threading.current_thread().name} failed: {traceback.format_exc()}")

    def _create(self, letter: str) -> None:
        number = 0
        while not self._ending.wait(PAUSE_S):
            path = f"{WORK}/{self._service.kind}-{letter}/{number}"
            number += 1
            try:
                self._service.create(path, path.encode())
            except UncertainError:
                self._journal.create(path, is_certain=False)
            else:
                self._journal.create(path, is_certain=True)

    def _count(self, _: str) -> None:
        while not self._ending.wait(PAUSE_S):
            try:
                data, version = self._service.get(COUNTER)
            except UncertainError:
                continue
            try:
                self._service.set(COUNTER, b"%d" % (int(data) + 1), version)
            except UncertainError:
                self._journal.count(is_certain=False)
            except RefusedError:
                continue
            else:
                self._journal.count(is_certain=True)

    def _own(self, lock: str) -> None:
        name = f"{self._service.kind}-{threading.get_ident()}"
        while not self._ending.wait(PAUSE_S):
            with suppress(UncertainError, ClaimLostError), self._service.lock(f"{LOCKS}/{lock}", name) as claim:
                if claim is not None:
                    self._hold(lock, name, claim)

    def _hold(self, lock: str, name: str, claim: str) -> None:
        """Writes into the service that the lock is held, and takes that away again, each only if it is."""
        path = f"{HOLDING}/{lock}"
        token, session = self._until_certain(lambda _: self._service.claim(claim))
        try:
            self._until_certain(lambda _: self._enter(path, claim))
            entered_ns = time.monotonic_ns()
            self._ending.wait(PAUSE_S)
            left_ns = time.monotonic_ns()
            self._until_certain(lambda is_repeated: self._leave(path, claim, is_repeated=is_repeated))
        except ClaimLostError:
            if self._service.session == session:
                self._journal.complain(f"{claim} is gone, its session is not")
            raise
        self._journal.hold(Hold(lock, name, token, entered_ns, left_ns))

    def _until_certain(self, step: Callable[[bool], Any]) -> Any:
        """Does it again until it is known whether it was done; the step is told whether that may have been before."""
        is_repeated = False
        give_up_at = time.monotonic() + END_LIMIT_S
        while time.monotonic() < give_up_at:
            try:
                return step(is_repeated)
            except UncertainError:
                is_repeated = True
                time.sleep(PAUSE_S)
        raise UncertainError

    def _enter(self, path: str, claim: str) -> None:
        try:
            self._service.commit(claim, "create", path, claim.encode(), -1)
        except RefusedError:
            data, version = self._service.get(path)
            if data == claim.encode():
                return
            # Who held it before has not left, so its claim must have ended with its session.
            if self._service.is_there(data.decode()):
                self._journal.complain(f"{claim} holds the lock, and {data.decode()} does too")
            self._service.commit(claim, "set", path, claim.encode(), version)

    def _leave(self, path: str, claim: str, *, is_repeated: bool) -> None:
        try:
            self._service.commit(claim, "delete", path, b"", -1)
        except RefusedError:
            if not is_repeated:
                self._journal.complain(f"somebody else entered while {claim} was there")


class JavaLoad:
    """A JVM that does the same with Apache's client, its locks with Curator's."""

    def __init__(self, address: str, session_s: float, journal: Journal, classes: Path) -> None:
        self._journal = journal
        command = ["java", *QUIET_JVM, "-cp", class_path(CURATOR_JARS, classes, HERE / "java"), "EnsembleLoad"]
        self._process = subprocess.Popen(
            [*command, address, str(int(session_s * 1000))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._reader = threading.Thread(target=self._read, name="java load", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._journal.read(line)

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    def join(self, limit_s: float) -> None:
        try:
            status: int | None = self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            status = None
        self._process.kill()
        self._process.wait()
        self._reader.join(limit_s)
        assert self._process.stdout is not None
        self._process.stdout.close()
        if status != 0:
            self._journal.complain(f"the Java program ended with {status}")


def compile_java(classes: Path) -> None:
    """Compiles the Java program into that directory."""
    source = str(HERE / "java" / "EnsembleLoad.java")
    lint = "-Xlint:all,-classfile"
    subprocess.run(["javac", "-d", str(classes), "-cp", class_path(CURATOR_JARS), lint, source], check=True)


class Load:
    """All of it, from `__enter__` to `end`, or `__exit__` at the latest."""

    def __init__(self, address: str, session_s: float, classes: Path) -> None:
        self.journal = Journal()
        self._address = address
        self._session_s = session_s
        self._classes = classes
        self._ending = threading.Event()
        self._services: list[Service] = []
        self._workers: list[Workers] = []
        self._java: JavaLoad | None = None

    def __enter__(self) -> Self:
        with corral.sync.connect(self._address, connect_timeout=START_LIMIT_S) as zk:
            for parent in (
                HOLDING,
                LOCKS,
                *(f"{WORK}/{kind}-{x}" for kind in ("kazoo", "corral", "java") for x in "ab"),
            ):
                zk.ensure(parent)
            zk.create(COUNTER, b"0")
        try:
            for make, locks in ((KazooService, ("kazoo", "kazoo")), (CorralService, ("kazoo", "curator"))):
                service = make(self._address, self._session_s, self.journal)
                self._services.append(service)
                self._workers.append(Workers(service, self.journal, self._ending, locks))
            self._java = JavaLoad(self._address, self._session_s, self.journal, self._classes)
        except BaseException:
            self._finish(0.0)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._finish(END_LIMIT_S if error is None else 1.0)

    def end(self) -> None:
        """Lets what is under way come to its end; the ensemble must serve."""
        self._finish(END_LIMIT_S)

    def _finish(self, limit_s: float) -> None:
        self._ending.set()
        if self._java is not None:
            self._java.end()
        for workers in self._workers:
            workers.join(limit_s)
        if self._java is not None:
            self._java.join(limit_s)
        for service in self._services:
            service.close()
        self._workers, self._services, self._java = [], [], None
