"""The configuration as a whole: zoo.cfg in, one validated value and notices out."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from corral.server.config import (
    AuthConfig,
    ConfigError,
    ConnectionThrottle,
    Entry,
    Layer,
    Limits,
    Reading,
    ServerConfig,
    from_properties,
    load,
    read,
)
from corral.server.config.assembly import PLACES
from corral.server.config.model import GROUPS, declarations
from corral.server.config.other_keys import OTHER_KEYS, Standing

LEAST = {"dataDir": "data", "clientPort": "2181"}


def configured(**settings: str) -> ServerConfig:
    return from_properties({**LEAST, **settings})


def with_keys(settings: Mapping[str, str]) -> ServerConfig:
    return from_properties({**LEAST, **settings})


def read_text(directory: Path, text: str, *arguments: Entry, **environment: str) -> Reading:
    """What comes of a file ``zoo.cfg`` with the least lines and then ``text``."""
    path = directory / "zoo.cfg"
    path.write_text(f"dataDir={directory}/data\nclientPort=2181\n{text}", "latin-1")
    return read(path, arguments=arguments, environment=environment)


def warnings(reading: Reading) -> list[str]:
    return [notice.text for notice in reading.notices if notice.level == logging.WARNING]


class TestDefaults:
    def test_are_those_of_apache(self) -> None:
        config = configured()
        assert config == ServerConfig(data_dir=Path("data"))
        assert config.data_log_dir == Path("data")
        assert config.client_port_address is None
        assert config.listen_backlog == 50
        assert (config.tick_time_ms, config.min_session_timeout_ms, config.max_session_timeout_ms) == (
            3000,
            6000,
            60000,
        )
        assert config.limits == Limits(max_client_connections=60, jute_max_buffer=0xFFFFF)
        assert config.storage.snap_count == 100_000
        assert config.storage.force_sync
        assert not config.tree.extended_types_enabled
        assert config.four_letter_words == {"srvr"}
        assert config.server_id is None

    def test_session_timeouts_follow_the_tick(self) -> None:
        config = configured(tickTime="100")
        assert (config.min_session_timeout_ms, config.max_session_timeout_ms) == (200, 2000)

    def test_minus_one_is_not_set(self) -> None:
        config = configured(minSessionTimeout="-1", maxSessionTimeout="-1", clientPortListenBacklog="-1")
        assert config == configured()

    def test_without_a_file_the_server_is_for_this_machine(self) -> None:
        config = read(None, arguments=(), environment={}).config
        assert (config.data_dir, config.client_port_address, config.client_port) == (
            Path("corral-data"),
            "127.0.0.1",
            2181,
        )


class TestValues:
    @pytest.mark.parametrize(
        ("text", "size"),
        [("4194304", 4194304), ("0x3fffff", 0x3FFFFF), ("0XFF", 255), ("#ff", 255), ("010", 8), ("+7", 7)],
    )
    def test_system_property_numbers_are_read_as_java_does(self, text: str, size: int) -> None:
        assert with_keys({"jute.maxbuffer": text}).limits.jute_max_buffer == size

    def test_own_keys_of_the_file_are_decimal(self) -> None:
        assert configured(tickTime="010").tick_time_ms == 10
        with pytest.raises(ConfigError, match="tickTime=0x10 is refused; accepted is a whole number, 1 or more"):
            configured(tickTime="0x10")

    @pytest.mark.parametrize(
        ("text", "milliseconds"),
        [("1", 3_600_000), ("48", 172_800_000), ("90m", 5_400_000), ("2D", 172_800_000), ("500ms", 500), ("7s", 7000)],
    )
    def test_purge_interval(self, text: str, milliseconds: int) -> None:
        assert with_keys({"autopurge.purgeInterval": text}).storage.purge_interval_ms == milliseconds

    @pytest.mark.parametrize(
        ("key", "text"),
        [
            ("clientPort", "65536"),
            ("clientPort", "x"),
            ("clientPort", ""),
            ("clientPortAddress", ""),
            ("dataDir", ""),
            ("tickTime", "0"),
            ("tickTime", "-1"),
            ("tickTime", "2147483648"),
            ("maxClientCnxns", "many"),
            ("maxSessionTimeout", "0"),
            ("jute.maxbuffer", "08"),
            ("jute.maxbuffer", "1m"),
            ("forceSync", "true"),
            ("skipACL", "1"),
            ("digest.enabled", "yes"),
            ("snapshot.compression.method", "zip"),
            ("autopurge.purgeInterval", "1w"),
            ("autopurge.purgeInterval", ""),
            ("connection_throttle_drop_increase", "1.5"),
            ("connection_throttle_drop_increase", "nan"),
            ("connection_throttle_drop_increase", "some"),
            ("DigestAuthenticationProvider.digestAlg", "SHA-0"),
            ("standaloneEnabled", "maybe"),
        ],
    )
    def test_wrong_ones_name_file_line_key_value_and_what_is_accepted(
        self, tmp_path: Path, key: str, text: str
    ) -> None:
        with pytest.raises(ConfigError) as caught:
            read_text(tmp_path, f"# a comment\n{key}={text}\n")
        message = str(caught.value)
        assert message.startswith(f"{tmp_path}/zoo.cfg, line 4: {key}={text} is refused; accepted is ")

    @pytest.mark.parametrize(
        ("algorithm", "name"), [("SHA1", "sha1"), ("SHA-1", "sha1"), ("SHA-256", "sha256"), ("SHA3-256", "sha3_256")]
    )
    def test_digest_algorithm(self, algorithm: str, name: str) -> None:
        config = with_keys({"DigestAuthenticationProvider.digestAlg": algorithm})
        assert config.auth.digest_algorithm == name

    def test_names_and_words(self) -> None:
        config = with_keys({"4lw.commands.whitelist": "mntr, ruok,,", "readonlymode.enabled": "TRUE"})
        assert config.four_letter_words == {"mntr", "ruok", "srvr", "isro"}
        assert config.answers_word("ruok")
        assert not config.answers_word("stat")
        assert with_keys({"4lw.commands.whitelist": "*"}).answers_word("stat")

    @pytest.mark.parametrize("compression", ["gz", "SNAPPY", ""])
    def test_compression(self, compression: str) -> None:
        config = with_keys({"snapshot.compression.method": compression})
        assert config.storage.snapshot_compression == (compression.lower() or None)


class TestReplacedValues:
    @pytest.mark.parametrize(
        ("key", "text", "used"),
        [
            ("snapCount", "1", 2),
            ("autopurge.snapRetainCount", "1", 3),
            ("maxClientCnxns", "-1", 0),
            ("largeRequestThreshold", "0", -1),
            ("largeRequestMaxBytes", "0", 104_857_600),
            ("connection_throttle_global_session_weight", "0", 3),
            ("clientPortListenBacklog", "0", 50),
        ],
    )
    def test_out_of_range_is_replaced_as_in_apache_and_said(
        self, tmp_path: Path, key: str, text: str, used: int
    ) -> None:
        reading = read_text(tmp_path, f"{key}={text}\n")
        place = PLACES[key]
        group = reading.config if place.group is None else getattr(reading.config, place.group)
        assert getattr(group, place.field.name) == used
        assert warnings(reading) == [f"{tmp_path}/zoo.cfg, line 3: {key}={text} is taken as {used}"]

    def test_a_session_never_weighs_less_than_a_local_one(self) -> None:
        throttle = ConnectionThrottle(local_session_weight=5)
        assert (throttle.global_session_weight, throttle.renew_session_weight) == (5, 5)


class TestTogether:
    def test_session_timeouts_in_the_wrong_order(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            read_text(tmp_path, "minSessionTimeout=100000\ntickTime=2000\n")
        assert str(caught.value).startswith(
            f"{tmp_path}/zoo.cfg, line 3; {tmp_path}/zoo.cfg, line 4:"
            " minSessionTimeout (100000 ms) is larger than maxSessionTimeout (40000 ms)"
        )

    def test_enforced_authentication(self) -> None:
        enforced = {"enforce.auth.enabled": "true"}
        with pytest.raises(ConfigError, match=r"needs enforce\.auth\.schemes"):
            with_keys(enforced)
        with pytest.raises(ConfigError, match="asks for sasl, which this server does not have; it has digest, ip"):
            with_keys({**enforced, "enforce.auth.schemes": "digest,sasl"})
        with pytest.raises(ConfigError, match="asks for digest"):
            AuthConfig(enforce_auth_enabled=True, enforce_auth_schemes=frozenset({"digest"}), digest_auth_enabled=False)
        config = with_keys({**enforced, "enforce.auth.schemes": "digest, ip"})
        assert config.auth.enforce_auth_schemes == {"digest", "ip"}

    def test_providers_switch_schemes_on(self, tmp_path: Path) -> None:
        package = "org.apache.zookeeper.server.auth"
        reading = read_text(
            tmp_path,
            f"authProvider.1={package}.EnsembleAuthenticationProvider\n"
            f"authProvider.x={package}.DigestAuthenticationProvider\n"
            "authProvider.2=com.example.Own\n",
        )
        assert reading.config.auth.extra_schemes == {"ensemble"}
        assert reading.config.auth.schemes == {"ensemble", "digest", "ip"}
        assert warnings(reading) == [
            f"{tmp_path}/zoo.cfg, line 5: the provider com.example.Own is not supported yet by Corral"
        ]

    def test_what_keeps_clients_out_is_not_passed_over(self) -> None:
        with pytest.raises(ConfigError, match="sessionRequireClientSASLAuth=true keeps out clients without SASL"):
            configured(sessionRequireClientSASLAuth="true")
        assert configured(sessionRequireClientSASLAuth="false") == configured()

    def test_keyword_construction_is_checked_too(self) -> None:
        with pytest.raises(ConfigError, match="tickTime=0 is refused"):
            ServerConfig(data_dir=Path("data"), tick_time_ms=0)
        with pytest.raises(ConfigError, match="zip is refused; accepted is one of gz, snappy, or nothing"):
            dataclasses.replace(configured().storage, snapshot_compression="zip")


class TestMissing:
    def test_data_directory(self) -> None:
        with pytest.raises(ConfigError, match=r"zoo\.cfg: dataDir is missing"):
            from_properties({"clientPort": "2181"}, "zoo.cfg")

    def test_client_port(self) -> None:
        with pytest.raises(ConfigError, match=r"clientPort is missing$"):
            from_properties({"dataDir": "data"})

    def test_client_port_beside_a_secure_one(self) -> None:
        with pytest.raises(ConfigError, match="there is only secureClientPort, which is not supported yet"):
            from_properties({"dataDir": "data", "secureClientPort": "2281"})

    def test_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"cannot read .*/none\.cfg: No such file"):
            load(tmp_path / "none.cfg", environment={})


class TestServerNumber:
    def test_comes_from_myid(self, tmp_path: Path) -> None:
        (tmp_path / "myid").write_text("7\n")
        assert configured(dataDir=str(tmp_path)).server_id == 7

    def test_that_is_none_names_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "myid").write_text("seven\n")
        with pytest.raises(ConfigError, match="/myid: 'seven' is refused; accepted is the number of this server"):
            configured(dataDir=str(tmp_path))

    def test_is_none_below_what_is_no_directory(self) -> None:
        assert configured(dataDir="/dev/null").server_id is None

    def test_that_cannot_be_read_names_the_file(self) -> None:
        directory = "d" * 300
        with pytest.raises(ConfigError, match=f"cannot read {directory}/myid"):
            configured(dataDir=directory)


class TestNotices:
    def test_unknown_key(self, tmp_path: Path) -> None:
        reading = read_text(tmp_path, "\n\nautopurge.purgeIntervall=3\nsnapcount=5\nnothing.like.it=1\n")
        place = f"{tmp_path}/zoo.cfg, line"
        assert warnings(reading) == [
            f"{place} 5: unknown key autopurge.purgeIntervall is ignored; did you mean autopurge.purgeInterval?",
            f"{place} 6: unknown key snapcount is ignored; did you mean snapCount?",
            f"{place} 7: unknown key nothing.like.it is ignored",
        ]

    @pytest.mark.parametrize(
        ("line", "ending"),
        [
            ("secureClientPort=2281", "is not supported yet by Corral"),
            ("ssl.keyStore.password=secret", "is not supported yet by Corral"),
            ("sslQuorum=true", "is not supported yet by Corral"),
            ("zookeeper.audit.enable=true", "is not supported yet by Corral"),
            ("metricsProvider.className=com.example.Own", "is not supported yet by Corral"),
            ("superUser.x=joe", "is not supported yet by Corral"),
            ("nio.numWorkerThreads=8", "has no effect in Corral"),
            ("jvm.pause.monitor=true", "has no effect in Corral"),
            ("client.secure=true", "is a setting of the Java client, and has no effect in a server"),
            ("server.principal=x", "is a setting of the Java client, and has no effect in a server"),
        ],
    )
    def test_key_that_nothing_comes_of(self, tmp_path: Path, line: str, ending: str) -> None:
        reading = read_text(tmp_path, line)
        key = line.partition("=")[0].removeprefix("zookeeper.")
        assert warnings(reading) == [f"{tmp_path}/zoo.cfg, line 3: {key} {ending}"]

    @pytest.mark.parametrize(
        "line",
        [
            "sslQuorum=false",
            "admin.enableServer=FALSE",
            "metricsProvider.className=org.apache.zookeeper.metrics.impl.DefaultMetricsProvider",
            "serverCnxnFactory=org.apache.zookeeper.server.NIOServerCnxnFactory",
        ],
    )
    def test_none_for_a_key_that_asks_for_what_is_so_anyway(self, tmp_path: Path, line: str) -> None:
        assert read_text(tmp_path, line).notices == ()

    def test_ensemble_keys_are_mentioned_quietly(self, tmp_path: Path) -> None:
        (notice,) = read_text(tmp_path, "initLimit=10").notices
        assert notice.level == logging.INFO
        assert notice.text.endswith("line 3: initLimit concerns ensembles only, and this is a standalone server")

    def test_go_to_the_log_one_each(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO):
            from_properties({**LEAST, "fips-mode": "true", "syncLimit": "5"}, "zoo.cfg")
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            ("WARNING", "zoo.cfg: fips-mode has no effect in Corral"),
            ("INFO", "zoo.cfg: syncLimit concerns ensembles only, and this is a standalone server"),
        ]

    def test_never_hold_a_secret(self, tmp_path: Path) -> None:
        key = "DigestAuthenticationProvider.superDigest"
        reading = read_text(tmp_path, f"{key}=super:a\n{key}=super:b\nssl.keyStore.password=c\n")
        assert reading.config.auth.super_digest == "super:b"
        assert len(warnings(reading)) == 2
        assert not any("super:a" in text or "super:b" in text or "=c" in text for text in warnings(reading))


class TestPrecedence:
    def test_the_file_wins_over_the_environment(self, tmp_path: Path) -> None:
        reading = read_text(tmp_path, "snapCount=500\n", JVMFLAGS="-Dzookeeper.snapCount=900")
        assert reading.config.storage.snap_count == 500
        assert warnings(reading) == [
            f"JVMFLAGS: snapCount does not count, {tmp_path}/zoo.cfg, line 3 gives it another value"
        ]

    def test_for_a_property_without_prefix_the_environment_wins(self, tmp_path: Path) -> None:
        reading = read_text(tmp_path, "jute.maxbuffer=500\n", SERVER_JVMFLAGS="-Djute.maxbuffer=900")
        assert reading.config.limits.jute_max_buffer == 900
        assert warnings(reading) == [
            f"{tmp_path}/zoo.cfg, line 3: jute.maxbuffer does not count, SERVER_JVMFLAGS gives it another value"
        ]

    def test_jvmflags_win_over_server_jvmflags(self, tmp_path: Path) -> None:
        flags = {"JVMFLAGS": "-Dzookeeper.maxCnxns=1", "SERVER_JVMFLAGS": "-Dzookeeper.maxCnxns=2"}
        assert read_text(tmp_path, "", **flags).config.limits.max_connections == 1

    def test_arguments_win_over_all_without_a_word(self, tmp_path: Path) -> None:
        port = Entry("clientPort", "3181", "--port", Layer.ARGUMENT)
        buffer = Entry("jute.maxbuffer", "77", "--x", Layer.ARGUMENT)
        reading = read_text(tmp_path, "", port, buffer, JVMFLAGS="-Djute.maxbuffer=900")
        assert reading.config.client_port == 3181
        assert reading.config.limits.jute_max_buffer == 77
        assert reading.notices == ()

    def test_of_two_lines_the_last_counts(self, tmp_path: Path) -> None:
        reading = read_text(tmp_path, "tickTime=1000\nzookeeper.tickTime=2000\n")
        assert reading.config.tick_time_ms == 2000
        assert warnings(reading) == [
            f"{tmp_path}/zoo.cfg, line 3: tickTime does not count, {tmp_path}/zoo.cfg, line 4 gives it another value"
        ]

    def test_of_two_equal_lines_nothing_is_said(self, tmp_path: Path) -> None:
        assert read_text(tmp_path, "tickTime=1000\ntickTime=1000\n").notices == ()


class TestKeys:
    def test_every_setting_can_be_reached_by_one_key(self) -> None:
        groups = [ServerConfig, *GROUPS.values()]
        keys = [declaration.key for group in groups for _, declaration in declarations(group)]
        assert sorted(keys) == sorted(PLACES)
        assert not set(keys) & set(OTHER_KEYS)

    @pytest.mark.parametrize("key", sorted(PLACES) + sorted(OTHER_KEYS))
    def test_the_manual_has_every_key(self, key: str) -> None:
        manual = Path(__file__).parents[2] / "docs" / "configuration.md"
        assert f"`{key}`" in manual.read_text("utf-8")

    def test_the_manual_tells_the_standing_of_every_other_key(self) -> None:
        manual = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text("utf-8")
        sections = dict(section.partition("\n")[::2] for section in manual.split("\n## "))
        titles = {
            Standing.NOT_SUPPORTED_YET: "Keys that are not supported yet",
            Standing.NO_EFFECT: "Keys that have no effect",
            Standing.CLIENT: "Keys of the Java client",
        }
        for key in OTHER_KEYS.values():
            if key.standing in titles:
                assert f"`{key.name}`" in sections[titles[key.standing]]
