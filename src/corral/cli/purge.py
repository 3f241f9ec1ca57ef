"""``corral purge``: remove old snapshots and logs (what zkCleanup.sh does)."""

from __future__ import annotations

from pathlib import Path

import click

from corral.cli.options import complain, report_storage_errors
from corral.storage.errors import StorageError
from corral.storage.files import VERSION_DIRECTORY, SnapshotFile
from corral.storage.purge import FEWEST_KEPT, plan_purge
from corral.storage.purge import purge as carry_out
from corral.storage.snapshot import SnapshotError, SnapshotReader
from corral.storage.snapshot_file import read_snapshot_bytes

__all__ = ["purge"]

_directory = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("log_directory", type=_directory)
@click.argument("snapshot_directory", required=False, type=_directory)
@click.option(
    "-n",
    "--count",
    required=True,
    type=click.IntRange(min=FEWEST_KEPT),
    help=f"How many valid snapshots to keep, at least {FEWEST_KEPT}.",
)
@click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
def purge(log_directory: Path, snapshot_directory: Path | None, count: int, dry_run: bool) -> None:
    """Remove snapshots and logs that are not needed to load the newest COUNT snapshots and all that came after.

    LOG_DIRECTORY and SNAPSHOT_DIRECTORY are dataLogDir and dataDir; with one, both are the same. A snapshot counts
    only if it can be read to its end with all checksums right.
    """
    with report_storage_errors():
        plan = plan_purge(
            _version_directory(snapshot_directory or log_directory), _version_directory(log_directory), count, is_valid
        )
        if plan.oldest_kept_zxid is None:
            click.echo("Nothing removed: there is no valid snapshot to keep.")
            return
        for path in plan.paths:
            click.echo(f"{'Would remove' if dry_run else 'Removing'} file: {path}")
        if not dry_run:
            carry_out(plan)


def is_valid(snapshot: SnapshotFile) -> bool:
    """Whether a snapshot can be read to its end and all its checksums are right; says so if not."""
    try:
        reader = SnapshotReader(read_snapshot_bytes(snapshot), snapshot.path)
        for _ in reader.nodes():
            pass
        reader.check()
    except SnapshotError as error:
        complain(f"does not count: {error}")
        return False
    return True


def _version_directory(directory: Path) -> Path:
    inner = directory / VERSION_DIRECTORY
    if inner.is_dir():
        return inner
    if directory.name == VERSION_DIRECTORY:
        return directory
    raise StorageError(f"no {VERSION_DIRECTORY} directory in it", directory)
