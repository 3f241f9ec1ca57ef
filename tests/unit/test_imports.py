"""The rooms of the package import one way only, as pyproject.toml says."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_contract_holds() -> None:
    # In a process of its own: the linter reconfigures logging for everybody.
    command = "from importlinter.cli import lint_imports_command as main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_room_is_in_the_contract() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = config["tool"]["importlinter"]["contracts"]
    named = {
        layer.removeprefix("corral.")
        for contract in contracts
        for layers in contract.get("layers", ())
        for layer in layers.split(" : ")
    }
    rooms = {path.parent.name for path in (ROOT / "src" / "corral").glob("*/__init__.py")}
    assert named == rooms


def test_the_core_computes_and_touches_nothing() -> None:
    """The language and the tree know no clock, no chance, no loop, no thread, no socket and no file."""
    forbidden = {"asyncio", "socket", "threading", "time", "random", "os", "io", "selectors", "subprocess"}
    found = {
        (str(path.relative_to(ROOT)), name)
        for room in ("jute", "tree")
        for path in sorted((ROOT / "src" / "corral" / room).rglob("*.py"))
        for name in _imported(ast.parse(path.read_text(encoding="utf-8")))
        if name.split(".")[0] in forbidden
    }
    assert found == set()


def _imported(module: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            names.add(node.module)
    return names


def test_a_member_does_without_what_it_has_no_use_for() -> None:
    """Each of them would cost every server a megabyte, and a good part of its time to start."""
    modules = "corral.cli.main, corral.cli.server, corral.quorum.daemon"
    heavy = ("http", "xml", "email", "rich", "prompt_toolkit", "multiprocessing", "corral.client", "corral.recipes")
    command = f"import sys, {modules}; print(*(name for name in {heavy} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
