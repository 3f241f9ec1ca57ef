"""Workers that say how far they are and obey a console. Start workers, then tell them something:

python examples/dispatch.py 127.0.0.1:2181 work worker-1 &
python examples/dispatch.py 127.0.0.1:2181 work worker-2 &
python examples/dispatch.py 127.0.0.1:2181 send faster
python examples/dispatch.py 127.0.0.1:2181 send slower worker-1
python examples/dispatch.py 127.0.0.1:2181 board
"""

import asyncio
import sys
from contextlib import suppress

import corral
from corral.recipes import Command, CommandReceiver, Console, ProgressBoard, ProgressReporter

COMMANDS = "/examples/copying"
PROGRESS = "/examples/copying-progress"


async def work(zk: corral.Client, name: str) -> None:
    pause = 0.1

    async def obey(command: Command) -> bytes:
        nonlocal pause
        if command.body not in (b"faster", b"slower"):
            raise ValueError(f"{command.body.decode()}: no such command")
        pause = pause / 2 if command.body == b"faster" else pause * 2
        return b"a step takes %.3f s now" % pause

    async with ProgressReporter(zk, PROGRESS, name) as reporter, CommandReceiver(zk, COMMANDS, name, obey):
        print(f"{name} works", flush=True)
        step = 0
        while True:
            await asyncio.sleep(pause)
            step += 1
            reporter.report(step, note=f"{pause:.3f} s")


async def send(zk: corral.Client, body: str, *workers: str) -> None:
    async with Console(zk, COMMANDS) as console:
        sent = await console.send(body.encode(), to=workers or None)
        for answer in (await sent.results()).values():
            print(answer.worker, answer.state.value, answer.result.decode())


async def show_board(zk: corral.Client) -> None:
    async with ProgressBoard(zk, PROGRESS) as board:
        for report in board:
            if report.progress is not None:
                print(f"{report.worker} at {report.progress.done:g}, {report.reported:%H:%M:%S}")


async def main(hosts: str, command: str = "board", *arguments: str) -> None:
    async with corral.connect(hosts, session_timeout=2) as zk:
        match command:
            case "work":
                await work(zk, *arguments)
            case "send":
                await send(zk, *arguments)
            case _:
                await show_board(zk)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:] or ["127.0.0.1:2181"]))
