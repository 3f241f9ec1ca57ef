"""Apache's shell (what zkCli.sh runs): the same commands print the same against Apache's server and Corral's."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Final

import pytest
from tests.interop.peers import APACHE_JARS, HERE, QUIET_JVM, SERVERS, class_path

if TYPE_CHECKING:
    from tests.interop.peers import Server

SHELL: Final = ("java", *QUIET_JVM, "-cp", class_path(APACHE_JARS, HERE / "java"), "org.apache.zookeeper.ZooKeeperMain")

COMMANDS: Final = """
printwatches off
create /a data
create /a/b
create /a/b/c xyz
create /a/s/t/u makes-no-parents
create -s /a/s- 1
create -s -e /a/es- 2
create -e /a/e 3
create -c /container
create -t 3600000 /ttl t
create -s -t 3600000 /ttl- t
create -c -e /both
create /a again
create /missing/child
create /a/e/child
create relative
create /acl x world:anyone:r,ip:10.0.0.0/8:cdrwa
create /acl2 x nonsense:x:r
create /acl3 x malformed
ls /
ls -s /a
ls -R /
ls -w /a
ls /missing
get /a
get -s /a
get -b /a
get -x /a
get -w /a
get /a/b
get /missing
stat /a
stat -w /a
stat /a/e
stat /container
stat /ttl
stat /missing
set /a changed
set -s /a twice
set -v 0 /a stale
set -v 2 /a thrice
set -b /a AAECAw==
set /missing x
set / root-data
get -s /
getAcl /a
getAcl -s /acl
getAcl /missing
setAcl /a/b world:anyone:cdr
setAcl -s -v 1 /a/b world:anyone:cdrwa
setAcl -v 0 /a/b world:anyone:r
setAcl -R /a world:anyone:cdrwa
setAcl /a nonsense:x:r
setAcl /a malformed
setAcl /acl world:anyone:cdrwa
set /acl x
create /closed x world:anyone:a
get /closed
stat /closed
ls /closed
delete /closed
whoami
addauth digest ann:secret
whoami
create /mine x auth::cdrwa
getAcl /mine
get -s /mine
getAllChildrenNumber /
getAllChildrenNumber /a
getAllChildrenNumber /missing
getEphemerals
getEphemerals /a/es
getEphemerals /x
setquota -n 3 /a
listquota /a
setquota -b 100 /a
setquota -N 50 /a
setquota -B 500 /a
listquota /a
create /a/quota-counts-this 12345
listquota /a
setquota -n 3 /a/b
delquota -n /a
listquota /a
delquota /a
listquota /a
setquota -n 3 /missing
config
config -s
config -c
reconfig -add server.2=127.0.0.1:1:2;3
reconfig -remove 2
reconfig -members server.1=127.0.0.1:1:2;3
sync /a
sync /missing
addWatch /a
addWatch -m PERSISTENT /a
addWatch -m nonsense /a
removewatches /a -p
removewatches /a
removewatches /container
delete /a
delete /a/b/c
delete -v 9 /a/b
delete -v 0 /a/b
delete /missing
delete /zookeeper
delete /
deleteall /a
deleteall /missing
create /zookeeper/own x
deleteall /zookeeper/own
ls -R /
get /zookeeper/config
set /zookeeper/config x
version
nonsense
close
ls /
""".strip().splitlines()

LIST: Final = re.compile(r"\[(/[^\]]+)\]")
PROMPT: Final = re.compile(r"\[zk: \S+\(\w+\) (\d+)\] ")
VARYING: Final = (
    (re.compile(r"[A-Z][a-z]{2} [A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d [A-Z]+ \d{4}"), "DATE"),
    (re.compile(r"ephemeralOwner = 0x[1-9a-f][0-9a-f]{10,}"), "ephemeralOwner = SESSION"),
    (re.compile(r"127\.0\.0\.1:\d{4,5}"), "ADDRESS"),
    (re.compile(r"session: 0x[0-9a-f]+"), "session: SESSION"),
    (re.compile(r"^.*(?:ERROR|WARN|INFO) +\[.*$", re.MULTILINE), "LOG LINE"),
)


def shell(server: Server, arguments: list[str], script: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the shell with a command, or without one on a script of commands."""
    command = [*SHELL, "-server", server.address, *arguments]
    return subprocess.run(
        command, input=script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Server]:
    """A server of each kind, still empty."""
    config: dict[str, str | int] = {"extendedTypesEnabled": "true", "reconfigEnabled": "true"}
    return {kind: server(tmp_path_factory.mktemp(kind) / "data", config) for kind, server in SERVERS.items()}


@pytest.fixture(scope="module")
def transcripts(servers: dict[str, Server]) -> dict[str, list[str]]:
    """What the shell printed for each command, by kind of server, without what depends on time and chance."""
    script = "\n".join([*COMMANDS, "quit"]) + "\n"
    found = {}
    for kind, server in servers.items():
        with server:
            output = shell(server, ["-waitforconnection"], script).stdout
        for pattern, replacement in VARYING:
            output = pattern.sub(replacement, output)
        # The order of paths in a list, and of lines, is nobody's promise.
        output = LIST.sub(lambda found: str(sorted(found[1].split(", "))), output)
        pieces = PROMPT.split(output)
        answers = dict(zip(map(int, pieces[1::2]), pieces[2::2], strict=True))
        found[kind] = ["\n".join(sorted(answers[number].splitlines())) for number in range(len(COMMANDS))]
    return found


@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=COMMANDS)
def test_prints_the_same(transcripts: dict[str, list[str]], number: int) -> None:
    assert transcripts["corral"][number] == transcripts["apache"][number]


def test_commands_did_what_they_say(transcripts: dict[str, list[str]]) -> None:
    answers = dict(zip(COMMANDS, transcripts["corral"], strict=True))
    assert answers["create /a data"] == "Created /a"
    assert answers["create -s /a/s- 1"] == "Created /a/s-0000000001"
    assert answers["get /a"] == "data"
    assert answers["create /a again"] == "Node already exists: /a"
    assert "numChildren = 4" in answers["stat /a"]
    assert answers["getEphemerals"] == "['/a/e', '/a/es-0000000002']"


@pytest.mark.parametrize(
    ("command", "status", "text"),
    [("ls /", 0, "[zookeeper]"), ("get /missing", 1, "Node does not exist: /missing"), ("sync /", 0, "Sync is OK")],
)
def test_single_command(server: Server, command: str, status: int, text: str) -> None:
    done = shell(server, ["-waitforconnection", *command.split()])
    assert (done.returncode, text in done.stdout) == (status, True), done.stdout
