"""The sentences in which zkCli reports the errors of the protocol (source: CliWrapperException, KeeperException)."""

from __future__ import annotations

from typing import Final

from corral.client.errors import (
    BadArgumentsError,
    BadVersionError,
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
    QuotaExceededError,
    ReconfigInProgressError,
)

_SENTENCES: Final[dict[type[KeeperError], str]] = {
    NoNodeError: "Node does not exist: {path}",
    NoChildrenForEphemeralsError: "Ephemerals cannot have children: {path}",
    NodeExistsError: "Node already exists: {path}",
    NotEmptyError: "Node not empty: {path}",
    NotReadOnlyError: "Not a read-only call: {path}",
    InvalidAclError: "Acl is not valid : {path}",
    NoAuthError: "Insufficient permission : {path}",
    BadArgumentsError: "Arguments are not valid : {path}",
    BadVersionError: "version No is not valid : {path}",
    ReconfigInProgressError: "Another reconfiguration is in progress -- concurrent reconfigs not supported (yet)",
    NewConfigNoQuorumError: (
        "No quorum of new config is connected and up-to-date with the leader of last commmitted config - "
        "try invoking reconfiguration after new servers are connected and synced"
    ),
    EphemeralOnLocalSessionError: (
        "Unable to create ephemeral node on a local session\n"
        "KeeperErrorCode = Ephemeral node on local session for {path}"
    ),
    QuotaExceededError: "Quota has exceeded : {path}",
}

_CODES: Final = {
    ErrorCode.SYSTEM_ERROR: "SystemError",
    ErrorCode.RUNTIME_INCONSISTENCY: "RuntimeInconsistency",
    ErrorCode.DATA_INCONSISTENCY: "DataInconsistency",
    ErrorCode.CONNECTION_LOSS: "ConnectionLoss",
    ErrorCode.MARSHALLING_ERROR: "MarshallingError",
    ErrorCode.UNIMPLEMENTED: "Unimplemented",
    ErrorCode.OPERATION_TIMEOUT: "OperationTimeout",
    ErrorCode.SESSION_EXPIRED: "Session expired",
    ErrorCode.INVALID_CALLBACK: "Invalid callback",
    ErrorCode.AUTH_FAILED: "AuthFailed",
    ErrorCode.SESSION_MOVED: "Session moved",
    ErrorCode.NO_WATCHER: "No such watcher",
    ErrorCode.REQUEST_TIMEOUT: "Request timeout",
    ErrorCode.RECONFIG_DISABLED: "Reconfig is disabled",
    ErrorCode.SESSION_CLOSED_REQUIRE_SASL_AUTH: "Session closed because client failed to authenticate",
    ErrorCode.THROTTLED_OP: "Op throttled due to high load",
}


def sentence(error: KeeperError, path: str) -> str:
    """What zkCli says when an operation on ``path`` ends with ``error``."""
    known = _SENTENCES.get(type(error))
    if known is not None:
        return known.format(path=path)
    code = f"KeeperErrorCode = {_CODES.get(error.code, f'Unknown error {error.code}')}"
    return f"{code} for {path}" if path else code
