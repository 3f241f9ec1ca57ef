"""``corral server``: one server in the foreground."""

import errno
import functools
import logging
import sys
from typing import Final

import click

from corral import __version__
from corral.cli.configuration import Request, configuration_options, reachable, read_configuration
from corral.server.config import ServerConfig

__all__ = ["OneLineFormatter", "server"]

LEVELS: Final = ("debug", "info", "warning", "error")


class OneLineFormatter(logging.Formatter):
    """Keeps an event on one line, a traceback included: line ends are written as ``\\n``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        return super().format(record).replace("\r", "\\r").replace("\n", "\\n")


def log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])


def announce(config: ServerConfig, host: str, port: int) -> None:
    """Say where the server listens and how to talk to it, in one line."""
    name = reachable(host)
    place = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    if config.is_member:
        number, members = config.server_id, len(config.quorum.members)
        click.echo(
            f"Corral {__version__} takes part as server {number} of {members}; ZooKeeper clients are taken on {place}"
            f" while there is a leader."
        )
        return
    listing = f"from kazoo.client import KazooClient as C; c = C('{place}'); c.start(); print(c.get_children('/'))"
    click.echo(
        f"Corral {__version__} is ready for ZooKeeper clients on {place}."
        f' Try: zkCli.sh -server {place} ls /   or: python -c "{listing}"'
    )


def explain(error: OSError, config: ServerConfig) -> str | None:
    """The reason why the server cannot listen, for a user; None if the error is about something else."""
    if config.is_member and error.strerror and error.strerror.startswith("cannot listen for elections"):
        return error.strerror
    place = f"port {config.client_port} of {config.client_port_address or 'this machine'}"
    match error.errno:
        case errno.EADDRINUSE:
            return f"{place} is in use by another process; take another one with --port or clientPort"
        case errno.EADDRNOTAVAIL:
            return f"cannot listen on {place}: the address is not one of this machine; see --host and clientPortAddress"
        case errno.EACCES if error.filename is None:
            return f"no permission to listen on {place}"
        case _:
            return None


@click.command()
@configuration_options
@click.option("--log-level", type=click.Choice(LEVELS, case_sensitive=False), default="info", show_default=True)
def server(request: Request, log_level: str) -> None:
    """Run a server in the foreground until it gets SIGTERM or SIGINT: a standalone one, or a member of an ensemble.

    ZOO_CFG is a configuration file of Apache ZooKeeper. Without one the server is for this machine only, on
    127.0.0.1:2181, with its data in ./corral-data. Options win over the file.
    """
    log_to_stderr(log_level)
    reading = read_configuration(request)
    reading.log()
    config = reading.config
    if config.is_member:
        from corral.quorum.daemon import run
    else:
        from corral.server.daemon import run
    try:
        status = run(config, functools.partial(announce, config))
    except OSError as error:
        reason = explain(error, config)
        if reason is None:
            raise
        raise click.ClickException(reason) from error
    sys.exit(status)
