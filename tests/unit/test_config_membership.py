"""Server lines: standalone or not, and where clients are taken."""

from pathlib import Path

import pytest

from corral.server.config import ConfigError, Entry, Layer, from_properties, read
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


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"server.1": "a:1:2;1", "server.2": "b:1:2;1"}, "2 servers form an ensemble; ensembles are not supported yet"),
        (
            {"server.1": "a:1:2;1", "standaloneEnabled": "false"},
            "asks for an ensemble; ensembles are not supported yet",
        ),
        ({"clientPort": "1", "standaloneEnabled": "FALSE"}, "ensembles are not supported yet"),
        ({"server.1": "a:1:2:observer;1"}, "an observer needs an ensemble"),
        ({"server.1": "a:1:2;1", "server.2": "b:1:2:observer;1"}, "an observer needs an ensemble"),
    ],
)
def test_ensembles_are_refused(settings: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        from_properties({"dataDir": "data", **settings})


def test_dynamic_file(tmp_path: Path) -> None:
    dynamic = tmp_path / "zoo.cfg.dynamic"
    settings = {"dataDir": "data", "dynamicConfigFile": str(dynamic)}
    dynamic.write_text("server.1=a:1:2;2181\n")
    assert from_properties(settings).client_port == 2181
    with pytest.raises(ConfigError, match=r"server\.1 has to be in the file of dynamicConfigFile"):
        from_properties({**settings, "server.1": "a:1:2;2181"})
    dynamic.write_text("server.1=a:1:2;2181\nserver.2=b:1:2;2181\n")
    with pytest.raises(ConfigError, match=r"zoo\.cfg\.dynamic, line 1: 2 servers form an ensemble"):
        from_properties(settings)
    dynamic.write_text("tickTime=1\n")
    with pytest.raises(ConfigError, match="line 1: tickTime does not belong into a dynamic configuration file"):
        from_properties(settings)
