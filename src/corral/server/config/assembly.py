"""Put the entries of all places together into one configuration.

Everything that is not done as written is said in a notice: unknown keys, keys that Corral does not act on, values that
are replaced, and lines that another place overrules.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import Field, dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from corral.server.config.errors import ConfigError
from corral.server.config.membership import Membership, is_ensemble, read_membership
from corral.server.config.model import (
    GROUPS,
    UNSET,
    Declaration,
    ServerConfig,
    Source,
    check_number,
    declarations,
)
from corral.server.config.other_keys import JVM_KEYS, OTHER_KEYS, Standing, find_other_key
from corral.server.config.rewriting import MEMBER_KEYS, proposed_file
from corral.server.config.sources import PREFIX, Entry, Layer, entries_of_file, wrong_value
from corral.server.config.values import Switch, Whole

__all__ = ["PLACES", "Notice", "Reading", "assemble"]

logger = logging.getLogger(__package__)

PREFIXLESS_PROPERTIES: Final = frozenset({"fsync.warningthresholdms"})
"""Settings with the prefix that an option of the JVM may also give without it."""

PROVIDERS: Final = {
    "org.apache.zookeeper.server.auth.DigestAuthenticationProvider": "digest",
    "org.apache.zookeeper.server.auth.IPAuthenticationProvider": "ip",
    "org.apache.zookeeper.server.auth.EnsembleAuthenticationProvider": "ensemble",
    "org.apache.zookeeper.server.auth.X509AuthenticationProvider": "x509",
}
"""The classes that ``authProvider.*`` may name here, and their schemes."""


_PROTECTS: Final = "protects what the servers tell each other"
REFUSED: Final = {
    "sslQuorum": _PROTECTS,
    "quorum.auth.enableSasl": _PROTECTS,
    "quorum.auth.serverRequireSasl": _PROTECTS,
    "quorum.auth.learnerRequireSasl": _PROTECTS,
    "oraclePath": "lets one of two servers go on without the other",
    "observerMasterPort": "lets observers learn from followers, and none would listen there",
}
"""What a member of an ensemble does not start with, and what would be missing: it is relied on by others."""


class Place(NamedTuple):
    """Where the value of a key goes: the group of settings (None is ServerConfig itself) and the field in it."""

    group: str | None
    field: "Field[Any]"
    declaration: Declaration


def places() -> dict[str, Place]:
    found = {d.key: Place(None, each, d) for each, d in declarations(ServerConfig)}
    for name, group in GROUPS.items():
        found |= {d.key: Place(name, each, d) for each, d in declarations(group)}
    return found


PLACES: Final = places()
"""Every setting that works, by its key."""


class Notice(NamedTuple):
    """Something a user should know about a configuration that is accepted all the same."""

    level: int
    """A level of :mod:`logging`."""
    text: str


class Reading(NamedTuple):
    """A configuration, and what there is to say about it."""

    config: ServerConfig
    notices: tuple[Notice, ...]

    def log(self) -> None:
        """Write the notices to the log."""
        for notice in self.notices:
            logger.log(notice.level, "%s", notice.text)


def assemble(entries: Iterable[Entry], origin: str, file: Path | None = None, *, is_to_run: bool = True) -> Reading:
    """Put the entries together, in the order of their places. ``origin`` names the whole in messages.

    ``file`` is the one they come from, if any. Not ``is_to_run`` takes that of a server which its ensemble has left
    behind, too: such a one may still be asked and stopped.
    """
    assembly = Assembly(origin, file, is_to_run)
    for entry in entries:
        assembly.take(entry)
    return assembly.finish()


@dataclass(slots=True)
class Assembly:
    """A configuration in the making."""

    origin: str
    file: Path | None = None
    is_to_run: bool = True
    chosen: dict[str, Entry] = field(default_factory=dict)
    """The strongest entry of each key so far."""
    notices: list[Notice] = field(default_factory=list)

    def say(self, level: int, text: str) -> None:
        self.notices.append(Notice(level, text))

    def take(self, entry: Entry) -> None:
        """Look at one more entry: keep it, or say why it does not count."""
        if not is_known(entry.key):
            self.say(*unknown(entry))
            return
        if entry.layer is Layer.FLAG and not is_reachable_by_flag(entry):
            self.say(
                logging.WARNING,
                f"{entry.place}: {entry.name} has no effect; the property is called {PREFIX}{entry.name}",
            )
            return
        before = self.chosen.get(entry.key)
        if before is None:
            self.chosen[entry.key] = entry
            return
        if before.layer is entry.layer is Layer.FILE and entry.key.startswith("server.") and before.text != entry.text:
            raise ConfigError(f"{entry.place}: {entry.key} has a line already, {before.place}", entry.key)
        weaker, stronger = sorted((before, entry), key=strength)
        self.chosen[entry.key] = stronger
        if weaker.text != stronger.text and weaker.layer is not Layer.DEFAULT and stronger.layer is not Layer.ARGUMENT:
            self.say(
                logging.WARNING,
                f"{weaker.place}: {entry.key} does not count, {stronger.place} gives it another value",
            )

    def finish(self) -> Reading:
        """The configuration of all that was taken. Raises ConfigError if something is wrong with it."""
        for entry in self.chosen.values():
            self.mention_other_key(entry)
        values: dict[str | None, dict[str, Any]] = {None: {}}
        for key, entry in self.chosen.items():
            if key in PLACES:
                place = PLACES[key]
                values.setdefault(place.group, {})[place.field.name] = parse(entry, place)
        if "dataDir" not in self.chosen:
            raise ConfigError(f"{self.origin}: dataDir is missing", "dataDir")
        own = values[None]
        own["server_id"] = read_server_id(own["data_dir"])
        own["file"] = None if self.file is None else self.file.absolute()
        membership = read_membership(self.member_lines())
        standalone_enabled = self.standalone_enabled()
        switch = self.written_at("standaloneEnabled")
        if not self.is_to_run and own["server_id"] not in (None, *membership.members):
            self.say(logging.WARNING, f"{self.origin}: server {own['server_id']} is no member of its ensemble any more")
        elif is_ensemble(membership, standalone_enabled=standalone_enabled, place=switch):
            self.check_member(own, membership)
            values["quorum"] = values.get("quorum", {}) | membership._asdict()
            values["quorum"] |= {"proposed": self.proposed(), "standalone_enabled": standalone_enabled}
        else:
            self.mention_ensemble_keys()
        own |= self.client_address(own, membership)
        values.setdefault("auth", {})["extra_schemes"] = self.extra_schemes()
        try:
            config = build(values)
        except ConfigError as error:
            raise self.placed(error) from None
        for key, entry in self.chosen.items():
            self.mention_replacement(key, entry, config)
        if config.is_member:
            self.mention_ensemble(config)
        return Reading(config, tuple(self.notices))

    def placed(self, error: ConfigError) -> ConfigError:
        """The same error with the places of its keys in front."""
        where = dict.fromkeys(self.chosen[key].place for key in error.keys if key in self.chosen)
        return ConfigError(f"{'; '.join(where) or self.origin}: {error}", *error.keys)

    def mention_other_key(self, entry: Entry) -> None:
        """Say why a key that Corral does not act on does nothing."""
        other = None if entry.key in PLACES else find_other_key(entry.key)
        if other is None or other.standing is Standing.HANDLED or entry.text.lower() in other.harmless:
            return
        if entry.key == "sessionRequireClientSASLAuth":
            # To go on would let clients in that the operator wants kept out.
            raise ConfigError(
                f"{entry.place}: {entry.key}={entry.text} keeps out clients without SASL;"
                f" SASL is {Standing.NOT_SUPPORTED_YET.value}",
                entry.key,
            )
        self.say(logging.WARNING, f"{entry.place}: {entry.key} {sentence(other.standing)}")

    def mention_ensemble_keys(self) -> None:
        """Say which keys a standalone server has no use for."""
        for key, entry in self.chosen.items():
            if key in PLACES and PLACES[key].group == "quorum":
                self.say(logging.INFO, f"{entry.place}: {key} concerns ensembles only, and this is a standalone server")

    def mention_ensemble(self, config: ServerConfig) -> None:
        """Say what is odd about an ensemble that can work all the same."""
        quorum = config.quorum
        assert config.server_id is not None
        is_participant = quorum.members[config.server_id].is_participant
        if quorum.peer_type is not None and is_participant != (quorum.peer_type == "participant"):
            entry, role = self.chosen["peerType"], "a participant" if is_participant else "an observer"
            self.say(
                logging.WARNING,
                f"{entry.place}: peerType={entry.text} does not count, by its line server.{config.server_id} is {role}",
            )
        if config.read_only_mode_enabled and not quorum.local_sessions_enabled:
            self.say(
                logging.WARNING,
                f"{self.chosen['readonlymode.enabled'].place}: readonlymode.enabled=true serves nobody without"
                " localSessionsEnabled=true",
            )
        voters = sum(member.is_participant for member in quorum.members.values())
        if voters <= 2 and not quorum.groups:
            self.say(logging.WARNING, f"{self.origin}: {voters} voting servers survive no failure; three survive one")
        elif voters % 2 == 0 and not quorum.groups:
            self.say(
                logging.WARNING, f"{self.origin}: {voters} voting servers survive no more failures than {voters - 1}"
            )

    def check_member(self, own: Mapping[str, Any], membership: Membership) -> None:
        """Raise ConfigError if the server does not know its number, or should keep out what Corral would let in."""
        try:
            check_number(own["server_id"], membership.members, own["data_dir"])
        except ConfigError as error:
            raise self.placed(error) from None
        for key, why in REFUSED.items():
            entry = self.chosen.get(key)
            if entry is not None and entry.text.lower() not in OTHER_KEYS[key].harmless:
                raise ConfigError(
                    f"{entry.place}: {key}={entry.text} {why}; that is {Standing.NOT_SUPPORTED_YET.value}", key
                )

    def mention_replacement(self, key: str, entry: Entry, config: ServerConfig) -> None:
        """Say so if a number is out of its range and another one is used."""
        place = PLACES.get(key)
        if place is None or not isinstance(place.declaration.value, Whole) or entry.layer is Layer.DEFAULT:
            return
        asked = parse(entry, place)
        used = getattr(config if place.group is None else getattr(config, place.group), place.field.name)
        if used != asked and not is_unset(asked, place):
            self.say(logging.WARNING, f"{entry.place}: {key}={entry.text} is taken as {used}")

    def proposed(self) -> Membership | None:
        """The membership that a server with these files was told of before it stopped; see QuorumConfig."""
        if self.file is None or "dynamicConfigFile" not in self.chosen:
            return None
        path = proposed_file(self.file)
        return read_membership(list(member_entries(path))) if path.exists() else None

    def standalone_enabled(self) -> bool:
        switch = self.chosen.get("standaloneEnabled")
        kind = Switch()
        try:
            return switch is None or kind.parse(switch.text)
        except ValueError:
            assert switch is not None
            raise wrong_value(switch, kind.accepts) from None

    def written_at(self, key: str) -> str:
        """Where a key is written, if it is."""
        return self.chosen[key].place if key in self.chosen else self.origin

    def client_address(self, own: Mapping[str, Any], membership: Membership) -> dict[str, Any]:
        """The fields for the client port where a ``server.N`` line gives it.

        A server without a ``myid`` file takes the only line for its own.
        """
        sid = own["server_id"]
        if sid is None and len(membership.members) == 1:
            (sid,) = membership.members
        given = membership.members[sid].client if sid in membership.members else None
        port = self.chosen.get("clientPort")
        if given is None:
            if port is None:
                raise ConfigError(f"{self.origin}: clientPort is missing{self.why_port_is_missing()}", "clientPort")
            return {}
        if port is not None and port.layer is Layer.ARGUMENT:
            return {}
        host = own.get("client_port_address")
        if port is not None and (own["client_port"] != given.port or (host not in (None, given.host, "0.0.0.0", "::"))):
            raise ConfigError(
                f"{port.place}: the client port {host or '*'}:{port.text} is not that of the"
                f" server line, {given.host or '*'}:{given.port}",
                "clientPort",
            )
        address = self.chosen.get("clientPortAddress")
        if address is not None and address.layer is Layer.ARGUMENT:
            return {"client_port": given.port}
        return {"client_port": given.port, "client_port_address": given.host}

    def why_port_is_missing(self) -> str:
        if "secureClientPort" in self.chosen:
            return f": there is only secureClientPort, which is {Standing.NOT_SUPPORTED_YET.value}"
        return ""

    def member_lines(self) -> list[Entry]:
        """The lines about servers, of the file or of the one that ``dynamicConfigFile`` names."""
        lines = [entry for key, entry in self.chosen.items() if key.startswith(MEMBER_KEYS) and key not in OTHER_KEYS]
        dynamic = self.chosen.get("dynamicConfigFile")
        if dynamic is None:
            return lines
        if lines:
            raise ConfigError(
                f"{lines[0].place}: {lines[0].key} has to be in the file of dynamicConfigFile", lines[0].key
            )
        lines = list(member_entries(Path(dynamic.text)))
        # A file that a server has written after a reconfiguration has the version in its name.
        ending = Path(dynamic.text).suffix.removeprefix(".")
        if re.fullmatch("[0-9a-fA-F]{1,16}", ending):
            lines.append(Entry("version", ending, f"the name of {dynamic.text}", Layer.FILE))
        return lines

    def extra_schemes(self) -> frozenset[str]:
        """The schemes that ``authProvider.*`` lines switch on."""
        schemes = set()
        for key, entry in self.chosen.items():
            if key.startswith("authProvider."):
                scheme = PROVIDERS.get(entry.text)
                if scheme is None:
                    self.say(
                        logging.WARNING,
                        f"{entry.place}: the provider {entry.text} is {Standing.NOT_SUPPORTED_YET.value}",
                    )
                else:
                    schemes.add(scheme)
        return frozenset(schemes - {"digest", "ip"})


def member_entries(path: Path) -> Iterator[Entry]:
    """The lines of a dynamic configuration file. Raises ConfigError if there are others than about members."""
    for entry in entries_of_file(path):
        if not entry.key.startswith(MEMBER_KEYS) and entry.key != "version":
            raise ConfigError(f"{entry.place}: {entry.name} does not belong into a dynamic configuration file")
        yield entry


def is_known(key: str) -> bool:
    return key in PLACES or find_other_key(key) is not None


def is_reachable_by_flag(entry: Entry) -> bool:
    """Whether the JVM of Apache's server, too, would take the property under this name."""
    if entry.name.startswith(PREFIX) or entry.key in JVM_KEYS | PREFIXLESS_PROPERTIES:
        return True
    return entry.key in PLACES and PLACES[entry.key].declaration.source is Source.JVM


def strength(entry: Entry) -> float:
    """The order of the places, for one key; see :mod:`corral.server.config.reading`.

    Of equals the later one counts, as sorting is stable.
    """
    is_jvm_property = entry.key in PLACES and PLACES[entry.key].declaration.source is Source.JVM
    if entry.layer is Layer.FLAG and is_jvm_property:
        return (Layer.FILE + Layer.ARGUMENT) / 2
    return entry.layer


def unknown(entry: Entry) -> tuple[int, str]:
    """The level and the text to report an unknown name with."""
    if entry.layer is Layer.FLAG and not entry.name.startswith(PREFIX):
        name = f"-D{entry.name}" if not entry.name.startswith("-") else entry.name
        return logging.INFO, f"{entry.place}: {name} has no effect in Corral, which has no JVM"
    names = {name.lower(): name for name in (*PLACES, *OTHER_KEYS) if not name.endswith("*")}
    # Imported here: only a misspelt key needs it.
    import difflib

    close = difflib.get_close_matches(entry.key.lower(), names, n=1, cutoff=0.75)
    hint = f"; did you mean {names[close[0]]}?" if close else ""
    return logging.WARNING, f"{entry.place}: unknown key {entry.name} is ignored{hint}"


def sentence(standing: Standing) -> str:
    return f"is {standing.value}" if standing is Standing.NOT_SUPPORTED_YET else standing.value


def parse(entry: Entry, place: Place) -> object:
    """The value of an entry, as written. Raises ConfigError if it is refused."""
    kind = place.declaration.value
    try:
        value = kind.parse(entry.text)
        if not is_unset(value, place):
            kind.admit(value)
    except ValueError:
        raise wrong_value(entry, kind.accepts) from None
    return value


def is_unset(value: object, place: Place) -> bool:
    """Whether the value asks for one that is derived from other settings."""
    return value == UNSET == place.field.default


def build(values: Mapping[str | None, Mapping[str, Any]]) -> ServerConfig:
    """The configuration with these values of its fields and of those of its groups."""
    groups = {name: group(**values[name]) for name, group in GROUPS.items() if name in values}
    return ServerConfig(**values[None], **groups)


def read_server_id(data_dir: Path) -> int | None:
    """The number in the file ``myid``; None if there is none. Raises ConfigError if it is not a number."""
    path = data_dir / "myid"
    try:
        first_line = path.read_text("utf-8").partition("\n")[0]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    try:
        return int(first_line)
    except ValueError:
        raise ConfigError(f"{path}: {first_line!r} is refused; accepted is the number of this server") from None
