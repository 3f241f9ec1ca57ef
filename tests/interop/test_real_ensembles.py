"""Ensembles of processes under load, while members are killed, paused, cut off, and run out of disk.

Whatever happens, what was acknowledged is there at every member, no lock ever has two holders, and while a majority is
well, others go on writing soon. ``ENSEMBLE_MINUTES`` makes each test of faults go on with faults drawn at random until
they have lasted so long; ``ENSEMBLE_SEED`` draws the same ones again. `make endure MINUTES=5` does so.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from random import Random, SystemRandom
from typing import Final, NamedTuple

import pytest
from tests.interop.disks import SmallDisk
from tests.interop.journal import COUNTER
from tests.interop.load import LOCKS, WORK, Load, compile_java
from tests.interop.networks import HERE, Loopback, Namespaces
from tests.interop.peers import Apache38Server, ApacheServer, CorralServer, Server
from tests.interop.real_ensemble import SETTINGS, RealEnsemble

import corral
from corral.client import Client, Stat

SECONDS: Final = 60 * float(os.environ.get("ENSEMBLE_MINUTES", "0"))
SEED: Final = int(os.environ.get("ENSEMBLE_SEED", SystemRandom().randrange(1_000_000)))
SESSION_S: Final = 4.0
MIGRATION_SESSION_S: Final = 20.0
"""Longer than any of these servers takes to start on a busy machine."""
PAUSE_S: Final = 1.5 * SESSION_S
CUT_S: Final = 4.0
GAP_LIMIT_S: Final = 30.0
"""Without any acknowledged write, while a majority is well: generous, for machines that have much else to do."""
WRITES: Final = 50
"""That must be acknowledged during a fault, and after it."""
BATCH: Final = 200

pytestmark = pytest.mark.timeout(2 * SECONDS + 300)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the Java program, compiled."""
    directory = tmp_path_factory.mktemp("classes")
    compile_java(directory)
    return directory


@pytest.fixture(scope="module", autouse=True)
def ended_as_if_interrupted() -> Iterator[None]:
    """SIGTERM ends these tests as Ctrl-C does: processes, namespaces and disks are taken away first."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    signal.signal(signal.SIGTERM, before)


# Faults. Each ends with everything as it was, but perhaps not yet all serving.


def wait(seconds: float) -> None:
    """A fault lasts."""
    time.sleep(seconds)


class Disturbed(NamedTuple):
    """An ensemble and its load, while something happens."""

    them: RealEnsemble
    load: Load
    random: Random

    def minority(self, leader: int) -> list[int]:
        """As many as may be lost, the leader among them."""
        others = self.them.followers(leader)
        return [leader, *self.random.sample(others, (len(others) - 1) // 2)]

    def a_follower(self, leader: int) -> int:
        return self.random.choice(self.them.followers(leader))

    def writes_go_on(self) -> None:
        assert self.load.journal.wait_for_writes(WRITES, GAP_LIMIT_S), f"no writes\n{self.them.report()}"

    @property
    def network(self) -> Namespaces:
        assert isinstance(self.them.network, Namespaces)
        return self.them.network


def killed(at: Disturbed, sids: Sequence[int]) -> None:
    at.them.kill(*sids)
    at.writes_go_on()
    at.them.start(*sids)


def kill_leader(at: Disturbed) -> None:
    killed(at, [at.them.leader()])


def kill_follower(at: Disturbed) -> None:
    killed(at, [at.a_follower(at.them.leader())])


def kill_minority(at: Disturbed) -> None:
    killed(at, at.minority(at.them.leader()))


def kill_all(at: Disturbed) -> None:
    at.them.kill(*at.them.sids)
    at.them.start(*at.them.sids)


def paused(at: Disturbed, sids: Sequence[int]) -> None:
    at.them.pause(*sids)
    wait(PAUSE_S)
    at.writes_go_on()
    at.them.resume(*sids)


def pause_leader(at: Disturbed) -> None:
    paused(at, [at.them.leader()])


def pause_follower(at: Disturbed) -> None:
    paused(at, [at.a_follower(at.them.leader())])


def pause_minority(at: Disturbed) -> None:
    paused(at, at.minority(at.them.leader()))


def pause_all(at: Disturbed) -> None:
    at.them.pause(*at.them.sids)
    wait(PAUSE_S)
    at.them.resume(*at.them.sids)


def healed(at: Disturbed) -> None:
    wait(CUT_S)
    at.writes_go_on()
    at.network.heal()


def unplug_leader(at: Disturbed) -> None:
    at.network.unplug(at.them.leader())
    healed(at)


def split(at: Disturbed) -> None:
    """Clients reach both sides."""
    few = at.minority(at.them.leader())
    at.network.part(few, set(at.them.sids) - set(few))
    healed(at)


def leader_is_not_heard(at: Disturbed) -> None:
    leader = at.them.leader()
    at.network.cut([leader], at.them.followers(leader))
    healed(at)


def leader_does_not_hear(at: Disturbed) -> None:
    leader = at.them.leader()
    at.network.cut(at.them.followers(leader), [leader])
    healed(at)


def cut_one_follower_from_the_leader(at: Disturbed) -> None:
    """Both reach all others."""
    leader = at.them.leader()
    at.network.part([leader], [at.a_follower(leader)])
    healed(at)


def follower_is_not_heard_by_clients(at: Disturbed) -> None:
    at.network.cut([at.a_follower(at.them.leader())], [HERE])
    healed(at)


def follower_is_not_heard(at: Disturbed) -> None:
    follower = at.a_follower(at.them.leader())
    at.network.cut([follower], set(at.them.sids) - {follower})
    healed(at)


def split_without_majority(at: Disturbed) -> None:
    """Nobody may write; the leader is on either side."""
    half = at.random.sample(at.them.sids, len(at.them.sids) // 2)
    others = sorted(set(at.them.sids) - set(half))
    at.network.part(half, others)
    at.network.part(others[:1], others[1:])
    wait(CUT_S)
    at.network.heal()


def full(at: Disturbed, sids: Sequence[int]) -> None:
    """Who is to write ends; one that is started too early may end again. With room on the disk they come back.

    Once no majority is left nothing is written, so the rest goes on and waits.
    """
    minority = (len(at.them.sids) - 1) // 2
    disks = [at.them.disks[sid] for sid in sids]
    for disk in disks:
        disk.fill()
    to_end = len(sids) if len(sids) <= minority else len(at.them.sids) - minority
    ended = at.them.wait_until_ended(sids, to_end)
    assert len(ended) >= to_end, at.them.report()
    if len(sids) <= minority:
        at.writes_go_on()
    at.them.start(*ended)
    at.them.wait_until_ended(ended, to_end, CUT_S)
    for disk in disks:
        disk.empty()
    at.them.wait_until_all_serve(may_end=sids)


def full_disk_of_the_leader(at: Disturbed) -> None:
    full(at, [at.them.leader()])


def full_disk_of_a_follower(at: Disturbed) -> None:
    full(at, [at.a_follower(at.them.leader())])


def full_disks(at: Disturbed) -> None:
    full(at, at.them.sids)


Fault = Callable[[Disturbed], None]
OF_ALL: Final[frozenset[Fault]] = frozenset({kill_all, pause_all, split_without_majority, full_disks})
"""Those that leave no majority."""


def disturb(at: Disturbed, faults: Sequence[Fault]) -> None:
    """One fault after the other; prints how long nobody could write."""
    until = time.monotonic() + SECONDS

    def drawn() -> Iterator[Fault]:
        while time.monotonic() < until:
            yield at.random.choice(faults)

    journal = at.load.journal
    for fault in chain(faults, drawn()):
        before = journal.acknowledged
        began_ns = time.monotonic_ns()
        fault(at)
        at.them.wait_until_all_serve()
        at.writes_go_on()
        gap_s = journal.longest_gap_s(began_ns, time.monotonic_ns())
        took_s = (time.monotonic_ns() - began_ns) / 1e9
        print(
            f"{len(at.them.sids)} servers, {fault.__name__}: {took_s:.1f} s, {journal.acknowledged - before} writes, "
            f"longest gap {gap_s:.2f} s"
        )
        assert fault in OF_ALL or gap_s < GAP_LIMIT_S
        assert journal.wrong == [], f"seed {SEED}"


# What must be so at the end


async def holdings(zk: Client) -> dict[str, tuple[bytes, Stat]]:
    """All that a member has."""
    await zk.sync()
    found = {path: listing.stat async for path, listing in zk.walk("/") if not path.startswith("/zookeeper")}
    paths = [path for path in found if path != "/"]
    tree = {}
    for first in range(0, len(paths), BATCH):
        batch = paths[first : first + BATCH]
        for path, znode in zip(batch, await zk.get_many(batch), strict=True):
            assert not isinstance(znode, Exception)
            assert znode.stat == found[path]
            tree[path] = (znode.data, znode.stat)
    return tree


async def until_no_claims_are_left(zk: Client) -> None:
    """Those of sessions that have ended without a word go when their time is over."""
    while any([await zk.get_children(f"{LOCKS}/{each}") for each in ("kazoo", "curator")]):
        await asyncio.sleep(0.1)


def check(them: RealEnsemble, load: Load) -> None:
    """All members hold the same, and it is what the clients were told."""

    async def main() -> list[dict[str, tuple[bytes, Stat]]]:
        trees = []
        async with asyncio.timeout(120 + SECONDS):
            async with corral.connect(them.address, connect_timeout=30) as zk:
                await until_no_claims_are_left(zk)
            for member in them.members.values():
                async with corral.connect(member.address, connect_timeout=30) as zk:
                    trees.append(await holdings(zk))
        return trees

    first, *others = asyncio.run(main())
    for sid, tree in zip(them.sids[1:], others, strict=True):
        differing = [path for path in first.keys() | tree.keys() if first.get(path) != tree.get(path)]
        assert not differing, f"members 1 and {sid} differ at {len(differing)} znodes, one is {min(differing)}"
    work = {path: data for path, (data, _) in first.items() if path.count("/") == 3 and path.startswith(WORK)}
    journal = load.journal
    assert journal.faults(work, int(first[COUNTER][0])) == []
    holders = {hold.holder.partition("-")[0] for hold in journal.holds}
    assert holders == {"kazoo", "corral", "java"}
    assert {path.split("/")[2] for path in journal.created} == {f"{kind}-{x}" for kind in holders for x in "ab"}
    print(
        f"{len(them.sids)} servers: {len(journal.created)} creates and {journal.counted} additions acknowledged, "
        f"{len(journal.perhaps_created)} and {journal.perhaps_counted} uncertain, {len(journal.holds)} locks held, "
        f"{len(journal.ended_sessions)} sessions lost; seed {SEED}"
    )


def run(them: RealEnsemble, classes: Path, faults: Sequence[Fault]) -> None:
    with Load(them.address, SESSION_S, classes) as load:
        at = Disturbed(them, load, Random(SEED))
        at.writes_go_on()
        disturb(at, faults)
        load.end()
        check(them, load)


# The tests


@contextmanager
def namespaces(size: int) -> Iterator[Namespaces]:
    """Skips the test where this process may not make any."""
    with ExitStack() as stack:
        try:
            network = stack.enter_context(Namespaces(size))
        except OSError as error:
            pytest.skip(f"no network namespaces here: {error}")
        yield network


def skip_without_small_disks(directory: Path) -> None:
    """Skips the test where this process may not mount any."""
    try:
        SmallDisk(directory / "probe", 1).remove()
    except OSError as error:
        pytest.skip(f"no small disks here: {error}")


@pytest.mark.parametrize("size", [3, 5, 7])
def test_crashes_and_pauses(tmp_path: Path, classes: Path, size: int) -> None:
    faults = [kill_leader, kill_all, pause_leader]
    faults += [pause_follower, kill_follower, pause_all] if size == 3 else [kill_minority, pause_minority]
    with RealEnsemble(tmp_path, Loopback(size)) as them:
        run(them, classes, faults)


@pytest.mark.parametrize("size", [3, 5, 7])
def test_cut_links(tmp_path: Path, classes: Path, size: int) -> None:
    faults = [unplug_leader, leader_does_not_hear, split]
    if size == 3:
        faults += [leader_is_not_heard, follower_is_not_heard, follower_is_not_heard_by_clients]
    faults += [split_without_majority] if size == 7 else [cut_one_follower_from_the_leader]
    with namespaces(size) as network, RealEnsemble(tmp_path, network) as them:
        run(them, classes, faults)


def test_full_disks(tmp_path: Path, classes: Path) -> None:
    skip_without_small_disks(tmp_path)
    with RealEnsemble(tmp_path, Loopback(3), disk_mb=64 + int(SECONDS)) as them:
        run(them, classes, [full_disk_of_a_follower, full_disk_of_the_leader, full_disks])


@pytest.mark.parametrize("theirs", [ApacheServer, Apache38Server])
def test_ensemble_moves_from_apache_to_corral_and_back_under_load(
    tmp_path: Path, classes: Path, theirs: type[Server]
) -> None:
    """One member after the other, the leader last; no session ends."""
    with (
        RealEnsemble(tmp_path, Loopback(3), kind=theirs, settings=SETTINGS) as them,
        Load(them.address, MIGRATION_SESSION_S, classes) as load,
    ):
        for kind in (CorralServer, theirs):
            leader = them.leader()
            for sid in (*them.followers(leader), leader):
                assert load.journal.wait_for_writes(WRITES, GAP_LIMIT_S)
                them.members[sid].stop()
                them.become(sid, kind)
                them.start(sid)
                them.wait_until_all_serve()
        load.end()
        check(them, load)
        assert load.journal.ended_sessions == []
