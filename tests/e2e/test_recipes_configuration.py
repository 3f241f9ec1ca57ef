"""Configuration in a znode: followed, validated, published, rolled back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.forced_faults import Fault, FaultyClient, at_every_request

import corral
from corral.recipes.codecs import DataclassCodec, JsonCodec
from corral.recipes.configuration import (
    Configuration,
    ConfigurationChange,
    ConfigurationChangeKind,
    InvalidConfigurationError,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from corral import Client
    from corral.testing import Address

PATH = "/config/web"
PATIENCE_S = 10.0


@dataclass(frozen=True)
class Limits:
    rate: int
    burst: float = 2.0


CODEC = DataclassCodec(Limits)


def positive(limits: Limits) -> None:
    if limits.rate <= 0:
        raise ValueError(f"rate {limits.rate} is not positive")


def limits(zk: Client, **options: Any) -> Configuration[Limits]:
    return Configuration(zk, PATH, CODEC, validate=positive, **options)


async def until(configuration: Configuration[Limits], condition: Callable[[], bool]) -> None:
    """Wait for changes until the condition holds."""
    changes = configuration.changes()
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await anext(changes)


def test_every_process_sees_a_change(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as publisher, corral.connect(zookeeper_shared) as reader:
            assert await limits(publisher).publish(Limits(10)) == 0
            async with limits(reader) as followed:
                assert (followed.value, followed.version) == (Limits(10), 0)
                changes = followed.changes()
                told: list[ConfigurationChange[Limits]] = []
                followed.on_change(told.append)
                assert await limits(publisher).publish(Limits(20), note="more") == 1
                change = await asyncio.wait_for(anext(changes), PATIENCE_S)
                assert change == ConfigurationChange(ConfigurationChangeKind.PUBLISHED, 1, Limits(20), Limits(10))
                assert (followed.value, followed.version) == (Limits(20), 1)
                assert followed.zxid == (await reader.get(PATH)).stat.mzxid
                assert told == [change]
                followed.off_change(told.append)
            assert [each async for each in changes] == []
            assert followed.value == Limits(20)

    asyncio.run(main())


def test_the_value_is_plain_text_that_others_read_and_set(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk, limits(zk, default=Limits(1)) as followed:
            assert (followed.value, followed.version, followed.zxid) == (Limits(1), None, -1)
            await zk.create(PATH, b'{"rate": 7}', parents=True)
            await until(followed, lambda: followed.value == Limits(7))
            await zk.set(PATH, b'{"rate": 8}')
            await until(followed, lambda: followed.value == Limits(8))
            assert await followed.publish(Limits(9), version=1) == 2
            assert CODEC.decode((await zk.get(PATH)).data) == Limits(9)
            # What was current when the publisher came is in the history too.
            assert [(each.version, each.value) for each in await followed.history()] == [(1, Limits(8)), (2, Limits(9))]

    asyncio.run(main())


@pytest.mark.parametrize("bad", [b'{"rate": -5}', b"{broken", b""])
def test_a_bad_value_of_somebody_else_is_told_and_not_used(zookeeper_shared: Address, bad: bytes) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk:
            await limits(zk).publish(Limits(10))
            async with limits(zk) as followed:
                changes = followed.changes()
                await zk.set(PATH, bad)
                change = await asyncio.wait_for(anext(changes), PATIENCE_S)
                assert change.kind is ConfigurationChangeKind.REJECTED
                assert change.version == 1
                assert change.value == change.previous == followed.value == Limits(10)
                assert followed.version == 0
                assert isinstance(change.error, InvalidConfigurationError)
                assert followed.rejected is change.error
                # One that starts now takes the newest that is valid, and knows why.
                async with limits(zk, default=Limits(99)) as later:
                    assert (later.value, later.version) == (Limits(10), 0)
                    assert isinstance(later.rejected, InvalidConfigurationError)
                assert await followed.rollback(0) == 2
                await until(followed, lambda: followed.rejected is None)
                assert (followed.value, followed.version) == (Limits(10), 2)

    asyncio.run(main())


def test_starting_with_nothing(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk:
            with pytest.raises(corral.NoNodeError, match="nothing has been published"):
                await limits(zk).start()
            await zk.create(PATH, b"bad", parents=True)
            with pytest.raises(InvalidConfigurationError, match="Expecting"):
                await limits(zk).start()
            async with limits(zk, default=Limits(3)) as followed:
                assert followed.value == Limits(3)
                assert followed.rejected is not None
            with pytest.raises(InvalidConfigurationError, match="rate 0 is not positive"):
                await limits(zk, default=Limits(0)).start()
            with pytest.raises(RuntimeError, match="not started"):
                _ = limits(zk).value

    asyncio.run(main())


def test_a_removal_is_told_and_the_value_stays(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk:
            await limits(zk).publish(Limits(10))
            async with limits(zk) as followed:
                changes = followed.changes()
                await zk.delete_tree(PATH)
                change = await asyncio.wait_for(anext(changes), PATIENCE_S)
                assert (change.kind, change.version) == (ConfigurationChangeKind.REMOVED, None)
                assert followed.value == Limits(10)
                # Anew, its versions begin anew: a smaller one is a newer one.
                assert await limits(zk).publish(Limits(11)) == 0
                await until(followed, lambda: followed.value == Limits(11))

    asyncio.run(main())


def test_publishing_is_conditional_and_validated(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk:
            published = limits(zk)
            with pytest.raises(corral.NoNodeError, match="nothing has been published"):
                await published.publish(Limits(1), version=0)
            assert await published.initialise(Limits(1))
            assert not await published.initialise(Limits(2))
            with pytest.raises(corral.BadVersionError, match="version 0 is current, not 5"):
                await published.publish(Limits(2), version=5)
            with pytest.raises(InvalidConfigurationError, match="rate -1 is not positive"):
                await published.publish(Limits(-1))
            with pytest.raises(InvalidConfigurationError, match="rate is 'x'"):
                await published.publish(Limits("x"))  # type: ignore[arg-type]
            assert (await zk.get(PATH)).stat.version == 0
            assert await published.publish(Limits(2), version=0) == 1

    asyncio.run(main())


def test_history_is_bounded_and_can_be_rolled_back(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk:
            published = limits(zk, history=3, author="ada")
            for rate in range(1, 6):
                await published.publish(Limits(rate), note=f"rate {rate}")
            history = await published.history()
            assert [(each.version, each.value, each.author, each.note) for each in history] == [
                (2, Limits(3), "ada", "rate 3"),
                (3, Limits(4), "ada", "rate 4"),
                (4, Limits(5), "ada", "rate 5"),
            ]
            assert history[-1].zxid == (await zk.get(PATH)).stat.mzxid
            with pytest.raises(LookupError, match="version 1 is not in the history"):
                await published.rollback(1)
            assert await published.rollback(2, version=4) == 5
            assert [(each.version, each.value, each.note) for each in await published.history()] == [
                (3, Limits(4), "rate 4"),
                (4, Limits(5), "rate 5"),
                (5, Limits(3), "rollback to 2"),
            ]
            # What would not be valid any more is not rolled back to.
            strict = Configuration(zk, PATH, CODEC, validate=lambda value: 1 / (value.rate - 4))
            with pytest.raises(InvalidConfigurationError, match="division by zero"):
                await strict.rollback(3)

    asyncio.run(main())


def test_one_of_many_publishers_wins_each_version(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk:
            await limits(zk).publish(Limits(1))
            outcomes = await asyncio.gather(
                *[limits(zk).publish(Limits(rate), version=0) for rate in range(2, 8)], return_exceptions=True
            )
            assert sorted(type(each).__name__ for each in outcomes) == ["BadVersionError"] * 5 + ["int"]
            versions = await asyncio.gather(*[limits(zk).publish(Limits(rate)) for rate in range(2, 8)])
            assert sorted(versions) == [2, 3, 4, 5, 6, 7]
            history = await limits(zk).history()
            assert [each.version for each in history] == list(range(8))

    asyncio.run(main())


def test_changes_while_the_connection_or_the_session_was_lost_arrive(zookeeper_shared: Address) -> None:
    async def main() -> None:
        server = zookeeper_shared.server
        async with corral.connect(zookeeper_shared) as zk, corral.connect(zookeeper_shared) as other:
            await limits(other).publish(Limits(1))
            async with limits(zk) as followed:
                server.drop_connections()
                await limits(other).publish(Limits(2))
                await until(followed, lambda: followed.value == Limits(2))
                assert zk.session is not None
                server.expire_session(zk.session.id)
                await limits(other).publish(Limits(3))
                await until(followed, lambda: followed.value == Limits(3))
                await limits(other).publish(Limits(4))
                await followed.refresh()
                assert followed.value == Limits(4)

    asyncio.run(main())


def test_a_slow_reader_gets_the_newest_of_each_kind(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk:
            await limits(zk).publish(Limits(1))
            async with limits(zk) as followed:
                changes = followed.changes()
                for rate in (2, 3, 4):
                    await followed.publish(Limits(rate))
                    await followed.refresh()
                await zk.set(PATH, b"bad")
                await followed.refresh()
                first, second = await anext(changes), await anext(changes)
                assert (first.kind, first.value) == (ConfigurationChangeKind.PUBLISHED, Limits(4))
                assert (second.kind, second.value) == (ConfigurationChangeKind.REJECTED, Limits(4))

    asyncio.run(main())


def test_bad_arguments_and_a_callback_that_fails(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk:
            with pytest.raises(corral.BadArgumentsError):
                Configuration(zk, "config", JsonCodec())
            with pytest.raises(ValueError, match="history=0"):
                Configuration(zk, "/config", JsonCodec(), history=0)
            with pytest.raises(ValueError, match="a znode of its own"):
                Configuration(zk, "/", JsonCodec())
            failures: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
            async with Configuration(zk, "/top", JsonCodec(), default={"a": 1}) as followed:
                followed.on_change(lambda change: 1 / 0)
                await followed.publish({"a": 2})
                await followed.refresh()
                assert followed.value == {"a": 2}
            assert [type(each["exception"]) for each in failures] == [ZeroDivisionError]

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault)
def test_a_publication_is_done_once_under_any_fault(zookeeper_shared: Address, fault: Fault) -> None:
    async def scenario(zk: FaultyClient) -> None:
        published = limits(zk, history=2)
        assert await published.publish(Limits(1)) == 0
        assert await published.publish(Limits(2), version=0) == 1
        assert await published.publish(Limits(3), version=1) == 2

    async def check(zk: Client) -> None:
        znode = await zk.exists(PATH)
        if znode is None:
            return
        history = await limits(zk).history()
        assert [each.version for each in history] == list(range(znode.version + 1))[-2:]
        assert history[-1].data == (await zk.get(PATH)).data
        if fault is not Fault.CANCELLED:
            assert [each.value for each in history] == [Limits(2), Limits(3)]

    faults = asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check))
    assert faults > 8


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault)
def test_the_newest_value_gets_in_force_under_any_fault(zookeeper_shared: Address, fault: Fault) -> None:
    async def scenario(zk: FaultyClient) -> None:
        async with limits(zk, default=Limits(1)) as followed, corral.connect(zookeeper_shared) as other:
            for rate in (2, 3, 4):
                await limits(other).publish(Limits(rate))
                await until(followed, lambda rate=rate: followed.value == Limits(rate))  # type: ignore[misc]

    async def check(zk: Client) -> None:
        assert await zk.get_ephemerals() == []

    assert asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check)) > 4
