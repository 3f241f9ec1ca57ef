"""The commands of the shell, in this process against a real server: what zkCli's own tests cannot show."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import re
from typing import TYPE_CHECKING, Any, Self

import pytest

import corral
from corral.cli.shell.ensemble import client_addresses
from corral.cli.shell.formats import hex_dump, stat_lines
from corral.cli.shell.output import Output
from corral.cli.shell.shell import NOT_FOUND, Connecting, Shell
from corral.client import NULL
from corral.server import pipeline, reads
from corral.server.pipeline import reply_to_sync

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from corral.testing import Address, Server


@pytest.fixture
def server(zookeeper_shared: Address) -> Server:
    """The shared server."""
    return zookeeper_shared.server


class Session:
    """A shell whose two streams are kept."""

    def __init__(self, server: Server, *, as_json: bool = False, dry_run: bool = False, patience: float = 10.0) -> None:
        self._out, self._err = io.StringIO(), io.StringIO()
        output = Output(as_json=as_json, out=self._out, err=self._err)
        self.shell = Shell(output, Connecting(session_timeout=10.0, connect_timeout=patience), dry_run=dry_run)
        self.address = str(server.address)

    async def __aenter__(self) -> Self:
        await self.shell.connect(self.address, quietly=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shell.leave()

    async def run(self, line: str) -> tuple[int, str, str]:
        """The status of a line, and what it printed to either stream."""
        await self.shell.execute_line(line)
        return self.shell.status, self._take(self._out), self._take(self._err)

    def _take(self, stream: io.StringIO) -> str:
        text = stream.getvalue()
        stream.seek(0)
        stream.truncate()
        return text


def ask(server: Server, lines: Sequence[str], **settings: Any) -> list[tuple[int, str, str]]:
    """What a new shell answers to each of the lines."""

    async def scenario() -> list[tuple[int, str, str]]:
        async with Session(server, **settings) as session:
            return [await session.run(line) for line in lines]

    return asyncio.run(scenario())


def results(server: Server, *lines: str, **settings: Any) -> list[Any]:
    """The JSON results of all lines, each of which must succeed."""
    answers = ask(server, lines, as_json=True, **settings)
    assert [(status, err) for status, _, err in answers] == [(0, "")] * len(lines)
    return [json.loads(line) for _, out, _ in answers for line in out.splitlines()]


def populate(server: Server, *paths: str) -> None:
    async def scenario() -> None:
        async with corral.connect(str(server.address)) as zk:
            for path in paths:
                await zk.create(path)

    asyncio.run(scenario())


def tree(server: Server) -> set[str]:
    return {path for path in server.tree() if not path.startswith("/zookeeper")} - {"/"}


# Bad input: a clear error, and nothing is done. Apache's shell ends with a stack trace or does something else.


BAD = {
    "delete -v x /a": "-v argument must be an int value",
    "delete -v 99999999999 /a": "-v argument must be an int value",
    "set -v x /a y": "-v argument must be an int value",
    "setAcl -v x /a world:anyone:r": "-v argument must be an int value",
    "set -b /a !!": "'!!' is no base64: Only base64 data is allowed",
    "set /a two words": "'words' is no version; data with spaces needs quotes",
    "delete /a now": "delete [-v version] path",
    "create /b x world:anyone:r extra": "create [-s] [-e] [-c] [-t ttl] path [data] [acl]",
    "create /b x world:anyone:rq": "Unknown perm type: q",
    "setAcl /a world:anyone:r,bad": "bad does not have the form scheme:id:perm",
    "getAcl /a /b": "getAcl [-s] path",
    "addWatch relative": "Path must start with / character",
    "listquota relative": "Path must start with / character",
    "setquota -n 1 /a extra": "setquota -n|-b|-N|-B val path",
    "printwatches maybe": "printwatches on|off",
    "redo x": "redo cmdno",
    "redo 500": "Command index out of range",
    "redo -1": "Unrecognized option: -1",
    'set /a "x': 'a quote is not closed: "x',
    "deleteall /": "The root and /zookeeper cannot be deleted: name what is below the root.",
    "deleteall -b x /a": "-b argument must be an int value",
    "addauth nonsense x": "The server refused the authentication by nonsense.",
    "connect host:notaport": "connect string 'host:notaport': 'host:notaport' is no host:port",
    "help nonsense": "There is no command nonsense.",
    "create /\udc80 x": 'Invalid path string "/\udc80" caused by invalid character @1',
    "getEphemerals a": "Path must start with / character",
    "config x": "config [-c] [-w] [-s]",
    "close now": "close ",
}


def test_bad_input_is_refused(server: Server) -> None:
    """Each with a clear word, none with an effect."""
    populate(server, "/a")
    *answers, (_, stat, _) = ask(server, [*BAD, "get -s /a"])
    assert {line: err.rstrip("\n") for line, (_, _, err) in zip(BAD, answers, strict=True)} == BAD
    assert {(status, out) for status, out, _ in answers} == {(1, "")}
    assert "dataVersion = 0\naclVersion = 0" in stat
    assert tree(server) == {"/a"}


def test_a_command_that_does_not_exist(server: Server) -> None:
    ((status, out, err),) = ask(server, ["nonsense"])
    assert (status, out) == (NOT_FOUND, "")
    assert "\tls [-s] [-w] [-R] path\n" in err
    assert err.endswith("Command not found: Command not found nonsense\n")


def test_blank_lines_are_no_commands(server: Server) -> None:
    answers = ask(server, ["", "  \t ", "history"])
    assert answers == [(0, "", ""), (0, "", ""), (0, "0 - history\n", "")]


# Older spellings


def test_older_spellings(server: Server) -> None:
    populate(server, "/old", "/old/b", "/old/a")
    answers = ask(
        server,
        ["ls2 /old", "ls /old watch", "get /old 1", "stat /old true", "set /old x 0", "delete /old/a 0", "rmr /old"],
    )
    assert [status for status, _, _ in answers] == [0] * 7
    assert answers[0][1].startswith("[a, b]\ncZxid = ")
    assert all("deprecated" in err for _, _, err in answers)
    assert tree(server) == set()


def test_a_version_in_the_older_spelling_counts(server: Server) -> None:
    populate(server, "/v")
    answers = ask(server, ["set /v x 7", "delete /v 7", "set /v x 0", "delete /v 1"])
    assert [(status, err.splitlines()[-1]) for status, _, err in answers[:2]] == [
        (1, "version No is not valid : /v"),
        (1, "version No is not valid : /v"),
    ]
    assert [status for status, _, _ in answers[2:]] == [0, 0]


def test_older_watches_fire(server: Server) -> None:
    populate(server, "/w")
    answers = ask(server, ["ls2 /w watch", "get /w watch", "create /w/a", "set /w x"])
    assert "type:NodeChildrenChanged path:/w zxid: " in answers[2][1]
    assert "type:NodeDataChanged path:/w zxid: " in answers[3][1]


# JSON


def test_results_as_json(server: Server) -> None:
    found = results(
        server,
        "create /j text",
        "create /j/null",
        "create -s /j/s- x",
        "ls /j",
        "get /j",
        "get /j/null",
        "set -b /j //79",
        "get /j",
        "get -x /j",
        "get -b -s /j",
        "ls -R /j",
        "getAcl /j",
        "getAllChildrenNumber /j",
        "sync /j",
        "delete /j/null",
        "deleteall /j",
        "printwatches",
    )
    assert found[0]["created"] == "/j"
    assert found[2]["created"] == "/j/s-0000000001"
    assert found[3] == {"path": "/j", "children": ["null", "s-0000000001"]}
    assert found[4] == {"path": "/j", "data": "text"}
    assert found[5] == {"path": "/j/null", "data": None}
    assert found[6]["stat"]["version"] == 1
    assert found[7] == {"path": "/j", "data_base64": "//79"}
    assert found[8] == {"path": "/j", "data_hex": "fffefd"}
    assert found[9]["stat"]["data_length"] == 3
    assert found[9]["stat"]["kind"] == "persistent"
    assert found[10:13] == [{"path": "/j"}, {"path": "/j/null"}, {"path": "/j/s-0000000001"}]
    assert found[13]["acl"] == [{"scheme": "world", "id": "anyone", "permissions": "cdrwa"}]
    assert found[14:] == [
        {"path": "/j", "descendants": 2},
        {"path": "/j", "rc": 0},
        {"deleted": "/j/null"},
        {"deleted": "/j", "znodes": 2},
        {"printwatches": "on"},
    ]


def test_quotas_as_json(server: Server) -> None:
    populate(server, "/q", "/q/a")
    found = results(server, "setquota -n 1 /q", "listquota /q", "delquota -n /q", "delquota /q")
    limits = {"count": 1, "bytes": -1, "countHardLimit": -1, "byteHardLimit": -1}
    assert "less than the existing count:2" in found[0]["warning"]
    assert found[1] == {"path": "/q", "limits": limits}
    assert found[2] == {"path": "/q", "limits": limits, "usage": {"count": 2, "bytes": 0}}
    assert found[3:] == [{"path": "/q", "limits": {**limits, "count": -1}}, {"path": "/q", "limits": None}]
    assert "/zookeeper/quota/q" not in server.tree()


def test_events_and_errors_as_json(server: Server) -> None:
    populate(server, "/e")
    answers = ask(server, ["get -w /e", "set /e x", "get /none", "nonsense"], as_json=True)
    event, result = map(json.loads, answers[1][1].splitlines())
    assert event == {
        "event": "NodeDataChanged",
        "state": "SyncConnected",
        "path": "/e",
        "zxid": result["stat"]["mzxid"],
    }
    assert json.loads(answers[2][2]) == {"error": "Node does not exist: /none"}
    assert json.loads(answers[3][2].splitlines()[-1]) == {"error": "Command not found: Command not found nonsense"}


# Deleting


def test_dry_runs_delete_nothing(server: Server) -> None:
    populate(server, "/d", "/d/a", "/d/a/b")
    lines = ["deleteall --dry-run /d", "rmr -dry-run /d", "delete --dry-run /d/a/b"]
    deleted = [out for _, out, _ in ask(server, lines)]
    assert deleted == ["/d\n/d/a\n/d/a/b\n", "/d\n/d/a\n/d/a/b\n", "/d/a/b\n"]
    refused = ask(server, ["delete /d", "delete -v 3 /d/a/b", "delete /none", "deleteall /d/a"], dry_run=True)
    assert [status for status, _, _ in refused] == [1, 1, 1, 0]
    assert [err for _, _, err in refused] == [
        "Node not empty: /d\n",
        "version No is not valid : /d/a/b\n",
        "Node does not exist: /none\n",
        "",
    ]
    assert tree(server) == {"/d", "/d/a", "/d/a/b"}


@pytest.mark.parametrize("batch", ["", "-b 1", "-b 7", "-b 0", "-b -3"])
def test_deletes_in_batches(server: Server, batch: str) -> None:
    populate(server, "/kept", "/many", *(f"/many/{number}" for number in range(20)), "/many/3/x")
    assert ask(server, [f"deleteall /many {batch}"]) == [(0, "", "")]
    assert tree(server) == {"/kept"}


def test_deletes_what_others_create_meanwhile(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A znode that comes after the walk makes a batch fail: the rest is looked for again."""
    populate(server, "/many", "/many/a", "/many/b")

    async def scenario() -> tuple[int, str, str]:
        async with Session(server) as session, corral.connect(session.address) as other:
            before(session, lambda: other.create("/many/a/late"))
            return await session.run("deleteall /many")

    assert asyncio.run(scenario()) == (0, "", "")
    assert tree(server) == set()


def test_deletes_on_after_the_connection_broke(server: Server) -> None:
    populate(server, "/many", "/many/a", "/many/b")

    async def scenario() -> tuple[int, str, str]:
        async with Session(server) as session:

            async def cut() -> None:
                session.shell.client.reconnect()

            session.shell.events.is_on = False
            before(session, cut)
            return await session.run("deleteall /many")

    assert asyncio.run(scenario()) == (0, "", "")
    assert tree(server) == set()


def before(session: Session, action: Callable[[], Awaitable[object]]) -> None:
    """Let ``action`` happen before the first transaction of the shell."""
    client = session.shell.client
    make = client.transaction

    def transaction() -> corral.Transaction:
        made = make()
        commit = made.commit

        async def acting() -> Any:
            await action()
            return await commit()

        made.commit = acting  # type: ignore[method-assign]
        client.transaction = make  # type: ignore[method-assign]
        return made

    client.transaction = transaction  # type: ignore[method-assign]


def test_says_what_it_may_not_delete(server: Server) -> None:
    populate(server, "/kept", "/kept/a", "/kept/a/b")
    answers = ask(server, ["setAcl /kept/a world:anyone:rwa", "deleteall /kept", "setAcl /kept/a world:anyone:cdrwa"])
    assert answers[1] == (
        1,
        "",
        "Failed to delete some node(s) in the subtree!\nInsufficient permission : /kept/a/b\n",
    )
    assert tree(server) == {"/kept", "/kept/a", "/kept/a/b"}


# The session and the shell


def test_closed_and_connected_again(server: Server) -> None:
    lines = ["close", "ls /", "get /", "history", "version", "connect", "ls /", "close", "close"]
    answers = ask(server, lines)
    assert "state:Closed type:None path:null zxid: -1" in answers[0][1]
    assert answers[1][:2] == answers[2][:2] == answers[8][:2] == (1, "Not connected\n")
    assert answers[3][0] == answers[4][0] == 0
    assert "state:SyncConnected type:None path:null zxid: -1" in answers[5][1]
    assert answers[6][:2] == (0, "[zookeeper]\n")


def test_redo_and_history(server: Server) -> None:
    answers = ask(server, ["create /r", "delete /r", "redo 0", "redo 2", "redo 0x1", "history", "redo 9"])
    assert answers[2] == (0, "", "Created /r\n")
    assert answers[3] == (1, "", "Node already exists: /r\n")
    assert answers[4] == (0, "", "")
    assert answers[5][1].splitlines() == [
        "0 - create /r",
        "1 - delete /r",
        "2 - create /r",
        "3 - create /r",
        "4 - delete /r",
        "5 - history",
    ]
    assert answers[6] == (1, "", "Command index out of range\n")


def test_redo_does_not_redo_a_redo(server: Server) -> None:
    answers = ask(server, ["redo 9", "redo 0"])
    assert answers[1] == (1, "", "No redoing redos\n")


def test_the_history_shows_eleven_lines(server: Server) -> None:
    answers = ask(server, [*["printwatches"] * 15, "history"])
    assert [line.split()[0] for line in answers[-1][1].splitlines()] == [str(number) for number in range(5, 16)]


LINEARIZABLE = ["get -l /a", "stat -l /a", "ls -l /a", "ls -l -R /a", "sync -q /a"]


def test_linearizable_reads(server: Server) -> None:
    populate(server, "/a")
    plain = [line.replace("-l ", "").replace("-q ", "") for line in LINEARIZABLE]
    answers = ask(server, [*LINEARIZABLE, *plain])
    assert answers[: len(plain)] == answers[len(plain) :]
    assert {status for status, _, _ in answers} == {0}


def test_linearizable_reads_of_a_server_that_cannot(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    populate(server, "/a")
    for module in (reads, pipeline):
        monkeypatch.setattr(module, "reply_to_sync", lambda body, by_quorum: reply_to_sync(body))
    answers = ask(server, [*LINEARIZABLE, "get /a"])
    assert [(status, out) for status, out, _ in answers[:4]] == [(1, "")] * 4
    assert answers[0][2] == "KeeperErrorCode = Unimplemented for /a\n"
    assert answers[4][:2] == (1, "Sync has failed. rc=-6\n")
    assert answers[5][0] == 0


def test_help(server: Server) -> None:
    whole, one, more = ask(server, ["help", "help set", "help sync"])
    assert whole[0] == 0
    assert "\tgetAllChildrenNumber path" in whole[1].splitlines()
    assert one[1].splitlines() == [
        "set path data [-s] [-v version] [-b]",
        "Replace the data of a znode.",
        " -b         Supply data in base64 format",
        " -s         Print znode stats additionally",
        " -v <arg>   Set with an expected version",
    ]
    assert more[1].splitlines()[-1] == " -q   Fail unless a quorum confirms that it still leads"


def test_an_event_of_several_watches_is_told_once(server: Server) -> None:
    populate(server, "/w")
    lines = ["get -w /w", "stat -w /w", "addWatch -m PERSISTENT /w", "addWatch /w", "addWatch /", "set /w x"]
    out = ask(server, lines)[-1][1]
    assert out.count("WatchedEvent") == 1


def test_watches_are_forgotten_while_disconnected(zookeeper_server: Server) -> None:
    """``removewatches -l`` works without a connection, and no later one sets the watch again."""
    populate(zookeeper_server, "/w")

    async def scenario() -> tuple[tuple[int, str, str], bool]:
        async with Session(zookeeper_server) as session:
            await session.run("addWatch /w")
            session.shell.events.is_on = False
            client = session.shell.client
            await asyncio.to_thread(zookeeper_server.stop)
            await client.suspended()
            answer = await session.run("removewatches -l /w")
            await asyncio.to_thread(zookeeper_server.start)
            await client.connected()
            return answer, await client.has_watches("/w")

    assert asyncio.run(scenario()) == ((0, "", ""), False)


def test_a_lost_connection_and_the_next_one_are_told(server: Server) -> None:
    async def scenario() -> str:
        async with Session(server) as session:
            session.shell.client.reconnect()
            await session.shell.client.suspended()
            await session.shell.client.connected()
            return (await session.run("ls /"))[1]

    events = [line for line in asyncio.run(scenario()).splitlines() if line.startswith("WatchedEvent")]
    assert events == [
        "WatchedEvent state:Disconnected type:None path:null zxid: -1",
        "WatchedEvent state:SyncConnected type:None path:null zxid: -1",
    ]


def test_an_expired_session_is_told_and_another_one_begins(server: Server) -> None:
    async def scenario() -> tuple[list[str], int]:
        async with Session(server) as session:
            await session.run("create -e /mine")
            client = session.shell.client
            assert client.session is not None
            await asyncio.to_thread(server.expire_session, client.session.id)
            await client.lost()
            await client.connected()
            _, out, _ = await session.run("ls /")
            return out.splitlines(), session.shell.status

    lines, status = asyncio.run(scenario())
    states = re.findall(r"state:(\w+) type:None", "\n".join(lines))
    assert (states, lines[-1], status) == (["Disconnected", "Expired", "SyncConnected"], "[zookeeper]", 0)


def test_no_server(server: Server) -> None:
    """``connect`` to where nobody listens says so, and leaves a shell that is not connected."""
    status, out, err = ask(server, ["printwatches off", "connect 127.0.0.1:1", "ls /"], patience=0.2)[1:][0]
    assert (status, out) == (1, "")
    assert err.startswith("no server took the client within 0.2 s: 127.0.0.1:1: ")


def test_a_shell_that_never_connected_closes_in_peace(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> tuple[int, str, str]:
        session = Session(server)
        await session.shell.connect_in_background("127.0.0.1:1", 0.0)
        await session.run("printwatches off")
        answer = await session.run("close")
        await session.shell.leave()
        return answer

    assert asyncio.run(scenario()) == (0, "", "")
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_the_history_is_bounded(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral.cli.shell.shell.HISTORY_MAX", 3)
    answers = ask(server, ["create /h", "version", "version", "version", "redo 0", "redo 3"])
    assert answers[4] == (1, "", "Command index out of range\n")
    assert answers[5][0] == 0


# The ensemble


def test_members_of_a_file(server: Server, tmp_path: Path) -> None:
    """What a file says is read, and only what is about members is sent; this server is none to be reconfigured."""
    good, empty = tmp_path / "good.cfg", tmp_path / "empty.cfg"
    good.write_text("dataDir=/x\nserver.1 = 127.0.0.1:1:2;3\ngroup.1=1\nweight.1=1\n", encoding="utf-8")
    empty.write_text("dataDir=/x\n", encoding="utf-8")
    answers = ask(server, [f"reconfig -file {good}", f"reconfig -file {empty}", 'reconfig -add ""'])
    assert answers == [
        (1, "", "KeeperErrorCode = Reconfig is disabled\n"),
        (1, "", f"Error processing {empty}: it has no server.N line\n"),
        (1, "", "Arguments are not valid : \n"),
    ]


def test_where_an_ensemble_takes_clients() -> None:
    config = (
        "server.1=one:2888:3888:participant;0.0.0.0:2181\n"
        "server.2=two:2888:3888:observer;2182\n"
        "server.3=three:2888:3888\n"
        "version=1000000a0"
    )
    assert client_addresses(config) == ("1000000a0", ["0.0.0.0:2181", "0.0.0.0:2182"])


# Formats


def test_numbers_of_a_stat_are_unsigned(server: Server) -> None:
    stat = corral.Stat(-1, 2, 0, 0, -3, 0, 0, -(2**63), 0, 0, 2**40)
    lines = stat_lines(stat)
    assert lines[0] == "cZxid = 0xffffffffffffffff"
    assert lines[4] == "pZxid = 0x10000000000"
    assert lines[6] == "dataVersion = -3"
    assert lines[8] == "ephemeralOwner = 0x8000000000000000"


def test_times_are_javas() -> None:
    stat = corral.Stat(0, 0, 2**63 - 1, -1, 0, 0, 0, 0, 0, 0, 0)
    assert re.fullmatch(r"ctime = \w{3} Aug 1[67] \d\d:\d\d:55 \S+ 292278994", stat_lines(stat)[1])
    assert re.fullmatch(r"mtime = (?:Wed Dec 31|Thu Jan 01) \d\d:\d\d:59 \S+ 19(?:69|70)", stat_lines(stat)[3])


def test_hex_dump_has_sixteen_bytes_a_row() -> None:
    assert hex_dump(NULL) == []
    rows = hex_dump(bytes(range(17)) + b"AZ~\x7f")
    assert len(rows) == 6
    assert rows[3] == "|00000000| 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f |................|"
    assert rows[4] == "|00000010| 10 41 5a 7e 7f                                  |.AZ~.           |"
