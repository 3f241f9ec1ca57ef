"""Real Corral servers for tests: :class:`Server`, :class:`Ensemble`, and the fixtures of :mod:`corral.testing.plugin`.

Everything is loaded when it is first used: pytest imports this package in every run, wanted or not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from corral.testing.control import ConnectionInfo as ConnectionInfo
    from corral.testing.control import SessionInfo as SessionInfo
    from corral.testing.ensemble import Ensemble as Ensemble
    from corral.testing.ensemble_control import Standing as Standing
    from corral.testing.errors import ServerError as ServerError
    from corral.testing.errors import SessionNotFoundError as SessionNotFoundError
    from corral.testing.errors import StartError as StartError
    from corral.testing.server import Address as Address
    from corral.testing.server import Server as Server
    from corral.testing.server import State as State

__all__ = [
    "Address",
    "ConnectionInfo",
    "Ensemble",
    "Server",
    "ServerError",
    "SessionInfo",
    "SessionNotFoundError",
    "Standing",
    "StartError",
    "State",
]

_HOMES: Final = {
    "Address": "server",
    "ConnectionInfo": "control",
    "Ensemble": "ensemble",
    "Server": "server",
    "ServerError": "errors",
    "SessionInfo": "control",
    "SessionNotFoundError": "errors",
    "Standing": "ensemble_control",
    "StartError": "errors",
    "State": "server",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    return value
