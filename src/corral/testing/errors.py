"""What goes wrong with a server under a test's control."""

from __future__ import annotations

__all__ = ["ServerError", "SessionNotFoundError", "StartError"]


class ServerError(RuntimeError):
    """The server is not in a state for what was asked, or ended by itself."""


class StartError(ServerError):
    """The server could not start: its port is in use, its data cannot be read, ..."""


class SessionNotFoundError(ServerError, LookupError):
    """The server has no such session."""
