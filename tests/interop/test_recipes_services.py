"""Configuration, membership, balancing, standby, dispatch and messages against both servers."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.interop.kazoo_clients import WAIT_LIMIT_S

from corral.client import ChangeKind, connect
from corral.jute.ops import OpCode
from corral.jute.records import ConnectRequest
from corral.recipes import (
    Balancer,
    ColdStandby,
    Command,
    CommandReceiver,
    Configuration,
    Console,
    DataclassCodec,
    Execution,
    HotStandby,
    Listener,
    Members,
    Message,
    Missed,
    Policy,
    Progress,
    ProgressBoard,
    ProgressReporter,
    Registration,
    Topic,
    notify,
    register_task,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tests.interop.peers import Server

    from corral.client import Client

PATIENT: Final[Any] = {"backoff_first": 1.0}


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(WAIT_LIMIT_S):
            await main

    asyncio.run(bounded())


async def end_session(zk: Client) -> None:
    """Close a client's session from another connection, as nobody but a thief of its password could.

    The client shall be one that waits a while (``PATIENT``) before it comes back: it would take its session along.
    """
    session = zk.session
    assert session is not None
    assert zk.server is not None
    host, _, port = zk.server.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    request = ConnectRequest(0, 0, 10_000, session.id, session.password).to_bytes()
    writer.write(struct.pack(">i", len(request)) + request)
    (length,) = struct.unpack(">i", await reader.readexactly(4))
    await reader.readexactly(length)
    writer.write(struct.pack(">iii", 8, 1, OpCode.CLOSE_SESSION))
    await reader.read()
    writer.close()


@dataclass(frozen=True)
class Limits:
    rate: int


def test_configuration(server: Server, root: str) -> None:
    async def main() -> None:
        hosts = f"{server.address}{root}"
        async with connect(hosts, **PATIENT) as zk, connect(hosts) as other:
            codec = DataclassCodec(Limits)
            published = Configuration(other, "/config", codec, history=2)
            async with Configuration(zk, "/config", codec, default=Limits(0)) as followed:
                changes = followed.changes()
                await published.publish(Limits(1))
                assert (await anext(changes)).value == Limits(1)
                zk.reconnect()
                await published.publish(Limits(2), version=0)
                assert (await anext(changes)).value == Limits(2)
                await end_session(zk)
                await other.set("/config", b"bad")
                assert (await anext(changes)).error is not None
                assert followed.value == Limits(2)
                assert await published.rollback(1) == 3
                assert (await anext(changes)).version == 3
                assert [each.version for each in await published.history()] == [2, 3]

    run(main())


def test_membership_and_balancing(server: Server, root: str) -> None:
    async def main() -> None:
        hosts = f"{server.address}{root}"
        async with connect(hosts, **PATIENT) as zk, connect(hosts) as other, Members(other, "/web") as members:
            async with Registration(zk, "/web", "a", b"1") as first, Registration(zk, "/web", "b", b"2"):
                await members.wait_for(lambda them: len(them) == 2)
                zxid = first.zxid
                await end_session(zk)
                await members.wait_for(lambda them: len(them) == 2 and all(each.zxid > zxid for each in them))
                await first.update(b"3")
                await members.refresh()
                assert [each.data for each in members] == [b"3", b"2"]
                for policy in (Policy.LEAST_VISITED, Policy.ROUND_ROBIN):
                    balancer = Balancer(other, members, f"/{policy.name}", policy)
                    assert Counter([(await balancer.pick()).name for _ in range(8)]) == {"a": 4, "b": 4}
                balancer = Balancer(other, members, "/used", Policy.LEAST_USED)
                async with balancer.use(), balancer.use(), balancer.use():
                    assert sorted(load.uses for load in await balancer.loads()) == [1, 2]
                assert [load.uses for load in await balancer.loads()] == [0, 0]
            await members.wait_for(lambda them: len(them) == 0)

    run(main())


async def count_up(execution: Execution) -> None:
    for number in range(int(execution.last_commit or b"0") + 1, 10):
        await execution.commit(b"%d" % number)


def test_standby(server: Server, root: str) -> None:
    async def main() -> None:
        hosts = f"{server.address}{root}"
        async with connect(hosts, **PATIENT) as zk, connect(hosts, **PATIENT) as other:
            lost: list[int] = []

            async def lose_once(execution: Execution) -> None:
                if not lost:
                    await execution.commit(b"5")
                    lost.append(execution.held.token)
                    await end_session(execution.held.client)
                    await asyncio.Event().wait()
                assert execution.last_commit == b"5"
                assert execution.held.token > lost[0]
                await count_up(execution)

            await asyncio.gather(*[HotStandby(each, "/hot", lose_once).run() for each in (zk, other)])
            assert (await zk.get("/hot/lastCommit")).data == b"9"

            names = [f"task-{number}" for number in range(4)]
            for name in names:
                await register_task(zk, f"/cold/{name}")
            workers = [asyncio.ensure_future(ColdStandby(each, "/cold", count_up).run()) for each in (zk, other)]
            async with zk.cache("/cold") as cache:
                changes = cache.changes()
                while not all(f"/cold/{name}/finished" in cache for name in names):
                    if (await anext(changes)).kind is ChangeKind.PUT:
                        zk.reconnect()
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers)
            for name in names:
                assert (await zk.get(f"/cold/{name}/lastCommit")).data == b"9"
                assert await zk.get_children(f"/cold/{name}/instances") == []

    run(main())


def test_progress_and_dispatch(server: Server, root: str) -> None:
    async def main() -> None:
        hosts = f"{server.address}{root}"

        async def obey(command: Command) -> bytes:
            return command.body.upper()

        async with (
            connect(hosts) as zk,
            connect(hosts) as other,
            ProgressBoard(other, "/progress") as board,
            ProgressReporter(zk, "/progress", "a") as reporter,
            Console(other, "/group", kept=2) as console,
            CommandReceiver(zk, "/group", "a", obey),
        ):
            reporter.report(1, 2)
            await board.wait_for(lambda them: [each.progress for each in them] == [Progress(1.0, 2.0)])
            await console.workers.wait_for(lambda them: len(them) == 1)
            for body in (b"one", b"two", b"three"):
                zk.reconnect()
                answers = await (await console.send(body)).results()
                assert answers["a"].result == body.upper()
            assert len(await zk.get_children("/group/commands")) == 2

    run(main())


def test_messages(server: Server, root: str) -> None:
    async def main() -> None:
        hosts = f"{server.address}{root}"
        async with connect(hosts, **PATIENT) as zk, connect(hosts) as other, Listener(zk, "/bell") as listener:
            topic = Topic(other, "/topic", kept=10)
            async with Topic(zk, "/topic").subscribe("name", from_oldest=True) as messages:
                for number in range(3):
                    assert await topic.publish(b"%d" % number) == number
                    zk.reconnect()
                    news = await anext(messages)
                    assert isinstance(news, Message)
                    assert news.data == b"%d" % number
                    await messages.acknowledge(news)
            for number in range(3, 40):
                await topic.publish(b"%d" % number)
            async with Topic(zk, "/topic").subscribe("name") as messages:
                assert await anext(messages) == Missed(27)
                assert [(await anext(messages))[0] for _ in range(10)] == list(range(30, 40))
            await notify(other, "/bell", b"ring")
            assert (await anext(listener)).data == b"ring"
            await end_session(zk)
            await notify(other, "/bell", b"again")
            assert (await anext(listener))[::2] == (b"again", 0)

    run(main())
