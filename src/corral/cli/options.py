"""What the tools for files share: arguments, complaints, JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from corral.storage.errors import DiskError, StorageError

__all__ = ["complain", "existing_files", "parse_zxid", "print_json", "report_storage_errors", "write_line"]

existing_files: Final = click.Path(exists=True, dir_okay=False, path_type=Path)


def parse_zxid(context: click.Context, parameter: click.Parameter, value: str) -> int:
    """The callback of an option that takes a zxid: decimal, or hexadecimal with ``0x`` in front."""
    try:
        return int(value, 0)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no zxid: give it as 0x… or as a decimal number") from None


def complain(message: str) -> None:
    """One line on standard error."""
    click.echo(message, err=True)


def write_line(text: str) -> None:
    """One line on standard output, buffered: ``click.echo`` flushes each, which takes most of the time of a dump."""
    sys.stdout.write(f"{text}\n")


def print_json(value: dict[str, Any]) -> None:
    """One JSON object on a line of its own."""
    write_line(json.dumps(value, ensure_ascii=False))


@contextmanager
def report_storage_errors() -> Iterator[None]:
    """Turn what the disk or a file did to us into a message and exit status 1."""
    try:
        yield
    except StorageError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        path = Path(str(error.filename or "."))
        raise click.ClickException(str(DiskError("read or write the file", error, path))) from error
