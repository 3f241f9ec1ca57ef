"""Settings of a server for tests: defaults, keywords, properties, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from corral.server.config import ConfigError
from corral.testing import Server
from corral.testing.settings import TEST_DEFAULTS, build_config

if TYPE_CHECKING:
    from corral.server.config import ServerConfig
    from corral.testing.settings import Setting


def config(properties: dict[str, str] | None = None, **settings: Setting) -> ServerConfig:
    return build_config(Path("data"), "127.0.0.1", 12345, properties or {}, settings)


def test_defaults_suit_tests() -> None:
    made = config()
    assert (made.data_dir, made.client_port, made.client_port_address) == (Path("data"), 12345, "127.0.0.1")
    assert made.answers_word("mntr")
    assert made.limits.max_client_connections == 0
    assert made.tree.extended_types_enabled
    assert (made.min_session_timeout_ms, made.max_session_timeout_ms, made.tick_time_ms) == (100, 60_000, 100)
    assert not made.storage.force_sync
    assert made.storage.prealloc_size_kb == 64


@pytest.mark.parametrize("key", sorted(TEST_DEFAULTS))
def test_defaults_are_only_that(key: str, caplog: pytest.LogCaptureFixture) -> None:
    other = {"4lw.commands.whitelist": "ruok", "extendedTypesEnabled": "false", "forceSync": "yes"}.get(key, "1234")
    assert config() != config({key: other}) == config({}, **{key: other})
    assert caplog.records == []


@pytest.mark.parametrize(
    "settings",
    [
        {"tickTime": 500},
        {"tick_time_ms": 500},
        {"tickTime": "500"},
        {"zookeeper.tickTime": 500},
    ],
)
def test_settings_are_called_as_in_either_place(settings: dict[str, Setting]) -> None:
    assert config({}, **settings).tick_time_ms == 500


def test_values_are_of_python() -> None:
    made = config(
        {},
        force_sync=True,
        enforceQuota=True,
        skip_acl=False,
        four_letter_words={"ruok", "stat"},
        ensemble_auth_names=["one", "two"],
        purge_interval_ms=1500,
        drop_increase=0.5,
        data_log_dir=Path("logs"),
        super_digest=None,
    )
    assert (made.storage.force_sync, made.tree.enforce_quota, made.auth.skip_acl) == (True, True, False)
    assert made.four_letter_words == {"ruok", "stat", "srvr"}
    assert made.auth.ensemble_auth_names == {"one", "two"}
    assert made.storage.purge_interval_ms == 1500
    assert made.connection_throttle.drop_increase == 0.5
    assert made.data_log_dir == Path("logs")
    assert made.auth.super_digest is None


def test_keywords_win_over_properties() -> None:
    made = config({"tickTime": "300", "snapCount": "10"}, tickTime=500)
    assert (made.tick_time_ms, made.storage.snap_count) == (500, 10)


def test_unknown_property_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    config({"tickTimes": "300"})
    assert caplog.record_tuples == [
        (
            "corral.server.config",
            logging.WARNING,
            "properties: unknown key tickTimes is ignored; did you mean tickTime?",
        )
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tickTimes": 1}, r"^there is no setting tickTimes; did you mean tickTime\?$"),
        ({"tick_time": 1}, r"^there is no setting tick_time; did you mean tick_time_ms\?$"),
        ({"tickTime": 1, "tick_time_ms": 1}, r"^tickTime and tick_time_ms are the same setting: give one$"),
        ({"qqq": 1}, r"^there is no setting qqq$"),
        ({"tickTime": "soon"}, r"^keyword tickTime: tickTime=soon is refused; accepted is a whole number, 1 or more$"),
        ({"tick_time_ms": 0}, r"^keyword tick_time_ms: tickTime=0 is refused; accepted is a whole number, 1 or more$"),
        ({"maxSessionTimeout": 50}, r"minSessionTimeout \(100 ms\) is larger than maxSessionTimeout \(50 ms\)"),
        ({"clientPort": 2181}, r"^keyword clientPort: instead of clientPort give port$"),
        ({"client_port_address": "::"}, r"^keyword client_port_address: instead of clientPortAddress give host$"),
        ({"zookeeper.dataDir": "x"}, r"^keyword zookeeper\.dataDir: instead of zookeeper\.dataDir give data_dir$"),
    ],
)
def test_what_is_wrong_is_told(settings: dict[str, Setting], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config({}, **settings)


def test_refused_server_leaves_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(ConfigError, match="tickTime=-1 is refused"):
        Server(tickTime=-1)
    assert list(tmp_path.iterdir()) == []
