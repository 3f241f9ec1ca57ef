"""Transactions that are done exactly once: a receipt tells, after a lost connection, whether one was done.

The receipt is an ephemeral znode of this client. A transaction creates it, the next one sets it, conditionally on its
version, together with what it is about. When the reply is lost, the receipt's version says what happened; and a
request that is still on its way cannot be done beside its repetition, because both ask for the same version.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any, Final

from corral.client.errors import (
    BadVersionError,
    ConnectionLoss,
    NodeExistsError,
    NoNodeError,
    NotReadOnlyError,
    NotSent,
    SessionExpired,
    TransactionError,
)
from corral.client.results import Created, Stat
from corral.recipes.endurance import endure, withdraw, writable

if TYPE_CHECKING:
    from collections.abc import Callable

    from corral.client import Client, Transaction

LOSSES_MAX: Final = 10
"""Connections that one transaction may break. A server closes the connection upon what is too large for it, always."""


class _Receipt:
    """One receipt; it serves one transaction at a time."""

    __slots__ = ("path", "version")

    def __init__(self, parent: str) -> None:
        self.renew(parent)

    def renew(self, parent: str) -> None:
        """Become another one, that does not exist yet."""
        self.path = f"{parent}/receipt-{secrets.token_hex(16)}"
        self.version: int | None = None
        """As the last transaction left it; None while there is no znode yet."""

    @property
    def next_version(self) -> int:
        return 0 if self.version is None else self.version + 1


class Receipts:
    """The receipts of one recipe, below a znode of its own."""

    def __init__(self, zk: Client, parent: str) -> None:
        self._zk = zk
        self._parent = parent
        self._free: list[_Receipt] = []

    def __repr__(self) -> str:
        return f"<Receipts below {self._parent}, {len(self._free)} free>"

    async def close(self) -> None:
        """Delete the receipts; those that are left end with the session."""
        free, self._free = self._free, []
        await asyncio.gather(*[withdraw(self._zk, each.path) for each in free if each.version is not None])

    async def commit(self, fill: Callable[[Transaction], None]) -> int:
        """Do what ``fill`` adds to a transaction, exactly once; returns its zxid.

        It goes on over lost connections, and into the next session as long as nothing has been sent in the last one.
        Cancelled, it may have been done or not.

        Raises:
            TransactionError: nothing has been done; ``index`` counts the operations that ``fill`` has added.
            ConnectionLoss: the session has ended just then, or connections break again and again: it may have been
                done or not.
        """
        receipt = self._free.pop() if self._free else _Receipt(self._parent)
        try:
            zxid = await self._commit(receipt, fill)
        except (TransactionError, ValueError, TypeError):
            # Nothing has been done, so that its version is known.
            self._free.append(receipt)
            raise
        except asyncio.CancelledError:
            # Sent behind the transaction. If it does not arrive, the receipt ends with the session.
            asyncio.ensure_future(self._zk.delete(receipt.path)).add_done_callback(ignore_outcome)
            raise
        self._free.append(receipt)
        return zxid

    async def _commit(self, receipt: _Receipt, fill: Callable[[Transaction], None]) -> int:
        zk = self._zk
        losses = 0
        while True:
            session = zk.session
            transaction = zk.transaction()
            if receipt.version is None:
                transaction.create(receipt.path, ephemeral=True)
            else:
                transaction.set(receipt.path, b"", version=receipt.version)
            fill(transaction)
            try:
                stat = _stat(await transaction.commit())
            except (NotSent, SessionExpired):
                await zk.connected()
                continue
            except NotReadOnlyError:
                await writable(zk)
                continue
            except ConnectionLoss as error:
                losses += 1
                found = await endure(zk, lambda: zk.exists(receipt.path))
                if found is None and (receipt.version is not None or session is None or session.has_ended):
                    raise ConnectionLoss(f"{error}; the session has ended: it may have been done or not") from error
                if found is None or found.version != receipt.next_version:
                    if losses == LOSSES_MAX:
                        raise
                    continue
                stat = found
            except TransactionError as error:
                if error.index:
                    raise TransactionError(
                        str(error.__cause__), error.index - 1, error.results[1:]
                    ) from error.__cause__
                settled = await self._settle(receipt, error, is_in_doubt=losses > 0)
                if settled is None:
                    continue
                stat = settled
            receipt.version = stat.version
            return stat.mzxid

    async def _settle(self, receipt: _Receipt, error: TransactionError, *, is_in_doubt: bool) -> Stat | None:
        """The receipt itself was refused: its stat if an earlier attempt has done it all, None to try again."""
        match error.__cause__:
            case NodeExistsError() | BadVersionError() if is_in_doubt:
                found = await endure(self._zk, lambda: self._zk.exists(receipt.path))
                if found is None:
                    raise ConnectionLoss(f"{receipt.path}: the session has ended: it may have been done") from error
                return found
            case NoNodeError() if receipt.version is None:
                await endure(self._zk, lambda: self._zk.ensure(self._parent))
            case NoNodeError() if is_in_doubt:
                raise ConnectionLoss(f"{receipt.path}: the session has ended: it may have been done or not") from error
            case NoNodeError() | NodeExistsError() | BadVersionError():
                # It ended with an earlier session, or somebody else has meddled with it.
                receipt.renew(self._parent)
            case _:
                raise TransactionError(str(error.__cause__), 0, error.results[1:]) from error.__cause__
        return None


def _stat(results: list[Created | Stat | None]) -> Stat:
    first = results[0]
    if isinstance(first, Created):
        return first.stat
    assert isinstance(first, Stat)
    return first


def ignore_outcome(future: asyncio.Future[Any]) -> None:
    """Let nobody be told of a failure that does not matter: fit to be a callback."""
    if not future.cancelled():
        future.exception()
