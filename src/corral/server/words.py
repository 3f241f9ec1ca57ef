"""The four letter words: what operators and monitoring ask a server over its client port.

Source: the classes of ``org.apache.zookeeper.server.command``. The texts and keys are Apache's, to the byte where a
program may read them; facts about a JVM are answered with those of this process.
"""

from __future__ import annotations

import os
import resource
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from corral import __version__
from corral.jute.ops import OpCode
from corral.server.quota_metrics import quota_figures
from corral.storage.files import list_logs, list_snapshots

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.server.config import ServerConfig
    from corral.server.connection import Connection
    from corral.server.standalone import Server

REPORTED_VERSION: Final = "3.9.4"
"""The release of Apache ZooKeeper whose behaviour is offered; clients such as kazoo read it."""
DEFAULT_TRACE_MASK: Final = 306
_MASK = struct.Struct(">q")
_NOT_SERVING: Final = "This ZooKeeper instance is not currently serving requests\n"


def version_line() -> str:
    """What ``srvr`` says: Apache's release, so that clients can parse it, then ours."""
    return f"{REPORTED_VERSION}-corral-{__version__}, built on 2026-11-22 00:00 UTC"


class FourLetterWords:
    """Answers words for one server, or for a member of an ensemble that has none as it has no leader."""

    def __init__(self, config: ServerConfig, server: Server | None) -> None:
        self.config = config
        self._server = server
        self.trace_mask = DEFAULT_TRACE_MASK

    @property
    def server(self) -> Server:
        """Who serves; only asked by words that need it."""
        assert self._server is not None
        return self._server

    @property
    def is_serving(self) -> bool:
        """Whether clients are served."""
        return self._server is not None and self._server.serving

    def serve(self, connection: Connection, word: bytes, argument: bytes) -> None:
        """Answer and close."""
        if word != TELNET_BREAK:
            connection.out.append(self.answer(word, argument).encode())
        connection.close()

    def answer(self, word: bytes, argument: bytes) -> str:
        """What is said to a word."""
        name = word.decode("latin-1")
        spec = WORDS[word]
        if not self.config.answers_word(name):
            return f"{name} is not executed because it is not in the whitelist.\n"
        if spec.needs_service:
            if not self.is_serving:
                return _NOT_SERVING.rstrip() if name == "hash" else _NOT_SERVING
            self.server.settle_figures()
        return spec.answer(self, argument)

    # The words

    def ruok(self, _: bytes) -> str:
        return "imok"

    def isro(self, _: bytes) -> str:
        if not self.is_serving:
            return "null"
        return "ro" if self.server.is_read_only else "rw"

    def gtmk(self, _: bytes) -> str:
        return str(self.trace_mask)

    def stmk(self, argument: bytes) -> str:
        self.trace_mask = _MASK.unpack(argument)[0]
        return str(self.trace_mask)

    def crst(self, _: bytes) -> str:
        for connection in self.server.connections:
            connection.reset_stats()
        return "Connection stats reset.\n"

    def srst(self, _: bytes) -> str:
        self.server.stats.reset()
        return "Server stats reset.\n"

    def dirs(self, _: bytes) -> str:
        data, logs = self.server.directory_sizes()
        return f"datadir_size: {data}\nlogdir_size: {logs}\n"

    def hash(self, _: bytes) -> str:
        return "".join(f"{zxid:x}: {digest}\n" for zxid, digest in self.server.tree.digest_log)

    def conf(self, _: bytes) -> str:
        server, config = self.server, self.server.config
        data, logs = server.directory_sizes()
        lines = {
            "clientPort": server.port,
            "secureClientPort": -1,
            "dataDir": server.database.snapshot_directory.absolute(),
            "dataDirSize": data,
            "dataLogDir": server.database.log_directory.absolute(),
            "dataLogSize": logs,
            "tickTime": config.tick_time_ms,
            "maxClientCnxns": config.limits.max_client_connections,
            "minSessionTimeout": config.min_session_timeout_ms,
            "maxSessionTimeout": config.max_session_timeout_ms,
            "clientPortListenBacklog": config.listen_backlog,
            "serverId": config.server_id if config.is_member else 0,
        }
        return "".join(f"{key}={value}\n" for key, value in lines.items()) + server.membership_text()

    def srvr(self, _: bytes) -> str:
        return f"{self._heading()}{self._state()}"

    def stat(self, _: bytes) -> str:
        clients = "".join(f" {_brief(connection)}\n" for connection in self.server.connections)
        return f"{self._heading()}Clients:\n{clients}\n{self._state()}"

    def _heading(self) -> str:
        notice = "READ-ONLY mode; serving only read-only clients\n" if self.server.is_read_only else ""
        return f"Zookeeper version: {version_line()}\n{notice}"

    def _state(self) -> str:
        server = self.server
        latency = server.stats.latency
        return (
            f"Latency min/avg/max: {latency.minimum or 0}/{round(latency.average, 4)}/{latency.maximum}\n"
            f"Received: {server.stats.packets_received}\n"
            f"Sent: {server.stats.packets_sent}\n"
            f"Connections: {len(server.connections)}\n"
            f"Outstanding: {server.pipeline.outstanding}\n"
            f"Zxid: 0x{server.tree.last_zxid:x}\n"
            f"Mode: {server.mode}\n"
            f"Node count: {len(server.tree.nodes)}\n"
            f"{server.leadership_text()}"
        )

    def cons(self, _: bytes) -> str:
        return "".join(f" {_long(connection)}\n" for connection in self.server.connections) + "\n"

    def dump(self, _: bytes) -> str:
        server = self.server
        now_ms = server.clock.monotonic_ms()
        lines = ["SessionTracker dump:"]
        if server.local_sessions is not None:
            lines.extend(self._session_sets("Local ", now_ms, local=True))
        if server.owns_sessions:
            lines.extend(self._session_sets("" if server.local_sessions is None else "Global ", now_ms, local=False))
        else:
            sessions = server.tree.sessions
            lines.append(f"Global Sessions({len(sessions)}):")
            lines.extend(f"0x{_unsigned(each):x}\t{timeout_ms}ms" for each, timeout_ms in sorted(sessions.items()))
        lines.append("ephemeral nodes dump:")
        owners = {owner: paths for owner, paths in server.tree.ephemerals.items() if paths}
        lines.append(f"Sessions with Ephemerals ({len(owners)}):")
        for owner, paths in owners.items():
            lines.append(f"0x{_unsigned(owner):x}:")
            lines.extend(f"\t{path.decode('utf-8', 'replace')}" for path in paths)
        lines.append("Connections dump:")
        connections = list(server.connections)
        sets: dict[int, list[Connection]] = {}
        for connection in connections:
            sets.setdefault(server.connection_deadline_ms(connection), []).append(connection)
        lines.append(f"Connections Sets ({len(sets)})/({len(connections)}):")
        for deadline_ms, members in sorted(sets.items()):
            lines.append(f"{len(members)} expire at {_java_date(deadline_ms - now_ms)}:")
            lines.extend(
                f"\tip: /{member.peer[0]}:{member.peer[1]} sessionId: 0x{_unsigned(member.session_id):x}"
                for member in members
            )
        return "\n".join(lines) + "\n"

    def _session_sets(self, kind: str, now_ms: int, *, local: bool) -> Iterator[str]:
        buckets = self.server.tracker.buckets(local=local)
        yield f"{kind}Session Sets ({len(buckets)})/({sum(len(ids) for _, ids in buckets)}):"
        for deadline_ms, session_ids in buckets:
            yield f"{len(session_ids)} expire at {_java_date(deadline_ms - now_ms)}:"
            yield from (f"\t0x{_unsigned(session_id):x}" for session_id in session_ids)

    def wchs(self, _: bytes) -> str:
        by_path = list(self.server.watches.data_watches())
        watchers = {watcher for _, members in by_path for watcher in members}
        total = sum(len(members) for _, members in by_path)
        return f"{len(watchers)} connections watching {len(by_path)} paths\nTotal watches:{total}\n"

    def wchp(self, _: bytes) -> str:
        lines = []
        for path, members in self.server.watches.data_watches():
            lines.append(path.decode("utf-8", "replace"))
            lines.extend(f"\t0x{_unsigned(session_of(member)):x}" for member in members)
        return "\n".join([*lines, "", ""]) if lines else "\n"

    def wchc(self, _: bytes) -> str:
        by_session: dict[int, list[str]] = {}
        for path, members in self.server.watches.data_watches():
            for member in members:
                by_session.setdefault(session_of(member), []).append(path.decode("utf-8", "replace"))
        lines = []
        for session_id, paths in by_session.items():
            lines.append(f"0x{_unsigned(session_id):x}")
            lines.extend(f"\t{path}" for path in paths)
        return "\n".join([*lines, "", ""]) if lines else "\n"

    def envi(self, _: bytes) -> str:
        # Imported here: a server starts without them.
        import platform
        import tempfile

        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        used_mb = _resident_bytes() >> 20
        system = platform.uname()
        values = {
            "zookeeper.version": version_line(),
            "host.name": socket.gethostname(),
            "java.version": f"none (Python {platform.python_version()})",
            "java.vendor": platform.python_implementation(),
            "java.home": sys.prefix,
            "java.class.path": os.pathsep.join(sys.path),
            "java.library.path": "",
            "java.io.tmpdir": tempfile.gettempdir(),
            "java.compiler": "<NA>",
            "os.name": system.system,
            "os.arch": system.machine,
            "os.version": system.release,
            "user.name": _user_name(),
            "user.home": str(Path("~").expanduser()),
            "user.dir": str(Path.cwd()),
            "os.memory.free": f"{max(0, peak_mb - used_mb)}MB",
            "os.memory.max": f"{peak_mb}MB",
            "os.memory.total": f"{used_mb}MB",
        }
        return "Environment:\n" + "".join(f"{key}={value}\n" for key, value in values.items())

    def mntr(self, _: bytes) -> str:
        return "".join(f"zk_{key}\t{value}\n" for key, value in self._monitored())

    def _monitored(self) -> Iterator[tuple[str, object]]:
        server, stats, tree = self.server, self.server.stats, self.server.tree
        soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        yield "version", version_line()
        yield "server_state", server.mode
        yield from server.membership_figures()
        yield "avg_latency", round(stats.latency.average, 4)
        yield "max_latency", stats.latency.maximum
        yield "min_latency", stats.latency.minimum or 0
        yield "packets_received", stats.packets_received
        yield "packets_sent", stats.packets_sent
        yield "num_alive_connections", len(server.connections)
        yield "outstanding_requests", server.pipeline.outstanding
        yield "uptime", server.clock.monotonic_ms() - stats.started_ms
        yield "znode_count", len(tree.nodes)
        yield "watch_count", server.watches.count
        yield "ephemerals_count", tree.ephemeral_count()
        yield "approximate_data_size", tree.data_size
        yield "global_sessions", len(tree.sessions)
        yield "local_sessions", server.tracker.local_count
        yield "open_file_descriptor_count", _open_descriptors()
        yield "max_file_descriptor_count", soft_limit
        yield "connection_drop_probability", server.throttle.drop_probability
        yield "last_client_response_size", stats.reply_sizes.last
        yield "max_client_response_size", stats.reply_sizes.largest
        yield "min_client_response_size", stats.reply_sizes.smallest
        yield "outstanding_tls_handshake", 0
        yield "auth_failed_count", stats.auth_failed
        yield "non_mtls_remote_conn_count", 0
        yield "non_mtls_local_conn_count", 0
        yield from quota_figures(tree)
        yield from stats.figures()


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()


def _open_descriptors() -> int:
    try:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        return -1


def _user_name() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _unsigned(session_id: int) -> int:
    return session_id & (2**64 - 1)


def session_of(watcher: object) -> int:
    """The session behind a watcher."""
    session_id: int = getattr(watcher, "session_id", 0)
    return session_id


def _java_date(from_now_ms: int) -> str:
    when = time.localtime(time.time() + from_now_ms / 1000)
    return time.strftime("%a %b %d %H:%M:%S %Z %Y", when)


def _brief(connection: Connection) -> str:
    interest = 0 if connection.reading_paused else 1
    return (
        f"/{connection.peer[0]}:{connection.peer[1]}[{interest}]"
        f"(queued={len(connection.waiting)},recved={connection.received},sent={connection.sent})"
    )


def _long(connection: Connection) -> str:
    brief = _brief(connection)
    if connection.session is None:
        return brief
    latency = connection.latency
    cxid = f",lcxid=0x{connection.last_cxid & 0xFFFFFFFF:x}" if connection.last_cxid >= 0 else ""
    return (
        f"{brief[:-1]},sid=0x{_unsigned(connection.session_id):x},lop={OP_NAMES.get(connection.last_op, 'NA')}"
        f",est={connection.established_ms},to={connection.session.timeout_ms}{cxid}"
        f",lzxid=0x{_unsigned(connection.last_zxid):x},lresp={connection.last_response_ms}"
        f",llat={connection.last_latency_ms},minlat={latency.minimum or 0},avglat={int(latency.average)}"
        f",maxlat={latency.maximum})"
    )


OP_NAMES: Final[dict[int, str]] = {
    OpCode.CREATE: "CREA",
    OpCode.CREATE2: "CREA",
    OpCode.CREATE_TTL: "CREA",
    OpCode.CREATE_CONTAINER: "CREA",
    OpCode.DELETE: "DELE",
    OpCode.DELETE_CONTAINER: "DELE",
    OpCode.EXISTS: "EXIS",
    OpCode.GET_DATA: "GETD",
    OpCode.SET_DATA: "SETD",
    OpCode.GET_ACL: "GETA",
    OpCode.SET_ACL: "SETA",
    OpCode.GET_CHILDREN: "GETC",
    OpCode.GET_CHILDREN2: "GETC",
    OpCode.SYNC: "SYNC",
    OpCode.PING: "PING",
    OpCode.CHECK: "CHEC",
    OpCode.MULTI: "MULT",
    OpCode.MULTI_READ: "MLTR",
    OpCode.RECONFIG: "RECO",
    OpCode.CHECK_WATCHES: "CHKW",
    OpCode.REMOVE_WATCHES: "REMW",
    OpCode.SET_WATCHES: "SETW",
    OpCode.SET_WATCHES2: "STW2",
    OpCode.ADD_WATCH: "ADDW",
    OpCode.GET_EPHEMERALS: "GETE",
    OpCode.GET_ALL_CHILDREN_NUMBER: "GETACN",
    OpCode.WHO_AM_I: "HOMI",
    OpCode.CREATE_SESSION: "SESS",
    OpCode.CLOSE_SESSION: "CLOS",
}
"""How the ``cons`` word calls a connection's last operation."""


class _Word(NamedTuple):
    answer: Callable[[FourLetterWords, bytes], str]
    needs_service: bool = True
    size: int = 4
    """Bytes of the word with its argument."""


TELNET_BREAK: Final = b"\xff\xf4\xff\xfd"
"""What telnet sends for an interrupt."""

WORDS: Final[dict[bytes, _Word]] = {
    b"conf": _Word(FourLetterWords.conf),
    b"cons": _Word(FourLetterWords.cons),
    b"crst": _Word(FourLetterWords.crst),
    b"dirs": _Word(FourLetterWords.dirs),
    b"dump": _Word(FourLetterWords.dump),
    b"envi": _Word(FourLetterWords.envi, needs_service=False),
    b"gtmk": _Word(FourLetterWords.gtmk, needs_service=False),
    b"hash": _Word(FourLetterWords.hash),
    b"isro": _Word(FourLetterWords.isro, needs_service=False),
    b"mntr": _Word(FourLetterWords.mntr),
    b"ruok": _Word(FourLetterWords.ruok, needs_service=False),
    b"srst": _Word(FourLetterWords.srst),
    b"srvr": _Word(FourLetterWords.srvr),
    b"stat": _Word(FourLetterWords.stat),
    b"stmk": _Word(FourLetterWords.stmk, needs_service=False, size=12),
    b"wchc": _Word(FourLetterWords.wchc),
    b"wchp": _Word(FourLetterWords.wchp),
    b"wchs": _Word(FourLetterWords.wchs),
    TELNET_BREAK: _Word(FourLetterWords.ruok, needs_service=False),
}


def directory_size(paths: Iterator[Path]) -> int:
    """Bytes of the files there."""
    total = 0
    for path in paths:
        try:
            total += path.stat().st_size
        except OSError:
            continue
    return total


def data_and_log_sizes(snapshot_directory: Path, log_directory: Path) -> tuple[int, int]:
    """Bytes of all snapshots and of all logs."""
    return (
        directory_size(snapshot.path for snapshot in list_snapshots(snapshot_directory)),
        directory_size(log.path for log in list_logs(log_directory)),
    )
