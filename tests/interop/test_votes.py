"""Votes with what only Corral's servers say in them, to Apache's servers."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import pytest
from tests.interop.test_mixed_ensembles import mixed

from corral.quorum.election_links import ElectionLinks
from corral.quorum.vote import Notification, Role, Vote, decode_notification

EARLIER = Vote(2, 0, 0, 0)
"""Of a round that is over: it is answered, and counts for nothing."""


@pytest.mark.parametrize("layout", ["AC", "8C"])
def test_a_change_of_members_that_is_told_with_a_vote_does_not_disturb(tmp_path: Path, layout: str) -> None:
    """The server, which looks for a leader, answers as if nothing stood behind the configuration, and elects."""

    async def main() -> None:
        answers: asyncio.Queue[Notification] = asyncio.Queue()
        async with mixed(tmp_path, layout) as them:
            place = them.ensemble.members[2].addresses[0]
            links = ElectionLinks(
                2,
                [place],
                lambda to: them.ensemble.members[to].addresses,
                lambda _, message: answers.put_nowait(decode_notification(message)),
            )
            await links.listen(place.host, place.election_port)
            config = them.ensemble.to_text()
            pending = dataclasses.replace(them.ensemble, version=1 << 32).to_text()

            def say(vote: Vote, pending: str) -> None:
                while not answers.empty():
                    answers.get_nowait()
                links.send(1, Notification(Role.LOOKING, vote, config=config, pending=pending).encode())

            try:
                await them.start(1)
                await answers.get()
                for said in ("", pending):
                    say(EARLIER, said)
                    heard = await answers.get()
                    assert (heard.role, heard.vote.leader, heard.vote.round) == (Role.LOOKING, 1, 1)
                # The vote it waited for is not answered; the next one is, when it leads.
                while answers.empty() or answers.get_nowait().role is not Role.LEADING:
                    say(Vote(1, 0, 1, 0), pending)
                    await asyncio.sleep(0.5)
            finally:
                await links.close()

    asyncio.run(main())
