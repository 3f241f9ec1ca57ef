"""Every record: what is encoded is decoded again; what is no encoding raises JuteError and nothing else."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.jute import records
from corral.jute.primitives import JuteError, Reader, decode_text, encode_text
from corral.jute.record import FieldCodec, Record
from corral.storage.txnlog.entry import decode_entry

RECORDS = [
    each
    for _, each in inspect.getmembers(records, inspect.isclass)
    if issubclass(each, Record) and each is not Record and each.__module__ == records.__name__
]
NUMBERS = {
    "i": st.integers(-(2**31), 2**31 - 1),
    "q": st.integers(-(2**63), 2**63 - 1),
    "?": st.booleans(),
}
plain_texts = st.text(st.characters(max_codepoint=0xFFFF, codec="utf-8"), max_size=12)
QUICK = settings(max_examples=10, deadline=None, derandomize=True)
DEEP = settings(max_examples=300, deadline=None, derandomize=True)


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field, from its annotation alone."""
    if get_origin(hint) is Annotated:
        kind, codec = get_args(hint)
        assert isinstance(codec, FieldCodec)
        if codec.code:
            return NUMBERS[codec.code]
        return st.none() | (st.binary(max_size=12) if kind == bytes | None else plain_texts)
    if inspect.isclass(hint) and issubclass(hint, Record):
        return instances_of(hint)
    vector, none = get_args(hint)
    assert none is type(None)
    return st.none() | st.lists(values_of(get_args(vector)[0]), max_size=3)


def instances_of(record: type[Record]) -> st.SearchStrategy[Any]:
    hints = get_type_hints(record, include_extras=True)
    return st.builds(record, *[values_of(hint) for name, hint in hints.items() if not name.startswith("_")])


INSTANCES = {record: instances_of(record) for record in RECORDS}


def check_round_trip(data: st.DataObject, record: type[Record]) -> None:
    value = data.draw(INSTANCES[record])
    encoded = value.to_bytes()
    reader = Reader(b"before" + encoded + b"behind", 6)
    assert record.decode(reader) == value
    assert reader.remaining == len(b"behind")
    for size in range(len(encoded)):
        with pytest.raises(JuteError):
            record.from_bytes(encoded[:size])
        with pytest.raises(JuteError):
            record.decode(Reader(encoded, 0, size))


@pytest.mark.parametrize("record", RECORDS)
@given(data=st.data())
@QUICK
def test_what_is_encoded_is_decoded_again(record: type[Record], data: st.DataObject) -> None:
    check_round_trip(data, record)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("record", RECORDS)
@given(data=st.data())
@DEEP
def test_what_is_encoded_is_always_decoded_again(record: type[Record], data: st.DataObject) -> None:
    check_round_trip(data, record)


def check_any_bytes(record: type[Record], content: bytes, limit: int | None) -> None:
    """What can be decoded is encoded to the bytes that were read, as far as there is one way to write it."""
    reader = Reader(content, limit=limit)
    try:
        value = record.decode(reader)
    except JuteError:
        return
    again = record.from_bytes(value.to_bytes())
    assert again == value or "\ufffd" in repr(value)


lengths = st.sampled_from(
    [b"\0\0\0\0", b"\0\0\0\1", b"\0\0\0\2", b"\xff\xff\xff\xff", b"\xff\xff\xff\xfe", b"\x7f\xff\xff\xff"]
)
likely_bytes = st.lists(st.one_of(lengths, lengths, st.binary(max_size=6)), max_size=20).map(b"".join)


@pytest.mark.parametrize("record", RECORDS)
@given(content=st.binary(max_size=120) | likely_bytes, limit=st.none() | st.integers(0, 20))
@QUICK
def test_any_bytes_are_decoded_or_refused(record: type[Record], content: bytes, limit: int | None) -> None:
    check_any_bytes(record, content, limit)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("record", RECORDS)
@given(content=st.binary(max_size=120) | likely_bytes, limit=st.none() | st.integers(0, 20))
@DEEP
def test_any_bytes_are_always_decoded_or_refused(record: type[Record], content: bytes, limit: int | None) -> None:
    check_any_bytes(record, content, limit)


@given(content=st.binary(max_size=120) | likely_bytes, kind=st.integers(-12, 23))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_log_entry_is_decoded_or_refused(content: bytes, kind: int) -> None:
    header = records.TxnHeader(1, 2, 3, 4, kind).to_bytes()
    for entry in (content, header + content):
        try:
            decode_entry(entry)
        except JuteError:
            continue


@given(text=st.text(max_size=30))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_texts_are_read_as_java_reads_what_java_writes(text: str) -> None:
    """Java writes each UTF-16 unit by itself and reads strictly: what is beyond the basic plane is lost."""
    assert decode_text(encode_text(text)) == "".join("\ufffd\ufffd" if char > "\uffff" else char for char in text)
    assert decode_text(text.encode()) == text


@given(content=st.binary(max_size=40))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_bytes_are_read_as_some_text(content: bytes) -> None:
    text = decode_text(content)
    assert not any("\ud800" <= char <= "\udfff" for char in text)
    encode_text(text)
