"""Carries a plan out on one server and writes down what every connection got.

One connection at a time is active, and after each step every open connection is pinged and read up to the ping's reply.
So everything that a step causes, watch events on other connections included, is in that step's record, and what two
right servers send is the same frame for frame.
"""

from __future__ import annotations

import struct
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tests.crosscheck.normaliser import Normaliser
from tests.crosscheck.plan import AclEntry, Batch, Bytes, Call, Checkpoint, Credentials, Drop, Expire, Int, Open, Raw
from tests.crosscheck.plan import string as jute_string
from tests.crosscheck.prepared import RECOVERED_SESSION_ID
from tests.crosscheck.replies import (
    UndecodableError,
    Zxid,
    decode_body,
    decode_event,
    decode_handshake,
    session_password,
)
from tests.crosscheck.survey import Survey
from tests.crosscheck.wire import RawConnection, frame

from corral.jute.ops import OpCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.crosscheck.plan import Step

MONITOR: Final = "monitor"
"""The connection that is always there: it has super rights, reads the tree and tells how far the zxid is."""

SUPER_USER: Final = b"super:test"
SUPER_DIGEST: Final = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="
"""What both servers need as ``DigestAuthenticationProvider.superDigest``."""

RECOVERED: Final = "recovered"
"""The session that a prepared data directory holds."""

OPEN_ACL: Final = AclEntry(31, b"world", b"anyone")

QUOTA_PREFIXES: Final = (b"/q", b"/zookeeper/quota")
"""What is created there is never handed out as a created path: only quota requests may touch it."""

REPLY_LIMIT_S: Final = 8.0
"""A reply that takes longer is written down as missing."""

END_LIMIT_S: Final = 3.0
"""How long a connection that should be closed by the server is given."""

PING_INTERVAL_S: Final = 0.5
"""How often the others are kept alive meanwhile."""

EXPIRY_LIMIT_S: Final = 15.0

UNKNOWN_SESSION_ID: Final = 0x0123456789ABCDEF


class RunFailedError(Exception):
    """The server cannot be cross-checked at all: no connection, or none that stays."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Something a connection got. `about` is the request or what else it belongs to."""

    kind: str
    about: str
    content: dict[str, Any]


@dataclass(slots=True)
class StepRecord:
    """What one step brought, by connection."""

    number: int
    step: Step
    frames: dict[str, list[Frame]]
    zxid: int


@dataclass(slots=True)
class Transcript:
    """A whole run. All zxids are relative to `first_zxid`."""

    first_zxid: int
    records: list[StepRecord]


@dataclass(slots=True)
class _Session:
    id: int
    password: bytes


@dataclass(slots=True)
class _Pending:
    xid: int
    op: int
    call: Call | None
    """The plan's call, or ``None`` for the runner's own ping."""
    path: bytes | None = None


@dataclass(slots=True)
class _Client:
    name: str
    raw: RawConnection
    session: str
    xid: int = 0
    pending: deque[_Pending] = field(default_factory=deque)


class RunMemory:
    """What has been answered so far (the plan's `Memory`)."""

    def __init__(self) -> None:
        self.zxid = 0
        self._versions: dict[bytes, tuple[int, int]] = {}
        self._created: deque[bytes] = deque(maxlen=16)

    def version(self, path: bytes) -> int:
        return self._versions.get(path, (0, 0))[0]

    def acl_version(self, path: bytes) -> int:
        return self._versions.get(path, (0, 0))[1]

    def created(self, back: int) -> bytes | None:
        return self._created[-1 - back] if back < len(self._created) else None

    def learn(self, pending: _Pending, body: dict[str, Any]) -> None:
        """Keep what a reply says about versions and created paths."""
        for result in [body, *body.get("results", ())]:
            made = result.get("path")
            if made is not None and pending.op != OpCode.SYNC and not made.startswith(QUOTA_PREFIXES):
                self._created.append(made)
            stat = result.get("stat")
            path = made if made is not None else pending.path
            if stat is not None and path is not None and "results" not in body:
                self._versions[path] = (stat["version"], stat["aversion"])


class Runner:
    """One run against one server. The server must be fresh and nobody else's."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._normaliser = Normaliser()
        self._memory = RunMemory()
        self._clients: dict[str, _Client] = {}
        self._sessions = {RECOVERED: _Session(RECOVERED_SESSION_ID, session_password(RECOVERED_SESSION_ID))}
        self._normaliser.name_session(RECOVERED_SESSION_ID, RECOVERED)
        self._frames: dict[str, list[Frame]] = defaultdict(list)

    def run(self, steps: Iterable[tuple[int, Step]]) -> Transcript:
        """Carry out the numbered steps."""
        try:
            self._start()
            transcript = Transcript(self._memory.zxid, [])
            for number, step in steps:
                self._normaliser.begin_step()
                self._frames = defaultdict(list)
                try:
                    self._carry_out(step)
                    self._settle()
                except RunFailedError as error:
                    error.add_note(f"in step {number}: {step}")
                    raise
                if ends_a_session(step):
                    self._frames = {name: _simultaneous_sorted(frames) for name, frames in self._frames.items()}
                self._normaliser.end_step(self._memory.zxid)
                transcript.records.append(StepRecord(number, step, dict(self._frames), self._memory.zxid))
            return transcript
        finally:
            for client in self._clients.values():
                client.raw.close()

    def _start(self) -> None:
        self._normaliser.begin_step()
        self._open(Open(MONITOR, MONITOR))
        monitor = self._clients.get(MONITOR)
        if monitor is None:
            raise RunFailedError(f"no session can be opened: {dict(self._frames)}")
        self._settle()
        self._normaliser.start_after(self._memory.zxid - 1)
        self._send(monitor, [Call(OpCode.AUTH, (Int(0), Bytes(b"digest"), Bytes(SUPER_USER)), xid=-4)])
        self._drain(monitor)
        self._settle()
        self._normaliser.end_step(self._memory.zxid)

    def _carry_out(self, step: Step) -> None:
        match step:
            case Open():
                self._open(step)
            case Batch():
                self._batch(step)
            case Drop():
                self._drop(step)
            case Expire():
                self._expire(step)
            case Raw():
                self._raw(step)
            case Checkpoint():
                self._checkpoint()

    # Steps

    def _open(self, step: Open) -> None:
        session = self._sessions.get(step.session)
        if session is None and step.credentials not in (Credentials.NEW, Credentials.UNKNOWN_ID):
            self._note(step.connection, "skipped", "the session was never opened")
            return
        raw = RawConnection(self._address)
        request = self._connect_request(step, session)
        client = _Client(step.connection, raw, step.session)
        raw.send([frame(request[: step.cut]), *self._frames_of(client, step.calls)])
        payload = raw.next_frame(time.monotonic() + REPLY_LIMIT_S)
        if payload is None:
            self._note(step.connection, "handshake", "closed without a response" if raw.closed else "no response")
            raw.close()
            return
        try:
            response = decode_handshake(payload)
        except UndecodableError:
            self._note(step.connection, "handshake", f"undecodable response {payload.hex()}")
            raw.close()
            return
        if response.session_id and step.credentials is Credentials.NEW:
            self._sessions[step.session] = _Session(response.session_id, response.password or b"")
            self._normaliser.name_session(response.session_id, step.session)
        right = response.session_id != 0 and response.password == session_password(response.session_id)
        content = {
            "protocolVersion": response.protocol_version,
            "timeout": response.timeout_ms,
            "session": self._normaliser.session(response.session_id),
            "password": "the one of its id" if right else response.password,
            "rest": response.rest,
        }
        self._frames[step.connection].append(Frame("handshake", "handshake", content))
        if response.timeout_ms <= 0:
            self._wait_for_end(client)
            return
        replaced = self._clients.pop(step.connection, None)
        if replaced is not None:
            replaced.raw.close()
        self._clients[step.connection] = client
        self._drain(client)

    def _connect_request(self, step: Open, session: _Session | None) -> bytes:
        session_id, password = (session.id, session.password) if session is not None else (0, bytes(16))
        presented: bytes | None = password
        match step.credentials:
            case Credentials.NEW:
                session_id, presented = 0, bytes(16)
            case Credentials.WRONG_PASSWORD:
                presented = bytes(16)
            case Credentials.NULL_PASSWORD:
                presented = None
            case Credentials.UNKNOWN_ID:
                session_id, presented = UNKNOWN_SESSION_ID, session_password(UNKNOWN_SESSION_ID)
        last_zxid = 0 if step.zxid_ahead is None else max(0, self._memory.zxid + step.zxid_ahead)
        head = struct.pack(">iqiq", 0, last_zxid, step.timeout_ms, session_id)
        return head + jute_string(presented) + step.read_only_byte

    def _batch(self, step: Batch) -> None:
        client = self._clients.get(step.connection)
        if client is None:
            self._note(step.connection, "skipped", "not connected")
            return
        client.raw.send(self._frames_of(client, step.calls), step.segments)
        self._drain(client)
        if step.ends and step.connection in self._clients:
            self._wait_for_end(client)

    def _drop(self, step: Drop) -> None:
        client = self._clients.pop(step.connection, None)
        if client is None:
            self._note(step.connection, "skipped", "not connected")
        else:
            client.raw.close()

    def _expire(self, step: Expire) -> None:
        client = self._clients.pop(step.connection, None)
        if client is None:
            self._note(step.connection, "skipped", "not connected")
            return
        if step.drop:
            client.raw.close()
        before = self._memory.zxid
        deadline = time.monotonic() + EXPIRY_LIMIT_S
        while self._memory.zxid == before and time.monotonic() < deadline:
            time.sleep(0.05)
            self._settle()
        self._note(step.connection, "expiry", "expired" if self._memory.zxid > before else "the session lives on")
        if not step.drop:
            # Whether the events of its own ephemerals still get out before the socket is closed is open.
            self._wait_for_end(client, rest_matters=False)

    def _raw(self, step: Raw) -> None:
        client = self._clients.get(step.connection)
        if client is None:
            client = _Client(step.connection, RawConnection(self._address), "")
        client.raw.send([step.data])
        self._wait_for_end(client)

    def _checkpoint(self) -> None:
        survey = Survey(self._address, self._normaliser, self._fetch)
        for topic, content in survey.take(connections=len(self._clients)):
            self._frames[topic].append(Frame("survey", topic, content))

    def _fetch(self, calls: Sequence[Call]) -> list[tuple[int, dict[str, Any]]]:
        """The replies of the monitor to pipelined calls: error code and decoded body, as received."""
        monitor = self._clients[MONITOR]
        monitor.raw.send(self._frames_of(monitor, calls))
        replies: list[tuple[int, dict[str, Any]]] = []
        deadline = time.monotonic() + REPLY_LIMIT_S
        while monitor.pending:
            payload = monitor.raw.next_frame(deadline)
            if payload is None:
                raise RunFailedError("the monitor's connection does not answer")
            xid, zxid, err = struct.unpack_from(">iqi", payload)
            if xid == -1:
                self._event(monitor, zxid, payload)
                continue
            pending = monitor.pending.popleft()
            replies.append((err, decode_body(pending.op, err, payload[16:])))
        return replies

    # Sending and receiving

    def _send(self, client: _Client, calls: Sequence[Call]) -> None:
        client.raw.send(self._frames_of(client, calls))

    def _frames_of(self, client: _Client, calls: Sequence[Call]) -> list[bytes]:
        frames: list[bytes] = []
        for call in calls:
            client.xid += 1
            xid = client.xid if call.xid is None else call.xid
            client.pending.append(_Pending(xid, call.op, call, call.path(self._memory)))
            frames.append(frame(struct.pack(">ii", xid, call.op) + call.body(self._memory)))
        return frames

    def _settle(self) -> None:
        """Ping every connection and read each up to the reply: nothing of this step is left in flight."""
        for client in self._clients.values():
            client.pending.append(_Pending(-2, OpCode.PING, None))
            client.raw.send([frame(struct.pack(">ii", -2, OpCode.PING))])
        for client in list(self._clients.values()):
            self._drain(client)
        if MONITOR not in self._clients:
            raise RunFailedError(f"the monitor's connection was closed: {self._frames.get(MONITOR)}")

    def _drain(self, client: _Client) -> None:
        """Read until every request is answered; what is not is written down."""
        deadline = time.monotonic() + REPLY_LIMIT_S
        while client.pending:
            payload = client.raw.next_frame(deadline)
            if payload is not None:
                self._receive(client, payload)
                continue
            for pending in client.pending:
                if pending.call is not None:
                    self._note(client.name, "no reply", str(pending.call))
            self._note(client.name, "end", "closed by the server" if client.raw.closed else "silent: given up")
            client.raw.close()
            self._clients.pop(client.name, None)
            return

    def _wait_for_end(self, client: _Client, *, rest_matters: bool = True) -> None:
        self._clients.pop(client.name, None)
        until = time.monotonic() + END_LIMIT_S
        left = client.raw.wait_for_end(time.monotonic() + PING_INTERVAL_S)
        while not client.raw.closed and time.monotonic() < until:
            self._settle()
            left = client.raw.wait_for_end(time.monotonic() + PING_INTERVAL_S)
        self._note(client.name, "end", "closed by the server" if client.raw.closed else "left open")
        if left and rest_matters:
            self._note(client.name, "bytes before the end", left.hex())
        client.raw.close()

    def _receive(self, client: _Client, payload: bytes) -> None:
        if len(payload) < 16:
            self._note(client.name, "frame without a header", payload.hex())
            return
        xid, zxid, err = struct.unpack_from(">iqi", payload)
        self._memory.zxid = max(self._memory.zxid, zxid)
        pending = self._matching(client, xid)
        if pending is None:
            self._event(client, zxid, payload)
            return
        client.pending.remove(pending)
        body = decode_body(pending.op, err, payload[16:])
        self._memory.learn(pending, body)
        if pending.op == OpCode.PING:
            if pending.call is not None or err or body:
                # A ping may be answered out of turn, so neither its place nor its zxid is compared.
                self._frames[f"{client.name}, pings"].append(Frame("reply", "ping", {"err": err, **body}))
            return
        content = {"xid": xid, "zxid": Zxid(zxid), "err": err, **self._normaliser.value(body)}
        self._frames[client.name].append(Frame("reply", str(pending.call), content))

    def _matching(self, client: _Client, xid: int) -> _Pending | None:
        """The request that a reply belongs to: pings by their xid, all others in order."""
        if xid == -2:
            for pending in client.pending:
                if pending.op == OpCode.PING:
                    return pending
        for pending in client.pending:
            if pending.op != OpCode.PING:
                return None if xid == -1 and pending.xid != -1 else pending
        return None

    def _event(self, client: _Client, zxid: int, payload: bytes) -> None:
        event = decode_event(payload[16:])
        (err,) = struct.unpack_from(">i", payload, 12)
        content = {"zxid": Zxid(zxid), "err": err, **self._normaliser.value(event)}
        if struct.unpack_from(">i", payload)[0] != -1:
            content["unexpected xid"] = struct.unpack_from(">i", payload)[0]
        self._frames[client.name].append(Frame("event", "watch event", content))

    def _note(self, connection: str, kind: str, text: str) -> None:
        self._frames[connection].append(Frame(kind, kind, {kind: text}))


def ends_a_session(step: Step) -> bool:
    """Whether ephemerals go with a session, in an order that the protocol leaves open."""
    match step:
        case Expire():
            return True
        case Batch():
            return any(call.op == OpCode.CLOSE_SESSION for call in step.calls)
    return False


def _simultaneous_sorted(frames: list[Frame]) -> list[Frame]:
    """Runs of events with one zxid in a fixed order."""
    result: list[Frame] = []
    run: list[Frame] = []
    for each in frames:
        if each.kind != "event" or (run and run[0].content["zxid"] != each.content["zxid"]):
            result += sorted(run, key=repr)
            run = []
        if each.kind == "event":
            run.append(each)
        else:
            result.append(each)
    return result + sorted(run, key=repr)
