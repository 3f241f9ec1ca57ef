"""Fixtures of the interop tests: every test here runs against Apache's server and against Corral's."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from tests.interop.kazoo_clients import ClientFactory
from tests.interop.peers import SERVERS, Server, missing_peers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kazoo.client import KazooClient

HERE: Final = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.interop)


@pytest.fixture(scope="session", autouse=True)
def installed_peers() -> None:
    """Without the peers these tests cannot run: skipped on a developer's machine, failed in CI."""
    missing = missing_peers()
    if not missing:
        return
    message = f"run tools/peers.sh first, these are missing: {', '.join(missing)}"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="module", params=sorted(SERVERS))
def server_type(request: pytest.FixtureRequest) -> type[Server]:
    """The kind of server under test."""
    kind: str = request.param
    return SERVERS[kind]


@pytest.fixture(scope="module")
def server_config() -> dict[str, str | int]:
    """Further zoo.cfg lines of the module's shared server; a module may override this."""
    return {}


@pytest.fixture(scope="module")
def server_properties() -> dict[str, str | int]:
    """Java system properties of the module's shared server; a module may override this."""
    return {}


@pytest.fixture(scope="module")
def server(
    server_type: type[Server],
    server_config: dict[str, str | int],
    server_properties: dict[str, str | int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """One running server, shared by all tests of a module."""
    directory = tmp_path_factory.mktemp(server_type.kind) / "data"
    with server_type(directory, server_config, properties=server_properties) as running:
        yield running


@pytest.fixture
def clients(server: Server) -> Iterator[ClientFactory]:
    """Makes started kazoo clients of the shared server; they are closed after the test."""
    with ClientFactory(server.address) as factory:
        yield factory


@pytest.fixture
def client(clients: ClientFactory) -> KazooClient:
    """A started kazoo client of the shared server."""
    return clients()


@pytest.fixture
def root(request: pytest.FixtureRequest, client: KazooClient) -> str:
    """A fresh znode that only this test uses."""
    name = re.sub(r"\W+", "_", request.node.name)
    path: str = client.create(f"/{name}", b"")
    return path
