"""Operation codes and enumerations of the protocol (sources: ZooDefs, CreateMode, Watcher, AddWatchMode)."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final


class OpCode(IntEnum):
    """What a request asks for; most are transaction types as well."""

    NOTIFICATION = 0
    CREATE = 1
    DELETE = 2
    EXISTS = 3
    GET_DATA = 4
    SET_DATA = 5
    GET_ACL = 6
    SET_ACL = 7
    GET_CHILDREN = 8
    SYNC = 9
    PING = 11
    GET_CHILDREN2 = 12
    CHECK = 13
    MULTI = 14
    CREATE2 = 15
    RECONFIG = 16
    CHECK_WATCHES = 17
    REMOVE_WATCHES = 18
    CREATE_CONTAINER = 19
    DELETE_CONTAINER = 20
    CREATE_TTL = 21
    MULTI_READ = 22
    AUTH = 100
    SET_WATCHES = 101
    SASL = 102
    GET_EPHEMERALS = 103
    GET_ALL_CHILDREN_NUMBER = 104
    SET_WATCHES2 = 105
    ADD_WATCH = 106
    WHO_AM_I = 107
    CREATE_SESSION = -10
    CLOSE_SESSION = -11
    ERROR = -1


# The same codes as plain numbers, for the paths of every request: looking up an enum's member costs ten times as much.
CREATE: Final = int(OpCode.CREATE)
DELETE: Final = int(OpCode.DELETE)
GET_DATA: Final = int(OpCode.GET_DATA)
SET_DATA: Final = int(OpCode.SET_DATA)
SET_ACL: Final = int(OpCode.SET_ACL)
SYNC: Final = int(OpCode.SYNC)
PING: Final = int(OpCode.PING)
CHECK: Final = int(OpCode.CHECK)
MULTI: Final = int(OpCode.MULTI)
CREATE2: Final = int(OpCode.CREATE2)
RECONFIG: Final = int(OpCode.RECONFIG)
CREATE_CONTAINER: Final = int(OpCode.CREATE_CONTAINER)
DELETE_CONTAINER: Final = int(OpCode.DELETE_CONTAINER)
CREATE_TTL: Final = int(OpCode.CREATE_TTL)
AUTH: Final = int(OpCode.AUTH)
SASL: Final = int(OpCode.SASL)
CREATE_SESSION: Final = int(OpCode.CREATE_SESSION)
CLOSE_SESSION: Final = int(OpCode.CLOSE_SESSION)
ERROR: Final = int(OpCode.ERROR)


class Xid(IntEnum):
    """Request numbers with a meaning of their own."""

    NOTIFICATION = -1
    PING = -2
    AUTH = -4
    SET_WATCHES = -8


class CreateMode(IntEnum):
    """The ``flags`` of a create request: exact values, not a bit mask."""

    PERSISTENT = 0
    EPHEMERAL = 1
    PERSISTENT_SEQUENTIAL = 2
    EPHEMERAL_SEQUENTIAL = 3
    CONTAINER = 4
    PERSISTENT_WITH_TTL = 5
    PERSISTENT_SEQUENTIAL_WITH_TTL = 6

    @property
    def is_ephemeral(self) -> bool:
        return self in (CreateMode.EPHEMERAL, CreateMode.EPHEMERAL_SEQUENTIAL)

    @property
    def is_sequential(self) -> bool:
        return self in (
            CreateMode.PERSISTENT_SEQUENTIAL,
            CreateMode.EPHEMERAL_SEQUENTIAL,
            CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL,
        )

    @property
    def has_ttl(self) -> bool:
        return self in (CreateMode.PERSISTENT_WITH_TTL, CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL)


class Permission(IntFlag):
    """What an ACL entry may allow."""

    READ = 1
    WRITE = 2
    CREATE = 4
    DELETE = 8
    ADMIN = 16
    ALL = 31


class EventType(IntEnum):
    """What happened to a watched znode; only these four travel."""

    NODE_CREATED = 1
    NODE_DELETED = 2
    NODE_DATA_CHANGED = 3
    NODE_CHILDREN_CHANGED = 4


SYNC_CONNECTED: Final = 3
"""The keeper state that every notification of a server carries."""


class AddWatchMode(IntEnum):
    PERSISTENT = 0
    PERSISTENT_RECURSIVE = 1


class WatcherType(IntEnum):
    """Which of its watches a client asks about or removes."""

    CHILDREN = 1
    DATA = 2
    ANY = 3
    PERSISTENT = 4
    PERSISTENT_RECURSIVE = 5
