"""Several writes that are done together or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from corral.client.errors import KeeperError, RuntimeInconsistencyError, TransactionError
from corral.client.multi import add_operation, decode_results, finish
from corral.client.results import OPEN, Created, Stat
from corral.jute.ops import CHECK, DELETE, MULTI, SET_DATA

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from corral.client.client import Client
    from corral.client.results import Acl


class Transaction:
    """Collects writes; leaving the ``async with`` block without an exception commits them.

        async with zk.transaction() as t:
            t.check("/config", version=4)
            t.set("/config", b"new")
            t.create("/config/history-", b"old", sequential=True)
        path = t.results[2]

    ``results`` then has what each would have returned: the path of a new znode, the stat of a changed one, None.

    Raises on commit:
        TransactionError: nothing has been done; tells which operation was refused, and why.
        ConnectionLoss: all has been done, or nothing.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._body = bytearray()
        self._paths: list[str] = []
        self._is_over = False
        self.results: list[Created | Stat | None] = []

    def __repr__(self) -> str:
        return f"<Transaction of {len(self._paths)} operations{', over' if self._is_over else ''}>"

    def __len__(self) -> int:
        return len(self._paths)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self._is_over:
            await self.commit()
        self._is_over = True

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
        code, body = self._client.encode_create(
            path, data, acl=acl, ephemeral=ephemeral, sequential=sequential, container=container, ttl=ttl
        )
        self._add(code, body, path)

    def set(self, path: str, data: bytes, *, version: int | None = None) -> None:
        """Add a change of a znode's data."""
        self._add(SET_DATA, self._client.encode_set(path, data, version), path)

    def delete(self, path: str, *, version: int | None = None) -> None:
        """Add the deletion of a znode."""
        self._add(DELETE, self._client.encode_versioned(path, version), path)

    def check(self, path: str, *, version: int | None = None) -> None:
        """Add a condition: the znode exists, and its data has that version."""
        self._add(CHECK, self._client.encode_versioned(path, version), path)

    async def commit(self) -> list[Created | Stat | None]:
        """Do it all; the ``async with`` block does so by itself.

        Raises TransactionError, and then nothing has been done; ConnectionLoss, and then all of it or nothing has been;
        SessionExpired; RequestTooLargeError.
        """
        if self._is_over:
            raise RuntimeError("the transaction is over; begin another one")
        self._is_over = True
        if not self._paths:
            return self.results
        what = f"transaction of {len(self._paths)}"
        outcome = await self._client.submit(MULTI, finish(self._body), self._decode, what, repeatable=False)
        failed = [(index, error) for index, error in enumerate(outcome) if isinstance(error, KeeperError)]
        if failed:
            # All of them have one, but for the others it is only that this one failed.
            cause = next((each for each in failed if not isinstance(each[1], RuntimeInconsistencyError)), failed[0])
            index, error = cause
            raise TransactionError(f"operation {index} of {len(outcome)}: {error}", index, outcome) from error
        self.results.extend(outcome)
        return self.results

    def _add(self, code: int, body: bytes, path: str) -> None:
        if self._is_over:
            raise RuntimeError("the transaction is over; begin another one")
        add_operation(self._body, code, body)
        self._paths.append(path)

    def _decode(self, frame: bytes, start: int, end: int) -> list[Any]:
        return decode_results(frame, start, end, self._paths, self._client.shown)
