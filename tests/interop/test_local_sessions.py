"""Local sessions at members of both kinds, under leaders of both kinds: they behave alike everywhere."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import EphemeralOnLocalSessionError
from tests.e2e import raw
from tests.interop.peers import four_letter_word
from tests.interop.test_mixed_ensembles import Mixed, mixed

import corral
from corral.client import Session

LOCAL = {"localSessionsEnabled": "true", "4lw.commands.whitelist": "*"}
UPGRADING = {**LOCAL, "localSessionsUpgradingEnabled": "true"}
OBSERVERS = {"C": "A", "A": "C"}


async def lead(them: Mixed, kind: str) -> None:
    """Start three members and an observer of the other kind, so that one of a ``kind`` leads."""
    first, second, *later = sorted(them.kinds, key=lambda sid: (them.kinds[sid] != kind, -sid))
    await them.start(first, second)
    assert them.kinds[await them.leader()] == kind
    await them.start(*later)
    while "down" in [await them.mode(sid) for sid in them.running]:
        await asyncio.sleep(0.05)


async def told(them: Mixed, sid: int, word: str) -> list[str]:
    return (await asyncio.to_thread(four_letter_word, them.ports[sid], word)).splitlines()


async def counted(them: Mixed, sid: int) -> tuple[int, int]:
    """How many local sessions a member has, and how many there are that all know."""
    found = dict(line.split("\t") for line in await told(them, sid, "mntr"))
    return int(found["zk_local_sessions"]), int(found["zk_global_sessions"])


def goes_on(port: int, session: Session) -> bool:
    """Whether a client may go on with a session at a member."""
    with raw.Client(port, renew=(session.id, session.password)) as connection:
        return connection.session.timeout_ms > 0


@pytest.mark.parametrize("kind", ["A", "C"])
def test_they_own_nothing(tmp_path: Path, kind: str) -> None:
    other = OBSERVERS[kind]

    async def main() -> None:
        async with mixed(tmp_path, kind + kind + other, other, **LOCAL) as them:
            await lead(them, kind)
            leader = await them.leader()
            for sid in them.running:
                async with corral.connect(them.hosts(sid), connect_timeout=60) as zk:
                    assert await counted(them, sid) == (1, 0)
                    assert zk.session is not None
                    dump = await told(them, sid, "dump")
                    global_ones = "Global Session Sets (0)/(0):" if sid == leader else "Global Sessions(0):"
                    if them.kinds[sid] == "C":
                        assert dump[1] == "Local Session Sets (1)/(1):"
                        assert dump[3:5] == [f"\t{zk.session}", global_ones]
                    else:
                        # Apache's lists sets that have become empty, too, until their time has come.
                        assert re.fullmatch(r"Local Session Sets \(\d+\)/\(1\):", dump[1])
                        assert dump.index(f"\t{zk.session}") < dump.index(global_ones)
                    path = f"/at-{sid}"
                    await zk.create(path)
                    await zk.set(path, b"1")
                    with pytest.raises(corral.EphemeralOnLocalSessionError):
                        await zk.create(f"{path}/mine", ephemeral=True)
                    transaction = zk.transaction()
                    transaction.check(path, version=1)
                    transaction.create(f"{path}/mine", ephemeral=True)
                    with pytest.raises(corral.TransactionError) as caught:
                        await transaction.commit()
                    assert caught.value.index == 1
                    # Apache's leader knows no reason but one when it does not know the session.
                    expected = (
                        corral.EphemeralOnLocalSessionError if sid == leader or kind == "C" else corral.SessionExpired
                    )
                    assert isinstance(caught.value.__cause__, expected)
                    assert await zk.get_children(path) == []
                    known = zk.session
                    for elsewhere in set(them.running) - {sid}:
                        assert not await asyncio.to_thread(goes_on, them.ports[elsewhere], known)
                    assert (await zk.get(path)).data == b"1"
                assert await counted(them, sid) == (0, 0)
            by_kazoo = KazooClient(them.hosts(), timeout=5)
            await asyncio.to_thread(kazoo_owns_nothing, by_kazoo)

    asyncio.run(main())


def kazoo_owns_nothing(zk: KazooClient) -> None:
    zk.start(60)
    try:
        zk.create("/by-kazoo", b"")
        with pytest.raises(EphemeralOnLocalSessionError):
            zk.create("/by-kazoo/mine", ephemeral=True)
    finally:
        zk.stop()
        zk.close()


@pytest.mark.parametrize("kind", ["A", "C"])
def test_they_become_sessions_of_the_ensemble(tmp_path: Path, kind: str) -> None:
    other = OBSERVERS[kind]

    async def main() -> None:
        async with mixed(tmp_path, kind + kind + other, other, **UPGRADING) as them:
            await lead(them, kind)
            for sid in them.running:
                async with corral.connect(them.hosts(sid), connect_timeout=60) as zk:
                    await zk.sync()
                    assert await counted(them, sid) == (1, 0)
                    assert zk.session is not None
                    path = f"/at-{sid}"
                    await zk.create(path)
                    if sid % 2:
                        await zk.create(f"{path}/mine", ephemeral=True)
                    else:
                        async with zk.transaction() as transaction:
                            transaction.set(path, b"1")
                            transaction.create(f"{path}/mine", ephemeral=True)
                    assert (await zk.get(f"{path}/mine")).stat.ephemeral_owner == zk.session.id
                    assert await counted(them, sid) == (0, 1)
                    await zk.create(f"{path}/more", ephemeral=True)
                    # It is known everywhere now. Its client has it where it was left last.
                    for elsewhere in sorted(them.running, key=lambda each: each == sid):
                        assert await asyncio.to_thread(goes_on, them.ports[elsewhere], zk.session)
                    await zk.sync()
                    assert sorted(await zk.get_children(path)) == ["mine", "more"]
                async with corral.connect(them.hosts(sid)) as zk:
                    await zk.sync()
                    assert await zk.get_children(path) == []
                    assert await counted(them, sid) == (1, 0)

    asyncio.run(main())
