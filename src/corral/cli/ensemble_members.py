"""The servers that ``corral ensemble`` commands: those of a directory, and those of a file of hosts over ssh."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import click

from corral.cli.configuration import listening_place
from corral.cli.ensemble_files import member_configurations
from corral.cli.standing import Standing, ask_standing
from corral.server.config import ConfigError, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["Health", "Member", "Outcome", "members_of"]

COMMAND_LIMIT_S: Final = 180.0
"""How long one command on one host may take; starting a server alone may take a minute."""
SSH: Final = ("ssh", "-o", "BatchMode=yes")
"""Asks for no password: a command that waits for one on each of many hosts is of no use."""


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


@dataclass(frozen=True, slots=True)
class RemoteMember:
    """A server on another host, commanded over ssh."""

    name: str
    host: str
    configuration: str
    command: str
    """What runs ``corral`` there, as a shell understands it."""
    poll_s: float = 0.5

    def run(self, verb: str) -> Outcome:
        """Run a verb for its configuration."""
        return run_command([*SSH, self.host, self.command, verb, shlex.quote(self.configuration)])

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


def members_of(target: Path, remote_command: str) -> list[Member]:
    """The servers of a directory that ``init`` has written, or of a file of hosts.

    Raises:
        click.ClickException: there are none, or the file cannot be read.
    """
    found: list[Member] = []
    if target.is_dir():
        found += [LocalMember(f"server {path.parent.name}", path) for path in member_configurations(target)]
    else:
        found += _members_of_hosts(target, remote_command)
    if not found:
        raise click.ClickException(f"{target} names no server")
    return found


def _members_of_hosts(path: Path, remote_command: str) -> Iterator[RemoteMember]:
    """The servers of a file with a host and the path of a configuration on each line."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise click.ClickException(f"cannot read {path}: {error}") from error
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split(maxsplit=1)
        if not words:
            continue
        if len(words) == 1 or words[0].startswith("-"):
            raise click.ClickException(f"{path}, line {number}: {line!r} is not a host and the path of a configuration")
        host, configuration = words[0], words[1].strip()
        other = seen.setdefault(f"{host} {configuration}", number)
        if other != number:
            raise click.ClickException(f"{path}, line {number}: the server of line {other} is named again")
        yield RemoteMember(host, host, configuration, remote_command)
