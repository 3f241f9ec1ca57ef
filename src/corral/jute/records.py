"""Every record of the client protocol, of the transaction log and of snapshots (Apache ZooKeeper 3.9).

Source: ``zookeeper.jute``. Field order is wire order.
"""

from corral.jute.record import Bool, Buffer, Int, Long, Path, Record, Text, record

# Shared


@record
class Id(Record):
    """Who: an authentication scheme and a name within it."""

    scheme: Text
    id: Text


@record
class Acl(Record):
    """Permission bits (READ 1, WRITE 2, CREATE 4, DELETE 8, ADMIN 16) granted to one id."""

    perms: Int
    id: Id


@record
class Stat(Record):
    """A znode's metadata as clients see it. zxids and times (ms since the epoch) are of the last change named."""

    czxid: Long
    mzxid: Long
    ctime: Long
    mtime: Long
    version: Int
    cversion: Int
    aversion: Int
    ephemeral_owner: Long
    data_length: Int
    num_children: Int
    pzxid: Long


@record
class StatPersisted(Record):
    """A znode's metadata as stored: ``cversion`` counts creations only, owners keep their raw form."""

    czxid: Long
    mzxid: Long
    ctime: Long
    mtime: Long
    version: Int
    cversion: Int
    aversion: Int
    ephemeral_owner: Long
    pzxid: Long


@record
class ClientInfo(Record):
    auth_scheme: Text
    user: Text


# Handshake and headers


@record
class ConnectRequest(Record):
    """The first frame of a client; older clients leave out the ``readOnly`` byte that may follow."""

    protocol_version: Int
    last_zxid_seen: Long
    timeout_ms: Int
    session_id: Long
    password: Buffer


@record
class ConnectResponse(Record):
    """The server's answer; a timeout of 0 refuses the session. A ``readOnly`` byte follows if the request had one."""

    protocol_version: Int
    timeout_ms: Int
    session_id: Long
    password: Buffer


@record
class RequestHeader(Record):
    xid: Int
    type: Int


@record
class ReplyHeader(Record):
    xid: Int
    zxid: Long
    err: Int


@record
class MultiHeader(Record):
    type: Int
    done: Bool
    err: Int


# Requests


@record
class PathRequest(Record):
    """delete's sibling without a version: getACL, sync, getEphemerals, getAllChildrenNumber."""

    path: Path


@record
class PathWatchRequest(Record):
    """exists, getData, getChildren, getChildren2."""

    path: Path
    watch: Bool


@record
class PathVersionRequest(Record):
    """delete and check: ``version`` -1 matches any."""

    path: Path
    version: Int


@record
class PathTypeRequest(Record):
    """addWatch (mode), checkWatches and removeWatches (watcher type)."""

    path: Path
    type: Int


@record
class CreateRequest(Record):
    path: Path
    data: Buffer
    acl: list[Acl] | None
    flags: Int


@record
class CreateTtlRequest(Record):
    path: Path
    data: Buffer
    acl: list[Acl] | None
    flags: Int
    ttl_ms: Long


@record
class SetDataRequest(Record):
    path: Path
    data: Buffer
    version: Int


@record
class SetAclRequest(Record):
    path: Path
    acl: list[Acl] | None
    version: Int


@record
class ReconfigRequest(Record):
    joining_servers: Text
    leaving_servers: Text
    new_members: Text
    current_config_id: Long


@record
class SetWatches(Record):
    relative_zxid: Long
    data_watches: list[Path] | None
    exist_watches: list[Path] | None
    child_watches: list[Path] | None


@record
class SetWatches2(Record):
    relative_zxid: Long
    data_watches: list[Path] | None
    exist_watches: list[Path] | None
    child_watches: list[Path] | None
    persistent_watches: list[Path] | None
    persistent_recursive_watches: list[Path] | None


@record
class AuthPacket(Record):
    type: Int
    scheme: Text
    auth: Buffer


@record
class GetSaslRequest(Record):
    token: Buffer


# Responses


@record
class PathResponse(Record):
    """create and sync."""

    path: Path


@record
class Create2Response(Record):
    path: Path
    stat: Stat


@record
class StatResponse(Record):
    """exists, setData, setACL."""

    stat: Stat


@record
class GetDataResponse(Record):
    data: Buffer
    stat: Stat


@record
class GetAclResponse(Record):
    acl: list[Acl] | None
    stat: Stat


@record
class GetChildrenResponse(Record):
    """getChildren and getEphemerals."""

    children: list[Path] | None


@record
class GetChildren2Response(Record):
    children: list[Path] | None
    stat: Stat


@record
class GetAllChildrenNumberResponse(Record):
    total_number: Int


@record
class WhoAmIResponse(Record):
    client_info: list[ClientInfo] | None


@record
class SetSaslResponse(Record):
    token: Buffer


@record
class ErrorResponse(Record):
    err: Int


@record
class WatcherEvent(Record):
    type: Int
    state: Int
    path: Path


# Transactions


@record
class TxnHeader(Record):
    """Who did it (session id, its request number), when (ms since the epoch), and what it is."""

    client_id: Long
    cxid: Int
    zxid: Long
    time_ms: Long
    type: Int


@record
class TxnDigest(Record):
    """The tree's digest expected after the transaction (facts: digest version 2)."""

    version: Int
    tree_digest: Long


@record
class CreateTxn(Record):
    path: Path
    data: Buffer
    acl: list[Acl] | None
    ephemeral: Bool
    parent_cversion: Int


@record
class CreateTxnV0(Record):
    """As servers before 3.4 wrote it; the parent's new cversion is then its current one plus one."""

    path: Path
    data: Buffer
    acl: list[Acl] | None
    ephemeral: Bool


@record
class CreateTtlTxn(Record):
    path: Path
    data: Buffer
    acl: list[Acl] | None
    parent_cversion: Int
    ttl_ms: Long


@record
class CreateContainerTxn(Record):
    path: Path
    data: Buffer
    acl: list[Acl] | None
    parent_cversion: Int


@record
class DeleteTxn(Record):
    path: Path


@record
class SetDataTxn(Record):
    """``version`` is the new one."""

    path: Path
    data: Buffer
    version: Int


@record
class CheckVersionTxn(Record):
    path: Path
    version: Int


@record
class SetAclTxn(Record):
    """``version`` is the new ACL version."""

    path: Path
    acl: list[Acl] | None
    version: Int


@record
class CreateSessionTxn(Record):
    timeout_ms: Int


@record
class CloseSessionTxn(Record):
    paths_to_delete: list[Path] | None


@record
class ErrorTxn(Record):
    err: Int


@record
class SubTxn(Record):
    """One operation of a multi: its type and its own record, encoded."""

    type: Int
    data: Buffer


@record
class MultiTxn(Record):
    txns: list[SubTxn] | None


# Files


@record
class FileHeader(Record):
    magic: Int
    version: Int
    dbid: Long
