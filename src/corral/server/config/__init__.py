"""The configuration of one server: Apache's ``zoo.cfg`` and system properties, read into one validated value."""

from corral.server.config.errors import ConfigError
from corral.server.config.model import (
    AuthConfig,
    ConnectionThrottle,
    Limits,
    RequestThrottle,
    ServerConfig,
    StorageConfig,
    TreeConfig,
)

__all__ = [
    "AuthConfig",
    "ConfigError",
    "ConnectionThrottle",
    "Limits",
    "RequestThrottle",
    "ServerConfig",
    "StorageConfig",
    "TreeConfig",
]
