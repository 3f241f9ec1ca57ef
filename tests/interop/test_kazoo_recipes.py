"""kazoo's recipes, which lean on ephemerals, sequences, watches and versions all at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, TypeVar

from kazoo.recipe.cache import TreeCache
from tests.interop.kazoo_clients import WAIT_LIMIT_S, ClientFactory, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kazoo.client import KazooClient

CONTENDERS: Final = 4

A = TypeVar("A")
R = TypeVar("R")


def in_threads(function: Callable[[A], R], arguments: Iterable[A]) -> list[R]:
    """Calls the function with each argument, all at the same time."""
    given = list(arguments)
    with ThreadPoolExecutor(len(given)) as pool:
        return [future.result(WAIT_LIMIT_S) for future in [pool.submit(function, argument) for argument in given]]


class TestLocks:
    def test_mutual_exclusion(self, clients: ClientFactory, client: KazooClient, root: str) -> None:
        client.create(f"{root}/counter", b"0")

        def worker(own: KazooClient) -> None:
            lock = own.Lock(f"{root}/lock")
            for _ in range(10):
                with lock:
                    value, _ = own.get(f"{root}/counter")
                    own.set(f"{root}/counter", b"%d" % (int(value) + 1))

        members = [clients() for _ in range(CONTENDERS)]
        in_threads(worker, members)
        assert client.get(f"{root}/counter")[0] == b"%d" % (10 * CONTENDERS)
        assert client.get_children(f"{root}/lock") == []

    def test_lock_of_an_ended_session_is_free(self, clients: ClientFactory, client: KazooClient, root: str) -> None:
        holder = clients()
        holder.Lock(f"{root}/lock", "holder").acquire()
        waiting = client.Lock(f"{root}/lock", "waiting")
        assert not waiting.acquire(blocking=False)
        assert waiting.contenders() == ["holder"]
        holder.stop()
        assert waiting.acquire(timeout=WAIT_LIMIT_S)
        waiting.release()

    def test_readers_share_and_a_writer_waits(self, clients: ClientFactory, root: str) -> None:
        one, two, three = clients(), clients(), clients()
        readers = [one.ReadLock(f"{root}/lock"), two.ReadLock(f"{root}/lock")]
        for reader in readers:
            assert reader.acquire(timeout=WAIT_LIMIT_S)
        writer = three.WriteLock(f"{root}/lock")
        assert not writer.acquire(blocking=False)
        for reader in readers:
            reader.release()
        assert writer.acquire(timeout=WAIT_LIMIT_S)
        writer.release()

    def test_semaphore(self, clients: ClientFactory, root: str) -> None:
        holders = [clients().Semaphore(f"{root}/semaphore", max_leases=2) for _ in range(3)]
        assert holders[0].acquire(timeout=WAIT_LIMIT_S)
        assert holders[1].acquire(timeout=WAIT_LIMIT_S)
        assert not holders[2].acquire(blocking=False)
        holders[0].release()
        assert holders[2].acquire(timeout=WAIT_LIMIT_S)


class TestGroups:
    def test_election_passes_on(self, clients: ClientFactory, client: KazooClient, root: str) -> None:
        leaders: list[int] = []
        members = [clients() for _ in range(CONTENDERS)]

        def campaign(index: int) -> None:
            members[index].Election(f"{root}/election", f"member-{index}").run(lambda: leaders.append(index))

        in_threads(campaign, range(CONTENDERS))
        assert sorted(leaders) == list(range(CONTENDERS))

    def test_election_after_the_leader_ended(self, clients: ClientFactory, root: str) -> None:
        first, second = clients(), clients()
        elected, retire = threading.Event(), threading.Event()

        def lead() -> None:
            elected.set()
            retire.wait(WAIT_LIMIT_S)

        leader = threading.Thread(target=lambda: first.Election(f"{root}/election", "first").run(lead))
        leader.start()
        assert elected.wait(WAIT_LIMIT_S)
        assert second.Election(f"{root}/election", "second").contenders() == ["first"]
        retire.set()
        leader.join(WAIT_LIMIT_S)
        second_elected = threading.Event()
        second.Election(f"{root}/election", "second").run(second_elected.set)
        assert second_elected.is_set()

    def test_double_barrier(self, clients: ClientFactory, client: KazooClient, root: str) -> None:
        inside: list[int] = []

        def member(own: KazooClient) -> None:
            barrier = own.DoubleBarrier(f"{root}/barrier", num_clients=CONTENDERS)
            barrier.enter()
            inside.append(own.client_id[0])
            barrier.leave()
            assert len(inside) == CONTENDERS

        in_threads(member, [clients() for _ in range(CONTENDERS)])
        assert client.get_children(f"{root}/barrier") == []

    def test_barrier(self, clients: ClientFactory, client: KazooClient, root: str) -> None:
        barrier = client.Barrier(f"{root}/barrier")
        barrier.create()
        other = clients().Barrier(f"{root}/barrier")
        assert not other.wait(0.1)
        barrier.remove()
        assert other.wait(WAIT_LIMIT_S)

    def test_party(self, clients: ClientFactory, root: str) -> None:
        one, two = clients(), clients()
        one.Party(f"{root}/party", "one").join()
        two.Party(f"{root}/party", "two").join()
        assert sorted(one.Party(f"{root}/party")) == ["one", "two"]
        two.stop()
        assert list(one.Party(f"{root}/party")) == ["one"]

    def test_partitioner(self, clients: ClientFactory, root: str) -> None:
        members = {"one": clients(), "two": clients()}

        def take(name: str) -> set[str]:
            partitioner = members[name].SetPartitioner(
                f"{root}/parts", set=("a", "b", "c", "d"), identifier=name, time_boundary=3
            )
            while not partitioner.acquired:
                partitioner.wait_for_acquire(WAIT_LIMIT_S)
            return set(partitioner)

        one, two = in_threads(take, members)
        assert one | two == {"a", "b", "c", "d"}
        assert not one & two


class TestData:
    def test_queue(self, client: KazooClient, root: str) -> None:
        queue = client.Queue(f"{root}/queue")
        queue.put(b"second", priority=200)
        queue.put(b"first", priority=100)
        queue.put(b"third", priority=300)
        assert len(queue) == 3
        assert [queue.get() for _ in range(4)] == [b"first", b"second", b"third", None]

    def test_locking_queue(self, clients: ClientFactory, root: str) -> None:
        one, two = clients().LockingQueue(f"{root}/queue"), clients().LockingQueue(f"{root}/queue")
        one.put_all([b"a", b"b"])
        assert one.get(timeout=WAIT_LIMIT_S) == b"a"
        assert two.get(timeout=WAIT_LIMIT_S) == b"b"
        assert one.consume()
        assert two.consume()
        assert len(one) == 0

    def test_counter(self, clients: ClientFactory, root: str) -> None:
        def add(own: KazooClient) -> None:
            counter = own.Counter(f"{root}/counter")
            for _ in range(10):
                counter += 1

        in_threads(add, [clients() for _ in range(CONTENDERS)])
        assert clients().Counter(f"{root}/counter").value == 10 * CONTENDERS

    def test_tree_cache_follows(self, clients: ClientFactory, client: KazooClient, root: str) -> None:
        cache = TreeCache(client, root)
        cache.start()
        other = clients()
        other.create(f"{root}/a/b/c", b"deep", makepath=True)
        wait_until(lambda: cache.get_data(f"{root}/a/b/c") is not None, "the new znode is cached")
        assert cache.get_data(f"{root}/a/b/c").data == b"deep"
        other.set(f"{root}/a/b/c", b"changed")
        wait_until(lambda: cache.get_data(f"{root}/a/b/c").data == b"changed", "the change is cached")
        other.delete(f"{root}/a", recursive=True)
        wait_until(lambda: cache.get_children(root) == set(), "the deletion is cached")
        cache.close()
