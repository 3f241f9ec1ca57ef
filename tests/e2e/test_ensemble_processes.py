"""``corral ensemble`` and ``corral server`` with real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.e2e.raw import wait_until

import corral
from corral.cli.main import corral as command
from corral.server.config import load
from corral.testing import Server

pytestmark = pytest.mark.slow


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Of an ensemble of three and an observer, which is stopped at the end."""
    directory = tmp_path / "ensemble"
    assert run("ensemble", "init", directory, "--observers", "1").exit_code == 0
    yield directory
    assert run("ensemble", "stop", directory).exit_code == 0


def hosts(directory: Path) -> str:
    ports = [load(directory / str(sid) / "zoo.cfg", environment={}).client_port for sid in (1, 2, 3, 4)]
    return ",".join(f"127.0.0.1:{port}" for port in ports)


def number(directory: Path, sid: int) -> int:
    """Of the process of a server."""
    return int((directory / str(sid) / "data" / "zookeeper_server.pid").read_text())


def modes(directory: Path) -> dict[str, str]:
    """What the servers are by ``corral ensemble status``."""
    told = json.loads(run("ensemble", "status", directory, "--json").stdout)
    return {each["server"]: each["mode"] for each in told if each["mode"]}


def test_life_of_an_ensemble(directory: Path) -> None:
    async def write(value: bytes) -> None:
        async with corral.connect(hosts(directory), backoff_max=0.2) as zk:
            await zk.persist(lambda: zk.ensure("/a"))
            await zk.persist(lambda: zk.set("/a", value))

    result = run("ensemble", "start", directory)
    assert result.exit_code == 0, result.output
    assert "already running" in run("start", directory / "1" / "zoo.cfg").output
    found = modes(directory)
    assert sorted(found.values()) == ["follower", "follower", "leader", "observer"]
    assert found["server 4"] == "observer"
    asyncio.run(write(b"1"))
    leader = next(int(server.removeprefix("server ")) for server, mode in found.items() if mode == "leader")
    os.kill(number(directory, leader), signal.SIGKILL)
    asyncio.run(write(b"2"))
    # The observer may be the last to find the new leader.
    wait_until(lambda: len(modes(directory)) == 3, "those that are left serve")
    assert run("start", directory / str(leader) / "zoo.cfg").exit_code == 0
    result = run("ensemble", "restart", directory)
    assert result.exit_code == 0, result.output
    asyncio.run(write(b"3"))
    for sid in (1, 2):
        assert run("stop", directory / str(sid) / "zoo.cfg").exit_code == 0
    for sid in (3, 4):
        result = run("status", directory / str(sid) / "zoo.cfg")
        while "has no leader" not in result.output:
            result = run("status", directory / str(sid) / "zoo.cfg")
        assert result.exit_code == 1


LOCAL_SSH = """#!/bin/sh
# Every host is this one.
shift 5
exec sh -c "$1"
"""


def test_hosts_of_a_file(directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(LOCAL_SSH)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    hosts = tmp_path / "hosts"
    configurations = [directory / str(sid) / "zoo.cfg" for sid in (1, 2, 3)]
    hosts.write_text("".join(f"host-{n} {path}\n" for n, path in enumerate(configurations)))

    def command(verb: str, *options: str) -> Result:
        return run("ensemble", verb, hosts, "--remote-command", f"{sys.executable} -m corral", *options)

    assert command("status").exit_code == 1
    result = command("start")
    assert result.exit_code == 0, result.output
    told = json.loads(command("status", "--json").stdout)
    assert sorted(each["mode"] for each in told) == ["follower", "follower", "leader"]
    leader = next(each["server"] for each in told if each["mode"] == "leader")
    before = {path: number(directory, sid) for sid, path in enumerate(configurations, 1)}
    result = command("restart")
    assert result.exit_code == 0, result.output
    told_of = [line.partition(":")[0] for line in result.output.splitlines() if "Stopping" in line]
    assert len(told_of) == 3
    assert told_of[-1] == leader
    assert all(number(directory, sid) != before[path] for sid, path in enumerate(configurations, 1))
    result = command("stop")
    assert result.exit_code == 0, result.output
    assert list(directory.rglob("*.pid")) == []
    assert all(each["running"] is False for each in json.loads(command("status", "--json").stdout))


def test_one_server_becomes_three(directory: Path) -> None:
    """As the page on ensembles tells it, sessions and all."""
    data = directory / "1" / "data"

    async def main() -> None:
        alone = Server(data_dir=data, maxSessionTimeout=60000, tickTime=2000).start()
        async with corral.connect(f"{alone.address},{hosts(directory)}", session_timeout=30, backoff_max=0.2) as zk:
            await zk.create("/kept", b"all", ephemeral=True)
            session = zk.session
            await asyncio.to_thread(alone.close)
            for sid in (1, 2, 3):
                started = await asyncio.to_thread(run, "start", directory / str(sid) / "zoo.cfg")
                assert started.exit_code == 0, started.output
            await zk.persist(lambda: zk.set("/kept", b"and more"))
            assert zk.session is session
        for place in hosts(directory).split(",")[:3]:
            async with corral.connect(place) as zk:
                await zk.sync()
                assert await zk.get_children("/") == ["zookeeper"]

    asyncio.run(main())


def run_in_foreground(configuration: Path) -> tuple[int, str]:
    """What ``corral server`` comes to that ends by itself."""
    done = subprocess.run(
        [sys.executable, "-m", "corral", "server", str(configuration)], capture_output=True, timeout=60, check=False
    )
    return done.returncode, done.stderr.decode()


def test_member_that_cannot_start(directory: Path) -> None:
    configuration = directory / "1" / "zoo.cfg"
    text = configuration.read_text()
    configuration.write_text(text + "electionPortBindRetry=1\n")
    config = load(configuration, environment={})
    port = config.quorum.members[1].addresses[0].election_port
    other = directory / "2" / "zoo.cfg"
    lines = other.read_text().replace(f":{port}:", ":1:").splitlines()
    taken = [f"clientPort={port}" if line.startswith("clientPort=") else line for line in lines]
    other.write_text("\n".join(taken))
    assert run("start", other).exit_code == 0
    status, told = run_in_foreground(configuration)
    assert status == 1
    assert told.splitlines()[-1].endswith(
        f"cannot listen for elections on port {port} of 127.0.0.1: Address already in use"
    )
    number_file = directory / "1" / "data" / "myid"
    number_file.unlink()
    status, told = run_in_foreground(configuration)
    assert status == 1
    assert "myid is missing: it has to hold the number of this server, one of 1, 2, 3, 4" in told
    number_file.write_text("1")


def test_member_ends_by_sigterm(directory: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "corral", "server", str(directory / "1" / "zoo.cfg")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert b"takes part as server 1 of 4" in process.stdout.readline()
    process.terminate()
    assert process.wait(30) == 0
    process.stdout.close()


def test_member_whose_disk_fails_ends_with_an_error(directory: Path) -> None:
    (directory / "1" / "data" / "version-2").write_text("not a directory")
    status, told = run_in_foreground(directory / "1" / "zoo.cfg")
    assert status == 1
    assert "the server cannot start: " in told
