"""Where members find each other: several addresses, IPv6, names whose address changes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.test_quorum_elector import free_ports
from tests.e2e.test_quorum_peers import Members, client, members

from corral.quorum.ensemble import parse_ensemble
from corral.quorum.peer import Peer
from corral.server.config import from_properties


def place(them: Members, hosts: Mapping[int, str]) -> None:
    """Let the members be at these hosts; several are written with ``|`` between them."""
    lines = []
    for sid, names in hosts.items():
        quorum_port, election_port = free_ports(2)
        addresses = "|".join(f"{name}:{quorum_port}:{election_port}" for name in names.split("|"))
        lines.append(f"server.{sid}={addresses}")
    them.ensemble = them.everybody = parse_ensemble("\n".join(lines))


async def loses_its_leader_and_goes_on(them: Members) -> None:
    await them.start(1, 2, 3)
    async with client(them.hosts()) as zk:
        await zk.create("/first")
        old = await them.leader()
        await them.stop(old)
        await zk.persist(lambda: zk.ensure("/second"))
        await them.start(old)
        while them.peers[old].server is None:
            await asyncio.sleep(0.01)
    first, *others = await them.trees()
    assert b"/second" in first
    assert others == [first, first]


def test_members_at_ipv6_addresses(tmp_path: Path) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")

    async def main() -> None:
        async with members(tmp_path) as them:
            place(them, dict.fromkeys((1, 2, 3), "[::1]"))
            await loses_its_leader_and_goes_on(them)

    asyncio.run(main())


class DeafAtFirstAddress(Members):
    """Members of which each has two addresses, and the first is not reached, as if that network were down."""

    async def start(self, *sids: int) -> None:
        for sid in sids:
            properties = {
                "dataDir": str(self.directory / str(sid)),
                "clientPort": str(self.ports[sid]),
                "clientPortAddress": "127.0.0.1",
                "tickTime": "100",
                "forceSync": "no",
                "multiAddress.enabled": "true",
                "reconfigEnabled": "true",
            }
            config = from_properties(properties)
            heard = self.ensemble.members[sid].addresses[1:]
            quorum = replace(config.quorum, listens_at=heard, multi_address_enabled=True)
            peer = Peer(sid, self.ensemble, replace(config, quorum=quorum), init_limit=50, sync_limit=20)
            await peer.start()
            self.peers[sid] = peer


def test_members_with_two_addresses_of_which_one_is_down(tmp_path: Path) -> None:
    async def main() -> None:
        async with members(tmp_path) as them:
            deaf = DeafAtFirstAddress(tmp_path, 3)
            deaf.peers = them.peers
            place(deaf, {sid: f"127.0.0.{sid}|127.0.1.{sid}" for sid in (1, 2, 3)})
            await loses_its_leader_and_goes_on(deaf)
            async with client(deaf.hosts()) as zk:
                shown = parse_ensemble((await zk.get_config()).data.decode())
                assert shown.members == deaf.ensemble.members

    asyncio.run(main())


def test_a_member_whose_address_changes_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"alpha": "127.0.0.1", "beta": "127.0.0.2", "gamma": "127.0.0.3"}
    ask = socket.getaddrinfo

    def resolve(host: Any, *others: Any, **options: Any) -> Any:
        return ask(names.get(host, host), *others, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    async def main() -> None:
        async with members(tmp_path) as them:
            place(them, {1: "alpha", 2: "beta", 3: "gamma"})
            await them.start(1, 2, 3)
            async with client(them.hosts()) as zk:
                for sid, name, address in ((3, "gamma", "127.0.0.33"), (2, "beta", "127.0.0.22")):
                    await zk.persist(partial(zk.ensure, f"/before-{sid}"))
                    await them.stop(sid)
                    names[name] = address
                    await zk.persist(partial(zk.ensure, f"/without-{sid}"))
                    await them.start(sid)
                    while them.peers[sid].server is None:
                        await asyncio.sleep(0.01)
                # Those two are enough only if they find each other where they have gone.
                await them.stop(1)
                await zk.persist(lambda: zk.ensure("/after"))
                assert {"before-3", "without-2", "after"} <= set(await zk.get_children("/"))

    asyncio.run(main())
