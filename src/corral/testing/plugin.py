"""The pytest plugin: fixtures that give a real server.

========================  ========  ==========================================================================
fixture                   scope     gives
========================  ========  ==========================================================================
``zookeeper``             function  ``host:port`` of a new, empty server (a str); its ``server`` has the controls
``zookeeper_server``      function  that same server, a :class:`corral.testing.Server`
``zookeeper_session``     session   ``host:port`` of one server for the whole run
``zookeeper_shared``      function  the same, up and emptied before the test: the cheapest
``zookeeper_ensemble``    function  a new, empty ensemble of three, a :class:`corral.testing.Ensemble`
========================  ========  ==========================================================================

Settings: the marker ``zookeeper(...)`` takes the arguments of :class:`corral.testing.Server` for the function's own
server, and ``zookeeper_ensemble(...)`` those of :class:`corral.testing.Ensemble` for its ensemble; the ini option
``zookeeper_settings`` (lines ``KEY=VALUE`` as in ``zoo.cfg``) holds for all, and ``zookeeper_in_process`` says where
they run. Nothing of Corral's server is imported before a fixture is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from corral.testing import Address, Ensemble, Server

MARKER = "zookeeper"
ENSEMBLE_MARKER = "zookeeper_ensemble"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the ini options."""
    parser.addini(
        "zookeeper_settings", "settings of the servers for tests, as in zoo.cfg: KEY=VALUE", type="linelist", default=[]
    )
    parser.addini(
        "zookeeper_in_process", "run servers for tests in this process, not in a child", type="bool", default=True
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers", f"{MARKER}(**arguments): arguments of corral.testing.Server for the server of this test's fixtures"
    )
    config.addinivalue_line(
        "markers", f"{ENSEMBLE_MARKER}(**arguments): arguments of corral.testing.Ensemble for the ensemble of this test"
    )


@pytest.fixture
def zookeeper_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A new, empty server for this test."""
    with _make_server(request.config, _marked(request, MARKER)) as server:
        yield server


@pytest.fixture
def zookeeper_ensemble(request: pytest.FixtureRequest) -> Iterator[Ensemble]:
    """A new, empty ensemble for this test, with a leader."""
    from corral.testing import Ensemble

    with Ensemble(**_settings(request.config, _marked(request, ENSEMBLE_MARKER))) as ensemble:
        yield ensemble


@pytest.fixture
def zookeeper(zookeeper_server: Server) -> Address:
    """The address, host:port, of a new, empty server for this test."""
    return zookeeper_server.address


@pytest.fixture(scope="session")
def zookeeper_session(request: pytest.FixtureRequest) -> Iterator[Address]:
    """The address, host:port, of one server for the whole run."""
    with _make_server(request.config, {}) as server:
        yield server.address


@pytest.fixture
def zookeeper_shared(zookeeper_session: Address) -> Address:
    """The address, host:port, of the run's one server, which is up and empty when the test begins."""
    from corral.testing import State

    server = zookeeper_session.server
    if server.state is State.PAUSED:
        server.resume()
    elif server.state is not State.RUNNING:
        server.start()
    server.clear()
    return zookeeper_session


def _marked(request: pytest.FixtureRequest, marker_name: str) -> dict[str, Any]:
    """The arguments of a test's markers of that name."""
    arguments: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers(marker_name))):
        if marker.args:
            raise pytest.UsageError(f"{request.node.nodeid}: the marker {marker_name} takes keyword arguments only")
        arguments |= marker.kwargs
    return arguments


def _make_server(config: pytest.Config, arguments: dict[str, Any]) -> Server:
    """A server by the ini options and ``arguments``, not started."""
    from corral.testing import Server

    return Server(**_settings(config, arguments))


def _settings(config: pytest.Config, arguments: dict[str, Any]) -> dict[str, Any]:
    """``arguments``, and the ini options beneath them."""
    properties: dict[str, str] = {}
    for line in config.getini("zookeeper_settings"):
        key, equals, value = line.partition("=")
        if not equals:
            raise pytest.UsageError(f"zookeeper_settings: {line!r} is not KEY=VALUE")
        properties[key.strip()] = value.strip()
    given = {"in_process": config.getini("zookeeper_in_process")} | arguments
    given["properties"] = properties | dict(given.get("properties") or {})
    return given
