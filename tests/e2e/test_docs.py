"""The Python examples of the documentation run."""

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

pytest_plugins = ["pytester"]

DOCS = Path(__file__).parents[2] / "docs"


def examples(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_client_page(zookeeper_shared: Address, capsys: pytest.CaptureFixture[str]) -> None:
    first, *others = examples("client.md")
    exec(first.replace("127.0.0.1:2181", str(zookeeper_shared)), {})
    assert capsys.readouterr().out == "b'hello' 0\n"
    # One function for all of them: later examples go on with what earlier ones made.
    body = "async def main(zk):\n" + indent("\n".join(others), "    ") + "\n    reporting.cancel()\n"
    names: dict[str, Any] = {"asyncio": asyncio, "corral": corral}
    exec(compile(ast.parse(body), "client.md", "exec"), names)

    async def run() -> None:
        async with corral.connect(str(zookeeper_shared)) as zk, asyncio.timeout(20):
            await names["main"](zk)

    asyncio.run(run())
    printed = capsys.readouterr().out
    assert "EventKind.DATA_CHANGED /app/greeting" in printed or "3 /app/greeting" in printed
    assert "'/app/history-" in printed


def test_ensemble_page() -> None:
    example, _ = examples("ensemble.md")
    exec(example, {})


@pytest.mark.slow
def test_fixture_of_the_ensemble_page(pytester: pytest.Pytester) -> None:
    _, example = examples("ensemble.md")
    pytester.makepyfile(example)
    pytester.runpytest("-p", "no:cacheprovider").assert_outcomes(passed=1)
