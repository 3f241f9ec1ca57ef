"""Configuration that every process sees at once. Follow it in some terminals, and publish in another:

python examples/configuration.py 127.0.0.1:2181
python examples/configuration.py 127.0.0.1:2181 publish 50
python examples/configuration.py 127.0.0.1:2181 rollback 0
"""

import asyncio
import sys
from contextlib import suppress
from dataclasses import dataclass

import corral
from corral.recipes import Configuration, DataclassCodec


@dataclass(frozen=True)
class Limits:
    requests_per_second: int
    burst: float = 1.5


def validate(limits: Limits) -> None:
    if limits.requests_per_second <= 0:
        raise ValueError("requests_per_second must be positive")


async def main(hosts: str, command: str = "follow", number: str = "") -> None:
    async with corral.connect(hosts) as zk:
        limits = Configuration(
            zk, "/examples/limits", DataclassCodec(Limits), validate=validate, default=Limits(10), author="example"
        )
        if command == "publish":
            print(f"published version {await limits.publish(Limits(int(number)))}")
        elif command == "rollback":
            print(f"published version {await limits.rollback(int(number))}")
            for revision in await limits.history():
                print(f"{revision.version}: {revision.value} {revision.note}")
        else:
            async with limits:
                print(f"in force: {limits.value}", flush=True)
                async for change in limits.changes():
                    # A value that somebody set past the validation, with a shell perhaps, is REJECTED and not in force.
                    print(f"{change.kind.value}, in force: {limits.value}", flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:] or ["127.0.0.1:2181"]))
