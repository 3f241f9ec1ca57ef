"""Typed configuration in a znode, with its history.

The newest value is the data of ``path``, as the codec writes it: any other client can read it, and set it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar, cast
from weakref import WeakSet

from corral.client import OPEN
from corral.client.errors import NodeExistsError, NoNodeError
from corral.recipes.endurance import Reconciler, endure
from corral.recipes.history import History
from corral.recipes.listeners import Listeners

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from types import TracebackType
    from typing import Self

    from corral.client import Acl, Client, Znode
    from corral.recipes.codecs import Codec
    from corral.recipes.history import Entry

_T = TypeVar("_T")

HISTORY: Final = 20
"""Versions that are kept unless the program says otherwise."""

log = logging.getLogger("corral.recipes")


class InvalidConfigurationError(ValueError):
    """A value is not what the codec or the validation accepts; ``__cause__`` is what it said."""


@dataclass(frozen=True, slots=True)
class Revision(Generic[_T]):
    """One version in the history."""

    version: int
    data: bytes
    value: _T | None
    """None if it cannot be decoded or is not valid; ``error`` says why."""
    error: Exception | None
    zxid: int
    """Of the transaction that published it, or noted it down later: see ``author``."""
    published: datetime
    author: str
    """As its publisher said; empty for a value that was set by other means and noted down by the next publisher."""
    note: str


class ConfigurationChangeKind(Enum):
    """What became of a configuration."""

    PUBLISHED = "published"
    """There is a new value, and it is in force."""
    REJECTED = "rejected"
    """Somebody set a value that is not valid; the one before stays in force in this process."""
    REMOVED = "removed"
    """The znode was deleted; the value before stays in force in this process."""


@dataclass(frozen=True, slots=True)
class ConfigurationChange(Generic[_T]):
    """What happened, and the value in force since then."""

    kind: ConfigurationChangeKind
    version: int | None
    """Of what happened; None for a removal."""
    value: _T
    previous: _T
    """In force before."""
    error: Exception | None = None
    """Why it was rejected."""


class _InForce(NamedTuple):
    value: Any
    version: int | None
    zxid: int


class Configuration(Generic[_T]):
    """A configuration object that every process has in memory, and that anyone may publish anew.

        async with Configuration(zk, "/config/web", DataclassCodec(Limits), validate=check) as limits:
            limits.value.requests_per_second
            async for change in limits.changes():
                ...

    A running process takes each valid value as soon as its watch fires, and keeps it over lost connections and
    sessions. A value that is not valid, set by whatever means, never takes the place of a good one: the change is
    told as REJECTED. A process that starts while the current value is not valid takes the newest valid one of the
    history, else ``default``.

    Publishing validates first, and is atomic with the entry in the history. :meth:`publish`, :meth:`rollback` and
    :meth:`history` need no start. They ride out lost connections and sessions: what they raise otherwise is certain.
    Cancelled, a publication may or may not have been done.
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
        zk.key(path)
        if history < 1:
            raise ValueError(f"history={history}: at least the current version is kept")
        if path == "/":
            raise ValueError("a configuration needs a znode of its own, not /")
        self._zk = zk
        self.path = path
        self._codec = codec
        self._validate = validate
        self._default = default
        self._history = History(zk, path, history, acl)
        self.author = author
        self._in_force: _InForce | None = None
        self._seen_zxid: int | None = None
        self.rejected: Exception | None = None
        """Why the value that is published now is not in force in this process; None if it is."""
        self._listeners: Listeners[ConfigurationChange[_T]] = Listeners(self)
        self._iterators: WeakSet[_Changes[_T]] = WeakSet()
        self._reconciler = Reconciler(zk, self._read, f"configuration {path}", self._end_iterators)
        self._watch = zk.watch(path, callback=self._reconciler.wake)

    def __repr__(self) -> str:
        version = self._in_force.version if self._in_force is not None else None
        return f"<Configuration {self.path}, version {version} in force>"

    # Life

    async def start(self) -> Self:
        """Read it and watch it; ``async with`` does so by itself.

        Raises:
            NoNodeError: nothing has been published, and there is no default.
            InvalidConfigurationError: nothing valid has been published, and there is no default.
        """
        try:
            if self._default is not None:
                self._check(self._default)
            await self._reconciler.start(lambda: self._in_force is not None)
        except BaseException:
            await self._watch.close()
            raise
        return self

    async def close(self) -> None:
        """Watch it no more; the value stays readable."""
        await self._reconciler.close()
        await self._watch.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # Reading

    @property
    def value(self) -> _T:
        """The value in force."""
        return cast("_T", self._expect().value)

    @property
    def version(self) -> int | None:
        """Its version; None for the default."""
        return self._expect().version

    @property
    def zxid(self) -> int:
        """Of the transaction that set it; -1 for the default."""
        return self._expect().zxid

    def _expect(self) -> _InForce:
        if self._in_force is None:
            raise RuntimeError(f"configuration {self.path}: not started")
        return self._in_force

    async def refresh(self) -> None:
        """Wait until all that had been published when this was called is in force, or rejected."""
        await endure(self._zk, lambda: self._zk.sync(self.path))
        await self._reconciler.settle()

    # Changes

    def on_change(self, callback: Callable[[ConfigurationChange[_T]], object]) -> None:
        """Call ``callback`` with each change, once it is in force."""
        self._listeners.add(callback)

    def off_change(self, callback: Callable[[ConfigurationChange[_T]], object]) -> None:
        """Do so no more."""
        self._listeners.remove(callback)

    def changes(self) -> AsyncIterator[ConfigurationChange[_T]]:
        """Each change from now on. A reader that is slower than the publishers gets the newest of each kind.

        Ends when the configuration or the client is closed.
        """
        changes: _Changes[_T] = _Changes()
        self._iterators.add(changes)
        if not self._reconciler.is_running:
            changes.end()
        return changes

    def _tell(self, change: ConfigurationChange[_T]) -> None:
        self._listeners.tell(change)
        for changes in tuple(self._iterators):
            changes.put(change)

    def _end_iterators(self) -> None:
        for changes in tuple(self._iterators):
            changes.end()

    # Following

    async def _read(self) -> None:
        await self._watch.start()
        try:
            znode = await self._zk.get(self.path)
        except NoNodeError as error:
            if self._in_force is None:
                if self._default is None:
                    raise NoNodeError(f"configuration {self.path}: nothing has been published") from error
                self._in_force = _InForce(self._default, None, -1)
            elif self._seen_zxid is not None:
                value = self.value
                self._tell(ConfigurationChange(ConfigurationChangeKind.REMOVED, None, value, value))
            self._seen_zxid = None
            return
        if znode.stat.mzxid != self._seen_zxid:
            await self._take(znode)
            self._seen_zxid = znode.stat.mzxid

    async def _take(self, znode: Znode) -> None:
        version, zxid = znode.stat.version, znode.stat.mzxid
        try:
            value = self._parse(znode.data)
        except InvalidConfigurationError as error:
            log.error("configuration %s: version %d is not used: %s", self.path, version, error)  # noqa: TRY400
            await self._reject(version, error)
            return
        self.rejected = None
        previous, self._in_force = self._in_force, _InForce(value, version, zxid)
        if previous is not None:
            self._tell(ConfigurationChange(ConfigurationChangeKind.PUBLISHED, version, value, previous.value))

    async def _reject(self, version: int, error: InvalidConfigurationError) -> None:
        if self._in_force is None:
            fallback = await self._newest_valid()
            if fallback is None and self._default is None:
                raise error
            self._in_force = fallback or _InForce(self._default, None, -1)
        self.rejected = error
        self._tell(ConfigurationChange(ConfigurationChangeKind.REJECTED, version, self.value, self.value, error))

    async def _newest_valid(self) -> _InForce | None:
        for revision in reversed(await self._revisions()):
            if revision.error is None:
                return _InForce(revision.value, revision.version, revision.zxid)
        return None

    # Validity

    def _check(self, value: _T) -> bytes:
        try:
            data = self._codec.encode(value)
            if self._validate is not None:
                self._validate(value)
        except Exception as error:
            raise InvalidConfigurationError(f"configuration {self.path}: {error}") from error
        return data

    def _parse(self, data: bytes) -> _T:
        try:
            value = self._codec.decode(data)
            if self._validate is not None:
                self._validate(value)
        except Exception as error:
            raise InvalidConfigurationError(f"configuration {self.path}: {error}") from error
        return value

    # Publishing

    async def publish(self, value: _T, *, version: int | None = None, note: str = "") -> int:
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
        data = self._check(value)
        return await self._history.publish(data, version=version, author=self.author, note=note)

    async def initialise(self, value: _T, *, note: str = "") -> bool:
        """Publish ``value`` if nothing has been published; returns whether it was this call that did."""
        data = self._check(value)
        try:
            await self._history.publish(data, version=None, author=self.author, note=note, must_be_new=True)
        except NodeExistsError:
            return False
        return True

    async def rollback(self, to: int, *, version: int | None = None, note: str = "") -> int:
        """Publish anew what version ``to`` was; returns the new version. It is validated as of now.

        Raises:
            LookupError: ``to`` is not in the history any more, or never was.
            InvalidConfigurationError, BadVersionError: as :meth:`publish`.
        """
        revision = next((each for each in await self.history() if each.version == to), None)
        if revision is None:
            raise LookupError(f"configuration {self.path}: version {to} is not in the history")
        if revision.error is not None:
            raise revision.error
        note = note or f"rollback to {to}"
        return await self._history.publish(revision.data, version=version, author=self.author, note=note)

    # History

    async def history(self) -> list[Revision[_T]]:
        """The versions that are kept, the oldest first; empty if nothing has been published."""
        return await endure(self._zk, self._revisions)

    async def _revisions(self) -> list[Revision[_T]]:
        return [self._revision(entry) for entry in await self._history.entries()]

    def _revision(self, entry: Entry) -> Revision[_T]:
        value: _T | None = None
        error: Exception | None = None
        try:
            value = self._parse(entry.data)
        except InvalidConfigurationError as invalid:
            error = invalid
        published = datetime.fromtimestamp(entry.stat.ctime / 1000, UTC)
        return Revision(entry.version, entry.data, value, error, entry.stat.czxid, published, entry.author, entry.note)


class _Changes(Generic[_T]):
    """One reader's newest changes: one of each kind at most, however slow the reader is."""

    def __init__(self) -> None:
        self._waiting: dict[ConfigurationChangeKind, ConfigurationChange[_T]] = {}
        self._arrival = asyncio.Event()
        self._is_over = False

    def put(self, change: ConfigurationChange[_T]) -> None:
        # Taken out first, so that it comes after what happened before it.
        self._waiting.pop(change.kind, None)
        self._waiting[change.kind] = change
        self._arrival.set()

    def end(self) -> None:
        self._is_over = True
        self._arrival.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ConfigurationChange[_T]:
        while not self._waiting:
            if self._is_over:
                raise StopAsyncIteration
            self._arrival.clear()
            await self._arrival.wait()
        return self._waiting.pop(next(iter(self._waiting)))
