"""The files that say who belongs to the ensemble, as they are written and read while members come and go."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from tests.e2e.test_quorum_peers import PATIENCE_S, Members, client
from tests.e2e.test_quorum_reconfig import voters
from tests.faulty_disk import FailingFileSystem

import corral
from corral.quorum.daemon import make_peer
from corral.quorum.ensemble import Ensemble, parse_ensemble
from corral.quorum.vote import Role
from corral.server.config import ConfigError, ServerConfig, read
from corral.server.machine import Machine

FIRST = "100000000"
"""The version that members get from the first leader."""


class WrittenMembers(Members):
    """Members whose configurations lie in files, as users write them."""

    def __init__(self, directory: Path, number: int, observers: int = 0, **settings: str) -> None:
        super().__init__(directory, number, observers, **settings)
        self.machines: dict[int, Machine] = {}
        self.client_ports_in_lines = True

    def file(self, sid: int) -> Path:
        return self.directory / str(sid) / "zoo.cfg"

    def line(self, sid: int, role: str = "participant") -> str:
        address = self.everybody.members[sid].addresses[0]
        client_port = f";127.0.0.1:{self.ports[sid]}" if self.client_ports_in_lines else ""
        return f"server.{sid}={address.host}:{address.quorum_port}:{address.election_port}:{role}{client_port}"

    def write(self, sid: int, *lines: str) -> None:
        """The file of one that is to begin with the members in ``lines``."""
        data = self.directory / str(sid) / "data"
        data.mkdir(parents=True)
        (data / "myid").write_text(f"{sid}\n")
        settings = {
            "dataDir": str(data),
            "clientPort": str(self.ports[sid]),
            "clientPortAddress": "127.0.0.1",
            "tickTime": "100",
            "initLimit": "50",
            "syncLimit": "20",
            "forceSync": "no",
            "reconfigEnabled": "true",
            "skipACL": "yes",
            **self.settings,
        }
        self.file(sid).write_text("\n".join(["# Ours", *(f"{k}={v}" for k, v in settings.items()), *lines]) + "\n")

    def write_once(self, sid: int) -> None:
        """As above with the present members and itself, unless it has a file."""
        if not self.file(sid).exists():
            self.write(sid, *(self.line(each) for each in sorted({*self.ensemble.members, sid})))

    def move(self, sid: int) -> str:
        """Give one other ports; returns its line."""
        (address,) = self.everybody.members[sid].addresses
        address = address._replace(quorum_port=free_port(), election_port=free_port())
        self.ports[sid] = free_port()
        moved = self.everybody.members[sid]._replace(addresses=(address,))
        self.everybody = Ensemble({**self.everybody.members, sid: moved})
        return self.line(sid)

    def config(self, sid: int) -> ServerConfig:
        return read(self.file(sid), arguments=(), environment={}).config

    async def start(self, *sids: int) -> None:
        for sid in sids:
            self.write_once(sid)
            self.peers[sid] = peer = make_peer(self.config(sid), self.machines.get(sid))
            await peer.start()

    async def serving(self, *sids: int) -> None:
        while any(self.peers[sid].server is None for sid in sids):
            await asyncio.sleep(0.01)

    def files(self, sid: int) -> set[str]:
        return {path.name for path in self.file(sid).parent.iterdir()} - {"data"}


@asynccontextmanager
async def written(
    directory: Path, number: int = 3, observers: int = 0, **settings: str
) -> AsyncIterator[WrittenMembers]:
    made = WrittenMembers(directory, number, observers, **settings)
    async with asyncio.timeout(PATIENCE_S):
        try:
            yield made
        finally:
            for peer in made.peers.values():
                await peer.stop()


def only(them: WrittenMembers, *sids: int) -> None:
    them.ensemble = Ensemble({sid: them.everybody.members[sid] for sid in sids})


def test_server_lines_move_into_a_file_of_their_own(tmp_path: Path) -> None:
    async def main() -> None:
        async with written(tmp_path) as them:
            for sid in (1, 2, 3):
                them.write(sid, *(them.line(each) for each in (1, 2, 3)))
            before = them.file(1).read_bytes()
            await them.start(1, 2, 3)
            await them.serving(1, 2, 3)
            assert them.files(1) == {"zoo.cfg", "zoo.cfg.bak", f"zoo.cfg.dynamic.{FIRST}"}
            assert them.file(1).with_name("zoo.cfg.bak").read_bytes() == before
            lines = them.file(1).with_name(f"zoo.cfg.dynamic.{FIRST}").read_text().split("\n")
            assert lines == [them.line(sid) for sid in (1, 2, 3)]
            static = them.file(1).read_text().splitlines()
            assert static[0] == "# Ours"
            assert static[-1] == f"dynamicConfigFile={tmp_path / '1' / f'zoo.cfg.dynamic.{FIRST}'}"
            assert not [line for line in static if line.startswith(("server.", "clientPort"))]
            await them.stop(1, 2, 3)
            assert them.config(1).quorum.version == int(FIRST, 16)
            await them.start(1, 2, 3)
            await them.serving(1, 2, 3)
            assert them.files(1) == {"zoo.cfg", "zoo.cfg.bak", f"zoo.cfg.dynamic.{FIRST}"}

    asyncio.run(main())


def test_client_port_stays_where_the_line_has_none(tmp_path: Path) -> None:
    async def main() -> None:
        async with written(tmp_path) as them:
            them.client_ports_in_lines = False
            await them.start(1, 2, 3)
            await them.serving(1, 2, 3)
            assert f"clientPort={them.ports[2]}" in them.file(2).read_text()
            assert them.config(2).client_port == them.ports[2]

    asyncio.run(main())


def test_client_port_comes_back_if_the_line_loses_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with written(tmp_path) as them:
            await them.start(1, 2, 3)
            await them.serving(1, 2, 3)
            async with client(them.hosts()) as zk:
                await zk.reconfig(members=[them.line(sid).partition(";")[0] for sid in (1, 2, 3)])
                await zk.sync()
            await them.stop(1, 2, 3)
            for sid in (1, 2, 3):
                config = them.config(sid)
                assert (config.client_port_address, config.client_port) == ("127.0.0.1", them.ports[sid])

    asyncio.run(main())


def test_nothing_is_written_unless_members_may_change(tmp_path: Path) -> None:
    async def main() -> None:
        async with written(tmp_path, reconfigEnabled="false") as them:
            await them.start(1, 2, 3)
            await them.serving(1, 2, 3)
            assert them.files(1) == {"zoo.cfg"}
            assert "server.1=" in them.file(1).read_text()

    asyncio.run(main())


def test_every_member_writes_down_a_change_and_starts_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with written(tmp_path, 4) as them:
            only(them, 1, 2, 3)
            await them.start(1, 2, 3)
            async with client(them.hosts(1, 2, 3)) as zk:
                await them.start(4)
                await them.serving(4)
                # It must be able to start again before it has joined.
                assert them.files(4) == {"zoo.cfg"}
                await them.stop(4)
                await them.start(4)
                await them.serving(4)
                changed = parse_ensemble((await zk.reconfig(joining=[them.line(4)])).data.decode())
                for sid in (1, 2, 3, 4):
                    while them.peers[sid].elector.election.committed.version != changed.version:
                        await asyncio.sleep(0.01)
                    config = them.config(sid)
                    assert (set(config.quorum.members), config.quorum.version) == ({1, 2, 3, 4}, changed.version)
                    assert "zoo.cfg.dynamic.next" not in them.files(sid)
                gone = next(sid for sid in (1, 2, 3) if them.peers[sid].role is Role.FOLLOWING)
                await zk.reconfig(leaving=[str(gone)])
                while gone in them.peers[gone].elector.election.committed.members:
                    await asyncio.sleep(0.01)
                await them.stop(gone)
                # As with Apache's servers: its files say that it is none of them.
                with pytest.raises(ConfigError, match=f"the number {gone} in .* is none of the servers"):
                    them.config(gone)
                # It may be asked and stopped all the same.
                left_behind = read(them.file(gone), arguments=(), environment={}, is_to_run=False)
                assert left_behind.config.client_port == them.ports[gone]
                assert "is no member of its ensemble any more" in left_behind.notices[-1].text
            left = sorted({1, 2, 3, 4} - {gone})
            await them.stop(*left)
            await them.start(*left)
            async with client(them.hosts(*left)) as zk:
                assert await voters(zk) == set(left)

    asyncio.run(main())


def test_zookeeper_2865_all_have_the_same_members_whenever_they_joined(tmp_path: Path) -> None:
    """Two begin to join at once, and know nothing of each other; one becomes a member before the other does."""

    async def main() -> None:
        async with written(tmp_path, 5) as them:
            everybody = (1, 2, 3, 4, 5)
            only(them, 1, 2, 3)
            await them.start(*everybody)
            await them.serving(*everybody)
            async with client(them.hosts(1, 2, 3)) as zk:
                await zk.reconfig(joining=[them.line(4)])
                changed = parse_ensemble((await zk.reconfig(joining=[them.line(5)])).data.decode())
                for sid in everybody:
                    while them.peers[sid].elector.election.committed.version != changed.version:
                        await asyncio.sleep(0.01)
            name = f"zoo.cfg.dynamic.{changed.version:x}"
            lines = {them.file(sid).with_name(name).read_text() for sid in everybody}
            assert lines == {"\n".join(them.line(sid) for sid in everybody)}
            await them.stop(*everybody)
            await them.start(*everybody)
            await them.serving(*everybody)
            assert [them.peers[sid].elector.election.committed for sid in everybody] == [changed] * 5

    asyncio.run(main())


def test_zookeeper_3829_members_that_are_added_file_by_file_count_when_all_have_restarted(tmp_path: Path) -> None:
    """Nobody overwrites what another was started with; in the end a leader that was not there before commits."""

    async def main() -> None:
        async with written(tmp_path, 4, reconfigEnabled="false") as them:
            only(them, 1, 2, 3)
            await them.start(1, 2, 3)
            await them.serving(1, 2, 3)
            assert await them.leader() == 3
            async with client(them.hosts(1, 2, 3, 4)) as zk:
                await them.start(4)
                await them.serving(4)
                for sid in (1, 2, 3):
                    await zk.persist(partial(zk.ensure, f"/before-{sid}"))
                    await them.stop(sid)
                    them.file(sid).write_text(f"{them.file(sid).read_text()}{them.line(4)}\n")
                    await them.start(sid)
                    await them.serving(sid)
                assert await them.leader() == 4
                await zk.persist(lambda: zk.ensure("/with-the-new-leader"))
                for sid in (1, 2, 3, 4):
                    assert [each.voters for each in them.peers[sid].elector.election.ensembles] == [{1, 2, 3, 4}]
                    async with client(them.hosts(sid)) as each:
                        assert await voters(each) == {1, 2, 3, 4}
                # Any three of the four are a quorum, whoever they are.
                await them.stop(1)
                await zk.persist(lambda: zk.ensure("/without-the-first"))

    asyncio.run(main())


def test_what_was_proposed_needs_both_quorums_after_a_start(tmp_path: Path) -> None:
    async def main() -> None:
        async with written(tmp_path, 4) as them:
            only(them, 1, 2, 3)
            await them.start(1, 2, 3)
            await them.serving(1, 2, 3)
            await them.stop(1, 2, 3)
            for sid in (1, 2, 3):
                lines = [them.line(each) for each in (3, 4)]
                them.file(sid).with_name("zoo.cfg.dynamic.next").write_text("\n".join([*lines, "version=100000007"]))
            await them.start(1, 2, 3)
            both = them.peers[1].elector.election.ensembles
            assert [each.version for each in both] == [0x100000000, 0x100000007]
            # The old members are there, and only one of the two new ones: nobody may lead.
            assert not them.peers[3].elector.election.ensembles[1].is_quorum({1, 2, 3})
            only(them, 1, 2, 3, 4)
            await them.start(4)
            # What a leader knows as proposed comes into force with it.
            await them.serving(3, 4)
            assert them.peers[4].elector.election.committed.voters == {3, 4}
            assert "zoo.cfg.dynamic.next" not in them.files(3)
            assert them.config(3).quorum.version == 0x100000007

    asyncio.run(main())


def test_a_leader_that_loses_its_vote_by_what_was_proposed_leaves_the_lead_to_others(tmp_path: Path) -> None:
    """Found by simulation: it led on, and who only knew the new members never found a leader."""

    async def main() -> None:
        async with written(tmp_path) as them:
            await them.start(1, 2, 3)
            await them.serving(1, 2, 3)
            await them.stop(1, 2, 3)
            lines = [them.line(1), them.line(2), them.line(3, "observer"), "version=100000007"]
            for sid in (1, 2, 3):
                them.file(sid).with_name("zoo.cfg.dynamic.next").write_text("\n".join(lines))
            await them.start(1, 2, 3)
            while them.peers[3].role is not Role.OBSERVING:
                await asyncio.sleep(0.01)
            await them.serving(1, 2, 3)
            assert await them.leader() in (1, 2)
            async with client(them.hosts(3)) as zk:
                assert await voters(zk) == {1, 2}

    asyncio.run(main())


class ReadOnly(FailingFileSystem):
    """Nothing can be written to one directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory

    def create(self, path: Path) -> int:
        if path.parent == self.directory:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return super().create(path)


def test_a_directory_that_cannot_be_written_is_reported_and_the_member_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with written(tmp_path) as them:
            for sid in (1, 2, 3):
                them.machines[sid] = Machine(filesystem=ReadOnly(tmp_path / str(sid)))
            await them.start(1, 2, 3)
            await them.serving(1, 2, 3)
            before = them.file(1).read_bytes()
            async with client(them.hosts()) as zk:
                gone = next(sid for sid in (1, 2, 3) if them.peers[sid].role is Role.FOLLOWING)
                await zk.reconfig(leaving=[str(gone)])
                await zk.create("/goes-on")
            assert "Read-only file system" in caplog.text
            assert {*them.files(1)} == {"zoo.cfg"}
            assert them.file(1).read_bytes() == before
            # The next start does not depend on them, and writes them if it can.
            await them.stop(1, 2, 3)
            them.machines.clear()
            left = sorted({1, 2, 3} - {gone})
            await them.start(*left)
            async with client(them.hosts(*left)) as zk:
                assert await voters(zk) == set(left)
            assert set(them.config(left[0]).quorum.members) == set(left)

    asyncio.run(main())


def test_a_file_that_others_may_not_read_stays_so(tmp_path: Path) -> None:
    async def main() -> None:
        async with written(tmp_path) as them:
            them.write(1, *(them.line(each) for each in (1, 2, 3)))
            them.file(1).chmod(0o600)
            elsewhere = tmp_path / "elsewhere.cfg"
            them.file(1).rename(elsewhere)
            them.file(1).symlink_to(elsewhere)
            await them.start(1, 2, 3)
            await them.serving(1, 2, 3)
            assert them.file(1).is_symlink()
            assert elsewhere.stat().st_mode & 0o777 == 0o600
            assert them.file(1).with_name("zoo.cfg.bak").stat().st_mode & 0o777 == 0o600
            assert "dynamicConfigFile=" in elsewhere.read_text()

    asyncio.run(main())


def free_port() -> int:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        return port


def test_client_port_moves(tmp_path: Path) -> None:
    async def main() -> None:
        async with written(tmp_path) as them:
            await them.start(1, 2, 3)
            await them.serving(1, 2, 3)
            async with client(them.hosts(1)) as zk, client(them.hosts(2)) as other:
                await zk.create("/here", ephemeral=True)
                moved = free_port()
                await other.reconfig(joining=[them.line(1).replace(f":{them.ports[1]}", f":{moved}")])
                while them.peers[1].port != moved:
                    await asyncio.sleep(0.01)
                async with client(f"127.0.0.1:{moved}") as third:
                    assert await third.exists("/here") is not None
                # Connections that are there stay.
                assert zk.session is not None
                assert sorted(await zk.get_children("/")) == ["here", "zookeeper"]
                with socket.socket() as probe:
                    assert probe.connect_ex(("127.0.0.1", them.ports[1])) == errno.ECONNREFUSED
            assert them.config(1).client_port == moved

    asyncio.run(main())


def test_client_port_that_is_taken_is_reported_and_the_old_one_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with written(tmp_path) as them:
            await them.start(1, 2, 3)
            await them.serving(1, 2, 3)
            with socket.socket() as squatter:
                squatter.bind(("127.0.0.1", 0))
                squatter.listen()
                taken = squatter.getsockname()[1]
                async with client(them.hosts(2)) as zk:
                    await zk.reconfig(joining=[them.line(1).replace(f":{them.ports[1]}", f":{taken}")])
                while f"clients are not taken on port {taken}" not in caplog.text:
                    await asyncio.sleep(0.01)
            async with client(them.hosts(1)) as zk:
                await zk.create("/still-here")

    asyncio.run(main())


def test_a_member_moves_to_other_ports(tmp_path: Path) -> None:
    async def main() -> None:
        async with written(tmp_path) as them:
            await them.start(1, 2, 3)
            await them.serving(1, 2, 3)
            moving = await them.leader()
            others = sorted({1, 2, 3} - {moving})
            async with client(them.hosts(*others)) as zk:
                line = f"server.{moving}=127.0.0.1:{free_port()}:{free_port()};127.0.0.1:{them.ports[moving]}"
                await zk.persist(lambda: move(zk, line))
                await zk.persist(lambda: zk.ensure("/after"))
                # The others alone do, and it is found again where it went.
                gone = next(sid for sid in others if them.peers[sid].role is Role.FOLLOWING)
                await them.serving(moving)
                await them.stop(gone)
                await zk.persist(lambda: zk.ensure("/with-the-one-that-moved"))

    async def move(zk: corral.Client, line: str) -> None:
        if line.partition(";")[0] not in (await zk.get_config()).data.decode():
            await zk.reconfig(joining=[line])

    asyncio.run(main())


def test_one_voter_grows_to_three_and_becomes_one_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with written(tmp_path, standaloneEnabled="false") as them:
            only(them, 1)
            await them.start(1)
            async with client(them.hosts(1)) as zk:
                await zk.create("/alone", b"from the start")
                for sid in (2, 3):
                    only(them, *range(1, sid))
                    await them.start(sid)
                    await them.serving(sid)
                    await zk.reconfig(joining=[them.line(sid)])
                await them.serving(1, 2, 3)
                assert await voters(zk) == {1, 2, 3}
                await them.stop(3)
                await zk.persist(lambda: zk.ensure("/two-of-three"))
                await zk.reconfig(leaving=["2", "3"])
                await them.stop(2)
                await zk.persist(lambda: zk.ensure("/one-of-one"))
            await them.stop(1)
            await them.start(1)
            async with client(them.hosts(1)) as zk:
                assert (await zk.get("/alone")).data == b"from the start"
                assert await voters(zk) == {1}

    asyncio.run(main())
