"""Changes of the members, asked of either kind of ensemble: the same answers, and the same words of the shell."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.interop.test_dynamic_files import PATIENCE_S, BothKinds, both_kinds

import corral
from corral.client import Client
from corral.client.results import decode_znode
from corral.jute.ops import OpCode
from corral.jute.records import ReconfigRequest

pytestmark = pytest.mark.timeout(2 * PATIENCE_S)
SUPER_DIGEST = "super:xQJmxLMiHGwaqBvst5y6rkB6HQs="
"""The id that the password ``admin`` gives."""
FOUR = "server.4=127.0.0.1:21:22;127.0.0.1:23"
FIVE = "server.5=127.0.0.1:31:32;127.0.0.1:33"
SIX = "server.6=127.0.0.1:41:42;127.0.0.1:43"


async def outcome(zk: Client, joining: str | None, leaving: str | None, members: str | None, version: int) -> str:
    """The new members without the version, or the name of the error."""
    request = ReconfigRequest(joining, leaving, members, version)
    try:
        changed = await zk.submit(OpCode.RECONFIG, request.to_bytes(), decode_znode, "reconfig", repeatable=False)
    except corral.KeeperError as error:
        return type(error).__name__
    text, _, found = changed.data.decode().rpartition("version=")
    assert int(found, 16) == changed.stat.mzxid
    return text


async def answers(them: BothKinds) -> list[tuple[str, str]]:
    """What becomes of many requests, one after the other, with the members' own lines left out."""
    lines = {sid: them.line(sid) for sid in (1, 2, 3)}
    everybody = ",".join(lines.values())
    found: list[tuple[str, str]] = []

    async def ask(
        name: str,
        *,
        joining: str | None = None,
        leaving: str | None = None,
        members: str | None = None,
        version: int = -1,
    ) -> None:
        text = await outcome(zk, joining, leaving, members, version)
        for sid, line in lines.items():
            text = text.replace(line, f"<{sid}>").replace(line.partition(";")[0], f"<{sid} without clients>")
        found.append((name, text))

    async with corral.connect(them.hosts(), session_timeout=20, connect_timeout=40) as zk:
        await ask("without rights", leaving="3")
        await ask("without rights, another version", leaving="3", version=7)
        await ask("without rights, nobody there", members=f"{FOUR},{FIVE}")
        await zk.add_auth("digest", b"super:admin")
        await ask("another version", leaving="3", version=7)
        await ask("a negative version", leaving="3", version=-2)
        await ask("one voter is left", leaving="1,2")
        await ask("nobody is left", leaving="1,2,3")
        await ask("a stranger leaves", leaving="9")
        await ask("nothing changes")
        await ask("empty lists", joining="", leaving="")
        await ask("no members", members="")
        await ask("no client port", joining="server.4=127.0.0.1:21:22")
        await ask("no address", joining="server.4")
        await ask("two addresses", joining="server.4=127.0.0.1:21:22;23=4")
        await ask("a number alone joins", joining="4=127.0.0.1:21:22;23")
        await ask("it leaves", leaving="4")
        await ask("a group joins", joining="group.1=1:2:3")
        await ask("no such role", joining="server.4=127.0.0.1:21:22:leader;23")
        await ask("one port twice", joining="server.4=127.0.0.1:21:21;23")
        await ask("4 joins unseen", joining=FOUR)
        await ask("5 joins unseen", joining=FIVE)
        await ask("6 joins unseen", joining=SIX)
        await ask("they leave", leaving="4, 5 ,6")
        await ask("the same joins", joining=lines[1])
        await ask("one joins and leaves", joining=FOUR, leaving="4")
        await ask("another role", joining=FOUR.replace(";", ":observer;"))
        await ask("said twice", joining=f"{FOUR},{FOUR.replace(':21:', ':24:')}")
        await ask("it leaves again", leaving="4")
        await ask("no quorum of the new ones", members=f"{FOUR},{FIVE},{lines[1]}")
        await ask("members, and others that join", members=everybody, joining=FOUR, leaving="1")
        await ask("members line by line", members=everybody.replace(",", "\n"))
        await ask("one member", members=lines[1])
        await ask("nonsense", members="nonsense")
        await ask("another key", members=f"{everybody},tickTime=7")
        await ask("a version among them", members=f"{everybody},version=7")
        await ask("no client ports", members=",".join(line.partition(";")[0] for line in lines.values()))
        await ask("all", members=everybody)
        await ask("weights alone", members=f"{everybody},weight.1=2")
        await ask("one in no group", members=f"{everybody},group.1=1:2")
        await ask("one in two groups", members=f"{everybody},group.1=1:2:3,group.2=3")
        await ask("groups", members=f"{everybody},group.1=1:2:3,weight.1=2")
        await ask("one leaves groups", leaving="3")
        await ask("no groups any more", members=everybody)
    return found


def shell(them: BothKinds, *commands: str) -> str:
    """What the shell prints for the commands, without what differs from run to run."""
    command = [sys.executable, "-m", "corral", "shell", "-server", them.hosts(2)]
    run = subprocess.run(
        command,
        check=False,
        input="\n".join(commands),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
    )
    text = re.sub(r"(?m)^(ctime|mtime|[cmp]Zxid|cversion|dataVersion|version) ?=.*", r"\1", run.stdout)
    text = re.sub(r"\b\d00000[0-9a-f]+\b", "VERSION", text)
    for sid in (1, 2, 3):
        text = text.replace(them.line(sid).partition("=")[2], f"<{sid}>").replace(f":{them.ports[sid]}", f":<{sid}>")
    return text


def test_either_kind_answers_the_same(tmp_path: Path) -> None:
    async def main(layout: str) -> tuple[list[tuple[str, str]], list[str]]:
        settings = {"skipACL": "no", "DigestAuthenticationProvider.superDigest": SUPER_DIGEST}
        async with both_kinds(tmp_path / layout, layout, **settings) as them:
            await them.start(1, 2, 3)
            await them.take_part(1, 2, 3)
            found = await answers(them)
            printed = [
                await asyncio.to_thread(shell, them, *commands)
                for commands in (
                    ["reconfig -remove 1"],
                    ["reconfig -remove 1 -v 7"],
                    [
                        "addauth digest super:admin",
                        "config",
                        "config -c",
                        "config -s",
                        "reconfig -remove 1",
                        "config -c",
                        f"reconfig -add {them.line(1)}",
                        "reconfig -add server.4=nonsense",
                        "reconfig -remove 1,2",
                        f"reconfig -members {FOUR},{FIVE}",
                        "reconfig -add server.4=127.0.0.1:1:2:observer;127.0.0.1:3 -remove 4 -s",
                        "reconfig -remove 4",
                        "getAcl /zookeeper/config",
                        "setAcl /zookeeper/config world:anyone:rw",
                    ],
                    ["reconfig -remove 1", "config -c"],
                )
            ]
            return found, printed

    (found, printed), (theirs, their_words) = asyncio.run(main("CCC")), asyncio.run(main("AAA"))
    assert found == theirs
    assert printed == their_words
    # Not all the same for the wrong reason.
    assert dict(found)["without rights"] == "NoAuthError"
    assert dict(found)["one leaves groups"] == "BadArgumentsError"
    assert dict(found)["4 joins unseen"].startswith("<1>\n<2>\n<3>\nserver.4=")
    assert "Committed new configuration:" in printed[2]


def test_reconfig_is_off_by_default(tmp_path: Path) -> None:
    async def main(layout: str) -> str:
        async with both_kinds(tmp_path / layout, layout, reconfigEnabled="false") as them:
            await them.start(1, 2, 3)
            await them.take_part(1, 2, 3)
            async with corral.connect(them.hosts(), session_timeout=20, connect_timeout=40) as zk:
                return await outcome(zk, None, "3", None, -1)

    assert asyncio.run(main("CCC")) == asyncio.run(main("AAA")) == "ReconfigDisabledError"
