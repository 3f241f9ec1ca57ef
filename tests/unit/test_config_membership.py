"""Server lines: standalone or not, and where clients are taken."""

from pathlib import Path

import pytest

from corral.server.config import ConfigError, Entry, Layer, ServerConfig, from_properties, load, read
from corral.server.config.membership import ClientAddress, Member, PeerAddress, parse_member

LOCALHOST = (PeerAddress("localhost", 2888, 3888),)
A = PeerAddress("a", 1, 2)


@pytest.mark.parametrize(
    ("text", "member"),
    [
        ("localhost:2888:3888", Member(1, LOCALHOST, True, None)),
        ("localhost:2888:3888;2181", Member(1, LOCALHOST, True, ClientAddress(None, 2181))),
        ("localhost:2888:3888:participant;10.0.0.1:2181", Member(1, LOCALHOST, True, ClientAddress("10.0.0.1", 2181))),
        ("a:1:2:OBSERVER;2181", Member(1, (A,), False, ClientAddress(None, 2181))),
        ("a:1:2|b:3:4;[::1]:2181", Member(1, (A, PeerAddress("b", 3, 4)), True, ClientAddress("::1", 2181))),
        (
            "[2001:db8::1]:1:2;0.0.0.0:2181;2281",
            Member(1, (PeerAddress("2001:db8::1", 1, 2),), True, ClientAddress(None, 2181), ClientAddress(None, 2281)),
        ),
        ("a:1:2;;2281", Member(1, (A,), True, None, ClientAddress(None, 2281))),
    ],
)
def test_lines_are_read(text: str, member: Member) -> None:
    assert parse_member("server.1", text) == member


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("localhost:2888", "is not host:port:port"),
        ("a..b:2888:3888", "'a..b' is not a host"),
        ("x" * 64 + ":2888:3888", "is not a host"),
        ("a\0b:2888:3888", "is not a host"),
        ("localhost:2888:2888", "are the same"),
        ("localhost:2888:99999", "99999 is not a port"),
        ("localhost:2888:3888:leader", "leader is not a role"),
        ("a:1:2:observer|b:1:2:participant", "different roles"),
        ("a:1:2;x", "'x' is not"),
        ("a:1:2;1;2;3", "more than two client addresses"),
    ],
)
def test_malformed_lines_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=rf"^zoo\.cfg: server\.1={text.replace('|', '.')} is refused: .*{reason}"):
        from_properties({"dataDir": "data", "server.1": text}, "zoo.cfg")


def test_number_of_a_line_is_checked() -> None:
    with pytest.raises(ConfigError, match="x is not a server number"):
        from_properties({"dataDir": "data", "server.x": "a:1:2;2181"})


def test_single_line_is_a_standalone_server(tmp_path: Path) -> None:
    config = from_properties({"dataDir": str(tmp_path), "server.1": "localhost:2888:3888;127.0.0.1:2181"})
    assert (config.client_port_address, config.client_port) == ("127.0.0.1", 2181)


def test_single_line_of_another_server_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "myid").write_text("2")
    settings = {"dataDir": str(tmp_path), "server.1": "localhost:2888:3888;2181"}
    with pytest.raises(ConfigError, match="clientPort is missing"):
        from_properties(settings)
    assert from_properties({**settings, "clientPort": "2182"}).client_port == 2182


def test_port_of_the_file_has_to_agree() -> None:
    settings = {"dataDir": "data", "server.1": "a:1:2;10.0.0.1:2181"}
    assert from_properties({**settings, "clientPort": "2181"}).client_port_address == "10.0.0.1"
    for other in ({"clientPort": "2182"}, {"clientPort": "2181", "clientPortAddress": "10.0.0.2"}):
        with pytest.raises(ConfigError, match=r"is not that of the server line, 10\.0\.0\.1:2181"):
            from_properties({**settings, **other})


def test_arguments_win_over_the_line(tmp_path: Path) -> None:
    path = tmp_path / "zoo.cfg"
    path.write_text(f"dataDir={tmp_path}\nserver.1=a:1:2;10.0.0.1:2181\n")
    port = Entry("clientPort", "3181", "--port", Layer.ARGUMENT)
    host = Entry("clientPortAddress", "127.0.0.1", "--host", Layer.ARGUMENT)
    assert read(path, arguments=[port], environment={}).config.client_port == 3181
    config = read(path, arguments=[host], environment={}).config
    assert (config.client_port_address, config.client_port) == ("127.0.0.1", 2181)


ENSEMBLE = {
    "initLimit": "10",
    "syncLimit": "5",
    "server.1": "a:1:2;2181",
    "server.2": "b:1:2;2182",
    "server.3": "c:1:2;c:2183",
}


def member(directory: Path, number: int, **settings: str) -> ServerConfig:
    """The configuration of one server of three."""
    (directory / "myid").write_text(f"{number}\n")
    return from_properties({**ENSEMBLE, "dataDir": str(directory), **settings}, "zoo.cfg")


def test_member_of_an_ensemble(tmp_path: Path) -> None:
    config = member(tmp_path, 3, **{"server.4": "d:1:2:observer", "quorumListenOnAllIPs": "true", "cnxTimeout": "700"})
    assert config.is_member
    assert (config.server_id, config.client_port_address, config.client_port) == (3, "c", 2183)
    quorum = config.quorum
    assert quorum.members[4] == Member(4, (PeerAddress("d", 1, 2),), False, None)
    assert (quorum.init_limit, quorum.sync_limit, quorum.version) == (10, 5, 0)
    assert quorum.listen_on_all_addresses
    assert quorum.connect_timeout_ms == 700


def test_client_port_beside_the_lines(tmp_path: Path) -> None:
    lines = {f"server.{n}": f"h{n}:1:2" for n in (1, 2, 3)}
    assert member(tmp_path, 2, clientPort="2199", **lines).client_port == 2199
    with pytest.raises(ConfigError, match=r"zoo\.cfg: clientPort is missing"):
        member(tmp_path, 2, **lines)
    with pytest.raises(ConfigError, match=r"client port \*:2199 is not that of the server line, c:2183"):
        member(tmp_path, 3, clientPort="2199")


def test_groups_and_weights(tmp_path: Path) -> None:
    quorum = member(tmp_path, 1, **{"group.1": "1:2", "group.2": "3", "weight.3": "5"}).quorum
    assert quorum.groups == {1: {1, 2}, 2: {3}}
    assert quorum.weights == {3: 5}


def test_one_server_is_an_ensemble_if_asked_to_be(tmp_path: Path) -> None:
    (tmp_path / "myid").write_text("1")
    settings = {"dataDir": str(tmp_path), "initLimit": "1", "syncLimit": "1", "server.1": "a:1:2;2181"}
    assert not from_properties(settings).is_member
    assert not from_properties({**settings, "standaloneEnabled": "TRUE"}).is_member
    assert from_properties({**settings, "standaloneEnabled": "False"}).is_member


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"initLimit": "0"}, "zoo.cfg: initLimit is missing"),
        ({"syncLimit": "0"}, "zoo.cfg: syncLimit is missing"),
        ({"electionAlg": "1"}, "zoo.cfg: electionAlg=1 is refused; accepted is 3"),
        ({"peerType": "leader"}, "peerType=leader is refused; accepted is one of participant, observer, or nothing"),
        ({"server.2": "a:5:2"}, "server.1 and server.2 are both at a:2"),
        ({"server.2": "b:1:2|d:1:2"}, "server.2 has several addresses, which multiAddress.enabled=true would allow"),
        ({"group.1": "1:2"}, "server 3 is in 0 groups"),
        ({"group.1": "1:2:3", "weight.9": "1"}, "name server 9, which is no member"),
        ({"group.1": "1:x"}, "group.1=1:x is refused: .*; accepted is numbers of servers with : between them"),
        ({"weight.1": "-1"}, "weight.1=-1 is refused: it is negative"),
        ({"weight.1": "2"}, "weights are given, but no groups"),
        (
            {"group.1": "1:2:3", "weight.1": "0", "weight.2": "0", "weight.3": "0"},
            "the votes of all members weigh nothing",
        ),
        ({"sslQuorum": "true"}, "sslQuorum=true protects what the servers tell each other; that is not supported yet"),
        ({"quorum.auth.enableSasl": "true"}, "quorum.auth.enableSasl=true protects"),
        ({"oraclePath": "/oracle"}, "oraclePath=/oracle lets one of two servers go on without the other; that is not"),
        ({"observerMasterPort": "2191"}, "observerMasterPort=2191 lets observers learn from followers"),
        ({"standaloneEnabled": "no"}, "standaloneEnabled=no is refused; accepted is true or false"),
    ],
)
def test_mistakes(tmp_path: Path, settings: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        member(tmp_path, 1, **settings)


def written(directory: Path, *lines: str) -> Path:
    """A file of three servers, the first of which it is for, with these lines at its end."""
    (directory / "myid").write_text("1\n")
    path = directory / "zoo.cfg"
    common = [f"dataDir={directory}", "clientPort=2199", "initLimit=10", "syncLimit=5", "# The servers"]
    path.write_text("\n".join([*common, "server.1=a:1:2", "server.2=b:1:2", "server.3=c:1:2", *lines]))
    return path


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["server.1=d:1:2"], "{}, line 9: server.1 has a line already, {}, line 6"),
        (["server.01=d:1:2"], "{}, line 9: server.1 has a line already, {}, line 6"),
        (["server.4=b:1:3"], "{}, line 7; {}, line 9: server.2 and server.4 are both at b:1"),
        (["server.4=b:1"], "{}, line 9: server.4=b:1 is refused: 'b:1' is not host:port:port[:role]; accepted is"),
        (["group.1=1:2", "group.2=2:3"], "{}, line 9; {}, line 10: server 2 is in 2 groups"),
        (["group.1=1:2"], "{}, line 8: server 3 is in 0 groups"),
        (["group.1=1:2:3:7"], "{}, line 9: groups and weights name server 7, which is no member"),
        (["weight.2=3"], "{}, line 9: weights are given, but no groups"),
        (["clientPortAddress=a", "clientPort=2"], "line 6: port 2 is for clients, and by server.1 for the other"),
    ],
)
def test_mistakes_are_placed(tmp_path: Path, lines: list[str], reason: str) -> None:
    path = written(tmp_path, *lines)
    with pytest.raises(ConfigError) as refused:
        load(path, environment={})
    assert reason.replace("{}", str(path)) in str(refused.value)


def test_line_that_is_there_twice_alike_is_no_mistake(tmp_path: Path) -> None:
    assert len(load(written(tmp_path, "server.2=b:1:2"), environment={}).quorum.members) == 3


def test_clients_may_have_the_number_of_a_port_at_another_address(tmp_path: Path) -> None:
    assert load(written(tmp_path, "clientPortAddress=d", "clientPort=2"), environment={}).client_port == 2


def test_number_is_missing_or_nobodys(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"zoo\.cfg: the number 7 in .*/myid is none of the servers, 1, 2, 3"):
        member(tmp_path, 7)
    (tmp_path / "myid").unlink()
    with pytest.raises(ConfigError, match="myid is missing: it has to hold the number of this server, one of 1, 2, 3"):
        from_properties({**ENSEMBLE, "dataDir": str(tmp_path), "clientPort": "1"})


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"standaloneEnabled": "FALSE"}, "zoo.cfg: an ensemble needs a server.N line of a participant"),
        ({"server.1": "a:1:2:observer;1"}, "an ensemble needs a server.N line of a participant"),
        ({"server.1": "a:1:2;1", "server.2": "b:1:2:observer;1"}, "an observer needs an ensemble"),
    ],
)
def test_no_ensemble_without_voters(settings: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        from_properties({"dataDir": "data", "clientPort": "1", **settings}, "zoo.cfg")


@pytest.mark.parametrize(
    ("settings", "notice"),
    [
        ({"peerType": "observer"}, "peerType=observer does not count, by its line server.1 is a participant"),
        ({"server.3": "c:1:2:observer"}, "2 voting servers survive no failure; three survive one"),
        ({"server.4": "d:1:2"}, "4 voting servers survive no more failures than 3"),
        ({"enableEagerACLCheck": "true"}, "enableEagerACLCheck is not supported yet by Corral"),
        (
            {"readonlymode.enabled": "true", "localSessionsUpgradingEnabled": "true"},
            "readonlymode.enabled=true serves nobody without localSessionsEnabled=true",
        ),
    ],
)
def test_what_is_odd_is_said(
    tmp_path: Path, settings: dict[str, str], notice: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert member(tmp_path, 1, **settings).is_member
    assert [record.getMessage() for record in caplog.records] == [f"zoo.cfg: {notice}"]


def test_dynamic_file(tmp_path: Path) -> None:
    dynamic = tmp_path / "zoo.cfg.dynamic"
    settings = {"dataDir": "data", "dynamicConfigFile": str(dynamic)}
    dynamic.write_text("server.1=a:1:2;2181\n")
    assert from_properties(settings).client_port == 2181
    with pytest.raises(ConfigError, match=r"server\.1 has to be in the file of dynamicConfigFile"):
        from_properties({**settings, "server.1": "a:1:2;2181"})
    dynamic.write_text("tickTime=1\n")
    with pytest.raises(ConfigError, match="line 1: tickTime does not belong into a dynamic configuration file"):
        from_properties(settings)


def test_dynamic_file_of_an_ensemble(tmp_path: Path) -> None:
    (tmp_path / "myid").write_text("2")
    dynamic = tmp_path / "zoo.cfg.dynamic.1a00000000"
    lines = [f"{key}={text}" for key, text in ENSEMBLE.items() if key.startswith("server.")]
    dynamic.write_text("\n".join(lines))
    settings = {"dataDir": str(tmp_path), "dynamicConfigFile": str(dynamic), "initLimit": "1", "syncLimit": "1"}
    config = from_properties(settings)
    assert set(config.quorum.members) == {1, 2, 3}
    assert config.quorum.version == 0x1A00000000
    assert config.client_port == 2182
