"""The protocol's error codes and the exceptions that stand for them (source: KeeperException.Code)."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class ErrorCode(IntEnum):
    """What a reply header's ``err`` means."""

    OK = 0
    SYSTEM_ERROR = -1
    RUNTIME_INCONSISTENCY = -2
    DATA_INCONSISTENCY = -3
    CONNECTION_LOSS = -4
    MARSHALLING_ERROR = -5
    UNIMPLEMENTED = -6
    OPERATION_TIMEOUT = -7
    BAD_ARGUMENTS = -8
    UNKNOWN_SESSION = -12
    NEW_CONFIG_NO_QUORUM = -13
    RECONFIG_IN_PROGRESS = -14
    API_ERROR = -100
    NO_NODE = -101
    NO_AUTH = -102
    BAD_VERSION = -103
    NO_CHILDREN_FOR_EPHEMERALS = -108
    NODE_EXISTS = -110
    NOT_EMPTY = -111
    SESSION_EXPIRED = -112
    INVALID_CALLBACK = -113
    INVALID_ACL = -114
    AUTH_FAILED = -115
    SESSION_MOVED = -118
    NOT_READ_ONLY = -119
    EPHEMERAL_ON_LOCAL_SESSION = -120
    NO_WATCHER = -121
    REQUEST_TIMEOUT = -122
    RECONFIG_DISABLED = -123
    SESSION_CLOSED_REQUIRE_SASL_AUTH = -124
    QUOTA_EXCEEDED = -125
    THROTTLED_OP = -127


class KeeperError(Exception):
    """An operation refused by the protocol's rules. ``code`` is what goes on the wire."""

    code: ErrorCode = ErrorCode.SYSTEM_ERROR

    def __init__(self, message: str = "") -> None:
        super().__init__(message or self.code.name.replace("_", " ").lower())


class RuntimeInconsistencyError(KeeperError):
    """Inside a transaction: not done, because another operation failed before."""

    code = ErrorCode.RUNTIME_INCONSISTENCY


class DataInconsistencyError(KeeperError):
    code = ErrorCode.DATA_INCONSISTENCY


class ConnectionLoss(KeeperError):  # noqa: N818 - the field's name for how a call may end
    """The connection broke before the answer came: the operation may or may not have been done."""

    code = ErrorCode.CONNECTION_LOSS


class MarshallingError(KeeperError):
    code = ErrorCode.MARSHALLING_ERROR


class UndecodableError(MarshallingError):
    """The request's bytes are no request: unlike other refused writes it takes no zxid."""


class UnimplementedError(KeeperError):
    code = ErrorCode.UNIMPLEMENTED


class OperationTimeoutError(KeeperError):
    code = ErrorCode.OPERATION_TIMEOUT


class BadArgumentsError(KeeperError):
    code = ErrorCode.BAD_ARGUMENTS


class NewConfigNoQuorumError(KeeperError):
    code = ErrorCode.NEW_CONFIG_NO_QUORUM


class ReconfigInProgressError(KeeperError):
    code = ErrorCode.RECONFIG_IN_PROGRESS


class NoNodeError(KeeperError):
    code = ErrorCode.NO_NODE


class NoAuthError(KeeperError):
    code = ErrorCode.NO_AUTH


class BadVersionError(KeeperError):
    code = ErrorCode.BAD_VERSION


class NoChildrenForEphemeralsError(KeeperError):
    code = ErrorCode.NO_CHILDREN_FOR_EPHEMERALS


class NodeExistsError(KeeperError):
    code = ErrorCode.NODE_EXISTS


class NotEmptyError(KeeperError):
    code = ErrorCode.NOT_EMPTY


class SessionExpired(KeeperError):  # noqa: N818 - the field's name for how a call may end
    """The session has ended: its ephemeral znodes are gone, its watches too."""

    code = ErrorCode.SESSION_EXPIRED


class InvalidAclError(KeeperError):
    code = ErrorCode.INVALID_ACL


class AuthFailedError(KeeperError):
    code = ErrorCode.AUTH_FAILED


class SessionMovedError(KeeperError):
    code = ErrorCode.SESSION_MOVED


class NotReadOnlyError(KeeperError):
    """Asked of a read-only server, which does not do that."""

    code = ErrorCode.NOT_READ_ONLY


class EphemeralOnLocalSessionError(KeeperError):
    """The session is known to one server only, which does not make it one of the ensemble: it can own nothing."""

    code = ErrorCode.EPHEMERAL_ON_LOCAL_SESSION


class NoWatcherError(KeeperError):
    code = ErrorCode.NO_WATCHER


class RequestTimeoutError(KeeperError):
    code = ErrorCode.REQUEST_TIMEOUT


class ReconfigDisabledError(KeeperError):
    code = ErrorCode.RECONFIG_DISABLED


class AuthenticationRequiredError(KeeperError):
    """The server serves nobody who has not authenticated."""

    code = ErrorCode.SESSION_CLOSED_REQUIRE_SASL_AUTH


class QuotaExceededError(KeeperError):
    code = ErrorCode.QUOTA_EXCEEDED


class ThrottledError(KeeperError):
    """The server has too much to do and dropped the request."""

    code = ErrorCode.THROTTLED_OP


ERRORS_BY_CODE: Final[dict[int, type[KeeperError]]] = {int(error.code): error for error in KeeperError.__subclasses__()}
"""The exception class of each code that has one."""


def error_of(code: int, message: str) -> KeeperError:
    """The exception that stands for ``code``; for a code that no class has, a plain one that names the number."""
    kind = ERRORS_BY_CODE.get(code)
    if kind is not None:
        return kind(f"{message}: {kind.code.name.replace('_', ' ').lower()}")
    return KeeperError(f"{message}: error {code}")
