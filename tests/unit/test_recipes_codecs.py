"""Typed objects as the data of a znode."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

import pytest

from corral.recipes.codecs import DataclassCodec, JsonCodec


class Level(Enum):
    LOW = "low"
    HIGH = "high"


@dataclass(frozen=True)
class Pool:
    size: int
    timeout: float = 1.5


@dataclass(frozen=True)
class Everything:
    name: str
    pool: Pool
    level: Level = Level.LOW
    mode: Literal["fast", "safe"] = "safe"
    spare: Pool | None = None
    hosts: list[str] = field(default_factory=list)
    span: tuple[int, float] = (0, 1.0)
    ports: tuple[int, ...] = ()
    tags: frozenset[str] = frozenset()
    pools: dict[str, Pool] = field(default_factory=dict)
    limit: int | str = 0
    extra: Any = None
    is_on: bool = True


CODEC = DataclassCodec(Everything)
FULL = Everything(
    "añ",
    Pool(3),
    Level.HIGH,
    "fast",
    Pool(1, 2.0),
    ["a", "b"],
    (4, 0.5),
    (1, 2, 3),
    frozenset({"x", "y"}),
    {"main": Pool(9)},
    "many",
    {"free": [1, None]},
    False,
)


@pytest.mark.parametrize("value", [FULL, Everything("short", Pool(0))])
def test_what_is_written_is_read_again(value: Everything) -> None:
    assert CODEC.decode(CODEC.encode(value)) == value


def test_defaults_fill_what_is_missing_and_whole_numbers_are_floats_too() -> None:
    value = CODEC.decode(b'{"name": "n", "pool": {"size": 1, "timeout": 2}}')
    assert value == Everything("n", Pool(1, 2.0))
    assert type(value.pool.timeout) is float


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"pool": {"size": 1}}', "name is missing"),
        (b'{"name": "n", "pool": {}}', "pool.size is missing"),
        (b'{"name": "n", "pool": {"size": "1"}}', "pool.size is '1', not of type int"),
        (b'{"name": "n", "pool": {"size": true}}', "pool.size is True, not of type int"),
        (b'{"name": "n", "pool": {"size": 1.0}}', "pool.size is 1.0, not of type int"),
        (b'{"name": "n", "pool": {"size": 1, "sise": 2}}', "pool has no field 'sise'; the fields are size, timeout"),
        (b'{"name": "n", "pool": null}', "pool is None, not of type Pool"),
        (b'{"name": "n", "pool": {"size": 1}, "level": "middle"}', "level is 'middle', not of type Level"),
        (b'{"name": "n", "pool": {"size": 1}, "mode": "slow"}', "mode is 'slow'"),
        (b'{"name": "n", "pool": {"size": 1}, "spare": {"size": "x"}}', "spare.size is 'x', not of type int"),
        (b'{"name": "n", "pool": {"size": 1}, "hosts": ["a", 1]}', r"hosts\[1\] is 1, not of type str"),
        (b'{"name": "n", "pool": {"size": 1}, "hosts": "a"}', "hosts is 'a', not of type"),
        (b'{"name": "n", "pool": {"size": 1}, "span": [1]}', "span has 1 items, not 2"),
        (b'{"name": "n", "pool": {"size": 1}, "pools": {"a": {"size": 1}, "b": 2}}', r"pools\['b'\] is 2"),
        (b'{"name": "n", "pool": {"size": 1}, "pools": []}', "pools is"),
        (b'{"name": "n", "pool": {"size": 1}, "limit": 1.5}', "limit is 1.5"),
        (b"[]", "the value is"),
        (b"{", "Expecting"),
        (b"\xff", "decode"),
    ],
)
def test_bad_data_is_refused_by_name(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CODEC.decode(data)


@dataclass
class Checked:
    size: int

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(f"size {self.size} is negative")


def test_what_the_class_itself_refuses_is_refused() -> None:
    with pytest.raises(ValueError, match="size -1 is negative"):
        DataclassCodec(Checked).decode(b'{"size": -1}')


def test_a_value_of_the_wrong_type_is_not_written() -> None:
    with pytest.raises(TypeError, match="is no Pool"):
        DataclassCodec(Pool).encode(Everything("n", Pool(1)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="size is 'x', not of type int"):
        DataclassCodec(Pool).encode(Pool("x"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"not JSON compliant"):
        DataclassCodec(Pool).encode(Pool(1, float("nan")))


@dataclass
class Unfit:
    pool: Pool
    when: list[complex]


@dataclass
class Tree:
    name: str
    branches: list[Tree] = field(default_factory=list)


def test_types_that_json_cannot_hold_are_refused_at_once() -> None:
    with pytest.raises(TypeError, match=r"Unfit\.when: a field of type <class 'complex'>"):
        DataclassCodec(Unfit)
    with pytest.raises(TypeError, match="is no dataclass"):
        DataclassCodec(int)

    @dataclass
    class Local:
        pool: Nowhere  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(TypeError, match="Local: its annotations cannot be resolved: name 'Nowhere' is not defined"):
        DataclassCodec(Local)


def test_a_class_may_contain_itself() -> None:
    codec = DataclassCodec(Tree)
    value = Tree("top", [Tree("a"), Tree("b", [Tree("c")])])
    assert codec.decode(codec.encode(value)) == value


def test_plain_json() -> None:
    codec = JsonCodec()
    assert codec.decode(codec.encode({"a": [1, 2.5, None, True, "ü"]})) == {"a": [1, 2.5, None, True, "ü"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        codec.encode(float("inf"))
