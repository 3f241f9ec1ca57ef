"""An asyncio client of Corral and of Apache ZooKeeper: :func:`connect`."""

from corral.client.cache import Cache
from corral.client.client import Client, connect
from corral.client.errors import ClientClosedError, ConnectionLoss, KeeperError, SessionExpired
from corral.client.follow import Follower
from corral.client.results import (
    CREATOR,
    NULL,
    OPEN,
    READ_ONLY,
    AccessList,
    Acl,
    Created,
    Identity,
    Listing,
    Stat,
    Znode,
)
from corral.client.states import Session, State
from corral.client.subtree import Change, ChangeKind
from corral.client.transaction import Transaction
from corral.client.watch import Watch
from corral.client.watches import EventKind, WatchEvent

__all__ = [
    "CREATOR",
    "NULL",
    "OPEN",
    "READ_ONLY",
    "AccessList",
    "Acl",
    "Cache",
    "Change",
    "ChangeKind",
    "Client",
    "ClientClosedError",
    "ConnectionLoss",
    "Created",
    "EventKind",
    "Follower",
    "Identity",
    "KeeperError",
    "Listing",
    "Session",
    "SessionExpired",
    "Stat",
    "State",
    "Transaction",
    "Watch",
    "WatchEvent",
    "Znode",
    "connect",
]
