"""Where a disk spoils what it had: a bit that flips, or a sector that is lost, in a log or a snapshot.

What cannot be told from a write that never finished is left out, for no reader of these formats could notice it: a
sector that is lost at the end of a log, at its beginning, or at the end of a page where a record begins with it: or up
to four bytes before it, for these are zero in any case, the upper half of the record's checksum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from corral.storage.files import list_logs, list_snapshots
from corral.storage.txnlog import LogReader
from corral.storage.txnlog.ending import PAGE_BYTES, SECTOR_BYTES

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

_NEWEST: Final = 2
"""Of the logs and of the snapshots so many may be spoiled; older ones hardly anybody reads."""


@dataclass(frozen=True, slots=True)
class Damage:
    """``data`` is what is found there from now on."""

    path: Path
    offset: int
    data: bytes

    def __str__(self) -> str:
        what = "a bit flips" if len(self.data) == 1 else "a sector is lost"
        return f"{what} in {self.path} at offset {self.offset}"


def draw_damage(directory: Path, is_durable: Callable[[Path], bool], chance: random.Random) -> Damage | None:
    """Something that was written and synced is spoiled; None if there is nothing."""
    logs = [each.path for each in list_logs(directory)[-_NEWEST:]]
    snapshots = [each.path for each in list_snapshots(directory)[-_NEWEST:]]
    files = [path for path in (*logs, *snapshots) if is_durable(path)]
    if not files:
        return None
    path = chance.choice(files)
    content = path.read_bytes()
    records = _records(path) if path in logs else [0, len(content)]
    if len(records) < 2:
        return None
    if chance.random() < 0.5:
        offset = chance.randrange(records[0], records[-1])
        return Damage(path, offset, bytes([content[offset] ^ (1 << chance.randrange(8))]))
    stop = records[-1] if path in snapshots else records[-2]
    begins = set(records)
    sectors = [
        start
        for start in range(0 if path in snapshots else SECTOR_BYTES, stop - SECTOR_BYTES + 1, SECTOR_BYTES)
        if content[start : start + SECTOR_BYTES].strip(b"\0")
        and (
            path in snapshots
            or (start + SECTOR_BYTES) % PAGE_BYTES
            or not begins.intersection(range(start - 4, start + 1))
        )
    ]
    return Damage(path, chance.choice(sectors), bytes(SECTOR_BYTES)) if sectors else None


def _records(log: Path) -> list[int]:
    """Where the records of a log begin, and where the last one ends."""
    reader = LogReader(log)
    offsets = [reader.offset for _ in reader]
    assert reader.ending is not None
    return [*offsets, reader.ending.offset] if offsets else []
