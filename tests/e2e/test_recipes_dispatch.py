"""Commands from a console, and the answers of the workers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from tests.forced_faults import Fault, FaultyClient, at_every_request

import corral
from corral.recipes.dispatch import Answer, AnswerState, Command, CommandReceiver, Console

if TYPE_CHECKING:
    from corral import Client
    from corral.testing import Address

PATH = "/billing"
PATIENCE_S = 10.0


class Obedient:
    """Notes what it gets, and answers with its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.commands: list[Command] = []

    async def __call__(self, command: Command) -> bytes | None:
        self.commands.append(command)
        if command.body == b"fail":
            raise ArithmeticError("no more")
        return None if command.body == b"be silent" else f"{self.name} did {command.body.decode()}".encode()

    @property
    def bodies(self) -> list[bytes]:
        return [command.body for command in self.commands]


async def until_present(console: Console, *names: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await console.workers.wait_for(lambda them: [each.name for each in them] == list(names))


def test_commands_to_all_and_to_some(zookeeper_shared: Address) -> None:
    async def main() -> None:
        one, two = Obedient("one"), Obedient("two")
        async with (
            corral.connect(zookeeper_shared) as zk,
            corral.connect(zookeeper_shared) as other,
            Console(zk, PATH) as console,
            CommandReceiver(zk, PATH, "one", one, data=b"host-1"),
            CommandReceiver(other, PATH, "two", two),
        ):
            await until_present(console, "one", "two")
            assert [each.data for each in console.workers] == [b"host-1", b""]
            async with asyncio.timeout(PATIENCE_S):
                sent = await console.send(b"flush")
                assert sent.recipients == ("one", "two")
                assert set(await sent.acknowledged()) == {"one", "two"}
                assert await sent.results() == {
                    "one": Answer("one", AnswerState.DONE, b"one did flush"),
                    "two": Answer("two", AnswerState.DONE, b"two did flush"),
                }
                sent = await console.send(b"be silent", to=["two"])
                assert await sent.results() == {"two": Answer("two", AnswerState.DONE)}
                sent = await console.send(b"fail", to=["one"])
                assert await sent.results() == {
                    "one": Answer("one", AnswerState.FAILED, b"ArithmeticError: no more"),
                }
            assert one.bodies == [b"flush", b"fail"]
            assert two.bodies == [b"flush", b"be silent"]
            assert one.commands[0].number < one.commands[1].number
            assert one.commands[0].recipients == ("one", "two")

    asyncio.run(main())


def test_a_worker_that_was_away_gets_what_was_sent_to_it(zookeeper_shared: Address) -> None:
    async def main() -> None:
        one = Obedient("one")
        async with corral.connect(zookeeper_shared) as zk, Console(zk, PATH) as console:
            async with asyncio.timeout(PATIENCE_S):
                sent = [await console.send(b"%d" % number, to=["one"]) for number in range(4)]
                assert await sent[0].results() == {"one": Answer("one", AnswerState.ABSENT)}
                await sent[2].delete()
                await sent[2].delete()
                async with CommandReceiver(zk, PATH, "one", one):
                    await until_present(console, "one")
                    assert (await sent[3].results())["one"].state is AnswerState.DONE
                # What it has done it does not do again.
                async with CommandReceiver(zk, PATH, "one", one):
                    await until_present(console, "one")
                    assert (await (await console.send(b"4")).results())["one"].state is AnswerState.DONE
                with pytest.raises(corral.NoNodeError, match="has been deleted"):
                    await sent[2].results()
            assert one.bodies == [b"0", b"1", b"3", b"4"]

    asyncio.run(main())


def test_a_command_that_was_interrupted_is_not_tried_again(zookeeper_shared: Address) -> None:
    async def main() -> None:
        begun: asyncio.Queue[Command] = asyncio.Queue()

        async def hang(command: Command) -> None:
            begun.put_nowait(command)
            await asyncio.Event().wait()

        one = Obedient("one")
        async with corral.connect(zookeeper_shared) as zk, Console(zk, PATH) as console:
            async with asyncio.timeout(PATIENCE_S):
                async with CommandReceiver(zk, PATH, "one", hang):
                    await until_present(console, "one")
                    closed = await console.send(b"closed meanwhile")
                    await begun.get()
                    assert (await closed.acknowledged())["one"].state is AnswerState.RECEIVED
                    assert (await closed.answers())["one"].state is AnswerState.RECEIVED
                assert await closed.results() == {"one": Answer("one", AnswerState.INTERRUPTED)}

                crashing = await corral.connect(zookeeper_shared).start()
                await CommandReceiver(crashing, PATH, "one", hang).start()
                await until_present(console, "one")
                crashed = await console.send(b"crashed meanwhile")
                await begun.get()
                await crashing.close()
                assert await crashed.results() == {"one": Answer("one", AnswerState.ABSENT)}
                async with CommandReceiver(zk, PATH, "one", one):
                    await until_present(console, "one")
                    assert await crashed.results() == {"one": Answer("one", AnswerState.INTERRUPTED)}
            assert one.bodies == []

    asyncio.run(main())


def test_old_commands_are_deleted(zookeeper_shared: Address) -> None:
    async def main() -> None:
        one = Obedient("one")
        async with corral.connect(zookeeper_shared) as zk, Console(zk, PATH, kept=3) as console:
            async with CommandReceiver(zk, PATH, "one", one), asyncio.timeout(PATIENCE_S):
                await until_present(console, "one")
                for number in range(6):
                    await (await console.send(b"%d" % number)).results()
                names = await zk.get_children(f"{PATH}/commands")
            assert sorted(int(name[-10:]) for name in names) == [3, 4, 5]
            assert one.bodies == [b"%d" % number for number in range(6)]

    asyncio.run(main())


def test_a_lost_session_is_ridden_out(zookeeper_shared: Address) -> None:
    async def main() -> None:
        begun, may_end = asyncio.Event(), asyncio.Event()

        async def work(command: Command) -> bytes:
            begun.set()
            await may_end.wait()
            return b"done"

        async with corral.connect(zookeeper_shared) as zk, corral.connect(zookeeper_shared) as other:
            console = Console(other, PATH)
            async with (
                console,
                CommandReceiver(zk, PATH, "one", work),
                asyncio.timeout(PATIENCE_S),
            ):
                await until_present(console, "one")
                sent = await console.send(b"work")
                await begun.wait()
                assert zk.session is not None
                zookeeper_shared.server.expire_session(zk.session.id)
                may_end.set()
                answers = await sent.results()
                while answers["one"].state is AnswerState.ABSENT:
                    await until_present(console, "one")
                    answers = await sent.results()
                assert answers == {"one": Answer("one", AnswerState.DONE, b"done")}

    asyncio.run(main())


def test_bad_arguments_and_bad_commands(zookeeper_shared: Address) -> None:
    async def main() -> None:
        one = Obedient("one")

        async def talkative(command: Command) -> bytes:
            return bytes(2_000_000)

        async def wrong(command: Command) -> bytes:
            return "text"  # type: ignore[return-value]

        async with corral.connect(zookeeper_shared) as zk, Console(zk, PATH) as console:
            with pytest.raises(ValueError, match="no recipients"):
                await console.send(b"")
            with pytest.raises(TypeError, match="recipients are a list"):
                await console.send(b"", to="one")
            with pytest.raises(TypeError, match="a command is bytes"):
                await console.send("text", to=["one"])  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="kept=0"):
                Console(zk, PATH, kept=0)
            for data in (b"", b"{}\n", b'{"to": "one"}\nbody', b"[]\n"):
                await zk.create(f"{PATH}/commands/odd-", data, sequential=True, parents=True)
            async with (
                asyncio.timeout(PATIENCE_S),
                CommandReceiver(zk, PATH, "one", one),
                CommandReceiver(zk, PATH, "two", talkative),
                CommandReceiver(zk, PATH, "wrong", wrong),
            ):
                await until_present(console, "one", "two", "wrong")
                answers = await (await console.send(b"go")).results()
                assert answers["one"].state is AnswerState.DONE
                assert answers["two"].state is AnswerState.FAILED
                assert b"2000" in answers["two"].result
                assert answers["wrong"].result == b"TypeError: the handler returned str, not bytes"

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault)
def test_a_worker_obeys_each_command_once_under_any_fault(zookeeper_shared: Address, fault: Fault) -> None:
    worker = Obedient("one")

    async def scenario(zk: FaultyClient) -> None:
        worker.commands.clear()
        async with corral.connect(zookeeper_shared) as other, Console(other, PATH) as console:
            async with CommandReceiver(zk, PATH, "one", worker):
                sent = [await console.send(b"%d" % number, to=["one"]) for number in range(3)]
                for each in sent:
                    while (await each.results())["one"].state is AnswerState.ABSENT:
                        await until_present(console, "one")
                    assert (await each.results())["one"].state is AnswerState.DONE
            assert worker.bodies == [b"0", b"1", b"2"]

    async def check(zk: Client) -> None:
        assert len(set(worker.bodies)) == len(worker.bodies)
        with suppress(corral.NoNodeError):
            assert await zk.get_children(f"{PATH}/workers") == []

    assert asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check)) > 8


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault)
def test_a_console_sends_each_command_once_under_any_fault(zookeeper_shared: Address, fault: Fault) -> None:
    worker = Obedient("one")

    async def scenario(zk: FaultyClient) -> None:
        worker.commands.clear()
        async with corral.connect(zookeeper_shared) as other, CommandReceiver(other, PATH, "one", worker):
            console = Console(zk, PATH, kept=1)
            async with console:
                for number in range(2):
                    await until_present(console, "one")
                    sent = await console.send(b"%d" % number)
                    assert await sent.results() == {"one": Answer("one", AnswerState.DONE, b"one did %d" % number)}
        assert worker.bodies == [b"0", b"1"]

    async def check(zk: Client) -> None:
        assert len(set(worker.bodies)) == len(worker.bodies)
        if fault is not Fault.CANCELLED:
            assert len(await zk.get_children(f"{PATH}/commands")) == 1

    assert asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check)) > 8
