"""Where the operands of the commands point to: the shell's own service, another one, a file."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

from corral.cli.shell.command import CommandError, Option
from corral.cli.shell.paths import check_path
from corral.cli.shell.progress import progress
from corral.cli.shell.subtree.copying import Place
from corral.cli.shell.subtree.errors import SubtreeError
from corral.client import ClientClosedError, ConnectionLoss, KeeperError
from corral.client.errors import ReplyTooLargeError, RequestTooLargeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from corral.cli.shell.arguments import Arguments
    from corral.cli.shell.shell import Shell
    from corral.client import Client

__all__ = ["AUTH", "complaining", "counted", "opened_place", "shown", "typed_place"]

AUTH: Final = Option("auth", "who to be at another service", value="scheme:credential", long="auth")


def typed_place(text: str) -> tuple[str, str]:
    """The connect string, empty for the shell's own service, and the path of an operand. Raises CommandError."""
    if text.startswith("/"):
        return "", check_path(text)
    hosts, slash, path = text.partition("/")
    if not slash or not hosts:
        raise CommandError(f"{text} is neither a path nor host:port/path")
    return hosts, check_path(f"/{path}")


@asynccontextmanager
async def opened_place(shell: Shell, text: str, arguments: Arguments) -> AsyncIterator[Place]:
    """The place that an operand names, with a client of its own if it is at another service.

    Raises CommandError if the operand is none, or nobody answers there.
    """
    hosts, path = typed_place(text)
    credential = arguments.value(AUTH.name)
    if credential is not None and ":" not in credential:
        raise CommandError(f"{credential} does not have the form scheme:credential")
    if not hosts:
        yield Place(shell.client, path)
        return
    try:
        client = await shell.open(hosts).start()
    except ConnectionLoss as error:
        raise CommandError(str(error)) from None
    try:
        if credential is not None:
            scheme, _, proof = credential.partition(":")
            await client.add_auth(scheme, proof)
        yield Place(client, path)
    finally:
        await client.close()


@contextmanager
def complaining(status: int = 1) -> Iterator[None]:
    """Turn what ends the work into the command's message and status.

    The shell's own sentences speak of the first operand; here it may have been any znode.
    """
    try:
        yield
    except (SubtreeError, KeeperError, ClientClosedError, RequestTooLargeError, ReplyTooLargeError) as error:
        raise CommandError(str(error), status) from error
    except BrokenPipeError:
        # The shell ends quietly when nobody reads what it prints.
        raise
    except OSError as error:
        raise CommandError(f"{error.filename or 'output'}: {error.strerror or error}", status) from error


@contextmanager
def shown(
    shell: Shell, doing: str, total: int | None = None, *, prints: bool = False
) -> Iterator[Callable[[int], None]]:
    """A progress bar. Work that ``prints`` results meanwhile has one only if they go elsewhere."""
    if prints and sys.stdout.isatty():
        yield _not_shown
        return
    with progress(shell.output, doing, total) as advance:
        yield advance


@asynccontextmanager
async def counted(
    shell: Shell, doing: str, client: Client, path: str, *, steps: int = 1, prints: bool = False
) -> AsyncIterator[Callable[[int], None]]:
    """The same over a subtree: for each znode so many ``steps``. They are counted first if anybody sees it."""
    total: int | None = None
    if sys.stderr.isatty():
        try:
            total = steps * (await client.count_descendants(path) + 1)
        except KeeperError:
            # Servers before 3.6 cannot count; what else is wrong, the work itself will tell.
            total = None
    with shown(shell, doing, total, prints=prints) as advance:
        yield advance


def _not_shown(done: int) -> None:
    return
