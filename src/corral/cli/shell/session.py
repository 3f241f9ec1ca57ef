"""Commands about the session and the shell itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import corral
from corral.cli.shell.command import Command, CommandError, Option, UsageError
from corral.cli.shell.paths import check_path
from corral.client import KeeperError
from corral.client.errors import AuthFailedError

if TYPE_CHECKING:
    from corral.cli.shell.arguments import Arguments
    from corral.cli.shell.shell import Shell

__all__ = ["COMMANDS"]

_SHOWN: Final = 11
"""Lines of the history."""


async def _connect(shell: Shell, arguments: Arguments) -> None:
    await shell.connect(arguments.operand(0, shell.hosts))


async def _close(shell: Shell, arguments: Arguments) -> None:
    await shell.close()


async def _quit(shell: Shell, arguments: Arguments) -> None:
    shell.is_over = True


async def _history(shell: Shell, arguments: Arguments) -> None:
    for number in range(max(0, shell.count - _SHOWN + 1), shell.count + 1):
        line = shell.history.get(number)
        if line is not None:
            shell.output.result({"number": number, "line": line}, f"{number} - {line}")


async def _redo(shell: Shell, arguments: Arguments) -> None:
    try:
        number = int(arguments.operand(0), 0)
    except ValueError:
        raise UsageError from None
    await shell.redo(number)


async def _add_auth(shell: Shell, arguments: Arguments) -> None:
    scheme = arguments.operand(0)
    try:
        await shell.client.add_auth(scheme, arguments.operand(1))
    except AuthFailedError:
        raise CommandError(f"The server refused the authentication by {scheme}.") from None


async def _who_am_i(shell: Shell, arguments: Arguments) -> None:
    identities = await shell.client.who_am_i()
    lines = [f"{identity.scheme}: {identity.user}" for identity in identities]
    shell.output.result([identity._asdict() for identity in identities], "Auth scheme: User", *lines)


async def _sync(shell: Shell, arguments: Arguments) -> None:
    path = check_path(arguments.operand(0))
    try:
        await shell.client.sync(path, quorum=arguments.has("q"))
    except KeeperError as error:
        shell.output.result({"path": path, "rc": int(error.code)}, f"Sync has failed. rc={int(error.code)}")
        shell.status = 1
    else:
        shell.output.result({"path": path, "rc": 0}, "Sync is OK")


async def _version(shell: Shell, arguments: Arguments) -> None:
    shell.output.result({"version": corral.__version__}, f"ZooKeeper CLI version: Corral {corral.__version__}")


async def _help(shell: Shell, arguments: Arguments) -> None:
    lines = shell.help_lines(arguments.operand(0))
    shell.output.result({"help": lines}, *lines)


COMMANDS: Final = (
    Command(
        "connect",
        "host:port",
        _connect,
        "Begin a new session, with other servers.",
        operands=(0, 1),
        needs_connection=False,
    ),
    Command("close", "", _close, "End the session.", operands=(0, 0)),
    Command("quit", "", _quit, "End the shell.", operands=(0, 0), needs_connection=False),
    Command("exit", "", _quit, "End the shell.", operands=(0, 0), needs_connection=False),
    Command(
        "history", "", _history, "Print the last lines with their numbers.", operands=(0, 0), needs_connection=False
    ),
    Command("redo", "cmdno", _redo, "Run a line of the history again.", operands=(1, 1), needs_connection=False),
    Command("addauth", "scheme auth", _add_auth, "Prove to be somebody.", operands=(1, 2)),
    Command("whoami", "", _who_am_i, "Print what this session has proved to be.", operands=(0, 0)),
    Command(
        "sync",
        "path",
        _sync,
        "Let the server catch up with its leader.",
        options=(Option("q", "Fail unless a quorum confirms that it still leads", is_zkclis=False),),
        operands=(1, 1),
    ),
    Command("version", "", _version, "Print the version of this shell.", operands=(0, 0), needs_connection=False),
    Command("help", "[command]", _help, "List the commands, or explain one.", operands=(0, 1), needs_connection=False),
)
