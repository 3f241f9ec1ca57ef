"""Progress is shown on a terminal only, and never among the results."""

from __future__ import annotations

import asyncio
import io
import sys
from typing import TYPE_CHECKING

import pytest
from tests.e2e.test_shell_subtree_commands import plant

from corral.cli.shell.output import Output
from corral.cli.shell.progress import progress
from corral.cli.shell.shell import Connecting, Shell
from corral.cli.shell.subtree.places import counted
from corral.client import connect

if TYPE_CHECKING:
    from corral.testing import Address


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def replace_streams(monkeypatch: pytest.MonkeyPatch) -> tuple[io.StringIO, Terminal]:
    """Standard output in a file, standard error at a terminal; by the test itself, for pytest replaces them before."""
    out, err = io.StringIO(), Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.setenv("TERM", "xterm")
    return out, err


def test_results_that_come_meanwhile_go_where_results_go(monkeypatch: pytest.MonkeyPatch) -> None:
    out, err = replace_streams(monkeypatch)
    with progress(Output(), "counting", 2) as advance:
        sys.stdout.write("a result\n")
        advance(2)
    assert out.getvalue() == "a result\n"
    assert "counting" in err.getvalue()
    assert "2/2" in err.getvalue()
    assert "a result" not in err.getvalue()


def shown(address: str, *, as_json: bool = False, prints: bool = False) -> None:
    async def run() -> None:
        async with connect(address) as zk:
            await plant(zk)
            shell = Shell(Output(as_json=as_json), Connecting(5.0, 5.0))
            async with counted(shell, "walking", zk, "/a", prints=prints) as advance:
                for _ in range(5):
                    advance(1)

    asyncio.run(run())


def test_the_bar_knows_how_many_znodes_there_are(zookeeper_shared: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    _, err = replace_streams(monkeypatch)
    shown(zookeeper_shared)
    assert "5/5" in err.getvalue()


@pytest.mark.parametrize("why", ["json", "results on the same terminal", "no terminal"])
def test_no_bar(zookeeper_shared: Address, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    streams = replace_streams(monkeypatch)
    if why == "results on the same terminal":
        monkeypatch.setattr(sys, "stdout", streams[1])
    if why == "no terminal":
        monkeypatch.setattr(streams[1], "isatty", lambda: False)
    shown(zookeeper_shared, as_json=why == "json", prints=True)
    assert [stream.getvalue() for stream in streams] == ["", ""]
