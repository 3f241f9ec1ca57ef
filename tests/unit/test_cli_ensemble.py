"""``corral ensemble``: the files it writes, and what it runs where."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from corral.cli import ensemble as commands
from corral.cli.main import corral
from corral.server.config import load

FAKE_SSH = """#!/bin/sh
[ "$1 $2 $3 $4" = "-o BatchMode=yes -o ConnectTimeout=10" ] || exit 2
shift 4
port=
[ "$1" = -p ] && { port=:$2; shift 2; }
host=$1$port
shift
eval "set -- $*"
printf '%s|%s\\n' "$host" "$*" >> "${0%/*}/calls"
case $host in
down) echo "ssh: connect to host down port 22: No route to host" >&2; exit 255 ;;
old) echo "Mode: follower"; exit 0 ;;
new) echo "sh: 1: corral: not found"; exit 127 ;;
stranger) echo "Host key verification failed."; exit 255 ;;
esac
mode=follower
[ $host = a ] && mode=leader
[ $host = alone ] && mode=read-only
case "$2 $host" in
"status ended") echo '{"address": "x:1", "running": false, "mode": null, "zxid": null, "clients": null}'; exit 1 ;;
"status lost") echo '{"address": "x:1", "running": true, "mode": null, "zxid": null, "clients": null}'; exit 1 ;;
status*)
    echo "Welcome to $host"
    echo '{"address": "x:1", "running": true, "mode": "'$mode'", "zxid": "0x1f", "clients": 3}' ;;
"start b") echo "Starting corral ... already running as process 7."; exit 1 ;;
*) echo "$2 done" ;;
esac
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(corral, ["ensemble", *map(str, arguments)])


def test_configurations_are_ready(tmp_path: Path) -> None:
    directory = tmp_path / "größe [1]"
    result = run("init", directory, "--servers", "3", "--observers", "2", "--base-port", "21000")
    assert result.exit_code == 0, result.output
    assert (
        "Connect:    127.0.0.1:21000,127.0.0.1:21001,127.0.0.1:21002,127.0.0.1:21003,127.0.0.1:21004" in result.output
    )
    for sid in range(1, 6):
        config = load(directory / str(sid) / "zoo.cfg", environment={})
        assert config.server_id == sid
        assert config.data_dir == directory / str(sid) / "data"
        assert (config.client_port_address, config.client_port) == ("127.0.0.1", 20999 + sid)
        members = config.quorum.members
        assert [member.is_participant for member in members.values()] == [True] * 3 + [False] * 2
        assert members[2].addresses[0][1:] == (21006, 21011)


def test_free_ports_are_all_different(tmp_path: Path) -> None:
    assert run("init", tmp_path / "e", "--servers", "1", "--host", "localhost").exit_code == 0
    config = load(tmp_path / "e" / "1" / "zoo.cfg", environment={})
    assert config.is_member
    address = config.quorum.members[1].addresses[0]
    assert len({config.client_port, address.quorum_port, address.election_port}) == 3


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    result = run("init", tmp_path)
    assert result.exit_code == 1
    assert "is not empty" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_too_few_ports(tmp_path: Path) -> None:
    result = run("init", tmp_path / "e", "--servers", "99", "--observers", "99", "--base-port", "65000")
    assert "there are not 594 ports from 65000 on" in result.output


def test_target_without_servers(tmp_path: Path) -> None:
    assert "names no server" in run("status", tmp_path).output
    hosts = tmp_path / "hosts"
    hosts.write_text("# nobody yet\n")
    assert "names no server" in run("status", hosts).output
    hosts.write_text("\nhost-a\n")
    assert "hosts, line 2: 'host-a' is not a host and the path of a configuration" in run("start", hosts).output
    hosts.write_text("-oProxyCommand=x /zoo.cfg\n")
    assert "is not a host" in run("start", hosts).output
    hosts.write_text("a /zoo.cfg\nb /zoo.cfg\na  /zoo.cfg\n")
    assert "hosts, line 3: the server of line 1 is named again" in run("start", hosts).output
    hosts.write_bytes(b"\xff\n")
    assert "cannot read" in run("start", hosts).output


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the program that stands for ssh notes what it is asked to run."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(FAKE_SSH)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(commands, "PATIENCE_S", 0.0)
    return program.parent / "calls"


def hosts_file(directory: Path, *names: str) -> Path:
    hosts = directory / "hosts"
    hosts.write_text("".join(f"{name} /zoo.cfg\n" for name in names))
    return hosts


def test_hosts_are_asked_over_ssh(tmp_path: Path, calls: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("a  /etc/zoo.cfg   # the first\n\n  # the second:\nb\t/my files/zoo's#1.cfg\r\n")
    result = run("status", hosts, "--remote-command", "/opt/corral")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "SERVER  MODE      ZXID  CLIENTS  ADDRESS",
        "a       leader    0x1f  3        x:1",
        "b       follower  0x1f  3        x:1",
    ]
    expected = {"a|/opt/corral status --json /etc/zoo.cfg", "b|/opt/corral status --json /my files/zoo's#1.cfg"}
    assert set(calls.read_text().splitlines()) == expected


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("me@a", "me@a"),
        ("me@a:2222", "me@a:2222"),
        ("::1", "::1"),
        ("[fe80::1%lo]", "fe80::1%lo"),
        ("me@[::1]:2222", "me@::1:2222"),
        ("ssh://a:2222", "ssh://a:2222"),
    ],
)
def test_what_a_host_is_called(host: str, reached: str, tmp_path: Path, calls: Path) -> None:
    assert run("stop", hosts_file(tmp_path, host)).exit_code == 0
    assert calls.read_text() == f"{reached}|corral stop /zoo.cfg\n"


def test_home_of_the_host(tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("a ~/my conf/zoo.cfg\n")
    monkeypatch.setenv("HOME", "/home/there")
    assert run("stop", hosts).exit_code == 0
    assert calls.read_text() == "a|corral stop /home/there/my conf/zoo.cfg\n"


def test_ssh_with_options(tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "my ssh"
    program.write_text(f'#!/bin/sh\n[ "$1" = "-F" ] && shift 2 && exec "{calls.parent}/ssh" "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("CORRAL_SSH_COMMAND", f"'{program}' -F config")
    monkeypatch.setenv("CORRAL_REMOTE_COMMAND", "nice corral")
    assert run("stop", hosts_file(tmp_path, "a")).exit_code == 0
    assert calls.read_text() == "a|nice corral stop /zoo.cfg\n"
    for wrong in ("", "'ssh"):
        assert run("stop", hosts_file(tmp_path, "a"), "--ssh-command", wrong).exit_code == 2


def test_servers_of_one_host_are_told_apart(tmp_path: Path, calls: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("a /1/zoo.cfg\nb /zoo.cfg\na /2/zoo.cfg\n")
    names = [line.rpartition(":")[0] for line in run("stop", hosts).output.splitlines()]
    assert names == ["a /1/zoo.cfg", "b", "a /2/zoo.cfg"]


def test_what_can_be_done_is_told(tmp_path: Path, calls: Path) -> None:
    assert run("stop", hosts_file(tmp_path, "new", "stranger")).stdout.splitlines() == [
        "new: sh: 1: corral: not found",
        "new: say with --remote-command where corral is on this host",
        "stranger: Host key verification failed.",
        "stranger: connect to it by hand once, and make sure that it is the right one",
    ]


def test_who_does_not_serve_is_told_why(tmp_path: Path, calls: Path) -> None:
    result = run("status", hosts_file(tmp_path, "a", "lost", "alone", "down", "old"))
    assert result.exit_code == 1
    assert [line.split()[:2] for line in result.output.splitlines()[1:6]] == [
        ["a", "leader"],
        ["lost", "no"],
        ["alone", "read-only"],
        ["down", "unknown"],
        ["old", "unknown"],
    ]
    assert result.output.splitlines()[6:] == [
        "down: ssh: connect to host down port 22: No route to host",
        "old: Mode: follower",
    ]


def test_status_as_json(tmp_path: Path, calls: Path) -> None:
    result = run("status", hosts_file(tmp_path, "a", "down"), "--json")
    assert result.exit_code == 1
    assert json.loads(result.output) == [
        {
            "server": "a",
            "address": "x:1",
            "running": True,
            "mode": "leader",
            "zxid": "0x1f",
            "clients": 3,
            "error": None,
        },
        {"server": "down", "error": "ssh: connect to host down port 22: No route to host"},
    ]


def restarted(calls: Path) -> list[str]:
    told = [line.partition("|") for line in calls.read_text().splitlines()]
    return [host for host, _, command in told if " restart " in command]


def test_leader_is_restarted_last(tmp_path: Path, calls: Path) -> None:
    assert run("restart", hosts_file(tmp_path, "a", "b", "c")).exit_code == 0
    assert restarted(calls) == ["b", "c", "a"]


def test_who_does_not_serve_is_restarted_first_and_nobody_else_if_it_does_not_come_back(
    tmp_path: Path, calls: Path
) -> None:
    result = run("restart", hosts_file(tmp_path, "a", "b", "lost"))
    assert result.exit_code == 1
    assert restarted(calls) == ["lost"]
    assert result.stderr == "lost is not back: b, a not restarted\n"


def test_nobody_waits_for_the_first_where_nobody_serves(tmp_path: Path, calls: Path) -> None:
    assert run("restart", hosts_file(tmp_path, "lost", "alone")).exit_code == 1
    assert restarted(calls) == ["lost", "alone"]


def test_who_runs_already_need_not_be_started(tmp_path: Path, calls: Path) -> None:
    result = run("start", hosts_file(tmp_path, "a", "b"))
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "a: start done",
        "b: Starting corral ... already running as process 7.",
        "a: leader",
        "b: follower",
    ]


def test_who_ends_right_after_its_start_is_not_waited_for(
    tmp_path: Path, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "PATIENCE_S", 1000.0)
    monkeypatch.setattr(commands, "SILENCE_S", 0.1)
    result = run("start", hosts_file(tmp_path, "a", "ended"))
    assert result.exit_code == 1
    assert result.output.splitlines() == ["a: start done", "ended: start done", "a: leader", "ended: not running"]


def test_how_the_others_stand_is_told_though_one_host_fails(tmp_path: Path, calls: Path) -> None:
    result = run("start", hosts_file(tmp_path, "a", "down", "c"))
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-2:] == ["a: leader", "c: follower"]
    assert result.stderr == "start failed for 1 of 3: down\n"


def test_host_that_does_not_answer(tmp_path: Path, calls: Path) -> None:
    hosts = hosts_file(tmp_path, "a", "down")
    for verb in ("start", "stop", "status", "restart"):
        result = run(verb, hosts)
        assert result.exit_code == 1
        assert "down: ssh: connect to host down port 22: No route to host" in result.output
    assert run("start", hosts).stderr == "start failed for 1 of 2: down\n"
    assert run("stop", hosts).stderr == "stop failed for 1 of 2: down\n"


def test_no_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("a /zoo.cfg\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    result = run("stop", hosts)
    assert (result.exit_code, result.stdout) == (1, "a: cannot run ssh: No such file or directory\n")
