"""Messages for whoever subscribes. Start subscribers, with and without a name, then publish:

python examples/pubsub.py 127.0.0.1:2181 subscribe &
python examples/pubsub.py 127.0.0.1:2181 subscribe billing &
python examples/pubsub.py 127.0.0.1:2181 publish one two three
"""

import asyncio
import sys
from contextlib import suppress

import corral
from corral.recipes import Message, Missed, Topic


async def subscribe(topic: Topic, name: str | None = None) -> None:
    # With a name it goes on, after a pause, with what it has not acknowledged.
    async with topic.subscribe(name) as subscription:
        print("subscribed", flush=True)
        async for news in subscription:
            match news:
                case Message(number, data):
                    print(f"{number}: {data.decode()}", flush=True)
                    if name is not None:
                        await subscription.acknowledge(news)
                case Missed(messages):
                    print(f"missed {messages if messages is not None else 'nobody knows how many'}", flush=True)


async def main(hosts: str, command: str = "subscribe", *arguments: str) -> None:
    async with corral.connect(hosts) as zk:
        topic = Topic(zk, "/examples/news", kept=100)
        if command == "publish":
            for text in arguments:
                print(f"published {await topic.publish(text.encode())}: {text}")
        else:
            await subscribe(topic, *arguments)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:] or ["127.0.0.1:2181"]))
