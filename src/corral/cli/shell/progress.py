"""Shows on a terminal how far long work has come."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from corral.cli.shell.output import Output

__all__ = ["progress"]


@contextmanager
def progress(output: Output, doing: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while the block runs, if that is a terminal and results are no JSON.

    The block calls what it gets with the number of znodes that are done more. Without a ``total`` it only counts.
    """
    if output.as_json or not sys.stderr.isatty():
        yield _not_shown
        return
    # A shell that shows no bar need not wait for it.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(file=sys.stderr)
    # Results are printed meanwhile: left to itself, it would send them to standard error too.
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda done: bar.advance(task, done)


def _not_shown(done: int) -> None:
    return
