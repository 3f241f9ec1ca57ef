"""Corral: a coordination service that speaks Apache ZooKeeper's protocol and disk formats, and its client.

The names of :mod:`corral.client` are exported here. They are loaded when they are first used: a server needs no client.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from corral import recipes as recipes
    from corral import sync as sync
    from corral.client import *  # noqa: F403

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module 'corral' has no attribute {name!r}")
    if name in ("recipes", "sync"):
        return importlib.import_module(f"corral.{name}")
    client = importlib.import_module("corral.client")
    if name not in client.__all__:
        raise AttributeError(f"module 'corral' has no attribute {name!r}")
    return getattr(client, name)


def __dir__() -> list[str]:
    return [*importlib.import_module("corral.client").__all__, "__version__", "recipes", "sync"]
