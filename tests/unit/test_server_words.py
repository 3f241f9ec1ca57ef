"""The four letter words of a running server: their keys and their form."""

from __future__ import annotations

import asyncio
import re
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.in_process import ALL_WORDS, Client, ManualClock, WatchedServer, create, serving

from corral.jute.ops import OpCode
from corral.jute.records import PathTypeRequest, PathVersionRequest, PathWatchRequest, SetDataRequest
from corral.server.words import WORDS

WORDS_OF_APACHE = "conf cons crst dirs dump envi gtmk hash isro mntr ruok srst srvr stat stmk wchc wchp wchs"
Scenario = Callable[[WatchedServer], Awaitable[None]]
DATE = r"\w{3} \w{3} \d\d \d\d:\d\d:\d\d \S+ \d{4}"


def play(directory: Path, scenario: Scenario, words: frozenset[str] = ALL_WORDS) -> None:
    async def run() -> None:
        async with serving(directory, ManualClock(), four_letter_words=words) as server:
            await scenario(server)

    asyncio.run(run())


async def answer(server: WatchedServer, word: bytes) -> str:
    """What the word is answered; the connection is then closed."""
    client = Client(server)
    await client.feed([word])
    assert client.closed
    return client.transport.written.decode("utf-8")


def test_the_words_are_apaches() -> None:
    assert {word.decode("latin-1") for word in WORDS} == {*WORDS_OF_APACHE.split(), "\xff\xf4\xff\xfd"}


def test_short_answers(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer) -> None:
        assert await answer(server, b"ruok") == "imok"
        assert await answer(server, b"isro") == "rw"
        assert await answer(server, b"gtmk") == "306"
        assert await answer(server, b"stmk" + struct.pack(">q", 2)) == "2"
        assert await answer(server, b"gtmk") == "2"
        assert await answer(server, b"stmk" + struct.pack(">q", -1)) == "-1"
        assert await answer(server, b"crst") == "Connection stats reset.\n"
        assert await answer(server, b"srst") == "Server stats reset.\n"
        assert await answer(server, b"hash") == ""
        assert await answer(server, b"\xff\xf4\xff\xfd") == ""

    play(tmp_path, scenario)


@pytest.mark.parametrize("word", sorted({*WORDS_OF_APACHE.split()} - {"srvr", "ruok", "stmk"}))
def test_the_white_list(tmp_path: Path, word: str) -> None:
    async def scenario(server: WatchedServer) -> None:
        assert await answer(server, word.encode()) == f"{word} is not executed because it is not in the whitelist.\n"
        assert await answer(server, b"ruok") == "imok"
        assert (await answer(server, b"srvr")).startswith("Zookeeper version: 3.")

    play(tmp_path, scenario, frozenset({"ruok"}))


@pytest.mark.parametrize("word", WORDS_OF_APACHE.split())
def test_while_not_serving(tmp_path: Path, word: str) -> None:
    async def scenario(server: WatchedServer) -> None:
        server.serving = False
        told = await answer(server, word.encode() + (bytes(8) if word == "stmk" else b""))
        if word in ("ruok", "gtmk", "stmk", "envi"):
            assert "not currently serving" not in told
        elif word == "isro":
            assert told == "null"
        else:
            # Apache ends the line of all words but this one.
            end = "" if word == "hash" else "\n"
            assert told == f"This ZooKeeper instance is not currently serving requests{end}"

    play(tmp_path, scenario)


def test_conf(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer) -> None:
        pairs = [line.split("=", 1) for line in (await answer(server, b"conf")).splitlines()]
        assert [key for key, _ in pairs] == [
            *("clientPort", "secureClientPort", "dataDir", "dataDirSize", "dataLogDir", "dataLogSize", "tickTime"),
            *("maxClientCnxns", "minSessionTimeout", "maxSessionTimeout", "clientPortListenBacklog", "serverId"),
        ]
        values = dict(pairs)
        assert values["clientPort"] == str(server.port)
        assert values["secureClientPort"] == "-1"
        assert values["dataDir"] == values["dataLogDir"] == str(tmp_path / "version-2")
        assert values["dataDirSize"] == str((tmp_path / "version-2" / "snapshot.0").stat().st_size)
        assert (values["tickTime"], values["minSessionTimeout"], values["maxSessionTimeout"]) == (
            "3000",
            "6000",
            "60000",
        )
        assert (values["maxClientCnxns"], values["serverId"]) == ("60", "0")

    play(tmp_path, scenario)


def test_dirs(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer) -> None:
        size = (tmp_path / "version-2" / "snapshot.0").stat().st_size
        assert await answer(server, b"dirs") == f"datadir_size: {size}\nlogdir_size: 0\n"

    play(tmp_path, scenario)


STATE = r"""Latency min/avg/max: \d+/\d+\.\d+/\d+
Received: \d+
Sent: \d+
Connections: 2
Outstanding: 0
Zxid: 0x3
Mode: standalone
Node count: 6
"""


def test_srvr_and_stat(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer) -> None:
        client = Client(server)
        await client.connect()
        await client.ask(OpCode.CREATE, create(b"/a"))
        await client.ask(OpCode.CREATE, create(b"/a"))
        version = r"Zookeeper version: 3\.9\.\d+-[^,]+, built on \d{4}-\d\d-\d\d \d\d:\d\d UTC\n"
        assert re.fullmatch(version + STATE, await answer(server, b"srvr"))
        line = r" /127\.0\.0\.1:\d+\[[01]\]\(queued=0,recved=\d+,sent=\d+\)\n"
        assert re.fullmatch(f"{version}Clients:\n(?:{line}){{2}}\n{STATE}", await answer(server, b"stat"))

    play(tmp_path, scenario)


def test_received_and_sent_are_counted_and_reset(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer) -> None:
        client = Client(server)
        await client.connect()
        await answer(server, b"srst")
        await answer(server, b"crst")
        for number in range(5):
            await client.ask(OpCode.GET_DATA, PathWatchRequest(b"/", False), xid=number + 1)
        await client.ask(OpCode.CREATE, create(b"/a"), xid=6)
        state = await answer(server, b"srvr")
        assert "\nReceived: 6\n" in state
        assert "\nSent: 6\n" in state
        told = await answer(server, b"cons")
        line = next(line for line in told.splitlines() if "sid=" in line)
        assert "recved=6,sent=6," in line
        assert "lcxid=0x6," in line
        assert told.endswith(")\n\n")

    play(tmp_path, scenario)


LONG = re.compile(
    r" /127\.0\.0\.1:\d+\[1\]\(queued=0,recved=\d+,sent=\d+,sid=0x1[0-9a-f]{14},lop=(?P<lop>[A-Z0-9]+),est=\d+,to=30000"
    r"(,lcxid=0x[0-9a-f]+)?,lzxid=0x[0-9a-f]+,lresp=\d+,llat=\d+,minlat=\d+,avglat=\d+,maxlat=\d+\)"
)


@pytest.mark.parametrize(
    ("op", "body", "name"),
    [
        (OpCode.CREATE, create(b"/x"), "CREA"),
        (OpCode.SET_DATA, SetDataRequest(b"/", b"", -1), "SETD"),
        (OpCode.DELETE, PathVersionRequest(b"/x", -1), "DELE"),
        (OpCode.GET_DATA, PathWatchRequest(b"/", False), "GETD"),
        (OpCode.EXISTS, PathWatchRequest(b"/", False), "EXIS"),
        (OpCode.GET_CHILDREN2, PathWatchRequest(b"/", False), "GETC"),
        (OpCode.ADD_WATCH, PathTypeRequest(b"/", 0), "ADDW"),
        (OpCode.WHO_AM_I, b"", "HOMI"),
        (OpCode.PING, b"", "PING"),
    ],
)
def test_cons_names_the_last_operation(tmp_path: Path, op: int, body: bytes, name: str) -> None:
    async def scenario(server: WatchedServer) -> None:
        client = Client(server)
        await client.connect()
        await client.ask(op, body, xid=-2 if op == OpCode.PING else 7)
        lines = (await answer(server, b"cons")).splitlines()
        matches = [match for line in lines if (match := LONG.fullmatch(line))]
        assert [match["lop"] for match in matches] == [name]
        # The word's own connection has no session.
        assert any(re.fullmatch(r" /127\.0\.0\.1:\d+\[\d\]\(queued=0,recved=0,sent=0\)", line) for line in lines)

    play(tmp_path, scenario)


def test_dump(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer) -> None:
        first, second = Client(server), Client(server)
        await first.connect(30_000)
        await second.connect(30_000)
        await first.ask(OpCode.CREATE, create(b"/e", flags=1))
        await first.ask(OpCode.CREATE, create("/é".encode(), flags=1))
        ids = [client.connection.session_id for client in (first, second)]
        told = await answer(server, b"dump")
        sessions = "".join(f"\t0x{each:x}\n" for each in ids)
        connections = "".join(rf"\tip: /127\.0\.0\.1:\d+ sessionId: 0x{each:x}\n" for each in ids)
        assert re.fullmatch(
            rf"SessionTracker dump:\nSession Sets \(1\)/\(2\):\n2 expire at {DATE}:\n{sessions}"
            rf"ephemeral nodes dump:\nSessions with Ephemerals \(1\):\n0x{ids[0]:x}:\n\t/e\n\t/é\n"
            rf"Connections dump:\nConnections Sets \(2\)/\(3\):\n"
            rf"1 expire at {DATE}:\n\tip: /127\.0\.0\.1:\d+ sessionId: 0x0\n"
            rf"2 expire at {DATE}:\n{connections}",
            told,
        )

    play(tmp_path, scenario)


def test_watches(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer) -> None:
        assert await answer(server, b"wchs") == "0 connections watching 0 paths\nTotal watches:0\n"
        assert await answer(server, b"wchp") == "\n"
        assert await answer(server, b"wchc") == "\n"
        first, second = Client(server), Client(server)
        await first.connect()
        await second.connect()
        await first.ask(OpCode.GET_DATA, PathWatchRequest(b"/", True))
        await first.ask(OpCode.EXISTS, PathWatchRequest(b"/a", True))
        await second.ask(OpCode.EXISTS, PathWatchRequest(b"/a", True))
        # Only data watches are shown.
        await second.ask(OpCode.GET_CHILDREN, PathWatchRequest(b"/zookeeper", True))
        one, two = (client.connection.session_id for client in (first, second))
        assert await answer(server, b"wchs") == "2 connections watching 2 paths\nTotal watches:3\n"
        assert await answer(server, b"wchp") == f"/\n\t0x{one:x}\n/a\n\t0x{one:x}\n\t0x{two:x}\n\n"
        assert await answer(server, b"wchc") == f"0x{one:x}\n\t/\n\t/a\n0x{two:x}\n\t/a\n\n"

    play(tmp_path, scenario)


def test_hash(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer) -> None:
        client = Client(server)
        await client.connect()
        for number in range(260):
            await client.ask(OpCode.SET_DATA, SetDataRequest(b"/", b"%d" % number, -1))
        lines = (await answer(server, b"hash")).splitlines()
        assert [line.split(": ")[0] for line in lines] == ["80", "100"]
        assert all(re.fullmatch(r"[0-9a-f]+: \d+", line) for line in lines)

    play(tmp_path, scenario)


def test_envi(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer) -> None:
        heading, *lines = (await answer(server, b"envi")).splitlines()
        assert heading == "Environment:"
        values = dict(line.split("=", 1) for line in lines)
        wanted = "zookeeper.version host.name java.version java.vendor java.home java.class.path java.library.path"
        wanted += " java.io.tmpdir java.compiler os.name os.arch os.version user.name user.home user.dir"
        assert list(values)[:15] == wanted.split()
        assert [key.rsplit(".", 1)[1] for key in list(values)[15:]] == ["free", "max", "total"]
        assert all(re.fullmatch(r"\d+MB", values[key]) for key in list(values)[15:])
        assert re.match(r"3\.\d+\.\d+-", values["zookeeper.version"])

    play(tmp_path, scenario)


GAUGES = """version server_state avg_latency max_latency min_latency packets_received packets_sent num_alive_connections
outstanding_requests uptime znode_count watch_count ephemerals_count approximate_data_size global_sessions
local_sessions open_file_descriptor_count max_file_descriptor_count connection_drop_probability
last_client_response_size max_client_response_size min_client_response_size outstanding_tls_handshake
auth_failed_count non_mtls_remote_conn_count non_mtls_local_conn_count"""


def test_mntr(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer) -> None:
        client = Client(server)
        await client.connect()
        await client.ask(OpCode.CREATE, create(b"/a", b"12345"))
        await client.ask(OpCode.CREATE, create(b"/e", flags=1))
        await client.ask(OpCode.GET_DATA, PathWatchRequest(b"/a", True))
        told = await answer(server, b"mntr")
        pairs = [line.split("\t") for line in told.splitlines()]
        assert all(len(pair) == 2 and pair[0].startswith("zk_") for pair in pairs)
        assert [key.removeprefix("zk_") for key, _ in pairs][:26] == GAUGES.split()
        values = dict(pairs)
        assert len(values) == len(pairs)
        assert values["zk_server_state"] == "standalone"
        # The root counts twice, as there.
        assert (values["zk_znode_count"], values["zk_ephemerals_count"], values["zk_watch_count"]) == ("7", "1", "1")
        assert (values["zk_global_sessions"], values["zk_num_alive_connections"]) == ("1", "2")
        assert values["zk_approximate_data_size"] == str(server.tree.data_size)
        assert int(values["zk_open_file_descriptor_count"]) > 0
        for key, value in pairs:
            if key not in ("zk_version", "zk_server_state"):
                float(value)

    play(tmp_path, scenario)


@pytest.mark.parametrize("sent", [b"ruok\n", b"ruok\r\n", b"ruokmore"])
def test_what_follows_a_word_is_not_looked_at(tmp_path: Path, sent: bytes) -> None:
    async def scenario(server: WatchedServer) -> None:
        assert await answer(server, sent) == "imok"

    play(tmp_path, scenario)


def test_a_word_inside_a_session_is_a_length(tmp_path: Path) -> None:
    async def scenario(server: WatchedServer) -> None:
        client = Client(server)
        await client.connect()
        await client.feed([b"ruok"])
        assert client.closed
        assert not client.transport.written

    play(tmp_path, scenario)
