"""The servers that ``corral ensemble`` commands: those of a directory, and those of a file of hosts over ssh."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import click

from corral.cli.configuration import listening_place
from corral.cli.ensemble_files import member_configurations
from corral.cli.standing import Standing, ask_standing
from corral.server.config import ConfigError, read

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Health", "Member", "Outcome", "Remote", "members_of"]

COMMAND_LIMIT_S: Final = 180.0
"""How long one command on one host may take; starting a server alone may take a minute."""
SSH_OPTIONS: Final = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10")
"""Ask for no password, as a command that waits for one on each of many hosts is of no use; give up what is silent."""
NOT_FOUND: Final = 127
"""How a shell ends that does not find the command."""
UNKNOWN_KEY: Final = "Host key verification failed."
"""What ssh says of a host that it does not know, or knows by another key."""
BRACKETED: Final = re.compile(r"(?P<user>.*@)?\[(?P<address>[^\]]+)\](:(?P<port>\d+))?")
"""The address of a host as configurations write those of IPv6; ssh takes them without brackets."""
WITH_PORT: Final = re.compile(r"(?P<host>[^:]+):(?P<port>\d+)")
COMMENT: Final = re.compile(r"(^|\s)#.*")


class Outcome(NamedTuple):
    """What a command on one host came to."""

    status: int
    lines: list[str]


class Health(NamedTuple):
    """How a server stands, or why that is not known."""

    standing: Standing | None
    complaint: str | None = None

    @property
    def mode(self) -> str | None:
        """What the server is, if it serves."""
        return self.standing.mode if self.standing is not None and self.standing.serves else None


class Member(Protocol):
    """One server."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def poll_s(self) -> float:
        """How often it may be asked how it stands."""

    def run(self, verb: str) -> Outcome:
        """Run a verb of ``corral`` where the server is."""

    def health(self) -> Health:
        """Ask it how it stands."""


@dataclass(frozen=True, slots=True)
class LocalMember:
    """A server of a directory on this machine."""

    name: str
    configuration: Path
    poll_s: float = 0.05

    def run(self, verb: str) -> Outcome:
        """Run a verb for its configuration."""
        return run_command([sys.executable, "-m", "corral", verb, str(self.configuration)])

    def health(self) -> Health:
        """Ask on its port for clients."""
        try:
            config = read(self.configuration, arguments=(), environment=os.environ, is_to_run=False).config
        except ConfigError as error:
            return Health(None, str(error))
        return Health(ask_standing(*listening_place(config)))


class Remote(NamedTuple):
    """How commands are run on the hosts of a file."""

    ssh: tuple[str, ...] = ("ssh",)
    """What takes a host and a command, with options of its own."""
    command: str = "corral"
    """What runs ``corral`` there, as a shell understands it."""


@dataclass(frozen=True, slots=True)
class RemoteMember:
    """A server on another host, commanded over ssh."""

    name: str
    host: str
    configuration: str
    remote: Remote
    poll_s: float = 0.5

    def run(self, verb: str) -> Outcome:
        """Run a verb for its configuration."""
        there = f"{self.remote.command} {verb} {quoted_path(self.configuration)}"
        outcome = run_command([*self.remote.ssh, *SSH_OPTIONS, *destination(self.host), there])
        if outcome.status == NOT_FOUND:
            outcome.lines.append("say with --remote-command where corral is on this host")
        elif UNKNOWN_KEY in outcome.lines:
            outcome.lines.append("connect to it by hand once, and make sure that it is the right one")
        return outcome

    def health(self) -> Health:
        """Have it asked on its host."""
        outcome = self.run("status --json")
        for line in outcome.lines:
            try:
                return Health(Standing.from_json(json.loads(line)))
            except (ValueError, KeyError, TypeError):
                # Hosts greet, and ssh warns.
                continue
        return Health(None, "\n".join(outcome.lines) or f"ended with status {outcome.status} and said nothing")


def run_command(command: Sequence[str]) -> Outcome:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=COMMAND_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Outcome(1, [f"no end of {shlex.join(command)} within {COMMAND_LIMIT_S:g} s"])
    except OSError as error:
        return Outcome(1, [f"cannot run {command[0]}: {error.strerror}"])
    return Outcome(done.returncode, done.stdout.decode("utf-8", "replace").splitlines())


def destination(host: str) -> list[str]:
    """The arguments of ssh for a host of a file: what ssh takes, or with a port behind it, or in brackets."""
    found = BRACKETED.fullmatch(host)
    if found is not None:
        name, port = (found["user"] or "") + found["address"], found["port"]
    elif (found := WITH_PORT.fullmatch(host)) is not None:
        name, port = found["host"], found["port"]
    else:
        name, port = host, None
    return [name] if port is None else ["-p", port, name]


def quoted_path(path: str) -> str:
    """A path for the shell of the host; ``~/`` in front is left to it."""
    home, inside = ("~/", path[2:]) if path.startswith("~/") else ("", path)
    return home + shlex.quote(inside)


def members_of(target: Path, remote: Remote) -> list[Member]:
    """The servers of a directory that ``init`` has written, or of a file of hosts.

    Raises:
        click.ClickException: there are none, or the file cannot be read.
    """
    found: list[Member] = []
    if target.is_dir():
        found += [LocalMember(f"server {path.parent.name}", path) for path in member_configurations(target)]
    else:
        places = places_of_hosts(target)
        hosts = Counter(host for host, _ in places)
        for host, configuration in places:
            name = host if hosts[host] == 1 else f"{host} {configuration}"
            found.append(RemoteMember(name, host, configuration, remote))
    if not found:
        raise click.ClickException(f"{target} names no server")
    return found


def places_of_hosts(path: Path) -> list[tuple[str, str]]:
    """What a file has on its lines: a host, and the path of a configuration there."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"cannot read {path}: {error}") from error
    seen: dict[tuple[str, str], int] = {}
    for number, line in enumerate(lines, 1):
        words = COMMENT.sub("", line).split(maxsplit=1)
        if not words:
            continue
        if len(words) == 1 or words[0].startswith("-"):
            raise click.ClickException(f"{path}, line {number}: {line!r} is not a host and the path of a configuration")
        other = seen.setdefault((words[0], words[1].strip()), number)
        if other != number:
            raise click.ClickException(f"{path}, line {number}: the server of line {other} is named again")
    return list(seen)
