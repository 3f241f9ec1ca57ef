"""``corral log``: print, verify, repair and cut transaction logs (what zkTxnLogToolkit.sh does)."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from corral.cli.logtext import transaction_line, transaction_object
from corral.cli.options import complain, existing_files, parse_zxid, print_json, report_storage_errors, write_line
from corral.jute.primitives import JuteError
from corral.storage.errors import StorageError
from corral.storage.files import VERSION_DIRECTORY, list_logs, list_lookalikes
from corral.storage.filesystem import REAL, write_fully
from corral.storage.txnlog import Damage, EndKind, GoodRecord, Transaction, decode_entry, read_from, scan_log
from corral.storage.txnlog.format import HEADER, MAGIC, entry_zxid, frame_entries

__all__ = ["log"]

_BATCH_BYTES: Final = 1 << 20


@click.group()
def log() -> None:
    """Print, verify, repair and cut transaction logs."""
    # What the reader of a directory warns about is said here in words of our own.
    logging.getLogger("corral.storage").addHandler(logging.NullHandler())


@log.command()
@click.argument("files", nargs=-1, required=True, type=existing_files)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line; data is base64.")
def dump(files: tuple[Path, ...], as_json: bool) -> None:
    """Print every transaction of the FILES.

    Exit status 1 if something in them is damaged; that is told on standard error.
    """
    damaged = False
    for path in files:
        with report_storage_errors():
            damaged |= _dump_json(path) if as_json else _dump_text(path)
    if damaged:
        raise SystemExit(1)


@log.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def verify(paths: tuple[Path, ...], as_json: bool) -> None:
    """Read FILES, or all logs of DIRECTORIES, to the end and say what is in them.

    Of a directory it is also checked that no transaction is missing between its logs. Exit status 1 if something is
    damaged or missing. The torn end that a crash leaves is no damage: a server drops it when it starts.
    """
    sound = True
    for path in paths:
        with report_storage_errors():
            if path.is_dir():
                sound &= _verify_directory(path, as_json)
            else:
                sound &= _verify_file(path, as_json)
    if not sound:
        raise SystemExit(1)


@log.command()
@click.argument("file", type=existing_files)
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="The new file; must not exist.")
@click.option(
    "--damaged",
    type=click.Choice(["recompute", "drop", "stop"]),
    default="recompute",
    show_default=True,
    help="A whole record whose checksum shows that more than one byte of it has changed: keep it as it is now, with a"
    " new checksum; leave it out; or end the copy before it.",
)
@click.option("-v", "--verbose", is_flag=True, help="Print every transaction kept, not only the damaged ones.")
def repair(file: Path, output: Path, damaged: str, verbose: bool) -> None:
    """Copy what can be read of FILE to a new file; FILE itself is never changed.

    A record is restored if its checksum can be explained by a single changed byte: it tells which one, and what it was.
    Exit status 1 if the copy is not what was written: records left out, or kept with what is in them now. Servers
    refuse a log in which a transaction is missing; such a copy serves to look at, or to be cut with `corral log chop`.
    """
    with report_storage_errors():
        copy = _Copy(file, damaged, verbose)
        _write_log(output, copy.entries())
    write_line(
        f"{output}: {copy.kept} transactions kept, {copy.restored} of them restored and {copy.recomputed} with a new"
        f" checksum; {copy.left_out} damaged places left out"
    )
    if copy.left_out or copy.recomputed:
        raise SystemExit(1)


@log.command()
@click.argument("file", type=existing_files)
@click.option(
    "-z", "--zxid", required=True, callback=parse_zxid, help="The last transaction to keep, as 0x… or decimal."
)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="The new file  [default: FILE.chopped<zxid>]")
def chop(file: Path, zxid: int, output: Path | None) -> None:
    """Copy the transactions of FILE up to and with ZXID to a new file."""
    target = output or file.with_name(f"{file.name}.chopped{zxid}")
    with report_storage_errors():
        entries: list[bytes] = []
        last_zxid, beyond = -1, False
        for item in scan_log(file):
            if isinstance(item, Damage):
                raise StorageError(f"damaged before zxid {zxid:#x}: {item.ending.reason}", file, item.offset)
            if item.zxid > zxid:
                beyond = True
                break
            last_zxid = item.zxid
            entries.append(item.entry)
        if last_zxid != zxid:
            raise StorageError(f"this log does not contain zxid {zxid:#x}", file)
        if not beyond:
            raise StorageError(f"nothing to cut off: the log ends at zxid {zxid:#x}", file)
        _write_log(target, iter(entries))
    write_line(f"{target}: {len(entries)} transactions, the last one {zxid:#x}")


def _dump_text(path: Path) -> bool:
    version, database_id = _read_header(path)
    write_line(f"ZooKeeper Transactional Log File with dbid {database_id} txnlog format version {version}")
    count, damaged = 0, False
    for item in scan_log(path):
        if isinstance(item, GoodRecord):
            write_line(transaction_line(_decode(path, item.offset, item.entry)))
            count += 1
            continue
        damaged = True
        complain(f"{path} at offset {item.offset}: {item.ending.reason}")
        if item.entry is not None:
            count += 1
            try:
                write_line(f"CRC ERROR - {transaction_line(decode_entry(item.entry))}")
            except JuteError as error:
                write_line(f"CRC ERROR - not decodable: {error}")
    write_line(f"EOF reached after {count} txns.")
    return damaged


def _dump_json(path: Path) -> bool:
    _read_header(path)
    damaged = False
    for item in scan_log(path):
        place: dict[str, Any] = {"file": str(path), "offset": item.offset}
        if isinstance(item, GoodRecord):
            print_json({**place, **transaction_object(_decode(path, item.offset, item.entry))})
            continue
        damaged = True
        complain(f"{path} at offset {item.offset}: {item.ending.reason}")
        if item.entry is not None:
            try:
                place |= transaction_object(decode_entry(item.entry))
            except JuteError as error:
                place["undecodable"] = str(error)
        print_json({**place, "damage": item.ending.reason, "kind": item.ending.kind.value})
    return damaged


def _verify_file(path: Path, as_json: bool) -> bool:
    count = 0
    first_zxid: int | None = None
    last_zxid: int | None = None
    damages: list[Damage] = []
    undecodable: list[str] = []
    for item in scan_log(path):
        if isinstance(item, Damage):
            damages.append(item)
            continue
        count += 1
        last_zxid = item.zxid
        first_zxid = item.zxid if first_zxid is None else first_zxid
        try:
            decode_entry(item.entry)
        except JuteError as error:
            undecodable.append(f"{path} at offset {item.offset}: the transaction cannot be decoded: {error}")
    sound = not undecodable and all(damage.ending.kind is EndKind.TORN for damage in damages)
    if as_json:
        print_json(
            {
                "file": str(path),
                "transactions": count,
                "first_zxid": None if first_zxid is None else hex(first_zxid),
                "last_zxid": None if last_zxid is None else hex(last_zxid),
                "sound": sound,
                "damage": [
                    {"offset": damage.offset, "kind": damage.ending.kind.value, "reason": damage.ending.reason}
                    for damage in damages
                ],
                "undecodable": undecodable,
            }
        )
        return sound
    span = "" if first_zxid is None or last_zxid is None else f", zxid {first_zxid:#x} to {last_zxid:#x}"
    write_line(f"{path}: {count} transactions{span}")
    for damage in damages:
        kind = "torn by a crash" if damage.ending.kind is EndKind.TORN else "damaged"
        complain(f"{path} at offset {damage.offset}: {kind}: {damage.ending.reason}")
    for line in undecodable:
        complain(line)
    return sound


def _verify_directory(directory: Path, as_json: bool) -> bool:
    logs = list_logs(directory)
    if not logs and (directory / VERSION_DIRECTORY).is_dir():
        return _verify_directory(directory / VERSION_DIRECTORY, as_json)
    if not logs:
        raise StorageError("no transaction log here", directory)
    for path in list_lookalikes(directory):
        complain(f"{path}: neither a log's name nor a snapshot's, passed over")
    sound = True
    for log_file in logs:
        sound &= _verify_file(log_file.path, as_json)
    try:
        for _ in read_from(directory, logs[0].zxid - 1):
            pass
    except StorageError as error:
        complain(f"a server would refuse these logs: {error}")
        return False
    return sound


class _Copy:
    """The entries of a log that a repaired copy gets, with what was done to them."""

    def __init__(self, path: Path, damaged: str, verbose: bool) -> None:
        self.kept = 0
        self.restored = 0
        self.recomputed = 0
        self.left_out = 0
        self._path = path
        self._damaged = damaged
        self._verbose = verbose
        self._last_zxid = -1

    def entries(self) -> Iterator[bytes]:
        """Each entry to keep; tells on the way what is wrong with the others."""
        for item in scan_log(self._path):
            if isinstance(item, GoodRecord):
                if self._verbose:
                    write_line(transaction_line(_decode(self._path, item.offset, item.entry)))
                entry: bytes | None = item.entry
            else:
                entry = self._repaired(item)
                if entry is None and self._damaged == "stop":
                    return
            if entry is not None:
                self.kept += 1
                self._last_zxid = entry_zxid(entry)
                yield entry

    def _repaired(self, damage: Damage) -> bytes | None:
        if damage.restored is not None and (line := self._line(damage.restored)) is not None:
            write_line(f"RESTORED - {line}")
            self.restored += 1
            return damage.restored
        line = None if damage.entry is None else self._line(damage.entry)
        if line is not None and self._damaged == "recompute":
            write_line(f"CRC FIXED - {line}")
            self.recomputed += 1
            return damage.entry
        self.left_out += 1
        complain(f"{self._path} at offset {damage.offset}: left out: {damage.ending.reason}")
        if line is not None:
            write_line(f"CRC ERROR - {line}")
        return None

    def _line(self, entry: bytes) -> str | None:
        """The transaction as text; None if it cannot be decoded or does not follow the one before."""
        try:
            return transaction_line(decode_entry(entry)) if entry_zxid(entry) > self._last_zxid else None
        except JuteError:
            return None


def _write_log(path: Path, entries: Iterator[bytes]) -> None:
    """A new log, synced, without padding. Nothing is left behind if it cannot be finished."""
    try:
        descriptor = REAL.create(path)
    except OSError as error:
        raise StorageError(f"cannot create the file: {os.strerror(error.errno or 0)}", path) from error
    position = 0
    try:
        try:
            pending: list[bytes] = []
            size = 0
            data = HEADER
            for entry in entries:
                pending.append(entry)
                size += len(entry)
                if size >= _BATCH_BYTES:
                    data += frame_entries(pending)
                    write_fully(REAL, descriptor, data, position)
                    position += len(data)
                    pending, size, data = [], 0, b""
            write_fully(REAL, descriptor, data + frame_entries(pending), position)
            REAL.sync_data(descriptor)
        finally:
            REAL.close(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _decode(path: Path, offset: int, entry: bytes) -> Transaction:
    try:
        return decode_entry(entry)
    except JuteError as error:
        raise StorageError(f"the transaction cannot be decoded: {error}", path, offset) from error


def _read_header(path: Path) -> tuple[int, int]:
    """Format version and database id. StorageError if the file does not begin as a log does."""
    with path.open("rb") as file:
        head = file.read(len(HEADER))
    if len(head) < len(HEADER):
        raise StorageError(f"only {len(head)} bytes, a log's header has {len(HEADER)}", path)
    if int.from_bytes(head[:4], "big") != MAGIC:
        raise StorageError(f"not a transaction log: it begins with {json.dumps(head[:4].hex())}", path, 0)
    return int.from_bytes(head[4:8], "big", signed=True), int.from_bytes(head[8:], "big", signed=True)
