"""The operations that change nothing but watches (source: FinalRequestProcessor).

Each takes the request's body and returns the reply's; refusals are KeeperErrors. The table at the end is what the
connection looks them up in.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from corral.jute.errors import (
    BadArgumentsError,
    ErrorCode,
    KeeperError,
    MarshallingError,
    NoNodeError,
    NoWatcherError,
)
from corral.jute.ops import AddWatchMode, EventType, OpCode, Permission, WatcherType
from corral.jute.primitives import JuteError, Reader
from corral.jute.records import (
    Acl,
    ClientInfo,
    ErrorResponse,
    GetAllChildrenNumberResponse,
    GetChildrenResponse,
    Id,
    MultiHeader,
    PathRequest,
    PathTypeRequest,
    PathWatchRequest,
    SetWatches,
    SetWatches2,
    WhoAmIResponse,
)
from corral.server.pipeline import reply_to_sync
from corral.tree.acl import encode_acl
from corral.tree.znode import LENGTH, STAT, STAT_SIZE, Znode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corral.server.connection import Connection
    from corral.server.standalone import Server


MULTI_READ_REPLY_MAX_BYTES: Final = 64 << 20
"""One request of a megabyte can ask for the same megabyte some 50,000 times."""


def _find(server: Server, path: bytes | None) -> Znode:
    if path is None:
        raise MarshallingError
    node = server.tree.nodes.get(path)
    if node is None:
        raise NoNodeError
    return node


def _readable(server: Server, connection: Connection, path: bytes | None, wanted: int = Permission.READ) -> Znode:
    node = _find(server, path)
    if node.acl != -1:
        server.access.check(server.tree.acls.entries(node.acl), wanted, connection.identities)
    return node


def _path_and_watch(body: bytes) -> PathWatchRequest:
    """What ``PathWatchRequest.from_bytes`` gives, in a third of the time: reads are what is asked most."""
    try:
        length: int = LENGTH.unpack_from(body)[0]
        if length < 0:
            return PathWatchRequest.from_bytes(body)
        return PathWatchRequest(body[4 : 4 + length], body[4 + length] != 0)
    except (struct.error, IndexError):
        raise JuteError(f"a request of {len(body)} bytes is cut short") from None


def _get_data(server: Server, connection: Connection, body: bytes) -> bytes:
    request = _path_and_watch(body)
    node = _readable(server, connection, request.path)
    if request.watch and request.path is not None:
        server.watches.watch_data(request.path, connection)
    return node.refreshed()


def _exists(server: Server, connection: Connection, body: bytes) -> bytes:
    request = _path_and_watch(body)
    if request.path is None:
        raise MarshallingError
    if b"\0" in request.path:
        raise BadArgumentsError("a path holds no null character")
    if request.path in server.tree.nodes:
        node = _readable(server, connection, request.path)
        if request.watch:
            server.watches.watch_data(request.path, connection)
        return node.refreshed()[-STAT_SIZE:]
    if request.watch:
        server.watches.watch_data(request.path, connection)
    raise NoNodeError


def _children(server: Server, connection: Connection, request: PathWatchRequest) -> tuple[bytes, Znode]:
    node = _readable(server, connection, request.path)
    assert request.path is not None
    if request.watch:
        server.watches.watch_children(request.path, connection)
    return node.child_names(0 if request.path == b"/" else len(request.path)), node


def _get_children(server: Server, connection: Connection, body: bytes) -> bytes:
    names, _ = _children(server, connection, _path_and_watch(body))
    return names


def _get_children2(server: Server, connection: Connection, body: bytes) -> bytes:
    names, node = _children(server, connection, _path_and_watch(body))
    return names + node.refreshed()[-STAT_SIZE:]


def _get_acl(server: Server, connection: Connection, body: bytes) -> bytes:
    path = PathRequest.from_bytes(body).path
    node = _readable(server, connection, path, Permission.READ | Permission.ADMIN)
    acl = server.tree.acls.entries(node.acl)
    if not server.access.permits(acl, Permission.ADMIN, connection.identities):
        acl = tuple(_masked(entry) for entry in acl)
    return encode_acl(acl) + node.refreshed()[-STAT_SIZE:]


def _masked(entry: Acl) -> Acl:
    """Without the hash of a password, which only those with ADMIN may see."""
    if entry.id.scheme != "digest" or entry.id.id is None or ":" not in entry.id.id:
        return entry
    return Acl(entry.perms, Id("digest", entry.id.id.split(":", 1)[0] + ":x"))


def _sync(server: Server, connection: Connection, body: bytes) -> bytes:
    # Nothing is under way in a server that is its own quorum.
    reply = reply_to_sync(body, by_quorum=True)
    if reply is None:
        raise MarshallingError
    return reply


def _get_ephemerals(server: Server, connection: Connection, body: bytes) -> bytes:
    prefix = PathRequest.from_bytes(body).path
    owned = server.tree.ephemerals.get(connection.session_id, {})
    everything = prefix is None or prefix.strip() in (b"", b"/")
    return GetChildrenResponse(
        [path for path in owned if everything or (prefix is not None and path.startswith(prefix))]
    ).to_bytes()


def _get_all_children_number(server: Server, connection: Connection, body: bytes) -> bytes:
    path = PathRequest.from_bytes(body).path
    _readable(server, connection, path)
    assert path is not None
    return GetAllChildrenNumberResponse(server.tree.descendants(path)).to_bytes()


def _who_am_i(server: Server, connection: Connection, body: bytes) -> bytes:
    return WhoAmIResponse(
        [ClientInfo(scheme, server.authentication.user_name(scheme, name)) for scheme, name in connection.identities]
    ).to_bytes()


def _watch_key(path: bytes | None) -> bytes:
    """What a watch is kept under: any string may be watched, and Java prints a missing one so."""
    return b"null" if path is None else path


def _add_watch(server: Server, connection: Connection, body: bytes) -> bytes:
    request = PathTypeRequest.from_bytes(body)
    if request.type not in (AddWatchMode.PERSISTENT, AddWatchMode.PERSISTENT_RECURSIVE):
        raise MarshallingError
    recursive = request.type == AddWatchMode.PERSISTENT_RECURSIVE
    server.watches.watch_persistently(_watch_key(request.path), connection, recursive=recursive)
    return ErrorResponse(0).to_bytes()


def _watcher_type(code: int) -> WatcherType:
    try:
        return WatcherType(code)
    except ValueError:
        raise MarshallingError from None


def _check_watches(server: Server, connection: Connection, body: bytes) -> bytes:
    request = PathTypeRequest.from_bytes(body)
    if not server.watches.has(_watch_key(request.path), connection, _watcher_type(request.type)):
        raise NoWatcherError
    return b""


def _remove_watches(server: Server, connection: Connection, body: bytes) -> bytes:
    request = PathTypeRequest.from_bytes(body)
    if not server.watches.remove(_watch_key(request.path), connection, _watcher_type(request.type)):
        raise NoWatcherError
    return b""


def _set_watches(server: Server, connection: Connection, body: bytes) -> bytes:
    request = SetWatches.from_bytes(body)
    return _rearm(
        server,
        connection,
        SetWatches2(request.relative_zxid, request.data_watches, request.exist_watches, request.child_watches, [], []),
    )


def _set_watches2(server: Server, connection: Connection, body: bytes) -> bytes:
    return _rearm(server, connection, SetWatches2.from_bytes(body))


def _rearm(server: Server, connection: Connection, request: SetWatches2) -> bytes:
    """Set again the watches of a client that comes back, and tell it at once of what it has missed."""
    nodes = server.tree.nodes
    watches = server.watches
    seen = request.relative_zxid

    def tell(event: EventType, path: bytes) -> None:
        connection.deliver(event, path, -1, None)

    for path in _given(request.data_watches):
        node = nodes.get(path)
        if node is None:
            tell(EventType.NODE_DELETED, path)
        elif STAT.unpack_from(node.body, len(node.body) - STAT_SIZE)[1] > seen:
            tell(EventType.NODE_DATA_CHANGED, path)
        else:
            watches.watch_data(path, connection)
    for path in _given(request.exist_watches):
        if path in nodes:
            tell(EventType.NODE_CREATED, path)
        else:
            watches.watch_data(path, connection)
    for path in _given(request.child_watches):
        node = nodes.get(path)
        if node is None:
            tell(EventType.NODE_DELETED, path)
        elif STAT.unpack_from(node.refreshed(), len(node.body) - STAT_SIZE)[10] > seen:
            tell(EventType.NODE_CHILDREN_CHANGED, path)
        else:
            watches.watch_children(path, connection)
    for paths, recursive in ((request.persistent_watches, False), (request.persistent_recursive_watches, True)):
        if paths is None:
            raise MarshallingError
        for each in paths:
            watches.watch_persistently(_watch_key(each), connection, recursive=recursive)
    return b""


def _given(paths: list[bytes | None] | None) -> Iterator[bytes]:
    """The paths, up to one that is missing: what stood before it is done, the request refused all the same."""
    if paths is None:
        raise MarshallingError
    for path in paths:
        if path is None:
            raise MarshallingError
        yield path


def _multi_read(server: Server, connection: Connection, body: bytes) -> bytes:
    reader = Reader(body)
    requests: list[tuple[int, PathWatchRequest]] = []
    while True:
        header = MultiHeader.decode(reader)
        if header.done:
            break
        if header.type not in (OpCode.GET_DATA, OpCode.GET_CHILDREN):
            raise MarshallingError
        requests.append((header.type, PathWatchRequest.decode(reader)))
    out = bytearray()
    for op, request in requests:
        # The watch flag is carried in the request and has no meaning here.
        unwatched = PathWatchRequest(request.path, watch=False).to_bytes()
        try:
            result = READS[OpCode(op)](server, connection, unwatched)
        except MarshallingError:
            raise
        except KeeperError as error:
            MultiHeader(OpCode.ERROR, False, error.code).encode(out)
            ErrorResponse(error.code).encode(out)
        else:
            MultiHeader(op, False, ErrorCode.OK).encode(out)
            out += result
            if len(out) > MULTI_READ_REPLY_MAX_BYTES:
                raise BadArgumentsError(f"the results of a multiRead take more than {MULTI_READ_REPLY_MAX_BYTES} bytes")
    MultiHeader(-1, True, -1).encode(out)
    return bytes(out)


READS: Final[dict[int, Callable[[Server, Connection, bytes], bytes]]] = {
    OpCode.EXISTS: _exists,
    OpCode.GET_DATA: _get_data,
    OpCode.GET_ACL: _get_acl,
    OpCode.GET_CHILDREN: _get_children,
    OpCode.SYNC: _sync,
    OpCode.GET_CHILDREN2: _get_children2,
    OpCode.CHECK_WATCHES: _check_watches,
    OpCode.REMOVE_WATCHES: _remove_watches,
    OpCode.MULTI_READ: _multi_read,
    OpCode.SET_WATCHES: _set_watches,
    OpCode.SET_WATCHES2: _set_watches2,
    OpCode.GET_EPHEMERALS: _get_ephemerals,
    OpCode.GET_ALL_CHILDREN_NUMBER: _get_all_children_number,
    OpCode.ADD_WATCH: _add_watch,
    OpCode.WHO_AM_I: _who_am_i,
}
