"""From keywords and ``zoo.cfg`` properties to the configuration of a server for tests."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from corral.server.config import ConfigError, Entry, Layer
from corral.server.config.assembly import PLACES, assemble, is_known
from corral.server.config.values import Interval, Switch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from corral.server.config import ServerConfig
    from corral.server.config.assembly import Place

__all__ = ["TEST_DEFAULTS", "Setting", "build_config"]

Setting = str | int | float | bool | Path | list[str] | tuple[str, ...] | set[str] | frozenset[str] | None
"""What a setting's keyword may be given; None leaves the default."""

TEST_DEFAULTS: Final[Mapping[str, str]] = {
    # A client of a test asks for anything, from one address, in bursts.
    "4lw.commands.whitelist": "*",
    "maxClientCnxns": "0",
    "clientPortListenBacklog": "1024",
    "extendedTypesEnabled": "true",
    # Sessions end on the first multiple of tickTime after their time: within 100 ms rather than seconds.
    "tickTime": "100",
    "minSessionTimeout": "100",
    "maxSessionTimeout": "60000",
    "znode.container.checkIntervalMs": "1000",
    "preAllocSize": "64",
    # What the system has been given survives any crash of the server; only a power cut would need more.
    "forceSync": "no",
}
"""Where a server for tests differs from Apache's defaults."""

ARGUMENTS: Final = {"clientPort": "port", "clientPortAddress": "host", "dataDir": "data_dir"}
"""Keys for which :class:`~corral.testing.Server` has arguments of its own."""

_KEYS_BY_FIELD: Final = {place.field.name: key for key, place in PLACES.items()}


def build_config(
    data_dir: Path, host: str, port: int, properties: Mapping[str, str], settings: Mapping[str, Setting]
) -> ServerConfig:
    """The configuration: ``settings`` before ``properties`` before :data:`TEST_DEFAULTS`.

    ``settings`` are called as in ``zoo.cfg`` or as the fields of :class:`~corral.server.config.ServerConfig` and its
    groups. What there is to say about ``properties`` that are accepted all the same goes to the log.

    Raises:
        ConfigError: a value is refused, a keyword is unknown, or there is an argument of its own for it.
    """
    entries = [Entry(key, text, "the defaults for tests", Layer.DEFAULT) for key, text in TEST_DEFAULTS.items()]
    entries += [Entry(key.strip(), str(text).strip(), "properties", Layer.FILE) for key, text in properties.items()]
    entries += _keywords(settings)
    for entry in entries:
        if entry.key in ARGUMENTS:
            raise ConfigError(f"{entry.place}: instead of {entry.name} give {ARGUMENTS[entry.key]}", entry.key)
    own = {"dataDir": str(data_dir), "clientPort": str(port), "clientPortAddress": host}
    entries += [Entry(key, text, ARGUMENTS[key], Layer.ARGUMENT) for key, text in own.items()]
    reading = assemble(entries, "the settings")
    reading.log()
    return reading.config


def _keywords(settings: Mapping[str, Setting]) -> Iterator[Entry]:
    names: dict[str, str] = {}
    for name, value in settings.items():
        key = _KEYS_BY_FIELD.get(name, name)
        entry = Entry(key, "", f"keyword {name}", Layer.ARGUMENT)
        if names.setdefault(entry.key, name) != name:
            raise ConfigError(f"{names[entry.key]} and {name} are the same setting: give one", entry.key)
        if not is_known(entry.key):
            close = difflib.get_close_matches(name, [*PLACES, *_KEYS_BY_FIELD], n=1)
            raise ConfigError(f"there is no setting {name}{f'; did you mean {close[0]}?' if close else ''}", name)
        if value is not None:
            text = _as_text(value, PLACES.get(entry.key), is_field=name in _KEYS_BY_FIELD)
            yield Entry(key, text, entry.place, entry.layer)


def _as_text(value: Setting, place: Place | None, *, is_field: bool) -> str:
    """The value as ``zoo.cfg`` would have it."""
    kind = place.declaration.value if place is not None else None
    if isinstance(value, bool):
        switch = kind if isinstance(kind, Switch) else Switch()
        return switch.on if value else switch.off
    if isinstance(value, (list, tuple, set, frozenset)):
        return ",".join(sorted(value))
    if is_field and isinstance(kind, Interval):
        return f"{value}ms"
    return str(value)
