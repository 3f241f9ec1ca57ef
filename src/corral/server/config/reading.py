"""Read a configuration from where it is written.

Which of several places counts, the strongest first:

1. what the command was given (``--port``),
2. the file,
3. ``JVMFLAGS``, then ``SERVER_JVMFLAGS``, from the environment.

The file is stronger than the environment because that is so in Apache's server, which turns the lines of ``zoo.cfg``
into system properties after the JVM has its options. The properties without the prefix ``zookeeper.``
(``jute.maxbuffer``, ``readonlymode.enabled``, ``znode.container.*``) are the exception, for the same reason: there
the file cannot set them, so that an option of the JVM wins over a line that had no effect so far. Within one file
the last line of a key counts. Whenever one place overrules another with a different value, a warning says so.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from corral.server.config.assembly import Reading, assemble
from corral.server.config.model import ServerConfig
from corral.server.config.sources import Entry, Layer, entries_of_file, entries_of_flags

__all__ = ["STANDALONE_DEFAULTS", "from_properties", "load", "read"]

STANDALONE_DEFAULTS: Final = tuple(
    Entry(key, text, "the default without a file", Layer.DEFAULT)
    for key, text in (("dataDir", "corral-data"), ("clientPort", "2181"), ("clientPortAddress", "127.0.0.1"))
)
"""What holds when there is no file: a server for this machine only, with its data in the working directory."""


def load(
    path: Path | None, *, arguments: Iterable[Entry] = (), environment: Mapping[str, str] = os.environ
) -> ServerConfig:
    """The configuration in the file ``path`` (None: :data:`STANDALONE_DEFAULTS`); see the module for the order.

    What there is to say about it goes to the log.

    Raises:
        ConfigError: naming the file, the line, the key, the value and what is accepted.
    """
    reading = read(path, arguments=arguments, environment=environment)
    reading.log()
    return reading.config


def from_properties(properties: Mapping[str, str], origin: str = "properties") -> ServerConfig:
    """The configuration that ``properties`` (as in ``zoo.cfg``) describe; messages call their place ``origin``.

    Raises:
        ConfigError: as :func:`load`.
    """
    entries = [Entry(name.strip(), text.strip(), origin, Layer.FILE) for name, text in properties.items()]
    reading = assemble(entries, origin)
    reading.log()
    return reading.config


def read(
    path: Path | None, *, arguments: Iterable[Entry], environment: Mapping[str, str], is_to_run: bool = True
) -> Reading:
    """As :func:`load`, but nothing is logged.

    Not ``is_to_run`` takes the configuration of a server that is no member of its ensemble any more, too.
    """
    written = STANDALONE_DEFAULTS if path is None else entries_of_file(path)
    origin = "the configuration" if path is None else str(path)
    return assemble([*entries_of_flags(environment), *written, *arguments], origin, path, is_to_run=is_to_run)
