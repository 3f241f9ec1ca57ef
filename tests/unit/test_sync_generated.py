"""The blocking twins are what the tool writes, and lack nothing."""

from __future__ import annotations

import importlib
import inspect

import pytest
from tools import blocking


@pytest.fixture(scope="module")
def written() -> tuple[dict[str, str], list[str]]:
    files, problems = blocking.generate()
    return {path.name: text for path, text in files.items()}, problems


@pytest.mark.parametrize("name", ["client.py", "recipes.py"])
def test_the_modules_are_what_the_tool_writes(written: tuple[dict[str, str], list[str]], name: str) -> None:
    committed = (blocking.ROOT / "src/corral/sync" / name).read_text(encoding="utf-8")
    assert committed == written[0][name], "run tools/blocking.py"


def test_everything_can_be_translated(written: tuple[dict[str, str], list[str]]) -> None:
    assert written[1] == []


@pytest.mark.parametrize("package", ["client", "recipes"])
def test_every_name_has_its_like(package: str) -> None:
    originals = importlib.import_module(f"corral.{package}")
    twins = importlib.import_module(f"corral.sync.{package}")
    assert set(originals.__all__) <= set(twins.__all__)
    for name in originals.__all__:
        original, twin = getattr(originals, name), getattr(twins, name)
        if original is twin:
            continue
        for member, value in vars(twin).items():
            assert not inspect.iscoroutinefunction(value), f"{name}.{member}"
