"""The Python examples of the pages on queues, barriers, counters and names run, and print what they should."""

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
PRINTED = {
    "queues.md": ["b'to anna' [b'to bert', b'to cleo'] None", "processing b'resize 17.png'"],
    "barriers.md": ["removed: True", "1 computes, and so do the others", "3 knows that all have done their part"],
    "counters.md": ["0 1 1", "0", "True"],
    "naming.md": [
        "b'db7.example:5432'",
        "['billing'] ['billing/db', 'billing/web'] ['billing/db', 'billing/web/1']",
        "type2-job-0000000000",
    ],
}


@pytest.mark.parametrize("page", PRINTED)
def test_examples_of(page: str, zookeeper_shared: Address, capsys: pytest.CaptureFixture[str]) -> None:
    text = (PAGES / page).read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    source = "async def main(zk):\n" + indent("\n".join(examples), "    ")
    names: dict[str, Any] = {}
    exec(compile(ast.parse(source), page, "exec"), names)

    async def run() -> None:
        async with asyncio.timeout(20), corral.connect(str(zookeeper_shared)) as zk:
            await names["main"](zk)

    asyncio.run(run())
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in PRINTED[page] if line not in printed] == []
