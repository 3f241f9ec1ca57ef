"""Whatever happens to a log, reading it gives a beginning of what was written, or a typed error."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.faulty_disk import ForgetfulFileSystem, PowerCutError
from tests.log_entries import set_data

from corral.storage.errors import CorruptLogError, LogGapError
from corral.storage.txnlog import LogReader, TxnLogWriter, read_from
from corral.storage.txnlog.format import HEADER, frame_entries

values = st.one_of(
    st.binary(max_size=80),
    st.integers(0, 9000).map(bytes),
    st.integers(0, 9000).map(lambda size: b"B" * size),
    st.integers(0, 300).map(lambda size: bytes(range(256)) * (size // 10)),
)


@given(
    batches=st.lists(st.lists(values, max_size=6), max_size=8),
    rolls=st.sets(st.integers(0, 8)),
    preallocation_bytes=st.sampled_from([0, 1, 4096, 10_000, 1 << 20]),
)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(batches: list[list[bytes]], rolls: set[int], preallocation_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        writer = TxnLogWriter(Path(name), preallocation_bytes=preallocation_bytes, force_sync=False)
        written: list[tuple[int, bytes]] = []
        for number, batch in enumerate(batches):
            for value in batch:
                zxid = len(written) + 1
                written.append((zxid, set_data(zxid, value)))
                writer.append(*written[-1])
            if number in rolls:
                writer.roll()
            if number % 2 and (taken := writer.take()) is not None:
                writer.write(taken)
        if (taken := writer.take()) is not None:
            writer.write(taken)
        writer.close()
        replay = read_from(Path(name), 0)
        assert list(replay) == written
        assert replay.notices == []


@given(seed=st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_power_cuts_lose_nothing_acknowledged_and_need_no_hand(seed: int) -> None:
    random = Random(seed)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        filesystem = ForgetfulFileSystem(directory, random)
        history: list[tuple[int, bytes]] = []
        for _ in range(4):
            replay = read_from(directory, 0)
            # What was acknowledged is there; what was not may be, but only as the very next transactions.
            recovered = list(replay)
            assert recovered[: len(history)] == history
            assert [zxid for zxid, _ in recovered] == list(range(1, len(recovered) + 1))
            replay.mend(filesystem)
            history = recovered
            writer = TxnLogWriter(directory, preallocation_bytes=random.choice([0, 20_000]), filesystem=filesystem)
            for _ in range(random.randrange(4)):
                for _ in range(random.randrange(1, 12)):
                    zxid = len(history) + 1
                    # No long zeros: those can pass for a page that was lost, which is what this test makes.
                    history.append((zxid, set_data(zxid, random.randbytes(random.choice([0, 10, 900, 6000])))))
                    writer.append(*history[-1])
                    if random.random() < 0.1:
                        writer.roll()
                batch = writer.take()
                assert batch is not None
                writer.write(batch)
            unacknowledged = [
                (zxid, set_data(zxid, random.randbytes(random.choice([10, 900, 6000]))))
                for zxid in range(len(history) + 1, len(history) + random.randrange(1, 12))
            ]
            _write_and_fail(writer, filesystem, unacknowledged, random)
            filesystem.power_cut()


def _write_and_fail(
    writer: TxnLogWriter, filesystem: ForgetfulFileSystem, entries: list[tuple[int, bytes]], random: Random
) -> None:
    """Write a batch of which a sync never comes to pass, or whose last acknowledgement is never sent."""
    for zxid, entry in entries:
        writer.append(zxid, entry)
        if random.random() < 0.1:
            writer.roll()
    batch = writer.take()
    if batch is not None:
        filesystem.syncs_left = random.randrange(4)
        with contextlib.suppress(PowerCutError):
            writer.write(batch)


@given(
    values=st.lists(st.binary(max_size=60), min_size=1, max_size=5),
    padding=st.sampled_from([0, 7, 5000]),
    damage=st.lists(st.tuples(st.integers(0), st.integers(1, 255)), min_size=1, max_size=4),
    cut=st.integers(0),
    cuts=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_damage_never_yields_a_wrong_record(
    values: list[bytes], padding: int, damage: list[tuple[int, int]], cut: int, cuts: bool
) -> None:
    entries = [(zxid, set_data(zxid, value)) for zxid, value in enumerate(values, 1)]
    content = bytearray(HEADER + frame_entries([entry for _, entry in entries]) + bytes(padding))
    if cuts:
        del content[cut % len(content) :]
    for position, mask in damage:
        if content:
            content[position % len(content)] ^= mask
    _check(bytes(content), entries)


@given(content=st.binary(max_size=300), header=st.booleans())
@settings(max_examples=300, deadline=None)
def test_random_bytes_give_nothing_or_a_typed_error(content: bytes, header: bool) -> None:
    _check(HEADER + content if header else content, [])


def _check(content: bytes, written: list[tuple[int, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "log.1"
        path.write_bytes(content)
        read = list(LogReader(path))
        assert read == written[: len(read)]
        replay = read_from(Path(name), 0)
        try:
            recovered = list(replay)
        except (CorruptLogError, LogGapError) as refusal:
            error: CorruptLogError | LogGapError | None = refusal
        else:
            error = None
        if error is not None:
            assert error.path == path
            return
        assert recovered == read
        replay.mend()
        assert list(read_from(Path(name), 0)) == read
