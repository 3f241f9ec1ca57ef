"""``corral ensemble``: write, start, watch and stop the servers of an ensemble, here or over ssh."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from corral.cli.ensemble_files import (
    PORTS_PER_MEMBER,
    free_ports,
    member_configurations,
    ports_from,
    write_files,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ensemble"]

COMMAND_LIMIT_S: Final = 180.0
"""How long one command on one host may take; starting a server alone may take a minute."""
PATIENCE_S: Final = 60.0
"""How long to wait until all members serve."""
POLL_S: Final = 0.3
SSH: Final = ("ssh", "-o", "BatchMode=yes")
"""Asks for no password: a command that waits for one on each of many hosts is of no use."""


class Outcome(NamedTuple):
    """What a command on one host came to."""

    status: int
    lines: list[str]

    @property
    def mode(self) -> str | None:
        """What ``status`` says that the server is."""
        modes = [line.removeprefix("Mode: ") for line in self.lines if line.startswith("Mode: ")]
        return modes[0] if modes else None


class Member(NamedTuple):
    """One server, and how its commands are run."""

    name: str
    """For messages."""
    corral: tuple[str, ...]
    """What runs ``corral`` where the server is; a verb and the configuration follow."""
    configuration: str

    def run(self, verb: str) -> Outcome:
        """Run a verb of ``corral`` there."""
        try:
            done = subprocess.run(
                [*self.corral, verb, self.configuration],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=COMMAND_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome(1, [f"no end of corral {verb} within {COMMAND_LIMIT_S:g} s"])
        except OSError as error:
            return Outcome(1, [f"cannot run {self.corral[0]}: {error.strerror}"])
        return Outcome(done.returncode, done.stdout.decode("utf-8", "replace").splitlines())


def members_of(target: Path, remote_command: str) -> list[Member]:
    """The servers of a directory that ``init`` has written, or of a file of hosts.

    Raises:
        click.ClickException: there are none.
    """
    if target.is_dir():
        here = (sys.executable, "-m", "corral")
        found = [Member(f"server {path.parent.name}", here, str(path)) for path in member_configurations(target)]
    else:
        found = list(members_of_hosts(target, remote_command))
    if not found:
        raise click.ClickException(f"{target} names no server")
    return found


def members_of_hosts(path: Path, remote_command: str) -> list[Member]:
    """The servers of a file with a host and the path of a configuration on each line."""
    found = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        words = line.partition("#")[0].split(maxsplit=1)
        if not words:
            continue
        if len(words) == 1 or words[0].startswith("-"):
            raise click.ClickException(f"{path}, line {number}: {line!r} is not a host and the path of a configuration")
        host, configuration = words[0], words[1].strip()
        found.append(Member(host, (*SSH, host, remote_command), shlex.quote(configuration)))
    return found


def report(member: Member, outcome: Outcome) -> None:
    for line in outcome.lines:
        click.echo(f"{member.name}: {line}")


def run_on_all(members: Sequence[Member], verb: str) -> list[Outcome]:
    """Run a verb for all of them at once, and tell what came of it."""
    with ThreadPoolExecutor(len(members)) as hands:
        outcomes = list(hands.map(lambda member: member.run(verb), members))
    for member, outcome in zip(members, outcomes, strict=True):
        report(member, outcome)
    return outcomes


def await_service(members: Sequence[Member]) -> bool:
    """Wait until all of them serve; says what they are."""
    give_up_at = time.monotonic() + PATIENCE_S
    while True:
        with ThreadPoolExecutor(len(members)) as hands:
            outcomes = list(hands.map(lambda member: member.run("status"), members))
        is_late = time.monotonic() > give_up_at
        if is_late or all(outcome.mode for outcome in outcomes):
            break
        time.sleep(POLL_S)
    for member, outcome in zip(members, outcomes, strict=True):
        if outcome.mode:
            click.echo(f"{member.name}: {outcome.mode}")
        else:
            report(member, outcome)
    return all(outcome.mode for outcome in outcomes)


def restart_in_turn(members: Sequence[Member]) -> bool:
    """Restart one after the other, the leader last: as long as most others are up, clients go on."""
    with ThreadPoolExecutor(len(members)) as hands:
        modes = list(hands.map(lambda member: member.run("status").mode, members))
    in_turn = sorted(range(len(members)), key=lambda n: modes[n] == "leader")
    was_serving = any(modes)
    for n in in_turn:
        outcome = members[n].run("restart")
        report(members[n], outcome)
        if outcome.status != 0:
            return False
        if was_serving and not await_service([members[n]]):
            return False
    return await_service(members)


@click.group()
def ensemble() -> None:
    """Write, start, watch and stop the servers of an ensemble.

    TARGET is a directory that `corral ensemble init` has written, or a file with a line HOST CONFIGURATION for each
    server: the commands are run on those hosts over ssh, which must not ask for a password.
    """


@ensemble.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--servers", type=click.IntRange(1, 99), default=3, show_default=True, help="How many vote.")
@click.option("--observers", type=click.IntRange(0, 99), default=0, show_default=True, help="How many only follow.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address they listen on.")
@click.option("--base-port", type=click.IntRange(1, 65000), help="The first of their ports; without it, free ones.")
def init(directory: Path, servers: int, observers: int, host: str, base_port: int | None) -> None:
    """Write a ready set of configurations for an ensemble on this machine into DIRECTORY."""
    count = servers + observers
    if base_port is not None and base_port + PORTS_PER_MEMBER * count > 65_536:
        raise click.ClickException(f"there are not {PORTS_PER_MEMBER * count} ports from {base_port} on")
    try:
        ports = free_ports(host, count) if base_port is None else ports_from(base_port, count)
        write_files(directory, host, ports, observers)
    except OSError as error:
        raise click.ClickException(str(error)) from error
    for sid, each in enumerate(ports, 1):
        role = "observer" if sid > servers else "participant"
        click.echo(f"server {sid}: {role}, clients on {each.client}, see {directory / str(sid) / 'zoo.cfg'}")
    place = f"[{host}]" if ":" in host else host
    click.echo(f"Start them: corral ensemble start {shlex.quote(str(directory))}")
    click.echo(f"Connect:    {','.join(f'{place}:{each.client}' for each in ports)}")


target_argument = click.argument("target", type=click.Path(exists=True, path_type=Path))
remote_option = click.option(
    "--remote-command", default="corral", show_default=True, help="What corral is called on the hosts of a file."
)


@ensemble.command()
@target_argument
@remote_option
def start(target: Path, remote_command: str) -> None:
    """Start all servers in the background, and wait until they serve."""
    members = members_of(target, remote_command)
    outcomes = run_on_all(members, "start")
    if any(outcome.status for outcome in outcomes):
        sys.exit(1)
    sys.exit(0 if await_service(members) else 1)


@ensemble.command()
@target_argument
@remote_option
def stop(target: Path, remote_command: str) -> None:
    """Stop all servers."""
    outcomes = run_on_all(members_of(target, remote_command), "stop")
    sys.exit(1 if any(outcome.status for outcome in outcomes) else 0)


@ensemble.command()
@target_argument
@remote_option
def status(target: Path, remote_command: str) -> None:
    """Say of each server whether it leads, follows or observes; the exit status is 0 if all serve."""
    members = members_of(target, remote_command)
    outcomes = run_on_all(members, "status")
    sys.exit(0 if all(outcome.mode for outcome in outcomes) else 1)


@ensemble.command()
@target_argument
@remote_option
def restart(target: Path, remote_command: str) -> None:
    """Restart the servers one after the other, the leader last, each once the one before it serves again."""
    sys.exit(0 if restart_in_turn(members_of(target, remote_command)) else 1)
