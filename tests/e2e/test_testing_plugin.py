"""The pytest plugin, in runs of pytest of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from corral.testing import Address, Server

pytest_plugins = ["pytester"]

LEAN = ("-p", "no:hypothesispytest")
"""What hypothesis imports takes longer than such a run."""
STRICT = (*LEAN, "-W", "error", "--strict-markers", "--strict-config")


def test_fixtures_give_servers(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import os
        import pytest
        from kazoo.client import KazooClient

        ADDRESSES = []

        def use(hosts):
            client = KazooClient(hosts)
            client.start()
            assert client.get_children("/") == ["zookeeper"]
            client.create("/node", b"")
            client.stop()
            client.close()

        @pytest.mark.parametrize("turn", [1, 2])
        def test_new_server_for_each_test(zookeeper, zookeeper_server, turn):
            use(zookeeper)
            assert zookeeper == zookeeper_server.address
            assert zookeeper.server is zookeeper_server
            assert zookeeper_server.tree() == {"/node": b""}
            assert zookeeper_server.pid == os.getpid()
            assert zookeeper not in ADDRESSES
            ADDRESSES.append(zookeeper)

        @pytest.mark.parametrize("trouble", ["pause", "kill", "stop", "restart", None])
        def test_shared_server_is_up_and_empty(zookeeper_shared, zookeeper_session, trouble):
            assert zookeeper_shared is zookeeper_session
            use(zookeeper_shared)
            if trouble:
                getattr(zookeeper_shared.server, trouble)()

        def test_both_kinds_at_once(zookeeper, zookeeper_shared):
            assert zookeeper != zookeeper_shared
        """
    )
    pytester.runpytest_subprocess(*STRICT).assert_outcomes(passed=8)


def test_settings_come_from_markers_and_the_ini_file(pytester: pytest.Pytester) -> None:
    pytester.makeini(
        """
        [pytest]
        zookeeper_settings =
            tickTime = 300
            snapCount=10
        zookeeper_in_process = false
        """
    )
    pytester.makepyfile(
        """
        import os
        import pytest

        pytestmark = pytest.mark.zookeeper(snapCount=20, enforceQuota=True)

        @pytest.mark.zookeeper(snapCount=30, in_process=True)
        def test_nearest_marker_counts(zookeeper_server):
            config = zookeeper_server.config
            assert (config.tick_time_ms, config.storage.snap_count, config.tree.enforce_quota) == (300, 30, True)
            assert zookeeper_server.pid == os.getpid()

        @pytest.mark.zookeeper(properties={"jute.maxbuffer": "4096"})
        def test_properties_add_up(zookeeper):
            config = zookeeper.server.config
            assert (config.tick_time_ms, config.limits.jute_max_buffer) == (300, 4096)
            assert zookeeper.server.pid != os.getpid()

        def test_markers_do_not_concern_the_run_s_server(zookeeper_session):
            assert zookeeper_session.server.config.storage.snap_count == 10
            assert zookeeper_session.server.pid != os.getpid()
        """
    )
    pytester.runpytest_subprocess(*STRICT).assert_outcomes(passed=3)


def test_mistakes_are_told(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nzookeeper_settings = tickTime\n")
    pytester.makepyfile(
        test_ini="def test_one(zookeeper): pass",
        test_marker="""
        import pytest

        @pytest.mark.zookeeper("tickTime=1")
        def test_two(zookeeper): pass

        @pytest.mark.zookeeper(tickTimes=1)
        def test_three(zookeeper): pass
        """,
    )
    result = pytester.runpytest_inprocess(*STRICT, "test_ini.py")
    result.stdout.fnmatch_lines(["*zookeeper_settings: 'tickTime' is not KEY=VALUE"])
    result = pytester.runpytest_inprocess(*STRICT, "-o", "zookeeper_settings=", "test_marker.py")
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(
        [
            "*test_marker.py::test_two: the marker zookeeper takes keyword arguments only",
            "*ConfigError: there is no setting tickTimes; did you mean tickTime?",
        ]
    )


@pytest.mark.parametrize(
    ("option", "lines"),
    [
        ("--help", ["*zookeeper_settings (linelist):*", "*zookeeper_in_process (bool):*"]),
        ("--markers", ["@pytest.mark.zookeeper(*"]),
        ("--fixtures", ["zookeeper --*", "*host:port*"]),
    ],
)
def test_is_shown_to_users(pytester: pytest.Pytester, option: str, lines: list[str]) -> None:
    pytester.runpytest_inprocess(*LEAN, option).stdout.fnmatch_lines(lines)


def test_run_without_it_loads_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing_is_loaded(pytestconfig):
            assert pytestconfig.pluginmanager.get_plugin("corral").__name__ == "corral.testing.plugin"
            loaded = sorted(name for name in sys.modules if name.partition(".")[0] in ("corral", "uvloop"))
            assert loaded == ["corral", "corral.testing", "corral.testing.plugin"]
        """
    )
    pytester.runpytest_subprocess(*STRICT).assert_outcomes(passed=1)


def test_package_names_what_it_has() -> None:
    source = """
import sys, corral.testing
assert "corral.testing.server" not in sys.modules
for name in corral.testing.__all__:
    assert getattr(corral.testing, name).__name__ == name
try:
    corral.testing.Serverr
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "module 'corral.testing' has no attribute 'Serverr'\n"


@pytest.fixture
def by_type(zookeeper: Address, zookeeper_server: Server, zookeeper_shared: Address) -> list[str]:
    return [zookeeper, zookeeper_server.host, zookeeper_shared]


def test_fixtures_can_be_typed(by_type: list[str]) -> None:
    assert all(by_type)
