"""The configuration of one server: Apache's ``zoo.cfg`` and system properties, read into one validated value."""

from corral.server.config.assembly import Notice, Reading
from corral.server.config.errors import ConfigError
from corral.server.config.model import (
    AuthConfig,
    ConnectionThrottle,
    Limits,
    QuorumConfig,
    RequestThrottle,
    ServerConfig,
    StorageConfig,
    TreeConfig,
)
from corral.server.config.reading import from_properties, load, read
from corral.server.config.sources import Entry, Layer

__all__ = [
    "AuthConfig",
    "ConfigError",
    "ConnectionThrottle",
    "Entry",
    "Layer",
    "Limits",
    "Notice",
    "QuorumConfig",
    "Reading",
    "RequestThrottle",
    "ServerConfig",
    "StorageConfig",
    "TreeConfig",
    "from_properties",
    "load",
    "read",
]
