"""``corral shell`` beside Apache's shell: the same lines, on the same server, print the same.

Both shells get one script on standard input. After each line stand two more that print something which no other line
prints, one on either stream, so that the output can be told apart by line.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

import pytest
from tests.interop.peers import APACHE_JARS, HERE, QUIET_JVM, SERVERS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.interop.peers import Server

LINES: Final = r"""
create /a data
create /a/b
create /a/b/c xyz
create /a/empty ""
create /a/s/t/u makes-no-parents
create -s /a/s- 1
create -se /a/es- 2
create -s -e /a/es- 2
create -e /a/e 3
create -s /a/
create -c /container
create -t 3600000 /ttl t
create -t3600000 /ttl2 t
create -t=3600000 /ttl3 t
create -s -t 3600000 /ttl- t
create -c -e /both
create -c -s /both
create -t 5 -e /both
create -t 5 -c /both
create -t x /both
create -t 0 /both
create -t 99999999999999 /both
create -t /both
create -q /both
create -sq /both
create -e=1 /both
create --ephemeral /both
create
create ""
create /a again
create /missing/child
create /a/e/child
create relative
create /trailing/
create /a//b
create /a/./b
create /a/../b
create /a/.. x
create /.x dotted
create "/with space" "some data"
get "/with space"
create '/single' 'it''s'
get /single
create /tab "a	b"
get /tab
create   /many    spaces
get /many
create /umlaut äöü€
get -s /umlaut
get -x /umlaut
get -b /umlaut
create -- /dashes -data
get /dashes
create /acl x world:anyone:r,ip:10.0.0.0/8:cdrwa
create /acl2 x nonsense:x:r
create /acl3 x malformed
create /acl5 x digest:joe:Zm9v=:cdrwa
getAcl /acl5
ls /
ls
ls -s /a
ls -s /a/b/c
ls -R /
ls -R /a
ls -R /missing
ls -w /container
ls -sw /container
ls /missing
ls relative
ls /a/
ls -q /a
ls /container watch
get
get /a
get -s /a
get -b /a
get -x /a
get -xs /a
get -b -x /a
get -w /a
get /a/b
get -b /a/b
get -x /a/b
get -s /a/b
get /a/empty
get -x /a/empty
get -b /a/empty
get /a watch
get /missing
get relative
get -z /a
create /long 0123456789abcdef0123456789abcdef~~xy
get -x /long
stat
stat /a
stat -w /a
stat /a watch
stat /a/e
stat /container
stat /ttl
stat /ttl-0000000007
stat /missing
stat relative
set /a changed
set -s /a twice
set /a -s thrice
set -v 0 /a stale
set -v 4 /a fourth
set /a -v 1 stale
set -b /a AAECAw==
get -x /a
get /a
set /missing x
set relative x
set /a
set
set / root-data
get -s /
set /a "two words"
get /a
getAcl
getAcl /a
getAcl -s /acl
getAcl /missing
getAcl relative
setAcl
setAcl /a/b
setAcl /a/b world:anyone:cdra
setAcl -s -v 1 /a/b world:anyone:cdrwa
setAcl -v 0 /a/b world:anyone:r
setAcl -R /a world:anyone:cdrwa
setAcl -R /missing world:anyone:cdrwa
setAcl /a nonsense:x:r
setAcl /a malformed
setAcl /missing world:anyone:r
setAcl relative world:anyone:r
setAcl /acl world:anyone:cdrwa
set /acl x
create /closed x world:anyone:a
get /closed
set /closed y
stat /closed
ls /closed
ls -R /closed
create /closed/below
delete /closed
whoami
addauth
addauth digest ann:secret
whoami
create /mine x auth::cdrwa
getAcl /mine
get -s /mine
getAllChildrenNumber
getAllChildrenNumber /
getAllChildrenNumber /a
getAllChildrenNumber /missing
getAllChildrenNumber relative
getEphemerals
getEphemerals /a/es
getEphemerals /x
getEphemerals relative
setquota
setquota /a
setquota -n 3
setquota -n 3 -b 4 /a
setquota -n x /a
setquota -n 0 /a
setquota -n -5 /a
setquota -b -1 /a
setquota -B 99999999999 /a/b/c
listquota /a/b/c
delquota /a/b/c
ls -R /zookeeper
setquota -n 3 /a
ls -R /zookeeper/quota
get -s /zookeeper/quota/a
get /zookeeper/quota/a/zookeeper_limits
get /zookeeper/quota/a/zookeeper_stats
listquota
listquota /a
setquota -b 1 /a
setquota -N 50 /a
setquota -B 500 /a
listquota /a
create /a/quota-counts-this 12345
listquota /a
setquota -N 3 /a
create /a/over-the-hard-limit
setquota -n 3 /a/b
setquota -n 3 /zookeeper/quota/a
setquota -n 3 relative
setquota -n 9 /with
delquota
delquota -n -b /a
delquota -q /a
delquota -n /a
listquota /a
delquota -B /a
get /zookeeper/quota/a/zookeeper_limits
delquota /a
ls /zookeeper/quota
delquota /a
delquota -n /a
listquota /a
create /deep
create /deep/er
setquota -n 5 /deep/er
setquota -n 5 /deep
setquota -n 1 /deep/er/missing
delquota /deep/er
ls -R /zookeeper/quota
setquota -n 3 /missing
config
config -s
config -c
config -q
reconfig
reconfig -add server.2=127.0.0.1:1:2;3
reconfig -remove 2
reconfig -members server.1=127.0.0.1:1:2;3
reconfig -add server.2=127.0.0.1:1:2;3 -members server.1=127.0.0.1:1:2;3
reconfig -file /nowhere -members server.1=127.0.0.1:1:2;3
reconfig -v xyz -remove 2
reconfig -v 100000000 -remove 2
reconfig -file /nowhere
sync
sync /a
sync /missing
sync relative
addWatch
addWatch -m nonsense /a
addWatch -m
removewatches
removewatches /container/none
removewatches -c /container/none
removewatches -d /container/none
removewatches relative
delete
delete /a
delete /a/b/c
delete -v 9 /a/b
delete -v 0 /a/b
delete /missing
delete relative
delete /zookeeper
delete /
delete /zookeeper/quota
deleteall
deleteall -b x /a
deleteall /a
deleteall /missing
deleteall relative
deleteall -b 1 /deep
deleteall -b 0 /ttl
create /many/1
create /many/2
create /many/3
create /many/2/x
deleteall /many -b 2
create /zookeeper/own x
deleteall /zookeeper/own
ls -R /
get /zookeeper/config
set /zookeeper/config x
delete /zookeeper/config
redo
redo 0
history
redo 3
connect
ls /
""".strip("\n").splitlines()

EVENTS: Final = """
create /w data
get -w /w
set /w 1
set /w 2
stat -w /w
delete /w
stat -w /w
create /w
ls -w /w
create /w/a
create /w/b
get -w /w
ls -w /w
delete /w/a
get -w /w
stat -w /w
ls -w /w/b
get -w /w/b
deleteall /w
create /w
addWatch -m PERSISTENT /w
create /w/a
set /w x
set /w/a x
addWatch -m persistent_recursive /w
set /w y
set /w/a z
create /w/a/b
ls -R -w /w
delete /w/a/b
removewatches /w
set /w/a z
get -w /w
set /w between
get -w /w
ls -w /w
removewatches -c /w
removewatches -d /w
removewatches /w
addWatch /w
removewatches -p /w
removewatches -r /w
sync /
sync /
sync /
printwatches off
get -w /w
set /w off
sync /
sync /
sync /
printwatches on
get -w /w
set /w on
config -w
removewatches /zookeeper/config
connect
create /end
""".strip().splitlines()

MARK: Final = re.compile(r"^printwatches is (?:on|off)\n", re.MULTILINE)
ERROR_MARK: Final = re.compile(r"^Command index out of range\n", re.MULTILINE)
MARKS: Final = ("printwatches", "redo 987654")

EVENT: Final = re.compile(r"\n(?:WATCHER::|(WatchedEvent .*))\n")
"""One of the two parts of an event: a result may come between them, as each shell prints them by the way."""

VARYING: Final = (
    (re.compile(r"[A-Z][a-z]{2} [A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d [A-Z]+ \d{4}"), "DATE"),
    (re.compile(r"Zxid = 0x[0-9a-f]+"), "Zxid = ZXID"),
    (re.compile(r"zxid: \d+"), "zxid: ZXID"),
    (re.compile(r"ephemeralOwner = 0x[1-9a-f][0-9a-f]{10,}"), "ephemeralOwner = SESSION"),
    (re.compile(r"127\.0\.0\.1:\d{4,5}"), "ADDRESS"),
    (
        re.compile(
            r"^\d{4}-\d\d-\d\d \d\d:.*\n(?:(?:java|org)\.\S+: .*\n|\tat .*\n|\t\.\.\. .*\n|Caused by.*\n)*",
            re.MULTILINE,
        ),
        "",
    ),
    (re.compile(r"\borg\.apache\.commons\.cli\.\w+: "), ""),
    # The list of all commands is longer where there are more.
    (re.compile(r"^(?:ZooKeeper -server|corral shell --server) .*\n(?:\t.*\n)+", re.MULTILINE), "USAGE\n"),
)
GREETING: Final = re.compile(
    r"Connecting to .*\n(?:\nWATCHER::\n\nWatchedEvent state:SyncConnected type:None path:null zxid: -1\n)?"
    r"(?:Welcome to ZooKeeper!\nJLine support is disabled\n)?"
)
CONFIG: Final[dict[str, str | int]] = {
    "extendedTypesEnabled": "true",
    "reconfigEnabled": "true",
    "enforceQuota": "true",
}
PATHS: Final = re.compile(r"\[(/[^\]]+)\]")


OWN_WORDS: Final = {
    "create '/single' 'it''s'": "s does not have the form scheme:id:perm",
    "create /acl2 x nonsense:x:r": "Acl is not valid : /acl2",
    "create /acl3 x malformed": "malformed does not have the form scheme:id:perm",
    "setAcl /a malformed": "malformed does not have the form scheme:id:perm",
    "reconfig -file /nowhere": "Error processing /nowhere: No such file or directory",
    "redo": "redo cmdno",
}
"""Where the complaint is worded otherwise: once instead of twice, with the reason, or at all."""

CLOSED: Final = (
    "close",
    "ls /",
    "create /x",
    "get -w /x",
    "delete /x",
    "whoami",
    "connect",
    "ls /",
    "close",
    "connect",
    "ls /",
)
UNQUOTED: Final = (("ls", "/"), ("get", "/missing"), ("get", "-q", "/"), ("nonsense",), ("create", "/b c", "d e"))


@dataclass(frozen=True)
class Answers:
    """What a shell printed for each line, and all events that it told of."""

    out: list[str]
    err: list[str]
    events: list[str]
    status: int


def apaches_shell(server: Server) -> list[str]:
    """Without the library for line editing, which writes prompts between the results."""
    jars = [str(jar) for jar in sorted(APACHE_JARS.glob("*.jar")) if not jar.name.startswith("jline")]
    path = os.pathsep.join([str(HERE / "java"), *jars])
    flags = (*QUIET_JVM, "-Dfile.encoding=UTF-8", "-cp", path)
    return ["java", *flags, "org.apache.zookeeper.ZooKeeperMain", "-server", server.address, "-waitforconnection"]


def corrals_shell(server: Server) -> list[str]:
    return [sys.executable, "-m", "corral", "shell", "-server", server.address, "-waitforconnection"]


SHELLS: Final = {"apache": apaches_shell, "corral": corrals_shell}


def run(shell: str, server: Server, arguments: Sequence[str] = (), script: str = "") -> tuple[str, str, int]:
    """What a shell prints to either stream, without what depends on time and chance, and its exit status."""
    environment = {**os.environ, "TZ": "Europe/Berlin", "LC_ALL": "C.UTF-8"}
    command = [*SHELLS[shell](server), *arguments]
    done = subprocess.run(
        command, input=script, capture_output=True, text=True, timeout=100, check=False, env=environment
    )
    out, err = done.stdout, done.stderr
    for pattern, replacement in VARYING:
        out, err = pattern.sub(replacement, out), pattern.sub(replacement, err)
    # What is said before the first line, and that the first connection was made, is for people only.
    out = GREETING.sub("", out, count=1)
    # The order of paths that are in no order is nobody's promise.
    out = PATHS.sub(lambda found: f"[{', '.join(sorted(found[1].split(', ')))}]", out)
    return out, err, done.returncode


def ask(shell: str, server: Server, lines: Sequence[str], *, print_watches: bool) -> Answers:
    """What a shell prints for each of the lines."""
    mark = "".join(f"{line}\n" for line in MARKS)
    beginning = "" if print_watches else "printwatches off\n"
    script = beginning + mark + "".join(f"{line}\n{mark}" for line in lines)
    out, err, status = run(shell, server, script=script)
    answers, complaints = MARK.split(EVENT.sub("", out)), ERROR_MARK.split(err)
    assert len(answers) == len(complaints) == len(lines) + 2
    # In which order the kinds of watches go that are removed at once is chance with Apache's shell.
    runs = groupby((event for event in EVENT.findall(out) if event), lambda event: "WatchRemoved" in event)
    events = [event for is_removal, them in runs for event in (sorted(them) if is_removal else them)]
    return Answers(answers[1:-1], [text.rstrip("\n") for text in complaints[1:-1]], events, status)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Answers]:
    """To all lines, by server and shell."""
    found = {}
    for kind, server in SERVERS.items():
        for shell in SHELLS:
            with server(tmp_path_factory.mktemp(kind) / "data", CONFIG) as running:
                found[kind, shell] = ask(shell, running, LINES, print_watches=False)
    return found


@pytest.mark.parametrize("kind", sorted(SERVERS))
@pytest.mark.parametrize("number", range(len(LINES)), ids=LINES)
def test_prints_the_same(answers: dict[tuple[str, str], Answers], kind: str, number: int) -> None:
    apache, corral = answers[kind, "apache"], answers[kind, "corral"]
    assert corral.out[number] == apache.out[number]
    assert corral.err[number] == OWN_WORDS.get(LINES[number], apache.err[number])


def test_lines_did_what_they_say(answers: dict[tuple[str, str], Answers]) -> None:
    corral = answers["apache", "corral"]
    told = dict(zip(LINES, zip(corral.out, corral.err, strict=True), strict=True))
    assert told["create /a data"] == ("", "Created /a")
    assert told["get /a/b"] == ("null\n", "")
    assert told["get /single"] == ("", "Node does not exist: /single")
    assert told["setquota -n 3 /a/b"] == ("", "/a/b has a parent /a which has a quota")
    assert told["create /a/over-the-hard-limit"] == ("", "Quota has exceeded : /a/over-the-hard-limit")
    assert told["deleteall /many -b 2"] == ("", "")
    assert "DATE" in told["stat /a"][0]
    assert corral.status == 1


@pytest.mark.parametrize("kind", sorted(SERVERS))
def test_watches_tell_the_same(tmp_path: Path, kind: str) -> None:
    told = {}
    for shell in SHELLS:
        with SERVERS[kind](tmp_path / shell, CONFIG) as server:
            told[shell] = ask(shell, server, EVENTS, print_watches=True)
    assert "\n".join(told["corral"].events) == "\n".join(told["apache"].events)
    assert told["corral"] == told["apache"]
    assert len(told["corral"].events) > len(EVENTS) // 3


def test_a_closed_shell_says_the_same(tmp_path: Path) -> None:
    with SERVERS["corral"](tmp_path / "data", CONFIG) as server:
        script = "\n".join(CLOSED)
        apache, corral = (run(shell, server, script=script) for shell in ("apache", "corral"))
    assert corral[0].count("Not connected\n") == 5
    # Events are printed by a thread of their own: between which lines they stand is chance.
    assert EVENT.findall(corral[0]) == EVENT.findall(apache[0])
    assert EVENT.sub("", corral[0]) == EVENT.sub("", apache[0])
    # Apache's shell counts a line that could not be run as a success.
    assert corral[1] == apache[1]


@pytest.mark.parametrize("words", UNQUOTED, ids=" ".join)
def test_single_command(server: Server, words: tuple[str, ...]) -> None:
    apache = run("apache", server, words)
    if words[0] == "create":
        assert run("corral", server, ["get", words[1]]) == (f"{words[2]}\n", "", 0)
        run("corral", server, ["delete", words[1]])
    assert run("corral", server, words) == apache
