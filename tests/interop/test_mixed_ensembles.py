"""Ensembles of both kinds of server: each kind leads in turn, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from tests.e2e.test_quorum_peers import Members
from tests.interop.peers import Apache38Server, ApacheServer, four_letter_word

import corral
from corral.client import Client

PATIENCE_S = 100
APACHES = {"A": ApacheServer, "8": Apache38Server}
JVM_ONLY = ("readonlymode.enabled",)
"""What Apache's servers do not take from ``zoo.cfg``."""
SETTINGS = {"tickTime": "200", "initLimit": "50", "syncLimit": "20"}


class Mixed(Members):
    """An ensemble of members of the kinds that ``layout`` names: ``C`` Corral's, ``A`` Apache's, ``8`` Apache's 3.8."""

    def __init__(self, directory: Path, layout: str, observers: str = "", **settings: str) -> None:
        super().__init__(directory, len(layout), len(observers), tickTime=SETTINGS["tickTime"], **settings)
        self.kinds = dict(enumerate(layout + observers, 1))
        self.apaches: dict[int, ApacheServer] = {}

    async def start(self, *sids: int) -> None:
        for sid in sids:
            if self.kinds[sid] == "C":
                await super().start(sid)
            else:
                self._start_apache(sid)

    def _start_apache(self, sid: int) -> None:
        directory = self.directory / str(sid)
        directory.mkdir(exist_ok=True)
        (directory / "myid").write_text(str(sid))
        lines = [line.split("=") for line in self.ensemble.to_text().splitlines() if not line.startswith("version=")]
        config = {**dict(lines), **SETTINGS, **self.settings}
        properties = {key: config.pop(key) for key in JVM_ONLY if key in config}
        server = APACHES[self.kinds[sid]](directory, config, properties=properties, port=self.ports[sid])
        if not self.ensemble.members[sid].is_participant:
            server.config["peerType"] = "observer"
        server.begin()
        self.apaches[sid] = server

    async def stop(self, *sids: int) -> None:
        for sid in sids:
            if sid in self.peers:
                await super().stop(sid)
            else:
                self.apaches.pop(sid).kill()

    @property
    def running(self) -> list[int]:
        return sorted([*self.peers, *self.apaches])

    async def mode(self, sid: int) -> str:
        try:
            answer = await asyncio.to_thread(four_letter_word, self.ports[sid], "srvr")
        except OSError:
            return "down"
        return next((line.removeprefix("Mode: ") for line in answer.splitlines() if line.startswith("Mode: ")), "down")

    async def leader(self) -> int:
        while True:
            for sid in self.running:
                if await self.mode(sid) == "leader":
                    return sid
            await asyncio.sleep(0.05)

    def report(self) -> str:
        """The ends of the logs, for a test that fails."""
        return "\n".join("\n".join(each.log.splitlines()[-30:]) for each in self.apaches.values())


@asynccontextmanager
async def mixed(directory: Path, layout: str, observers: str = "", **settings: str) -> AsyncIterator[Mixed]:
    made = Mixed(directory, layout, observers, **settings)
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield made
    except BaseException:
        print(made.report())
        raise
    finally:
        for peer in made.peers.values():
            await peer.stop()
        for apache in made.apaches.values():
            apache.kill()


async def tree(zk: Client) -> dict[str, tuple[corral.Znode, object]]:
    await zk.sync()
    found: dict[str, tuple[corral.Znode, object]] = {}
    async for path, listing in zk.walk("/"):
        if not path.startswith("/zookeeper"):
            found[path] = (await zk.get(path), sorted(listing.names))
    return found


async def trees(them: Mixed) -> list[dict[str, tuple[corral.Znode, object]]]:
    """What each member holds, sessions of these looks aside."""
    found = []
    for sid in them.running:
        async with corral.connect(them.hosts(sid), connect_timeout=30) as zk:
            found.append(await tree(zk))
    return found


async def write(zk: Client, random: Random, acknowledged: set[str], number: int) -> None:
    """Creates that are acknowledged, or not known to have been done."""
    for _ in range(number):
        path = f"/w/{random.getrandbits(64):x}"
        try:
            await zk.create(path, random.randbytes(random.randrange(100)))
        except (corral.ConnectionLoss, corral.NodeExistsError):
            continue
        acknowledged.add(path)


@pytest.mark.parametrize(
    ("layout", "leading"), [("CAA", "A"), ("AAC", "AC"), ("ACC", "C"), ("CCA", "AC"), ("8C8", "8")]
)
def test_each_leads_in_turn_and_nothing_is_lost(tmp_path: Path, layout: str, leading: str) -> None:
    """With equal histories the larger of those that are there leads; a newer history goes before that."""

    async def main() -> None:
        random = Random(layout)
        acknowledged: set[str] = set()
        led = set()
        async with mixed(tmp_path, layout) as them:
            await them.start(1, 2, 3)
            async with corral.connect(them.hosts(), session_timeout=20, connect_timeout=40) as zk:
                await zk.persist(lambda: zk.ensure("/w"))
                mine = await zk.persist(lambda: zk.create("/mine-", ephemeral=True, sequential=True, protected=True))
                session = zk.session
                # Who is not there yet when the first goes cannot lead in its turn.
                for sid in (1, 2, 3):
                    while await them.mode(sid) not in ("leader", "follower"):
                        await asyncio.sleep(0.05)
                for _ in range(4):
                    leader = await them.leader()
                    led.add(them.kinds[leader])
                    writing = [asyncio.ensure_future(write(zk, random, acknowledged, 100)) for _ in range(5)]
                    await writing[0]
                    await them.stop(leader)
                    await asyncio.gather(*writing)
                    await zk.persist(lambda: zk.set("/w", b"goes on"))
                    await them.start(leader)
                    # It must be back before the next one goes.
                    while await them.mode(leader) not in ("leader", "follower"):
                        await asyncio.sleep(0.05)
                assert zk.session is session
                assert await zk.exists(mine) is not None
                first, *others = await trees(them)
                assert others == [first, first]
                assert acknowledged <= first.keys()
            assert led >= set(leading)

    asyncio.run(main())


@pytest.mark.parametrize(("layout", "observers"), [("AAA", "CC"), ("CCC", "A"), ("888", "C"), ("CCC", "8")])
def test_observers_of_the_other_kind(tmp_path: Path, layout: str, observers: str) -> None:
    """They show what is written elsewhere, take writes, and follow from one leader to the next with their clients."""

    async def main() -> None:
        async with mixed(tmp_path, layout, observers) as them:
            await them.start(1, 2, 3)
            async with corral.connect(them.hosts(1, 2, 3), session_timeout=20, connect_timeout=30) as zk:
                await zk.ensure("/w")
                await write(zk, Random(1), set(), 50)
                await them.start(*range(4, 4 + len(observers)))
                async with corral.connect(them.hosts(4), session_timeout=20, connect_timeout=30) as watching:
                    assert await them.mode(4) == "observer"
                    session = watching.session
                    events = asyncio.get_running_loop().create_future()
                    await watching.get_children("/w", watch=events.set_result)
                    await write(zk, Random(2), set(), 50)
                    assert (await events).kind is corral.EventKind.CHILDREN_CHANGED
                    await write(watching, Random(3), set(), 50)
                    assert len(await watching.get_children("/w")) == 150
                    leader = await them.leader()
                    await them.stop(leader)
                    await watching.persist(lambda: watching.set("/w", b"goes on"))
                    assert watching.session is session
                    await them.start(leader)
                first, *others = await trees(them)
                assert others == [first] * (2 + len(observers))

    asyncio.run(main())


@pytest.mark.parametrize("theirs", ["A", "8"])
def test_an_ensemble_moves_from_apache_to_corral_and_back_without_losing_a_session(tmp_path: Path, theirs: str) -> None:
    """One member after the other goes, and comes back as the other kind on the same directory."""

    async def main() -> None:
        random = Random(4)
        acknowledged: set[str] = set()
        async with mixed(tmp_path, theirs * 3) as them:
            await them.start(1, 2, 3)
            async with corral.connect(them.hosts(), session_timeout=20, connect_timeout=30) as zk:
                await zk.ensure("/w")
                session = zk.session
                await zk.create("/mine", ephemeral=True)
                for kind in ("C", theirs):
                    for sid in (1, 2, 3):
                        writing = asyncio.ensure_future(write(zk, random, acknowledged, 200))
                        await them.stop(sid)
                        them.kinds[sid] = kind
                        await them.start(sid)
                        while await them.mode(sid) not in ("leader", "follower"):
                            await asyncio.sleep(0.05)
                        await writing
                assert zk.session is session
                assert await zk.exists("/mine") is not None
                first, *others = await trees(them)
                assert others == [first, first]
                assert acknowledged <= first.keys()
                assert len(acknowledged) > 600

    asyncio.run(main())
