"""Work on subtrees, from Corral's server to Apache's and back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.e2e.test_shell_subtree_commands import WHOLE, below, plant, shell, with_client
from tests.interop.peers import ApacheServer

from corral.cli.shell.subtree.copying import Place, Policy, copy
from corral.cli.shell.subtree.errors import SubtreeError
from corral.cli.shell.subtree.writing import Tally
from corral.cli.shell.top import parse_figures
from corral.client import Acl, Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from corral.testing import Address

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheServer]:
    """One of Apache's servers for this module."""
    with ApacheServer(tmp_path_factory.mktemp("apache") / "data") as server:
        yield server


def test_there_and_back(apache: ApacheServer, zookeeper_shared: Address, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    with_client(zookeeper_shared, plant)
    results = shell(
        zookeeper_shared,
        f"cp -p /a {apache.address}/there/a",
        f"diff --acl /a {apache.address}/there/a",
        f"mv {apache.address}/there/a /back",
        "diff --acl /a /back",
        f"find {apache.address}",
    )
    assert [result.status for result in results] == [0, 0, 0, 0, 1]
    assert below(zookeeper_shared.server, "/back") == WHOLE
    results = shell(
        apache.address,
        "tree /there",
        f"export / {file}",
        f"cp {zookeeper_shared}/a /there/a",
        f"cp --overwrite --delete {zookeeper_shared}/a/b /there/a",
        "find /there --name deep",
        f"import --overwrite --delete {file} /",
        "tree /there",
        "deleteall /there",
    )
    assert [result.status for result in results] == [0] * 8
    assert results[0].out == results[6].out == "/there\n\n1 znodes\n"
    assert results[4].out == "/there/a/deep\n"


def test_containers_and_ttl_znodes_are_not_told_apart(apache: ApacheServer) -> None:
    async def work(zk: Client) -> None:
        await zk.create("/k")
        created = await zk.create("/k/c", container=True)
        # No release of Apache's server has told clients more.
        assert created.stat.ephemeral_owner == 0
        await zk.create("/k/secret", acl=[Acl("digest", "bob:hash="), Acl("world", "anyone", "r")])
        with pytest.raises(SubtreeError, match="/k/secret: the service hides the passwords"):
            await copy(Place(zk, "/k"), Place(zk, "/l"), Policy(), Tally())

    with_client(apache.address, work)


def test_top_of_apache_s_server(apache: ApacheServer) -> None:
    (result,) = shell(apache.address, "top --once -n 0.1", as_json=True)
    (server,) = json.loads(result.out)["servers"]
    assert server["problem"] is None
    assert server["figures"]["server_state"] == "standalone"
    assert server["requests_per_second"] is not None
    assert [each["session"][:2] for each in server["connections"]] == ["0x"]
    figures = parse_figures(apache.four_letter_word("srvr"))
    assert figures.keys() >= {"version", "server_state", "packets_received", "znode_count", "avg_latency", "zxid"}


def test_ttl_znodes_that_apache_does_not_make_by_itself(apache: ApacheServer, tmp_path: Path) -> None:
    file = tmp_path / "ttl.jsonl"
    file.write_text(
        '{"corral_export": 1, "root": "/ttl"}\n{"path": "/ttl", "data": "", "kind": "ttl", "ttl": 9}\n{"end": 1}\n'
    )
    refused, plain = shell(apache.address, f"import {file}", f"import --plain {file}")
    assert (refused.status, plain.status) == (1, 0)
    assert "/ttl: the service makes no znodes of the kind ttl" in refused.err
