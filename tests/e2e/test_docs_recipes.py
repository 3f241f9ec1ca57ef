"""The examples in the pages on the recipes of services run, and print what they say."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any

import pytest

import corral

if TYPE_CHECKING:
    from corral.testing import Address

PAGES = Path(__file__).parents[2] / "docs" / "recipes"
PATIENCE_S = 20.0

PRINTED = {
    "configuration": ["burst=1.5) 0", "PUBLISHED", "version 3 is current, not 2", "must be positive", "ada sale"],
    "membership": ["web-1 b'10.0.0.5:8080'", "MemberEventKind.UPDATED b'10.0.0.5:8081'", "web-1 2 0"],
    "standby": [],
    "dispatch": ["worker-7 Progress(", "AnswerState.DONE b'42 rows'", 'FAILED b"ValueError', "worker-8 AnswerState.AB"],
    "messages": ["0 b'4711 19.90'", "b'templates' 0"],
}


@pytest.mark.parametrize("page", PRINTED)
def test_page(zookeeper_shared: Address, capsys: pytest.CaptureFixture[str], page: str) -> None:
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(examples) >= 2
    # One function for all of them: later examples go on with what earlier ones made.
    body = "async def main(zk):\n" + indent("\n".join(examples), "    ")
    names: dict[str, Any] = {"asyncio": asyncio}
    exec(compile(ast.parse(body), f"{page}.md", "exec"), names)

    async def run() -> None:
        async with corral.connect(zookeeper_shared) as zk, asyncio.timeout(PATIENCE_S):
            await names["main"](zk)

    asyncio.run(run())
    printed = capsys.readouterr().out
    for each in PRINTED[page]:
        assert each in printed
