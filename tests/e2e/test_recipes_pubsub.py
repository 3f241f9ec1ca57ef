"""Publish and subscribe, and notification."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.forced_faults import Fault, FaultyClient, at_every_request

import corral
from corral.recipes.notification import Listener, Notice, notify
from corral.recipes.pubsub import Message, Topic

if TYPE_CHECKING:
    from corral import Client
    from corral.recipes.pubsub import Subscription
    from corral.testing import Address

TOPIC = "/topics/prices"
BELL = "/bells/reload"
PATIENCE_S = 10.0


async def take(messages: Subscription, count: int) -> list[bytes | int | None]:
    """The data of the next messages, and the numbers of those that were missed."""
    async with asyncio.timeout(PATIENCE_S):
        news = [await anext(messages) for _ in range(count)]
    return [each.data if isinstance(each, Message) else each.messages for each in news]


async def publish(topic: Topic, *data: bytes) -> None:
    for each in data:
        await topic.publish(each)


def expire(zk: Client, address: Address) -> None:
    assert zk.session is not None
    address.server.expire_session(zk.session.id)


def test_every_subscriber_gets_every_message_in_order(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk, corral.connect(zookeeper_shared) as other:
            topic = Topic(zk, TOPIC)
            async with topic.subscribe() as first, Topic(other, TOPIC).subscribe() as second:
                numbers = [await topic.publish(b"%d" % number) for number in range(5)]
                assert numbers == [0, 1, 2, 3, 4]
                for messages in (first, second):
                    assert await take(messages, 5) == [b"0", b"1", b"2", b"3", b"4"]
                # One that comes later begins with what comes later, unless it wants all.
                async with topic.subscribe() as late, topic.subscribe(from_oldest=True) as all_of_them:
                    await topic.publish(b"5")
                    message = await anext(late)
                    assert isinstance(message, Message)
                    assert (message.number, message.data) == (5, b"5")
                    assert await take(all_of_them, 6) == [b"%d" % number for number in range(6)]
                with pytest.raises(RuntimeError, match="has no name"):
                    await late.acknowledge(message)

    asyncio.run(main())


def test_a_named_subscriber_goes_on_where_it_was(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk:
            topic = Topic(zk, TOPIC)
            async with topic.subscribe("billing", from_oldest=True) as messages:
                await publish(topic, b"0", b"1", b"2")
                for _ in range(2):
                    message = await anext(messages)
                    assert isinstance(message, Message)
                    await messages.acknowledge(message)
                assert await take(messages, 1) == [b"2"]
            await publish(topic, b"3")
            # The one that was not acknowledged comes again.
            async with topic.subscribe("billing") as messages:
                assert await take(messages, 2) == [b"2", b"3"]
            await topic.forget("billing")
            await topic.forget("billing")
            async with topic.subscribe("billing", from_oldest=True) as messages:
                assert await take(messages, 4) == [b"0", b"1", b"2", b"3"]

    asyncio.run(main())


def test_retention_is_bounded_and_a_subscriber_is_told_what_it_missed(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk:
            topic = Topic(zk, TOPIC, kept=10)
            async with topic.subscribe("slow", from_oldest=True) as messages:
                await publish(topic, b"0")
                message = await anext(messages)
                assert isinstance(message, Message)
                await messages.acknowledge(message)
            await asyncio.gather(*[topic.publish(b"%d" % number) for number in range(1, 40)])
            assert 10 <= len(await zk.get_children(f"{TOPIC}/messages")) <= 11
            async with topic.subscribe("slow") as messages:
                missed, *kept = await take(messages, 11)
                assert missed == 29
                assert len(set(kept)) == 10
            # Who is new has missed nothing.
            async with topic.subscribe(from_oldest=True) as messages:
                assert await take(messages, 10) == kept

    asyncio.run(main())


def test_lost_connections_and_sessions_lose_no_message(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk, corral.connect(zookeeper_shared) as other:
            topic = Topic(other, TOPIC)
            async with Topic(zk, TOPIC).subscribe() as messages:
                await publish(topic, b"0")
                zookeeper_shared.server.drop_connections()
                await publish(topic, b"1", b"2")
                assert await take(messages, 3) == [b"0", b"1", b"2"]
                expire(zk, zookeeper_shared)
                await publish(topic, b"3", b"4")
                assert await take(messages, 2) == [b"3", b"4"]

    asyncio.run(main())


def test_waiting_may_be_cancelled(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk, Topic(zk, TOPIC).subscribe() as messages:
            published = 0
            taken: list[bytes | int | None] = []
            while len(taken) < 20:
                waiting = asyncio.ensure_future(anext(messages))
                if published < 20:
                    await Topic(zk, TOPIC).publish(b"%d" % published)
                    published += 1
                if waiting.cancel():
                    await asyncio.wait({waiting})
                if not waiting.cancelled():
                    message = waiting.result()
                    assert isinstance(message, Message)
                    taken.append(message.data)
                elif published == 20:
                    taken += await take(messages, 20 - len(taken))
            assert taken == [b"%d" % number for number in range(20)]

    asyncio.run(main())


def test_a_topic_that_is_deleted_and_made_anew_is_told(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk:
            topic = Topic(zk, TOPIC)
            await publish(topic, b"old", b"older")
            async with topic.subscribe("name", from_oldest=True) as messages:
                assert await take(messages, 1) == [b"old"]
                second = await anext(messages)
                assert isinstance(second, Message)
                await messages.acknowledge(second)
                await zk.delete_tree(f"{TOPIC}/messages")
                await publish(topic, b"new")
                assert await take(messages, 2) == [None, b"new"]
                await messages.acknowledge(second)
            async with topic.subscribe("name") as messages:
                assert await take(messages, 2) == [None, b"new"]
            # One without messages tells no number: nothing has been missed of it.
            await zk.delete_tree(f"{TOPIC}/messages")
            await publish(topic, b"a", b"b")
            for name in await zk.get_children(f"{TOPIC}/messages"):
                await zk.delete(f"{TOPIC}/messages/{name}")
            async with topic.subscribe() as messages:
                await publish(topic, b"c")
                assert await take(messages, 1) == [b"c"]

    asyncio.run(main())


def test_a_subscription_ends_with_its_close_and_with_the_client(zookeeper_shared: Address) -> None:
    async def main() -> None:
        zk = await corral.connect(zookeeper_shared).start()
        first, second = await Topic(zk, TOPIC).subscribe().start(), Topic(zk, TOPIC).subscribe()
        waiting = [asyncio.ensure_future(anext(each, None)) for each in (first, second)]
        await zk.sync()
        await first.close()
        assert await asyncio.wait_for(waiting[0], PATIENCE_S) is None
        await zk.close()
        assert await asyncio.wait_for(waiting[1], PATIENCE_S) is None
        with pytest.raises(RuntimeError, match="started once"):
            await first.start()

    asyncio.run(main())


def test_bad_arguments_are_refused_at_once(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk:
            with pytest.raises(ValueError, match="kept=0"):
                Topic(zk, TOPIC, kept=0)
            with pytest.raises(corral.BadArgumentsError):
                Topic(zk, "topic")
            for name in ("", "a/b"):
                with pytest.raises(ValueError, match="a subscriber's name"):
                    Topic(zk, TOPIC).subscribe(name)
            with pytest.raises(TypeError, match="data is bytes"):
                await Topic(zk, TOPIC).publish("text")  # type: ignore[arg-type]
            await zk.create(f"{TOPIC}/subscribers/odd", b"odd", parents=True)
            async with Topic(zk, TOPIC).subscribe("odd") as messages:
                await Topic(zk, TOPIC).publish(b"0")
                assert await take(messages, 1) == [b"0"]

    asyncio.run(main())


def test_listeners_hear_the_newest_notification(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk, corral.connect(zookeeper_shared) as other:
            listener = Listener(zk, BELL)
            async with listener:
                await notify(other, BELL, b"1")
                assert await asyncio.wait_for(anext(listener), PATIENCE_S) == Notice(b"1", other.last_zxid, 0)
                for number in (2, 3, 4):
                    await notify(other, BELL, b"%d" % number)
                expire(zk, zookeeper_shared)
                await notify(other, BELL, b"5")
                heard: list[Notice] = []
                while not heard or heard[-1].data != b"5":
                    heard.append(await asyncio.wait_for(anext(listener), PATIENCE_S))
                assert sum(each.missed + 1 for each in heard) == 4
                await other.delete(BELL)
                await notify(other, BELL, b"6")
                assert (await asyncio.wait_for(anext(listener), PATIENCE_S))[::2] == (b"6", -1)
                async with Listener(zk, BELL) as late:
                    waiting = asyncio.ensure_future(anext(late, None))
                    await notify(other, BELL, b"7")
                    assert (await asyncio.wait_for(waiting, PATIENCE_S)) == Notice(b"7", other.last_zxid, 0)
                    waiting = asyncio.ensure_future(anext(late, None))
                    await zk.close()
                    assert await asyncio.wait_for(waiting, PATIENCE_S) is None

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault)
def test_messages_are_published_once_under_any_fault(zookeeper_shared: Address, fault: Fault) -> None:
    async def scenario(zk: FaultyClient) -> None:
        await publish(Topic(zk, TOPIC, kept=2), b"0", b"1", b"2", b"3")

    async def check(zk: Client) -> None:
        if fault is not Fault.CANCELLED:
            async with Topic(zk, TOPIC).subscribe(from_oldest=True) as messages:
                assert await take(messages, 2) == [b"2", b"3"]
                assert await Topic(zk, TOPIC).publish(b"4") == 4

    assert asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check)) > 4


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault)
def test_a_subscriber_gets_all_in_order_under_any_fault(zookeeper_shared: Address, fault: Fault) -> None:
    async def scenario(zk: FaultyClient) -> None:
        async with corral.connect(zookeeper_shared) as other:
            topic = Topic(other, TOPIC)
            await publish(topic, b"0")
            async with Topic(zk, TOPIC).subscribe("name", from_oldest=True) as messages:
                await publish(topic, b"1")
                assert await take(messages, 2) == [b"0", b"1"]
                await publish(topic, b"2")
                message = await anext(messages)
                assert isinstance(message, Message)
                assert message.data == b"2"
                await messages.acknowledge(message)

    async def check(zk: Client) -> None:
        if fault is not Fault.CANCELLED:
            assert (await zk.get(f"{TOPIC}/subscribers/name")).data.endswith(b" 2")

    assert asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check)) > 5
