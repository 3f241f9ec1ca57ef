"""Makes plans from seeds.

What is left out on purpose, because it stops or corrupts Apache's server (see also the facts in `docs/divergence.md`):

- createTTL with flags that are no TTL mode and a negative ttl: the server exits and its log can never be read again;
- nodes named ``zookeeper_limits`` anywhere but at a quota's proper place, a quota on ``/`` itself, and limits or usage
  texts that are null or unreadable: an exception while a transaction is applied, and the server exits;
- createSession (-10) sent as a request: accepted by an accident of a table, and meant by nobody;
- a sasl request with a null token: an exception in the thread that serves the connection, which then hangs.

What is left out because Apache's answer depends on its threads' timing: requests behind a closeSession, an unknown
operation, a refused authentication or a broken frame, and what `calls` says about batches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Final

from tests.crosscheck import calls
from tests.crosscheck.material import GOOD_ACLS, QUOTA_ROOTS, ROOTS
from tests.crosscheck.plan import (
    Acls,
    Batch,
    Bytes,
    Call,
    Checkpoint,
    Credentials,
    Drop,
    Expire,
    Int,
    Open,
    Raw,
    Segments,
    Step,
)
from tests.crosscheck.runner import MONITOR, OPEN_ACL, RECOVERED

from corral.jute.ops import OpCode

CONNECTIONS: Final = 6
"""So many connections are open at most, besides the monitor's."""

EXPIRIES: Final = 3
"""Sessions left to expire in one plan: each takes a few seconds."""

CALLS_PER_CHECKPOINT: Final = 400

SHORT_TIMEOUT_MS: Final = 2000
LONG_TIMEOUT_MS: Final = 60_000
TIMEOUTS_MS: Final = (LONG_TIMEOUT_MS, LONG_TIMEOUT_MS, LONG_TIMEOUT_MS, 30_000, 2**31 - 1, 61_000)
"""Of sessions that must outlive a pause; what the server makes of odd ones is asked with sessions that expire."""

SHORT_TIMEOUTS_MS: Final = (SHORT_TIMEOUT_MS, SHORT_TIMEOUT_MS - 1, 1, 0, -1, -(2**31))

BROKEN_FRAMES: Final = (
    b"\x00\x00\x00\x00",
    b"\x00\x00\x00\x04\x00\x00\x00\x01",
    b"\x00\x00\x00\x07\x00\x00\x00\x01\x00\x00\x00",
    b"\xff\xff\xff\xff",
    b"\x80\x00\x00\x00",
    b"\x7f\xff\xff\xff",
    b"\x00\x10\x00\x00",
    b"GET / HTTP/1.1\r\n\r\n",
)

BROKEN_HANDSHAKES: Final = (
    *BROKEN_FRAMES,
    b"\x00\x00\x00\x08" + bytes(8),
    b"\x00\x00\x00\x18" + bytes(24),
    b"\x00\x00\x00\x1c" + bytes(24) + b"\x00\x00\x00\x10",
    b"\x00\x00\x00\x1c" + bytes(24) + b"\xff\xff\xff\xf0",
    b"abcd",
)


def make_plan(seed: int, count: int, edge_share: float = 0.01) -> list[Step]:
    """The plan of a seed: at least `count` requests, in as many steps as it takes.

    `edge_share` of the steps are about the znodes of a prepared data directory.
    """
    return _Generator(Random(seed), edge_share).plan(count)


@dataclass(slots=True)
class _Generator:
    """Keeps track of which connections should be open, as far as that follows from the plan alone."""

    random: Random
    edge_share: float
    steps: list[Step] = field(default_factory=list)
    open: dict[str, str] = field(default_factory=dict)
    """Connections and their sessions."""
    short: set[str] = field(default_factory=set)
    """Sessions that soon expire: they are never left without a connection, except to expire."""
    detached: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    sessions: int = 0
    connections: int = 0
    requests: int = 0
    expiries: int = 0

    def plan(self, count: int) -> list[Step]:
        self._plant()
        checkpoints = 0
        while self.requests < count:
            self._step()
            if self.requests // CALLS_PER_CHECKPOINT > checkpoints:
                checkpoints = self.requests // CALLS_PER_CHECKPOINT
                self.steps.append(Checkpoint())
        self.steps.append(Checkpoint())
        return self.steps

    def _plant(self) -> None:
        acl = Acls((OPEN_ACL,))
        made = [Call(OpCode.CREATE, (Bytes(path), Bytes(b""), acl, Int(0))) for path in (*ROOTS, *QUOTA_ROOTS)]
        self._batch(MONITOR, made)

    def _step(self) -> None:
        random = self.random
        if len(self.open) < 2 or (len(self.open) < CONNECTIONS and random.random() < 0.05):
            self._open()
            return
        connection = random.choice(list(self.open))
        if random.random() < self.edge_share:
            self._batch(connection, [calls.edge(random)])
            return
        choice = random.random()
        if choice < 0.50:
            self._batch(connection, [calls.any_call(random, clean=False)])
        elif choice < 0.74:
            self._pipeline(connection)
        elif choice < 0.78:
            self._batch(connection, [calls.damaged(random)])
        elif choice < 0.80:
            self._batch(connection, [calls.odd_number(random)])
        elif choice < 0.85:
            self._batch(connection, [calls.quota(random)])
        elif choice < 0.895:
            self._garden()
        elif choice < 0.91:
            self._batch(connection, [calls.authenticate(random)])
        elif choice < 0.925:
            special = random.choice((calls.reconfig, calls.delete_container, calls.sasl, calls.long_data))
            self._batch(connection, [special(random)])
        elif choice < 0.94:
            self._drop(connection)
        elif choice < 0.96:
            self._reopen()
        elif choice < 0.967:
            self._end(connection, [*self._clean_calls(random.randrange(4)), calls.close_session(random, clean=True)])
        elif choice < 0.977:
            self._cut_off(connection)
        elif choice < 0.982:
            self.steps.append(Raw("stranger", random.choice(BROKEN_HANDSHAKES)))
        elif choice < 0.99:
            self._expire()
        else:
            self._bad_open()

    def _clean_calls(self, count: int) -> list[Call]:
        return [calls.any_call(self.random, clean=True) for _ in range(count)]

    def _batch(self, connection: str, batch: list[Call], segments: Segments = Segments.ONE) -> None:
        self.requests += len(batch)
        self.steps.append(Batch(connection, tuple(batch), segments))

    def _pipeline(self, connection: str) -> None:
        random = self.random
        segments = random.choices(tuple(Segments), (6, 2, 1, 2))[0]
        most = 4 if segments is Segments.BYTES else 20
        self._batch(connection, self._clean_calls(random.randrange(2, most)), segments)

    def _garden(self) -> None:
        """The monitor undoes what would bring everything else to a stop: closed ACLs, ephemerals as parents."""
        random = self.random
        if random.random() < 0.6:
            self._batch(MONITOR, [calls.open_acl(random, clean=True) for _ in range(5)])
            return
        path = Bytes(random.choice(ROOTS))
        acl = Acls(random.choice(GOOD_ACLS) if random.random() < 0.1 else (OPEN_ACL,))
        self._batch(
            MONITOR,
            [Call(OpCode.DELETE, (path, Int(-1))), Call(OpCode.CREATE, (path, Bytes(b"new"), acl, Int(0)))],
        )

    def _new_connection(self) -> str:
        self.connections += 1
        return f"c{self.connections}"

    def _open(self) -> None:
        random = self.random
        self.sessions += 1
        session = f"s{self.sessions}"
        connection = self._new_connection()
        brief = random.random() < 0.1
        if brief:
            self.short.add(session)
        behind = tuple(self._clean_calls(random.randrange(1, 5))) if random.random() < 0.2 else ()
        self.requests += len(behind)
        self.steps.append(
            Open(
                connection,
                session,
                timeout_ms=random.choice(SHORT_TIMEOUTS_MS if brief else TIMEOUTS_MS),
                zxid_ahead=random.choice((None, None, 0, -1, -1000)),
                read_only_byte=random.choice((b"\x00", b"\x00", b"\x01", b"", b"\x02")),
                calls=behind,
            )
        )
        self.open[connection] = session

    def _drop(self, connection: str) -> None:
        session = self.open[connection]
        if session in self.short:
            return
        del self.open[connection]
        self.detached.append(session)
        self.steps.append(Drop(connection))

    def _reopen(self) -> None:
        """A session comes back, after a lost connection or while the old one is still there, and sets its watches."""
        random = self.random
        if self.detached and random.random() < 0.7:
            session = self.detached.pop(random.randrange(len(self.detached)))
        else:
            session = random.choice(list(self.open.values()))
        for old in [name for name, each in self.open.items() if each == session]:
            del self.open[old]
        connection = self._new_connection()
        behind: tuple[Call, ...] = ()
        if random.random() < 0.7:
            behind = (calls.set_watches(random, clean=True), *self._clean_calls(random.randrange(3)))
        self.requests += len(behind)
        timeout_ms = SHORT_TIMEOUT_MS if session in self.short else LONG_TIMEOUT_MS
        ahead = random.choice((0, 0, -3))
        self.steps.append(Open(connection, session, Credentials.RIGHT, timeout_ms, ahead, calls=behind))
        self.open[connection] = session

    def _bad_open(self) -> None:
        """A handshake that is refused, or a session that is gone."""
        random = self.random
        connection = self._new_connection()
        choice = random.random()
        if choice < 0.3:
            self.sessions += 1
            ahead = random.choice((1, 1000))
            self.steps.append(Open(connection, f"s{self.sessions}", zxid_ahead=ahead))
        elif choice < 0.5 and self.ended:
            self.steps.append(Open(connection, random.choice(self.ended), Credentials.RIGHT))
        elif choice < 0.7:
            self.steps.append(Open(connection, "nobody", Credentials.UNKNOWN_ID))
        elif choice < 0.75 and RECOVERED not in self.detached and RECOVERED not in self.open.values():
            # Where the server has no such session it is refused, and what follows on the connection is skipped.
            self.steps.append(Open(connection, RECOVERED, Credentials.RIGHT))
            self.open[connection] = RECOVERED
        else:
            self._wrong_password(connection)

    def _wrong_password(self, connection: str) -> None:
        """Not only is it refused: the connection that the session has is closed too."""
        session = self.random.choice(list(self.open.values()))
        if session in self.short:
            return
        for old in [name for name, each in self.open.items() if each == session]:
            del self.open[old]
        self.detached.append(session)
        credentials = self.random.choice((Credentials.WRONG_PASSWORD, Credentials.NULL_PASSWORD))
        self.steps.append(Open(connection, session, credentials))

    def _end(self, connection: str, batch: list[Call]) -> None:
        """Requests of which the last closes the session, and so the connection."""
        self.requests += len(batch)
        self.ended.append(self.open.pop(connection))
        self.steps.append(Batch(connection, tuple(batch), ends=True))

    def _cut_off(self, connection: str) -> None:
        """Something after which the server closes the connection but keeps the session."""
        random = self.random
        if self.open[connection] in self.short:
            return
        self.detached.append(self.open.pop(connection))
        choice = random.random()
        if choice < 0.4:
            self.steps.append(Batch(connection, (calls.unknown(random),), ends=True))
        elif choice < 0.7:
            self.steps.append(Batch(connection, (calls.refused_authentication(random),), ends=True))
        else:
            self.steps.append(Raw(connection, random.choice(BROKEN_FRAMES)))
        self.requests += 1

    def _expire(self) -> None:
        candidates = [connection for connection, session in self.open.items() if session in self.short]
        if not candidates or self.expiries >= EXPIRIES:
            return
        self.expiries += 1
        connection = self.random.choice(candidates)
        session = self.open.pop(connection)
        self.short.discard(session)
        self.ended.append(session)
        self.steps.append(Expire(connection, drop=self.random.random() < 0.5))
