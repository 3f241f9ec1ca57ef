"""What a call may raise: the protocol's errors, and those of the client's own making.

Every call ends in one of these ways: its result; an error that the server answered; :class:`ConnectionLoss` (the
operation may or may not have been done; certainly not if it is :class:`NotSent`); :class:`SessionExpired`;
:class:`ClientClosedError`; its own cancellation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from corral.jute.errors import (
    AuthenticationRequiredError,
    AuthFailedError,
    BadArgumentsError,
    BadVersionError,
    ConnectionLoss,
    EphemeralOnLocalSessionError,
    ErrorCode,
    InvalidAclError,
    KeeperError,
    NewConfigNoQuorumError,
    NoAuthError,
    NoChildrenForEphemeralsError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    NotReadOnlyError,
    NoWatcherError,
    QuotaExceededError,
    ReconfigDisabledError,
    ReconfigInProgressError,
    RuntimeInconsistencyError,
    SessionExpired,
    ThrottledError,
    UnimplementedError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AuthFailedError",
    "AuthenticationRequiredError",
    "BadArgumentsError",
    "BadVersionError",
    "ClientClosedError",
    "ConnectionLoss",
    "EphemeralOnLocalSessionError",
    "ErrorCode",
    "InvalidAclError",
    "KeeperError",
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
    "SessionExpired",
    "ThrottledError",
    "TransactionError",
    "UnimplementedError",
]


class NotSent(ConnectionLoss):
    """There was no connection in time, and nothing was sent: the operation has certainly not been done."""


class ClientClosedError(RuntimeError):
    """The client has been closed, or was never started."""


class RequestTooLargeError(ValueError):
    """The request is larger than a server accepts (``jute.maxbuffer``); nothing was sent."""


class ReplyTooLargeError(RuntimeError):
    """The answer is larger than this client accepts (``max_reply_bytes``); the connection goes on."""


class TransactionError(KeeperError):
    """A transaction failed as a whole: none of its operations has been done.

    ``__cause__`` is the error of the operation that failed.
    """

    def __init__(self, message: str, index: int, results: Sequence[object]) -> None:
        super().__init__(message)
        self.index = index
        """Which operation failed, counted from 0."""
        self.results = list(results)
        """An exception for each operation."""
