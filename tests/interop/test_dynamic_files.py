"""Files about members: each kind of server goes on from those that the other has written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from tests.e2e.test_dynamic_files import WrittenMembers, only
from tests.e2e.test_quorum_reconfig import voters
from tests.interop.peers import ApacheServer, four_letter_word

import corral
from corral.quorum.ensemble import parse_ensemble

PATIENCE_S = 200
pytestmark = pytest.mark.timeout(2 * PATIENCE_S)
SETTINGS = {
    "tickTime": "200",
    "maxSessionTimeout": "60000",
    "admin.enableServer": "false",
    "4lw.commands.whitelist": "*",
}


class ApacheFromFile(ApacheServer):
    """Apache's server on a configuration that is there already."""

    def __init__(self, path: Path, port: int) -> None:
        super().__init__(path.parent / "data", port=port)
        self.config_path = path
        self.log_path = path.with_name("apache.log")

    def write_config(self) -> None:
        """It is there."""


class BothKinds(WrittenMembers):
    """Members of the kinds that ``layout`` names: ``C`` Corral's, ``A`` Apache's."""

    def __init__(self, directory: Path, layout: str, **settings: str) -> None:
        super().__init__(directory, len(layout), 0, **{**SETTINGS, **settings})
        self.kinds = dict(enumerate(layout, 1))
        self.apaches: dict[int, ApacheFromFile] = {}

    async def start(self, *sids: int) -> None:
        for sid in sids:
            if self.kinds[sid] == "C":
                await super().start(sid)
            else:
                self.write_once(sid)
                self.apaches[sid] = apache = ApacheFromFile(self.file(sid), self.ports[sid])
                apache.begin()

    async def stop(self, *sids: int) -> None:
        for sid in sids:
            if sid in self.peers:
                await super().stop(sid)
            else:
                self.apaches.pop(sid).kill()

    async def mode(self, sid: int) -> str:
        try:
            answer = await asyncio.to_thread(four_letter_word, self.ports[sid], "srvr")
        except OSError:
            return "down"
        return next((line.removeprefix("Mode: ") for line in answer.splitlines() if line.startswith("Mode: ")), "down")

    async def follower(self) -> int:
        """One that follows."""
        while True:
            for sid in self.ports:
                if await self.mode(sid) == "follower":
                    return sid

    async def take_part(self, *sids: int) -> None:
        for sid in sids:
            while await self.mode(sid) not in ("leader", "follower"):
                await asyncio.sleep(0.05)

    async def written_down(self, version: int, *sids: int) -> None:
        """Until the files of these tell of a version."""
        for sid in sids:
            while f"zoo.cfg.dynamic.{version:x}" not in self.file(sid).read_text():
                await asyncio.sleep(0.05)

    def report(self) -> str:
        return "\n".join("\n".join(each.log.splitlines()[-30:]) for each in self.apaches.values())


@asynccontextmanager
async def both_kinds(directory: Path, layout: str, **settings: str) -> AsyncIterator[BothKinds]:
    made = BothKinds(directory, layout, **settings)
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


def version_of(changed: corral.Znode) -> int:
    return parse_ensemble(changed.data.decode()).version


@pytest.mark.parametrize(("first", "then"), [("C", "A"), ("A", "C")])
def test_each_kind_goes_on_from_the_files_of_the_other(tmp_path: Path, first: str, then: str) -> None:
    async def main() -> None:
        async with both_kinds(tmp_path, first * 3) as them:
            only(them, 1, 2)
            await them.start(1, 2)
            async with corral.connect(them.hosts(), session_timeout=20, connect_timeout=40) as zk:
                await zk.persist(lambda: zk.ensure("/w"))
                await them.start(3)
                await them.take_part(3)
                version = version_of(await zk.reconfig(joining=[them.line(3)]))
                await them.written_down(version, 1, 2, 3)
                for sid in (1, 2, 3):
                    await them.stop(sid)
                    them.kinds[sid] = then
                    await them.start(sid)
                    await them.take_part(sid)
                assert await voters(zk) == {1, 2, 3}
                # All of them at once: nobody could tell the others.
                await them.stop(1, 2, 3)
                await them.start(1, 2, 3)
                await them.take_part(1, 2, 3)
                gone = await them.follower()
                left = sorted({1, 2, 3} - {gone})
                version = version_of(await zk.persist(partial(leave, zk, gone)))
                await them.written_down(version, *left)
                await them.stop(1, 2, 3)
                for sid in left:
                    them.kinds[sid] = first
                await them.start(*left)
                await them.take_part(*left)
                assert await voters(zk) == set(left)
                assert await zk.exists("/w") is not None

    async def leave(zk: corral.Client, gone: int) -> corral.Znode:
        if gone in await voters(zk):
            return await zk.reconfig(leaving=[str(gone)])
        return await zk.get_config()

    asyncio.run(main())


@pytest.mark.parametrize("layout", ["CAC", "ACA"])
def test_a_member_moves_among_members_of_the_other_kind(tmp_path: Path, layout: str) -> None:
    """Role, ports for clients and ports for members change, at either kind's."""

    async def main() -> None:
        async with both_kinds(tmp_path, layout) as them:
            await them.start(1, 2, 3)
            await them.take_part(1, 2, 3)
            for sid in (1, 2, 3):
                before = them.ports[sid]
                async with corral.connect(them.hosts(), session_timeout=20, connect_timeout=40) as zk:
                    line = them.move(sid)
                    await zk.persist(partial(change, zk, line))
                await them.take_part(sid)
                async with corral.connect(them.hosts(sid), connect_timeout=20) as zk:
                    assert line in (await zk.get_config()).data.decode()
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection("127.0.0.1", before)
            await them.take_part(1, 2, 3)
            async with corral.connect(them.hosts(), session_timeout=20, connect_timeout=40) as zk:
                follower = await them.follower()
                for role, mode in (("observer", "observer"), ("participant", "follower")):
                    await zk.persist(partial(change, zk, them.line(follower, role)))
                    while await them.mode(follower) != mode:
                        await asyncio.sleep(0.05)
                assert await voters(zk) == {1, 2, 3}

    async def change(zk: corral.Client, line: str) -> None:
        if line not in (await zk.get_config()).data.decode():
            await zk.reconfig(joining=[line])

    asyncio.run(main())
