"""What every command that concerns a server takes: a configuration file, or options, or both.

The commands look for a file as zkServer.sh does: a bare name is looked for in the working directory and then in
``$ZOOCFGDIR``; with no name at all, ``$ZOOCFGDIR/zoo.cfg`` is taken where that variable is set.
"""

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import click

from corral.server.config import ConfigError, Entry, Layer, Reading, ServerConfig, read

__all__ = ["Request", "configuration_options", "listening_place", "reachable", "read_configuration"]

POSITIONS: Final = ("clientPort", "dataDir", "tickTime", "maxClientCnxns")
"""What the arguments mean when there is no file, in the order of Apache's server."""

NO_AUTOCREATE: Final = "ZOO_DATADIR_AUTOCREATE_DISABLE"
"""The variable that forbids, as for zkServer.sh, to make a data directory that is missing."""


LOOPBACKS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""What stands for every address, and an address of this machine that is among them."""


class Request(NamedTuple):
    """What a command was given."""

    arguments: tuple[str, ...]
    port: int | None
    data_dir: str | None
    host: str | None

    def as_arguments(self) -> list[str]:
        """The same as arguments of ``corral server``."""
        options = (("--port", self.port), ("--data-dir", self.data_dir), ("--host", self.host))
        given = [word for name, value in options if value is not None for word in (name, str(value))]
        return [*given, "--", *self.arguments]

    @property
    def is_positional(self) -> bool:
        """``PORT DATADIR [TICKTIME] [MAXCNXNS]`` rather than the name of a file."""
        return len(self.arguments) > 1

    def entries(self) -> list[Entry]:
        """The settings among the options and arguments."""
        options = (
            ("clientPort", "--port", self.port),
            ("dataDir", "--data-dir", self.data_dir),
            ("clientPortAddress", "--host", self.host),
        )
        found = [Entry(key, str(value), place, Layer.ARGUMENT) for key, place, value in options if value is not None]
        if self.is_positional:
            positions = zip(POSITIONS, self.arguments, strict=False)
            found += [Entry(key, text, f"argument {text}", Layer.ARGUMENT) for key, text in positions]
        return found

    def file(self, environment: Mapping[str, str]) -> Path | None:
        """The configuration file, if there is one."""
        directory = environment.get("ZOOCFGDIR")
        if self.is_positional:
            return None
        if not self.arguments:
            usual = Path(directory, "zoo.cfg") if directory else None
            return usual if usual is not None and usual.is_file() else None
        named = Path(self.arguments[0])
        if directory and named.name == str(named) and not named.exists():
            return Path(directory, named)
        return named


def configuration_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the arguments and options that a :class:`Request` holds, and hand it the request."""

    @click.argument("arguments", nargs=-1, metavar="[ZOO_CFG | PORT DATADIR [TICKTIME] [MAXCNXNS]]")
    @click.option("--port", type=click.IntRange(0, 65535), help="Listen on this port (clientPort).")
    @click.option("--data-dir", metavar="DIR", help="Keep the data in this directory (dataDir).")
    @click.option("--host", metavar="ADDRESS", help="Listen on this address (clientPortAddress).")
    @functools.wraps(command)
    def with_request(
        arguments: tuple[str, ...], port: int | None, data_dir: str | None, host: str | None, **others: object
    ) -> None:
        command(Request(arguments, port, data_dir, host), **others)

    return with_request


def read_configuration(
    request: Request, environment: Mapping[str, str] = os.environ, *, is_to_run: bool = True
) -> Reading:
    """The configuration that a command was asked to use, if not ``is_to_run`` only to find the server.

    Raises:
        click.ClickException: it is wrong, or there are too many arguments.
    """
    if len(request.arguments) > len(POSITIONS):
        raise click.UsageError(f"too many arguments: {' '.join(request.arguments)}")
    entries: Sequence[Entry] = request.entries()
    if NO_AUTOCREATE in environment:
        entries = [*entries, Entry("datadir.autocreate", "false", NO_AUTOCREATE, Layer.ARGUMENT)]
    try:
        return read(request.file(environment), arguments=entries, environment=environment, is_to_run=is_to_run)
    except ConfigError as error:
        raise click.ClickException(str(error)) from error


def reachable(host: str | None) -> str:
    """The address at which a client on this machine reaches a server that listens on ``host``."""
    return LOOPBACKS.get(host or "0.0.0.0", host or "")


def listening_place(config: ServerConfig) -> tuple[str, int]:
    """Host and port at which a client on this machine reaches the server."""
    return reachable(config.client_port_address), config.client_port
