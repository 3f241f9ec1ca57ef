"""What the shell offers to complete, and what an interactive one keeps of its lines."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

import corral
from corral.cli.shell.completion import ShellCompleter
from corral.cli.shell.interactive import history_file
from corral.cli.shell.output import Output
from corral.cli.shell.shell import Connecting, Shell

if TYPE_CHECKING:
    from pathlib import Path

    from corral.testing import Address

PATHS = ("/app", "/app/a", "/app/ab", "/app/with space", "/app/it's", "/other")


async def complete(shell: Shell, text: str) -> list[str]:
    """The line after each of the completions."""
    document = Document(text)
    found = ShellCompleter(shell).get_completions_async(document, CompleteEvent(completion_requested=True))
    return [text[: len(text) + each.start_position] + each.text async for each in found]


@pytest.fixture
def offered(zookeeper_shared: Address) -> dict[str, list[str]]:
    """The completions of many beginnings."""
    beginnings = (
        *("", "getA", " st", "nonsense", "get /", "get /app/", "ls -s /app/a", 'get "/app/w', 'get "/app/with s'),
        *("get -", "reconfig -", "deleteall --", "printwatches o", "help getAl", "ls /none/", "ls //", "get relative"),
        *("nonsense -", "set /app 'x y' /app/a", "getEphemerals\t/o"),
    )

    async def scenario() -> dict[str, list[str]]:
        async with corral.connect(str(zookeeper_shared)) as zk:
            for path in PATHS:
                await zk.create(path)
        shell = Shell(Output(out=io.StringIO()), Connecting(10.0, 10.0))
        await shell.connect(str(zookeeper_shared))
        try:
            found = {text: await complete(shell, text) for text in beginnings}
            await shell.close()
            return {**found, "closed /": await complete(shell, "closed /")}
        finally:
            await shell.leave()

    return asyncio.run(scenario())


def test_completes_commands_options_and_paths(offered: dict[str, list[str]]) -> None:
    everything = offered.pop("")
    assert {"ls", "getAllChildrenNumber", "quit"} <= set(everything)
    assert offered == {
        "getA": ["getAcl", "getAllChildrenNumber"],
        " st": [" stat"],
        "nonsense": [],
        "get /": ["get /app", "get /other", "get /zookeeper"],
        "get /app/": ["get /app/a", "get /app/ab", "get \"/app/it's", 'get "/app/with space'],
        "ls -s /app/a": ["ls -s /app/a", "ls -s /app/ab"],
        'get "/app/w': ['get "/app/with space'],
        'get "/app/with s': ['get "/app/with space'],
        "get -": ["get -b", "get -l", "get -s", "get -w", "get -x"],
        "reconfig -": [f"reconfig -{name}" for name in ("add", "file", "members", "remove", "s", "v")],
        "deleteall --": ["deleteall --dry-run"],
        "printwatches o": ["printwatches on", "printwatches off"],
        "help getAl": ["help getAllChildrenNumber"],
        "ls /none/": [],
        "ls //": [],
        "get relative": [],
        "nonsense -": [],
        "set /app 'x y' /app/a": ["set /app 'x y' /app/a", "set /app 'x y' /app/ab"],
        "getEphemerals\t/o": ["getEphemerals\t/other"],
        "closed /": [],
    }


def test_the_history_is_its_owners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = history_file()
    assert path == tmp_path / "state" / "corral" / "shell_history"
    assert path.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert history_file() == tmp_path / "home" / ".local" / "state" / "corral" / "shell_history"
