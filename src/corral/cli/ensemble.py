"""``corral ensemble``: write, start, watch and stop the servers of an ensemble, here or over ssh."""

from __future__ import annotations

import functools
import json
import shlex
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from corral.cli.ensemble_files import PORTS_PER_MEMBER, free_ports, ports_from, write_files
from corral.cli.ensemble_members import Remote, members_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from corral.cli.ensemble_members import Health, Member, Outcome

__all__ = ["ensemble"]

PATIENCE_S: Final = 60.0
"""How long to wait until all members serve."""
PATIENCE_WITH_SOME_S: Final = 15.0
"""The same if not all could be started: those that could are perhaps too few."""
SILENCE_S: Final = 3.0
"""Who was started, and then answers nothing for so long, has ended."""
COLUMNS: Final = ("SERVER", "MODE", "ZXID", "CLIENTS", "ADDRESS")
ALREADY_RUNNING: Final = "already running as process"
"""What ``corral start`` says of a server that it need not start."""


def report(member: Member, lines: Sequence[str]) -> None:
    for line in lines:
        click.echo(f"{member.name}: {line}")


def run_on_all(members: Sequence[Member], verb: str) -> list[Outcome]:
    """Run a verb for all of them at once, and tell what came of it."""
    with ThreadPoolExecutor(len(members)) as hands:
        outcomes = list(hands.map(lambda member: member.run(verb), members))
    for member, outcome in zip(members, outcomes, strict=True):
        report(member, outcome.lines)
    return outcomes


def ask_all(members: Sequence[Member]) -> list[Health]:
    with ThreadPoolExecutor(len(members)) as hands:
        return list(hands.map(lambda member: member.health(), members))


def say_who_failed(members: Sequence[Member], went_well: Sequence[bool], verb: str) -> bool:
    """Name those for which a verb did not work; returns whether there are none."""
    failed = [member.name for member, well in zip(members, went_well, strict=True) if not well]
    if failed:
        click.echo(f"{verb} failed for {len(failed)} of {len(members)}: {', '.join(failed)}", err=True)
    return not failed


def await_service(members: Sequence[Member], patience_s: float | None = None) -> bool:
    """Wait until all of them serve, or have ended; says what they are."""
    now = time.monotonic()
    give_up_at = now + (PATIENCE_S if patience_s is None else patience_s)
    heard_at = [now] * len(members)
    while True:
        found = ask_all(members)
        now = time.monotonic()
        for n, health in enumerate(found):
            if health.standing is None or health.standing.is_running:
                heard_at[n] = now
        waited_for = [n for n, health in enumerate(found) if not health.mode and now - heard_at[n] < SILENCE_S]
        if not waited_for or now > give_up_at:
            break
        time.sleep(max(members[n].poll_s for n in waited_for))
    for member, health in zip(members, found, strict=True):
        report(member, [health.mode or why_not(health)])
    return all(health.mode for health in found)


def why_not(health: Health) -> str:
    """Why a server does not serve."""
    standing = health.standing
    if standing is None:
        return health.complaint or ""
    if standing.mode is not None:
        return standing.mode
    return "no leader" if standing.is_running else "not running"


def show(members: Sequence[Member], found: Sequence[Health]) -> None:
    """Print a table of how the servers stand, and why some cannot be told of."""
    rows: list[Sequence[str]] = [COLUMNS]
    for member, health in zip(members, found, strict=True):
        each = health.standing
        if each is None:
            rows.append((member.name, "unknown", "", "", ""))
            continue
        clients = "" if each.clients is None else str(each.clients)
        rows.append((member.name, each.mode or why_not(health), each.zxid or "", clients, each.address))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for member, health in zip(members, found, strict=True):
        report(member, (health.complaint or "").splitlines())


def as_json(member: Member, health: Health) -> dict[str, object]:
    told = health.standing.to_json() if health.standing is not None else {}
    return {"server": member.name, **told, "error": health.complaint}


def restart_in_turn(members: Sequence[Member]) -> bool:
    """Restart one after the other: first who does not serve, the leader last, and each once the one before is back."""
    found = ask_all(members)
    modes = [health.mode for health in found]
    order = sorted(range(len(members)), key=lambda n: (modes[n] is not None, modes[n] == "leader"))
    for done, n in enumerate(order):
        outcome = members[n].run("restart")
        report(members[n], outcome.lines)
        # Without a quorum nobody would be back before the others are.
        is_back = outcome.status == 0 and (not any(modes) or await_service([members[n]]))
        if not is_back:
            left = ", ".join(members[other].name for other in order[done + 1 :])
            click.echo(f"{members[n].name} is not back{f': {left} not restarted' if left else ''}", err=True)
            return False
    return await_service(members)


@click.group()
def ensemble() -> None:
    """Write, start, watch and stop the servers of an ensemble.

    TARGET is a directory that `corral ensemble init` has written, or a file with a line HOST CONFIGURATION for each
    server: the commands are run on those hosts over ssh, which must not ask for a password. HOST is what ssh takes,
    [USER@]HOST[:PORT], and lines may end in comments (#).
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


def remote_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that tell how commands are run on the hosts of a file, and hand it what they say."""

    @click.option(
        "--remote-command",
        envvar="CORRAL_REMOTE_COMMAND",
        show_envvar=True,
        default="corral",
        show_default=True,
        help="What corral is called on the hosts of a file; their shells have another PATH over ssh than otherwise.",
    )
    @click.option(
        "--ssh-command",
        envvar="CORRAL_SSH_COMMAND",
        show_envvar=True,
        default="ssh",
        show_default=True,
        help="What takes one there, with its options.",
    )
    @functools.wraps(command)
    def with_remote(remote_command: str, ssh_command: str, **others: object) -> None:
        try:
            words = tuple(shlex.split(ssh_command))
        except ValueError as error:
            raise click.BadParameter(f"{ssh_command!r}: {error}", param_hint="--ssh-command") from error
        if not words:
            raise click.BadParameter("there is no command", param_hint="--ssh-command")
        command(remote=Remote(words, remote_command), **others)

    return with_remote


@ensemble.command()
@target_argument
@remote_options
def start(target: Path, remote: Remote) -> None:
    """Start all servers in the background that do not run yet, and wait until all of them serve.

    The exit status is 0 if they all do.
    """
    members = members_of(target, remote)
    outcomes = run_on_all(members, "start")
    went_well = [each.status == 0 or any(ALREADY_RUNNING in line for line in each.lines) for each in outcomes]
    started = [member for member, well in zip(members, went_well, strict=True) if well]
    if say_who_failed(members, went_well, "start"):
        sys.exit(0 if await_service(members) else 1)
    if started:
        await_service(started, min(PATIENCE_S, PATIENCE_WITH_SOME_S))
    sys.exit(1)


@ensemble.command()
@target_argument
@remote_options
def stop(target: Path, remote: Remote) -> None:
    """Stop all servers."""
    members = members_of(target, remote)
    outcomes = run_on_all(members, "stop")
    sys.exit(0 if say_who_failed(members, [each.status == 0 for each in outcomes], "stop") else 1)


@ensemble.command()
@target_argument
@remote_options
@click.option("--json", "wants_json", is_flag=True, help="Print a list of JSON objects.")
def status(target: Path, remote: Remote, wants_json: bool) -> None:
    """Say of each server what it is, its last zxid, and how many clients it has; the exit status is 0 if all serve."""
    members = members_of(target, remote)
    found = ask_all(members)
    if wants_json:
        click.echo(json.dumps([as_json(*each) for each in zip(members, found, strict=True)], indent=2))
    else:
        show(members, found)
    sys.exit(0 if all(health.mode for health in found) else 1)


@ensemble.command()
@target_argument
@remote_options
def restart(target: Path, remote: Remote) -> None:
    """Restart the servers one after the other, the leader last, each once the one before it serves again."""
    sys.exit(0 if restart_in_turn(members_of(target, remote)) else 1)
