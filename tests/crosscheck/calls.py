"""Single requests, drawn at random.

A *clean* request may stand in a pipelined batch: what it does must not depend on how far Apache's pipeline has come
with the requests before it. Four things would: requests that make the prepare step stumble (they leave changes behind
that only the apply step clears away), a create whose flags say another kind than its operation, a setACL (which writes
behind it see only once it is applied), and quotas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from tests.crosscheck import material
from tests.crosscheck.plan import Acls, Bool, Bytes, Call, Int, Long, Paths, SeenZxid, SubHeader
from tests.crosscheck.prepared import EDGE
from tests.crosscheck.runner import OPEN_ACL

from corral.jute.ops import OpCode, Xid

if TYPE_CHECKING:
    from random import Random

    from tests.crosscheck.plan import Argument

SEQUENTIAL_NAMES: Final = (b"/s-", b"/", b"/a", b"/\xc3\xbc")

TTLS_MS: Final = (0, -1, 1, 1000, 2**40 - 1, 2**40, 2**63 - 1, -(2**63))

WATCHER_TYPES: Final = (1, 2, 3, 4, 5, 3, 3)

LONG_DATA_BYTES: Final = 1_048_000
"""With its header and path still below the largest frame."""


def path(random: Random, clean: bool = True) -> Bytes:
    """Some path as an argument."""
    choice = random.random()
    if choice < 0.86:
        return Bytes(material.plain_path(random))
    if choice < 0.90:
        return Bytes(random.choice(material.SYSTEM_PATHS))
    if choice < 0.99 or clean:
        return Bytes(random.choice(material.STRANGE_PATHS))
    return Bytes(random.choice(material.NULL_PATHS))


def _target(random: Random, clean: bool) -> tuple[Argument, bytes]:
    """A path argument, and the path to ask for versions of."""
    if random.random() < 0.12:
        fallback = material.plain_path(random)
        return material.created_path(random, fallback), fallback
    argument = path(random, clean)
    return argument, argument.value or b""


def create(random: Random, clean: bool) -> Call:
    target: Argument
    sequential = random.random() < 0.25
    if sequential:
        flags = random.choice((2, 2, 3))
        parent = random.choice((b"", material.plain_path(random), material.plain_path(random)))
        target = Bytes(parent + random.choice(SEQUENTIAL_NAMES))
    else:
        flags = random.choice((0, 0, 0, 1))
        target = path(random, clean)
    if not clean and random.random() < 0.1:
        flags = random.choice((-1, 4, 5, 6, 7, 8, 100, 2**31 - 1))
    op = random.choice((OpCode.CREATE, OpCode.CREATE2))
    return Call(op, (target, material.data(random), material.acls(random, clean), Int(flags)))


def create_container(random: Random, clean: bool) -> Call:
    flags = 4 if clean or random.random() < 0.8 else random.choice((0, 1, 2, 3, 5, 6, 7, -1))
    fields = (path(random, clean), material.data(random), material.acls(random, clean), Int(flags))
    return Call(OpCode.CREATE_CONTAINER, fields)


def create_ttl(random: Random, clean: bool) -> Call:
    ttl_ms = random.choice((1000, 86_400_000)) if random.random() < 0.7 else random.choice(TTLS_MS)
    flags = random.choice((5, 5, 6))
    if random.random() < 0.1:
        # A flag that is no TTL mode with a negative ttl makes Apache's server exit: never generated.
        flags, ttl_ms = random.choice((0, 1, 2, 3, 4, 7, -1)), abs(ttl_ms) % 2**40
    fields = (path(random, clean), material.data(random), material.acls(random, clean), Int(flags), Long(ttl_ms))
    return Call(OpCode.CREATE_TTL, fields)


def delete(random: Random, clean: bool) -> Call:
    target, known = _target(random, clean)
    if random.random() < 0.4:
        known = material.plain_path(random) + random.choice((b"/a", b"/b", b"/m"))
        target = Bytes(known)
    return Call(OpCode.DELETE, (target, material.version(random, known)))


def set_data(random: Random, clean: bool) -> Call:
    target, known = _target(random, clean)
    return Call(OpCode.SET_DATA, (target, material.data(random), material.version(random, known)))


def set_acl(random: Random, clean: bool) -> Call:
    target, known = _target(random, clean)
    return Call(OpCode.SET_ACL, (target, material.acls(random, clean), material.acl_version(random, known)))


def open_acl(random: Random, clean: bool) -> Call:
    """Gives everybody all rights back: without it the tree would close up in time."""
    target = random.choice((*material.ROOTS, b"/", material.plain_path(random), material.plain_path(random)))
    return Call(OpCode.SET_ACL, (Bytes(target), Acls((OPEN_ACL,)), Int(-1)))


def read(random: Random, clean: bool) -> Call:
    op = random.choice((OpCode.EXISTS, OpCode.GET_DATA, OpCode.GET_DATA, OpCode.GET_CHILDREN, OpCode.GET_CHILDREN2))
    target = _target(random, clean)[0]
    watch = random.random() < 0.5 and (not isinstance(target, Bytes) or material.is_watchable(target.value))
    return Call(op, (target, Bool(watch)))


def read_path(random: Random, clean: bool) -> Call:
    op = random.choice((OpCode.GET_ACL, OpCode.GET_ACL, OpCode.SYNC, OpCode.GET_ALL_CHILDREN_NUMBER))
    return Call(op, (path(random, clean),))


def get_ephemerals(random: Random, clean: bool) -> Call:
    prefix = random.choice((b"/", b"", None, b" ", b" / ", b"/a", b"/a/", b"/b/a", b"a"))
    return Call(OpCode.GET_EPHEMERALS, (Bytes(prefix),))


def who_am_i(random: Random, clean: bool) -> Call:
    return Call(OpCode.WHO_AM_I)


def ping(random: Random, clean: bool) -> Call:
    return Call(OpCode.PING, xid=-2)


def add_watch(random: Random, clean: bool) -> Call:
    mode = random.choice((0, 1)) if random.random() < 0.93 else random.choice((-1, 2, 3, 100))
    return Call(OpCode.ADD_WATCH, (_watched_path(random, clean), Int(mode)))


def watches(random: Random, clean: bool) -> Call:
    op = random.choice((OpCode.CHECK_WATCHES, OpCode.REMOVE_WATCHES, OpCode.REMOVE_WATCHES))
    kind = random.choice(WATCHER_TYPES) if random.random() < 0.95 else random.choice((0, 6, -1))
    return Call(op, (_watched_path(random, clean), Int(kind)))


def _watched_path(random: Random, clean: bool) -> Bytes:
    """Fewer paths still, so that a watch to be removed is likely to be there."""
    if random.random() < 0.6:
        return Bytes(random.choice(material.ROOTS))
    drawn = path(random, clean)
    return drawn if material.is_watchable(drawn.value) else Bytes(material.DEEP_PATH)


def _some_paths(random: Random, clean: bool) -> Paths:
    if not clean and random.random() < 0.03:
        return Paths(None)
    drawn = (path(random, clean).value for _ in range(random.choice((0, 0, 1, 2, 4))))
    return Paths(tuple(each for each in drawn if material.is_watchable(each)))


def set_watches(random: Random, clean: bool) -> Call:
    """What a client sends after a reconnect: it has seen some zxid, and wants to know what happened since."""
    since = random.choice((SeenZxid(), SeenZxid(-random.randrange(40)), Long(0), Long(2**63 - 1), Long(-1)))
    two = random.random() < 0.6
    vectors = tuple(_some_paths(random, clean) for _ in range(5 if two else 3))
    return Call(OpCode.SET_WATCHES2 if two else OpCode.SET_WATCHES, (since, *vectors), xid=Xid.SET_WATCHES)


def check(random: Random, clean: bool) -> Call:
    """Only within a multi: by itself it is an unknown operation."""
    target, known = _target(random, clean)
    return Call(OpCode.CHECK, (target, material.version(random, known)))


def transaction(op: int, calls: Sequence[Call]) -> Call:
    """A multi or multiRead of these operations."""
    fields: list[Argument] = []
    for call in calls:
        fields += [SubHeader(call.op), *call.arguments]
    return Call(op, (*fields, SubHeader(-1, done=True)))


def multi(random: Random, clean: bool) -> Call:
    """Mostly operations that can succeed together; sometimes one that cannot, at any place."""
    kinds = (create, create, delete, set_data, set_data, check, create_container, create_ttl)
    calls = [random.choice(kinds)(random, clean) for _ in range(random.choice((0, 1, 1, 2, 2, 3, 4, 8)))]
    if clean:
        calls = [call for call in calls if not _stumbles_in_multi(call)]
    elif random.random() < 0.08:
        stray = random.choice((read, set_acl, read_path, who_am_i, multi_read, close_session))
        calls.insert(random.randrange(len(calls) + 1), stray(random, clean))
    return transaction(OpCode.MULTI, calls)


def friendly_multi(random: Random, clean: bool) -> Call:
    """Operations that follow from each other: a node is made, changed, checked and removed in one transaction."""
    parent, made = random.choice(material.ROOTS), material.plain_path(random) + b"/m"
    steps = [
        Call(random.choice((OpCode.CREATE, OpCode.CREATE2)), (Bytes(made), material.data(random), _open(), Int(0))),
        Call(OpCode.SET_DATA, (Bytes(made), material.data(random), Int(0))),
        Call(OpCode.CHECK, (Bytes(made), Int(1))),
        Call(OpCode.CREATE2, (Bytes(made + b"/s"), material.data(random), _open(), Int(random.choice((2, 3))))),
        Call(OpCode.SET_DATA, (Bytes(parent), material.data(random), Int(-1))),
        Call(OpCode.DELETE, (Bytes(made), Int(random.choice((-1, 1, 2))))),
    ]
    kept = [step for step in steps if random.random() < 0.75]
    if random.random() < 0.2:
        random.shuffle(kept)
    return transaction(OpCode.MULTI, kept)


def _open() -> Acls:
    return Acls((OPEN_ACL,))


def _stumbles_in_multi(call: Call) -> bool:
    """Whether a multi with this operation is refused as a whole, which takes Apache's error path."""
    entries = next((each.entries for each in call.arguments if isinstance(each, Acls)), ())
    return entries is None


def multi_read(random: Random, clean: bool) -> Call:
    ops = (OpCode.GET_DATA, OpCode.GET_CHILDREN)
    calls = [
        Call(random.choice(ops), (path(random, clean), Bool(random.random() < 0.3)))
        for _ in range(random.choice((0, 1, 2, 3, 6)))
    ]
    if random.random() < 0.1:
        calls.insert(random.randrange(len(calls) + 1), random.choice((delete, check, read))(random, clean))
    return transaction(OpCode.MULTI_READ, calls)


def close_session(random: Random, clean: bool) -> Call:
    return Call(OpCode.CLOSE_SESSION)


CLEAN_KINDS: Final[dict[Callable[[Random, bool], Call], int]] = {
    create: 26,
    create_container: 4,
    create_ttl: 4,
    delete: 14,
    set_data: 14,
    read: 24,
    read_path: 8,
    get_ephemerals: 3,
    who_am_i: 2,
    ping: 2,
    add_watch: 8,
    watches: 6,
    set_watches: 3,
    multi: 8,
    friendly_multi: 8,
    multi_read: 4,
}
"""How often which request is drawn."""


LONE_KINDS: Final[dict[Callable[[Random, bool], Call], int]] = {**CLEAN_KINDS, set_acl: 5, open_acl: 5}
"""The same for requests that do not stand in a batch."""


def any_call(random: Random, clean: bool) -> Call:
    """A request of any kind that leaves the connection open."""
    kinds = CLEAN_KINDS if clean else LONE_KINDS
    return random.choices(list(kinds), list(kinds.values()))[0](random, clean)


def damaged(random: Random) -> Call:
    """A request whose body is cut short, padded, or has a length in it that makes no sense."""
    call = any_call(random, clean=False)
    choice = random.random()
    if choice < 0.6:
        return Call(call.op, call.arguments, call.xid, cut=random.choice((0, 1, 3, 4, 5, 6, 7, 8, 12, 20)))
    if choice < 0.8:
        return Call(call.op, call.arguments, call.xid, extra=random.randbytes(random.randrange(1, 9)))
    length = random.choice((-2, -(2**31), 2**31 - 1, 3_000_000, 1000))
    return Call(call.op, (Int(length), *call.arguments[1:]), call.xid)


def odd_number(random: Random) -> Call:
    """A request with an xid that no client would choose."""
    call = any_call(random, clean=True)
    if call.op in (OpCode.PING, OpCode.SET_WATCHES, OpCode.SET_WATCHES2):
        return call
    return Call(call.op, call.arguments, random.choice((0, -3, -8, 1, 2**31 - 1, -(2**31))))


def long_data(random: Random) -> Call:
    value = Bytes(bytes([random.randrange(256)]) * LONG_DATA_BYTES)
    return Call(OpCode.SET_DATA, (Bytes(random.choice(material.ROOTS)), value, Int(-1)))


def reconfig(random: Random) -> Call:
    text = Bytes(random.choice((None, b"", b"server.1=127.0.0.1:2:3;4", b"nonsense")))
    return Call(OpCode.RECONFIG, (text, Bytes(None), Bytes(None), Long(random.choice((-1, 0, 7)))))


def delete_container(random: Random) -> Call:
    return Call(OpCode.DELETE_CONTAINER, extra=material.plain_path(random))


def sasl(random: Random) -> Call:
    return Call(OpCode.SASL, (Bytes(random.choice((b"", b"token"))),))


def authenticate(random: Random) -> Call:
    scheme, auth = random.choice(material.AUTHENTICATIONS)
    return Call(OpCode.AUTH, (Int(random.choice((0, 0, 0, 1))), Bytes(scheme), Bytes(auth)), xid=Xid.AUTH)


def refused_authentication(random: Random) -> Call:
    scheme, auth = random.choice(material.REFUSED_AUTHENTICATIONS)
    return Call(OpCode.AUTH, (Int(0), Bytes(scheme), Bytes(auth)), xid=Xid.AUTH)


def unknown(random: Random) -> Call:
    """An operation that no request may have: the connection is closed after the answer."""
    op = random.choice((0, 10, 13, 23, 50, 99, 108, 200, -1, -2, -12, 2**31 - 1, -(2**31)))
    return Call(op, extra=random.choice((b"", b"\x00\x00\x00\x02/a\xff\xff\xff\xff")))


def quota(random: Random) -> Call:
    """Something below a path with a quota, or about the quota itself."""
    root = random.choice(material.QUOTA_ROOTS)
    node = b"/zookeeper/quota" + root
    choice = random.random()
    if choice < 0.12:
        return Call(OpCode.CREATE, (Bytes(random.choice((node, root))), Bytes(b""), _open(), Int(0)))
    if choice < 0.22:
        return Call(OpCode.CREATE, (Bytes(node + b"/zookeeper_limits"), Bytes(_limits(random)), _open(), Int(0)))
    if choice < 0.30:
        usage = Bytes(b"count=0,bytes=0")
        return Call(OpCode.CREATE, (Bytes(node + b"/zookeeper_stats"), usage, _open(), Int(0)))
    if choice < 0.36:
        return Call(OpCode.SET_DATA, (Bytes(node + b"/zookeeper_limits"), Bytes(_limits(random)), Int(-1)))
    if choice < 0.39:
        usage = Bytes(b"count=%d,bytes=%d" % (random.randrange(-1, 5), random.randrange(-1, 50)))
        return Call(OpCode.SET_DATA, (Bytes(node + b"/zookeeper_stats"), usage, Int(-1)))
    if choice < 0.43:
        name = random.choice((b"/zookeeper_limits", b"/zookeeper_stats", b""))
        return Call(OpCode.DELETE, (Bytes(node + name), Int(-1)))
    if choice < 0.50:
        name = random.choice((b"/zookeeper_limits", b"/zookeeper_stats"))
        return Call(OpCode.GET_DATA, (Bytes(node + name), Bool(random.random() < 0.5)))
    below = Bytes(material.quota_path(random))
    if choice < 0.70:
        flags = random.choice((0, 0, 1, 2, 3))
        return Call(OpCode.CREATE2, (below, material.data(random), _open(), Int(flags)))
    if choice < 0.85:
        return Call(OpCode.SET_DATA, (below, material.data(random), Int(-1)))
    if choice < 0.92:
        return Call(OpCode.DELETE, (below, Int(-1)))
    other = Bytes(material.quota_path(random))
    steps = [
        Call(OpCode.CREATE, (below, material.data(random), _open(), Int(0))),
        Call(OpCode.CREATE2, (other, material.data(random), _open(), Int(0))),
        Call(OpCode.SET_DATA, (other, material.data(random), Int(-1))),
        Call(OpCode.DELETE, (below, Int(-1))),
    ]
    return transaction(OpCode.MULTI, [step for step in steps if random.random() < 0.7])


def _limits(random: Random) -> bytes:
    """The text of a limits node. Never null or unreadable: Apache's server dies of such a one."""
    count, size = random.choice((-1, 0, 2, 4, 100)), random.choice((-1, 0, 20, 60, 10_000))
    soft = b"count=%d,bytes=%d" % (count, size)
    hard = b"=;byteHardLimit=%d;countHardLimit=%d" % (size, count)
    return random.choice((soft, b"count=-1,bytes=-1" + hard, soft + hard, b"countHardLimit=%d" % count))


def edge(random: Random) -> Call:
    """Something at a counter that is about to overflow (see `prepared`; elsewhere these nodes are missing)."""
    choice = random.random()
    if choice < 0.2:
        node = Bytes(random.choice((b"/edge/version", b"/edge/low", b"/edge/null", b"/edge/read", b"/edge")))
        return Call(OpCode.SET_DATA, (node, material.data(random), Int(random.choice((-1, -1, -(2**31), 2**31 - 1)))))
    if choice < 0.4:
        node = Bytes(random.choice((b"/edge/acl", b"/edge/low", b"/zookeeper/config")))
        acl = random.choice((_open(), Acls((OPEN_ACL, OPEN_ACL))))
        return Call(OpCode.SET_ACL, (node, acl, Int(random.choice((-1, -1, -(2**31), 2**31 - 1)))))
    if choice < 0.7:
        parent = random.choice((b"/edge/children", b"/edge/children", b"/edge/container", b"/edge/mine", b"/edge/ttl"))
        flags = random.choice((0, 2, 2, 3))
        return Call(OpCode.CREATE2, (Bytes(parent + b"/s"), material.data(random), _open(), Int(flags)))
    node = Bytes(random.choice(EDGE).path)
    if choice < 0.8:
        return Call(OpCode.DELETE, (material.created_path(random, node.value or b""), Int(-1)))
    if choice < 0.9:
        return Call(OpCode.GET_CHILDREN2, (node, Bool(True)))
    return Call(random.choice((OpCode.GET_DATA, OpCode.EXISTS)), (node, Bool(True)))
