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


class MarshallingError(KeeperError):
    code = ErrorCode.MARSHALLING_ERROR


class UndecodableError(MarshallingError):
    """The request's bytes are no request: unlike other refused writes it takes no zxid."""


class UnimplementedError(KeeperError):
    code = ErrorCode.UNIMPLEMENTED


class BadArgumentsError(KeeperError):
    code = ErrorCode.BAD_ARGUMENTS


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


class SessionExpiredError(KeeperError):
    code = ErrorCode.SESSION_EXPIRED


class InvalidAclError(KeeperError):
    code = ErrorCode.INVALID_ACL


class NoWatcherError(KeeperError):
    code = ErrorCode.NO_WATCHER


class ReconfigDisabledError(KeeperError):
    code = ErrorCode.RECONFIG_DISABLED


class QuotaExceededError(KeeperError):
    code = ErrorCode.QUOTA_EXCEEDED


ERRORS_BY_CODE: Final[dict[int, type[KeeperError]]] = {int(error.code): error for error in KeeperError.__subclasses__()}
"""The exception class of each code that has one."""
