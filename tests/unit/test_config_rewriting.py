"""What a change of the members does to a configuration file."""

from pathlib import Path

import pytest

from corral.server.config.rewriting import has_member_lines, pointed_at
from corral.server.config.sources import entries_of_file

STATIC = b"""# The three of us, caf\xe9.
tickTime=2000
dataDir=C:\\\\data
zookeeper.server.1 = a:1:2
server.2: b:1:2;\\
   2181
group.1=1:2
  weight.1 3
peerType=observer
clientPort=2181
clientPortListenBacklog=7
! The rest
dynamicConfigFile=old"""


def settings(path: Path, content: bytes) -> dict[str, str]:
    path.write_bytes(content)
    return {entry.key: entry.text for entry in entries_of_file(path)}


def test_everything_else_stays_as_it_was(tmp_path: Path) -> None:
    changed = pointed_at(STATIC, Path("/etc/x/zoo.cfg.dynamic.1"), drop_client_port=False)
    assert changed == (
        b"# The three of us, caf\xe9.\ntickTime=2000\ndataDir=C:\\\\data\nclientPort=2181\nclientPortListenBacklog=7\n"
        b"! The rest\ndynamicConfigFile=/etc/x/zoo.cfg.dynamic.1\n"
    )
    assert pointed_at(changed, Path("/etc/x/zoo.cfg.dynamic.1"), drop_client_port=False) == changed
    assert has_member_lines(STATIC)
    assert not has_member_lines(changed)


def test_client_port_goes_where_the_members_are(tmp_path: Path) -> None:
    changed = pointed_at(STATIC, Path("/d"), drop_client_port=True)
    assert b"clientPort=" not in changed
    # Its name begins alike, and it is another setting.
    assert b"clientPortListenBacklog=7" in changed


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b" \\", b" \\\n", b"\\\\\\"])
def test_no_line_runs_into_ours(tmp_path: Path, end: bytes) -> None:
    changed = pointed_at(b"dataDir=/data" + end, Path("/tmp/ü ¢"), drop_client_port=False)
    assert settings(tmp_path / "zoo.cfg", changed).keys() == {"dataDir", "dynamicConfigFile"}
    assert settings(tmp_path / "zoo.cfg", changed)["dynamicConfigFile"] == "/tmp/ü ¢"
