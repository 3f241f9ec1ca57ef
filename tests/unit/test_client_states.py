"""States: nobody misses one, and everybody sees them in the order in which they were entered."""

from __future__ import annotations

import asyncio

from corral.client.states import Session, State, StateFeed

CONNECTING, CONNECTED, SUSPENDED, LOST, CLOSED = (
    State.CONNECTING,
    State.CONNECTED,
    State.SUSPENDED,
    State.LOST,
    State.CLOSED,
)


def test_a_state_that_has_passed_by_now_was_reached() -> None:
    async def main() -> None:
        feed = StateFeed()
        waiters = {state: asyncio.create_task(feed.reached(state)) for state in (CONNECTED, SUSPENDED, LOST)}
        await asyncio.sleep(0)
        for state in (CONNECTED, SUSPENDED, LOST, CONNECTED, CLOSED):
            feed.change(state)
        assert [await waiter for waiter in waiters.values()] == [CONNECTED, SUSPENDED, LOST]

    asyncio.run(main())


def test_what_will_not_come_any_more_ends_with_closed() -> None:
    async def main() -> None:
        feed = StateFeed()
        waiter = asyncio.create_task(feed.reached(LOST, SUSPENDED))
        await asyncio.sleep(0)
        feed.change(CLOSED)
        assert await waiter is CLOSED
        assert await feed.reached(LOST) is CLOSED

    asyncio.run(main())


def test_a_waiter_that_is_cancelled_is_forgotten() -> None:
    async def main() -> None:
        feed = StateFeed()
        waiter = asyncio.create_task(feed.reached(LOST, SUSPENDED))
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.wait([waiter])
        assert not any(feed._waiting.values())

    asyncio.run(main())


def test_a_listener_that_causes_a_change_does_not_turn_the_order_round() -> None:
    async def main() -> None:
        feed = StateFeed()
        first: list[State] = []
        last: list[State] = []

        def leave(state: State) -> None:
            first.append(state)
            if state is CONNECTED:
                feed.change(SUSPENDED)
                assert feed.state is SUSPENDED

        feed.listeners += [leave, last.append]
        changes = feed.changes()
        assert await anext(changes) is CONNECTING
        feed.change(CONNECTED)
        feed.change(CLOSED)
        assert first == last == [CONNECTED, SUSPENDED, CLOSED]
        assert [state async for state in changes] == [CONNECTED, SUSPENDED, CLOSED]

    asyncio.run(main())


def test_a_listener_that_fails_is_reported_and_harms_nobody() -> None:
    async def main() -> None:
        reports: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context["message"]))
        feed = StateFeed()
        heard: list[State] = []

        def fail(state: State) -> None:
            raise LookupError

        feed.listeners += [fail, heard.append]
        feed.change(CONNECTED)
        feed.change(SUSPENDED)
        assert heard == [CONNECTED, SUSPENDED]
        assert reports == ["listener to state CONNECTED", "listener to state SUSPENDED"]

    asyncio.run(main())


def test_every_change_is_told_once_and_none_that_is_none() -> None:
    async def main() -> None:
        feed = StateFeed()
        heard: list[State] = []
        feed.listeners.append(heard.append)
        for state in (CONNECTED, CONNECTED, SUSPENDED, SUSPENDED, CONNECTED):
            feed.change(state)
        assert heard == [CONNECTED, SUSPENDED, CONNECTED]

    asyncio.run(main())


def test_a_session_ends_once_and_for_all_who_wait() -> None:
    async def main() -> None:
        session = Session(-2, b"", 10.0, read_only=False)
        assert str(session) == "0xfffffffffffffffe"
        waiting = [asyncio.create_task(session.ended()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not session.has_ended
        session.end()
        await asyncio.gather(*waiting, session.ended())
        assert session.has_ended

    asyncio.run(main())
