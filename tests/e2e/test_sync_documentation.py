"""The examples of docs/blocking.md run, in their order, as one program."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "blocking.md"


def test_the_examples_run(zookeeper_shared: str) -> None:
    first, *others = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    # What follows goes on inside the block of the first one.
    program = first + "".join(textwrap.indent(each, "    ") for each in others)
    variables: dict[str, object] = {}
    exec(compile(program.replace("127.0.0.1:2181", zookeeper_shared), PAGE.name, "exec"), variables)
    assert variables["data"] == [b"", b""]
    assert variables["stat"] is None
