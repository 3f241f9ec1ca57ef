"""Heartbeat and progress."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from tests.forced_faults import Fault, FaultyClient, at_every_request

import corral
from corral.recipes.membership import MemberEventKind, Registration
from corral.recipes.progress import Progress, ProgressBoard, ProgressReporter

if TYPE_CHECKING:
    from corral import Client
    from corral.testing import Address

GROUP = "/workers"
PATIENCE_S = 10.0


def shown(board: ProgressBoard) -> dict[str, Progress | None]:
    return {report.worker: report.progress for report in board}


async def until(board: ProgressBoard, expected: dict[str, Progress | None]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await board.wait_for(lambda them: shown(them) == expected)


def test_who_lives_and_how_far_each_one_is(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk, corral.connect(zookeeper_shared) as console:
            board = ProgressBoard(console, GROUP)
            async with board:
                assert len(board) == 0
                changes = board.changes()
                async with ProgressReporter(zk, GROUP, "a", interval=0.001) as reporter:
                    await until(board, {"a": Progress()})
                    reporter.report(3, 4, "copying")
                    await until(board, {"a": Progress(3.0, 4.0, "copying")})
                    report = board.get("a")
                    assert report is not None
                    assert report.progress is not None
                    assert report.progress.fraction == 0.75
                    assert report.reported >= report.member.stat.created
                    async with ProgressReporter(console, GROUP, "b"):
                        await until(board, {"a": Progress(3.0, 4.0, "copying"), "b": Progress()})
                    # The last one is written, however long the interval.
                    reporter.report(4, 4, "done")
                await until(board, {})
                assert board.get("a") is None
                events: list[tuple[MemberEventKind, str]] = []
                while not events or events[-1] != (MemberEventKind.LEFT, "a"):
                    kind, report = await asyncio.wait_for(anext(changes), PATIENCE_S)
                    assert report is not None
                    events.append((kind, report.worker))
                    if report.worker == "a":
                        last = report.progress
                assert events[0] == (MemberEventKind.JOINED, "a")
                assert (MemberEventKind.LEFT, "b") in events
                assert last == Progress(4.0, 4.0, "done")

    asyncio.run(main())


def test_a_lost_session_puts_the_newest_report_back(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk, corral.connect(zookeeper_shared) as console:
            reporter = ProgressReporter(zk, GROUP, "a", interval=0.001)
            async with ProgressBoard(console, GROUP) as board, reporter:
                reporter.report(1)
                await until(board, {"a": Progress(1.0)})
                assert zk.session is not None
                zookeeper_shared.server.expire_session(zk.session.id)
                reporter.report(2)
                await until(board, {"a": Progress(2.0)})

    asyncio.run(main())


def test_what_is_no_report_and_bad_arguments(zookeeper_shared: Address) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk, ProgressBoard(zk, GROUP) as board:
            async with Registration(zk, GROUP, "odd", b"?"):
                await until(board, {"odd": None})
            with pytest.raises(ValueError, match="interval=0"):
                ProgressReporter(zk, GROUP, "a", interval=0)
            reporter = ProgressReporter(zk, GROUP, "a")
            with pytest.raises(ValueError, match="not JSON compliant"):
                reporter.report(float("nan"))
            with pytest.raises(ValueError, match="note is 5"):
                reporter.report(1, note=5)  # type: ignore[arg-type]
            assert Progress(1).fraction is None

    asyncio.run(main())


def test_a_report_that_is_refused_does_not_stop_the_worker(
    zookeeper_shared: Address, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with corral.connect(zookeeper_shared) as zk, corral.connect(zookeeper_shared) as console:
            async with ProgressReporter(zk, GROUP, "a", interval=0.001) as reporter:
                await console.set_acl(f"{GROUP}/a", corral.READ_ONLY)
                reporter.report(1)
            assert await console.get_children(GROUP) == []
        assert "progress of /workers/a cannot be written" in caplog.text

    asyncio.run(main())


@pytest.mark.slow
@pytest.mark.parametrize("fault", Fault)
def test_progress_arrives_under_any_fault(zookeeper_shared: Address, fault: Fault) -> None:
    async def scenario(zk: FaultyClient) -> None:
        async with corral.connect(zookeeper_shared) as console, ProgressBoard(console, GROUP) as board:
            async with ProgressReporter(zk, GROUP, "a", interval=0.001) as reporter:
                for number in (1, 2):
                    reporter.report(number)
                    await until(board, {"a": Progress(float(number))})
            await until(board, {})

    async def check(zk: Client) -> None:
        if await zk.exists(GROUP) is not None:
            assert await zk.get_children(GROUP) == []

    assert asyncio.run(at_every_request(zookeeper_shared.server, fault, scenario, check)) > 5
