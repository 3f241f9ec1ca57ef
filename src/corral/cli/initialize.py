"""``corral initialize``: empty data directories for a new server, and its number (what zkServer-initialize.sh does)."""

import os
import shutil
from pathlib import Path

import click

from corral.cli.configuration import Request
from corral.server.config import ConfigError
from corral.server.config.sources import entries_of_file
from corral.storage.files import INITIALIZE, VERSION_DIRECTORY

__all__ = ["initialize"]


def data_directories(configuration: Path) -> tuple[Path, Path]:
    """Where a configuration says that the snapshots and the logs are; the rest of it is not looked at.

    Raises:
        click.ClickException: it cannot be read, or does not say so.
    """
    try:
        settings = {entry.key: entry.text for entry in entries_of_file(configuration)}
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    if "dataDir" not in settings:
        raise click.ClickException(f"{configuration}: dataDir is missing")
    return Path(settings["dataDir"]), Path(settings.get("dataLogDir", settings["dataDir"]))


@click.command()
@click.argument("configuration", required=False, metavar="[ZOO_CFG]")
@click.option("--myid", type=click.IntRange(0), help="The number of the server in its ensemble.")
@click.option("--force", is_flag=True, help="Delete the data that is there. It cannot be brought back.")
def initialize(configuration: str | None, myid: int | None, force: bool) -> None:
    """Make the data directories that ZOO_CFG names, empty, and write the number of the server into `myid`.

    The database may then be made even where db.autocreate=false forbids it.
    """
    arguments = (configuration,) if configuration is not None else ()
    path = Request(arguments, None, None, None).file(os.environ)
    if path is None:
        raise click.UsageError("name a configuration file")
    data_directory, log_directory = data_directories(path)
    databases = {data_directory / VERSION_DIRECTORY, log_directory / VERSION_DIRECTORY}
    for database in sorted(databases):
        if database.exists() and not force:
            keeping = "" if myid is None else f"; to keep it, write {myid} into {data_directory / 'myid'}"
            raise click.ClickException(f"{database} exists already; --force deletes it{keeping}")
    try:
        for database in databases:
            if database.exists():
                shutil.rmtree(database)
            database.mkdir(parents=True)
        if myid is not None:
            (data_directory / "myid").write_text(f"{myid}\n", "ascii")
        (log_directory / INITIALIZE).touch()
    except OSError as error:
        raise click.ClickException(str(error)) from error
    if myid is None:
        click.echo(f"No number given: a member of an ensemble needs one in {data_directory / 'myid'}.")
    else:
        click.echo(f"This is server {myid}.")
