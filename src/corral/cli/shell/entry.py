"""``corral shell``: what its command line means."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import click

from corral.cli.shell.command import CommandError
from corral.cli.shell.output import Output
from corral.cli.shell.shell import Connecting, Shell

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["shell"]

_AT_ONCE_S: Final = 5.0
"""How long a server that may be starting is waited for, unless ``--wait-for-connection`` asks for more."""
_BEFORE_PROMPT_S: Final = 1.0
"""An interactive shell shows its prompt after so long, connected or not."""


@click.command(
    context_settings={"allow_interspersed_args": False},
    epilog="Without a COMMAND, commands are read from the terminal, or one per line from standard input.",
)
@click.option(
    "--server", "-server", "hosts", default="localhost:2181", metavar="HOST:PORT,...[/CHROOT]", show_default=True
)
@click.option(
    "--timeout",
    "-timeout",
    "timeout_ms",
    type=click.IntRange(min=1),
    default=30_000,
    show_default=True,
    metavar="MS",
    help="The session timeout to ask for.",
)
@click.option("-r", "--read-only", is_flag=True, help="Also take a server that has lost its ensemble.")
@click.option(
    "--wait-for-connection",
    "-waitforconnection",
    is_flag=True,
    help="Wait for a server as long as the timeout says, before anything else.",
)
@click.option("-client-configuration", "client_configuration", metavar="FILE", help="Not supported; zkCli has it.")
@click.option("--json", "as_json", is_flag=True, help="Print each result as one line of JSON.")
@click.option("--dry-run", is_flag=True, help="Commands that delete only say what they would delete.")
@click.argument("words", metavar="[COMMAND] [ARGUMENT]...", nargs=-1, type=click.UNPROCESSED)
def shell(
    hosts: str,
    timeout_ms: int,
    *,
    read_only: bool,
    wait_for_connection: bool,
    client_configuration: str | None,
    as_json: bool,
    dry_run: bool,
    words: tuple[str, ...],
) -> None:
    """Look at and change what a service stores: all commands of Apache's zkCli, and more; `help` lists them.

    The exit status is that of the last command: 0, 1 if it failed, 127 if there is no such command.
    """
    if client_configuration is not None:
        raise click.UsageError("-client-configuration is not supported: connections are neither SASL nor TLS")
    if not words and sys.stdin is None:
        raise click.UsageError("no command, and no standard input to read commands from")
    # What the client logs, the shell says in its own words.
    logging.getLogger("corral.client").addHandler(logging.NullHandler())
    timeout = timeout_ms / 1000
    connecting = Connecting(timeout, timeout if wait_for_connection else min(timeout, _AT_ONCE_S), read_only)
    made = Shell(Output(as_json=as_json), connecting, dry_run=dry_run)
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            # Bytes that are no text are data as good as any; results must come through whatever the locale.
            stream.reconfigure(errors=errors)
    try:
        if not words and sys.stdin.isatty() and sys.stdout.isatty():
            _interact(made, hosts, patience=timeout if wait_for_connection else _BEFORE_PROMPT_S)
        else:
            asyncio.run(_serve(made, hosts, words))
    except BrokenPipeError:
        # Whoever read the results has had enough of them; Python must not complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(made.status)


def _interact(made: Shell, hosts: str, patience: float) -> None:
    # The libraries of a terminal are for those who sit at one.
    from corral.cli.shell.interactive import interact

    asyncio.run(interact(made, hosts, patience))


async def _serve(made: Shell, hosts: str, words: Sequence[str]) -> None:
    """Run one command, or those that stand in standard input."""
    try:
        try:
            await made.connect(hosts, quietly=True)
        except CommandError as error:
            made.output.error(str(error))
            made.status = error.status
            return
        if words:
            await made.execute(words)
            return
        while not made.is_over and (line := await _next_line()):
            await made.execute_line(line.rstrip("\r\n"))
    finally:
        await made.leave()


async def _next_line() -> str:
    """A line of standard input; empty at its end.

    The thread dies with the process: a wait for input must not hold up a shell that is told to end.
    """
    loop = asyncio.get_running_loop()
    arrival: asyncio.Future[str] = loop.create_future()

    def arrive(line: str) -> None:
        if not arrival.done():
            arrival.set_result(line)

    def read() -> None:
        try:
            line = sys.stdin.readline()
        except OSError as error:
            click.echo(f"standard input: {error}", err=True)
            line = ""
        with suppress(RuntimeError):
            # The loop may be over.
            loop.call_soon_threadsafe(arrive, line)

    threading.Thread(target=read, name="corral-shell-input", daemon=True).start()
    return await arrival
