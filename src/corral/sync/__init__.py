"""The blocking twin of the client: :func:`connect`; that of the recipes is :mod:`corral.sync.recipes`.

All that :mod:`corral.client` exports is here too, under the same names.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from corral.sync.client import *  # noqa: F403
from corral.sync.client import __all__ as _client_names
from corral.sync.threads import CancelScope

if TYPE_CHECKING:
    from corral.sync import recipes as recipes

__all__ = [*_client_names, "CancelScope", "recipes"]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    # Loaded when they are first used: most programs need a few of them or none.
    if name == "recipes":
        return importlib.import_module("corral.sync.recipes")
    raise AttributeError(f"module 'corral.sync' has no attribute {name!r}")
