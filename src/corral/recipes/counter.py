"""Values in one znode that many change at once: every change sees what the one before it has left.

The data is what kazoo's Counter writes, or on request what Curator's SharedCount and DistributedAtomicLong write.
Receipts (see :mod:`corral.recipes.receipts`) are ephemeral children of the znode.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from enum import Enum
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from corral.client.errors import BadVersionError, NodeExistsError, NoNodeError, TransactionError
from corral.recipes.endurance import endure
from corral.recipes.receipts import Receipts

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from corral.client import Client, Transaction

_T = TypeVar("_T")

_INT32: Final = struct.Struct(">i")
_INT64: Final = struct.Struct(">q")


class Reading(NamedTuple, Generic[_T]):
    """A value as it was read."""

    value: _T
    version: int
    """Of the znode; -1 if there is none yet."""


class Change(NamedTuple, Generic[_T]):
    """A change that has been made."""

    before: _T
    after: _T
    version: int
    """Of the znode, from this change until the next one."""
    zxid: int
    """Of the transaction: larger than that of every change before."""


class AtomicValue(ABC, Generic[_T]):
    """A value that is changed by compare-and-set on the version of its znode.

    All changes are made exactly once over lost connections. If the session ends at the moment of a change they raise
    ConnectionLoss: it may have been made or not. So it is when one is cancelled.
    """

    def __init__(self, zk: Client, path: str, start: _T) -> None:
        """Prepare it; nothing is sent. The first change creates the znode; until then the value is ``start``."""
        zk.key(path)
        self._zk = zk
        self.path = path
        self._encode(start)
        self._start = start
        self._receipts = Receipts(zk, path)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path}>"

    async def close(self) -> None:
        """Clean up behind this object; the value stays. Without it, the end of the session does so."""
        await self._receipts.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def get(self) -> Reading[_T]:
        """The value, as the client's server knows it. Raises ValueError if the data is no such value."""
        try:
            data, stat = await endure(self._zk, lambda: self._zk.get(self.path))
        except NoNodeError:
            return Reading(self._start, -1)
        if not data:
            # As kazoo leaves a counter that nobody has counted on yet.
            return Reading(self._start, stat.version)
        try:
            return Reading(self._decode(data), stat.version)
        except ValueError as error:
            raise ValueError(f"{self.path}: {data[:40]!r} is not a value of {type(self).__name__}: {error}") from None

    async def set(self, value: _T) -> Change[_T]:
        """Replace it by ``value``, whatever it is; the result tells what it was."""
        return await self.update(lambda _: value)

    async def compare_and_set(self, expected: _T, value: _T) -> Change[_T] | None:
        """Replace it by ``value`` if it is ``expected``; None if it is not."""
        self._encode(value)

        def decide(before: _T) -> _T:
            if before != expected:
                raise _UnexpectedError
            return value

        try:
            return await self.update(decide)
        except _UnexpectedError:
            return None

    async def update(self, function: Callable[[_T], _T]) -> Change[_T]:
        """Replace it by ``function`` of it.

        The function is called again with the newer value when somebody else is faster, so it should do nothing else.
        What it raises ends the update, with nothing changed.
        """
        while True:
            before, version = await self.get()
            data = self._encode(after := function(before))
            if version < 0:
                await self._create()
                continue
            try:
                zxid = await self._receipts.commit(self._setting(data, version))
            except TransactionError as error:
                if not isinstance(error.__cause__, (BadVersionError, NoNodeError)):
                    raise error.__cause__ or error from None
            else:
                return Change(before, after, version + 1, zxid)

    def _setting(self, data: bytes, version: int) -> Callable[[Transaction], None]:
        return lambda transaction: transaction.set(self.path, data, version=version)

    async def _create(self) -> None:
        async def create() -> None:
            try:
                await self._zk.create(self.path, self._encode(self._start), parents=True)
            except NodeExistsError:
                return

        await endure(self._zk, create)

    @abstractmethod
    def _encode(self, value: _T) -> bytes:
        """Raises TypeError and ValueError for what is no value."""

    @abstractmethod
    def _decode(self, data: bytes) -> _T:
        """Raises ValueError for what is none."""


class _UnexpectedError(Exception):
    """The value is not the expected one."""


class Layout(Enum):
    """How a counter stands in its znode."""

    DECIMAL = "decimal"
    """Digits, of any number: kazoo's Counter."""
    INT32 = "int32"
    """Four bytes, the highest first: Curator's SharedCount and DistributedAtomicInteger."""
    INT64 = "int64"
    """Eight bytes: Curator's DistributedAtomicLong."""


class Counter(AtomicValue[int]):
    """A whole number::

    counter = corral.recipes.Counter(zk, "/visits")
    change = await counter.add()
    print(change.before, change.after)
    """

    def __init__(self, zk: Client, path: str, start: int = 0, *, layout: Layout = Layout.DECIMAL) -> None:
        """Prepare it; nothing is sent. All that use the counter give the same ``layout``."""
        self._layout = layout
        super().__init__(zk, path, start)

    async def add(self, amount: int = 1) -> Change[int]:
        """Add ``amount``, which may be negative. Raises ValueError if the result does not fit the layout."""
        self._check(amount)
        return await self.update(lambda before: before + amount)

    def _check(self, value: int) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{self.path}: a counter counts in int, not in {value!r}")

    def _encode(self, value: int) -> bytes:
        self._check(value)
        try:
            match self._layout:
                case Layout.INT32:
                    return _INT32.pack(value)
                case Layout.INT64:
                    return _INT64.pack(value)
                case _:
                    return b"%d" % value
        except struct.error:
            raise ValueError(f"{self.path}: {value} does not fit in {self._layout.value}") from None

    def _decode(self, data: bytes) -> int:
        if self._layout is Layout.DECIMAL:
            return int(data)
        number = _INT32 if self._layout is Layout.INT32 else _INT64
        if len(data) != number.size:
            raise ValueError(f"{len(data)} bytes")
        value: int = number.unpack(data)[0]
        return value


class AtomicFloat(AtomicValue[float]):
    """A floating-point number, as kazoo's Counter of floats writes it."""

    def __init__(self, zk: Client, path: str, start: float = 0.0) -> None:
        super().__init__(zk, path, start)

    async def add(self, amount: float) -> Change[float]:
        """Add ``amount``, which may be negative."""
        self._encode(amount)
        return await self.update(lambda before: before + amount)

    def _encode(self, value: float) -> bytes:
        if not isinstance(value, (float, int)) or isinstance(value, bool):
            raise TypeError(f"{self.path}: a value is a float, not {value!r}")
        return repr(float(value)).encode()

    def _decode(self, data: bytes) -> float:
        return float(data)


class AtomicBytes(AtomicValue[bytes]):
    """Any data."""

    def __init__(self, zk: Client, path: str) -> None:
        """Prepare it; nothing is sent. It is empty until it is set."""
        super().__init__(zk, path, b"")

    def _encode(self, value: bytes) -> bytes:
        if not isinstance(value, bytes):
            raise TypeError(f"{self.path}: a value is bytes, not {value!r}")
        return value

    def _decode(self, data: bytes) -> bytes:
        return data
