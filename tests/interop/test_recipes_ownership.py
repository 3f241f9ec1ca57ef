"""Locks, semaphores and elections against both servers, together with contenders that kazoo and Curator run."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from tests.interop.kazoo_clients import WAIT_LIMIT_S, ClientFactory
from tests.interop.peers import CURATOR_JARS, HERE, QUIET_JVM, class_path
from tests.owners import check_ledger, open_ledger, own, records, until_children

from corral.client import Client, connect
from corral.recipes import CURATOR, KAZOO, Dialect, Election, LeaderLatch, Lease, Lock, ReadWriteLock, Semaphore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from kazoo.client import KazooClient
    from tests.interop.peers import Server


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(WAIT_LIMIT_S):
            await main

    asyncio.run(bounded())


@pytest.mark.parametrize("dialect", [KAZOO, CURATOR], ids=["kazoo", "curator"])
def test_exclusion_over_lost_connections_and_sessions(server: Server, root: str, dialect: Dialect) -> None:
    """One owner at a time, while connections break and clients come and go without a word."""

    async def main() -> None:
        hosts = f"{server.address}{root}"
        async with connect(hosts) as zk, connect(hosts, backoff_first=0.001, backoff_max=0.01) as restless:
            await open_ledger(zk)

            async def contend(client: Client, kind: Callable[..., Any]) -> None:
                for _ in range(5):
                    async with kind(client) as held:
                        await own(held)

            def lock(client: Client) -> Any:
                return Lock(client, "/owned", dialect=dialect)

            def writing(client: Client) -> Any:
                return ReadWriteLock(client, "/owned", dialect=dialect).write

            async def disturb() -> None:
                for _ in range(20):
                    await until_children(restless, "/owned", bool)
                    restless.reconnect()

            disturbing = asyncio.create_task(disturb())
            waiters = [asyncio.create_task(contend(zk, kind)) for kind in (lock, writing)]
            async with Semaphore(restless, "/limit", 2, dialect=dialect):
                for _ in range(5):
                    held = await lock(restless).acquire()
                    await held.release()
            await asyncio.gather(*waiters)
            disturbing.cancel()
            await check_ledger(zk)
            assert len(await records(zk)) == 20
            async with LeaderLatch(zk, "/owned", dialect=dialect) as latch:
                await latch.wait()
            await until_children(zk, "/owned", lambda names: not names)

    run(main())


def test_downgrade(server: Server, root: str) -> None:
    async def main() -> None:
        async with connect(f"{server.address}{root}") as zk:
            lock = ReadWriteLock(zk, "/lock")
            other = ReadWriteLock(zk, "/lock")
            async with lock.write as held:
                writing = asyncio.create_task(other.write.acquire())
                await until_children(zk, "/lock", lambda names: len(names) == 2)
                await lock.write.downgrade(held)
                await zk.sync()
                assert held.is_certain
                assert not writing.done()
            await (await writing).release()

    run(main())


class TestKazoo:
    def test_locks_exclude_each_other(self, server: Server, client: KazooClient, root: str) -> None:
        async def main() -> None:
            async with connect(server.address) as zk:
                theirs = client.Lock(f"{root}/lock", "theirs")
                ours = Lock(zk, f"{root}/lock", "ours")
                async with ours:
                    assert not await asyncio.to_thread(theirs.acquire, blocking=False)
                    waiting = asyncio.create_task(asyncio.to_thread(theirs.acquire, timeout=WAIT_LIMIT_S))
                    await until_children(zk, f"{root}/lock", lambda names: len(names) == 2)
                    assert await ours.contenders() == ["ours", "theirs"]
                    assert await asyncio.to_thread(theirs.contenders) == ["ours", "theirs"]
                assert await waiting
                assert await ours.try_acquire() is None
                acquiring = asyncio.create_task(ours.acquire())
                await until_children(zk, f"{root}/lock", lambda names: len(names) == 2)
                await asyncio.to_thread(theirs.release)
                await (await acquiring).release()

        run(main())

    def test_read_write_locks(self, server: Server, client: KazooClient, root: str) -> None:
        async def main() -> None:
            async with connect(server.address) as zk:
                path = f"{root}/lock"
                ours = ReadWriteLock(zk, path)
                reader, writer = client.ReadLock(path), client.WriteLock(path)
                async with ours.read:
                    assert await asyncio.to_thread(reader.acquire, timeout=WAIT_LIMIT_S)
                    assert not await asyncio.to_thread(writer.acquire, blocking=False)
                    assert await ours.write.try_acquire() is None
                    await asyncio.to_thread(reader.release)
                async with ours.write as held:
                    assert not await asyncio.to_thread(reader.acquire, blocking=False)
                    await ours.write.downgrade(held)
                    assert await asyncio.to_thread(reader.acquire, timeout=WAIT_LIMIT_S)
                    assert not await asyncio.to_thread(writer.acquire, blocking=False)
                    await asyncio.to_thread(reader.release)
                assert await asyncio.to_thread(writer.acquire, timeout=WAIT_LIMIT_S)
                assert await ours.read.try_acquire() is None
                await asyncio.to_thread(writer.release)

        run(main())

    def test_semaphores_share_their_permits(self, server: Server, clients: ClientFactory, root: str) -> None:
        async def main() -> None:
            async with connect(server.address) as zk:
                path = f"{root}/limit"
                theirs = [clients().Semaphore(path, f"theirs {number}", max_leases=2) for number in range(2)]
                ours = Semaphore(zk, path, 2, "ours")
                held = await ours.acquire()
                assert await asyncio.to_thread(theirs[0].acquire, timeout=WAIT_LIMIT_S)
                assert await ours.try_acquire() is None
                assert not await asyncio.to_thread(theirs[1].acquire, blocking=False)
                assert sorted(await ours.holders()) == ["ours", "theirs 0"]
                waiting = asyncio.create_task(ours.acquire())
                await until_children(zk, f"{path}-__lock__", lambda names: len(names) == 1)
                await asyncio.to_thread(theirs[0].release)
                await (await waiting).release()
                await held.release()
                with pytest.raises(ValueError, match="Inconsistent max leases"):
                    await asyncio.to_thread(clients().Semaphore(path, max_leases=3).acquire)

        run(main())

    def test_leases(self, server: Server, client: KazooClient, root: str) -> None:
        async def main() -> None:
            async with connect(server.address) as zk:
                ours = Lease(zk, f"{root}/lease", 3600, "ours")

                def theirs(identifier: str) -> bool:
                    hour = timedelta(hours=1)
                    return bool(client.NonBlockingLease(f"{root}/lease", hour, identifier=identifier))

                assert await ours.take()
                assert not await asyncio.to_thread(theirs, "theirs")
                assert await asyncio.to_thread(theirs, "ours"), "renewed by the same name"
                assert await ours.take()
                await ours.release()
                assert await asyncio.to_thread(theirs, "theirs")
                assert not await ours.take()
                assert await ours.holder() == "theirs"

        run(main())

    def test_elections(self, server: Server, client: KazooClient, root: str) -> None:
        async def main() -> None:
            async with connect(server.address) as zk:
                elected, retire = threading.Event(), threading.Event()

                def lead() -> None:
                    elected.set()
                    retire.wait(WAIT_LIMIT_S)

                theirs = client.Election(f"{root}/leader", "theirs")
                ours = Election(zk, f"{root}/leader", "ours")
                campaign = asyncio.create_task(asyncio.to_thread(theirs.run, lead))
                assert await asyncio.to_thread(elected.wait, WAIT_LIMIT_S)
                assert await ours.leader() == "theirs"

                async def our_turn(_: Any) -> str | None:
                    return await ours.leader()

                our_campaign = asyncio.create_task(ours.run(our_turn))
                await until_children(zk, f"{root}/leader", lambda names: len(names) == 2)
                retire.set()
                assert await our_campaign == "ours"
                await campaign

        run(main())


class CuratorOwner:
    """A JVM that owns what it is told to, with Curator's recipes; see java/CuratorOwner.java."""

    def __init__(self, address: str, classes: Path) -> None:
        command = ["java", *QUIET_JVM, "-cp", class_path(CURATOR_JARS, classes, HERE / "java"), "CuratorOwner", address]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _order(self, *words: str) -> bool:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(*words, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline().strip()
        assert answer in ("true", "false"), answer
        return answer == "true"

    async def acquire(self, kind: str, path: str, seconds: int = int(WAIT_LIMIT_S)) -> bool:
        return await asyncio.to_thread(self._order, "acquire", kind, path, str(seconds))

    async def release(self, kind: str, path: str) -> None:
        assert await asyncio.to_thread(self._order, "release", kind, path)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(WAIT_LIMIT_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()


@pytest.fixture(scope="module")
def curator(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CuratorOwner]:
    classes = tmp_path_factory.mktemp("classes")
    source = str(HERE / "java" / "CuratorOwner.java")
    subprocess.run(["javac", "-d", str(classes), "-cp", class_path(CURATOR_JARS), source], check=True)
    owner = CuratorOwner(server.address, classes)
    try:
        yield owner
    finally:
        owner.close()


class TestCurator:
    def test_curators_mutex(self, server: Server, curator: CuratorOwner, root: str) -> None:
        async def main() -> None:
            async with connect(server.address) as zk:
                path = f"{root}/lock"
                ours = Lock(zk, path, dialect=CURATOR)
                async with ours:
                    assert not await curator.acquire("mutex", path, 0)
                    waiting = asyncio.create_task(curator.acquire("mutex", path))
                    await until_children(zk, path, lambda names: len(names) == 2)
                assert await waiting
                assert await ours.try_acquire() is None
                acquiring = asyncio.create_task(ours.acquire())
                await until_children(zk, path, lambda names: len(names) == 2)
                await curator.release("mutex", path)
                await (await acquiring).release()

        run(main())

    def test_curators_read_write_lock(self, server: Server, curator: CuratorOwner, root: str) -> None:
        async def main() -> None:
            async with connect(server.address) as zk:
                path = f"{root}/lock"
                ours = ReadWriteLock(zk, path, dialect=CURATOR)
                async with ours.read:
                    assert await curator.acquire("read", path)
                    assert await ours.write.try_acquire() is None
                    await curator.release("read", path)
                    assert not await curator.acquire("write", path, 0)
                async with ours.write as held:
                    assert not await curator.acquire("read", path, 0)
                    await ours.write.downgrade(held)
                    assert await curator.acquire("read", path)
                    await curator.release("read", path)
                    assert not await curator.acquire("write", path, 0)
                assert await curator.acquire("write", path)
                assert await ours.read.try_acquire() is None
                await curator.release("write", path)

        run(main())

    def test_curators_semaphore(self, server: Server, curator: CuratorOwner, root: str) -> None:
        async def main() -> None:
            async with connect(server.address) as zk:
                path = f"{root}/limit"
                ours = Semaphore(zk, path, 2, dialect=CURATOR)
                first = await ours.acquire()
                assert await curator.acquire("semaphore", path)
                assert await ours.try_acquire() is None
                waiting = asyncio.create_task(ours.acquire())
                await until_children(zk, f"{path}/locks", lambda names: len(names) == 1)
                await curator.release("semaphore", path)
                second = await waiting
                assert not await curator.acquire("semaphore", path, 1)
                await first.release()
                assert await curator.acquire("semaphore", path)
                await curator.release("semaphore", path)
                await second.release()

        run(main())

    def test_curators_latch(self, server: Server, curator: CuratorOwner, root: str) -> None:
        async def main() -> None:
            async with connect(server.address) as zk:
                path = f"{root}/leader"
                async with LeaderLatch(zk, path, "ours", dialect=CURATOR) as ours:
                    await ours.wait()
                    leading = asyncio.create_task(curator.acquire("latch", path))
                    await until_children(zk, path, lambda names: len(names) == 2)
                    assert await ours.contenders() == ["ours", "theirs"]
                assert await leading
                async with LeaderLatch(zk, path, "ours", dialect=CURATOR) as ours:
                    await until_children(zk, path, lambda names: len(names) == 2)
                    assert await ours.contenders() == ["theirs", "ours"]
                    await curator.release("latch", path)
                    await ours.wait()

        run(main())
