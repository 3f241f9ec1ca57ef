"""What a change of the members does to the files that a configuration is written in.

Source of names and contents: QuorumPeerConfig (writeDynamicConfig, editStaticConfig), so that either kind of server
starts from what the other has written. Unlike Apache's, the static file keeps its comments and the order of its lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from corral.properties import parse
from corral.server.config.sources import PREFIX

if TYPE_CHECKING:
    from pathlib import Path

    from corral.server.config.membership import ClientAddress

__all__ = ["MEMBER_KEYS", "backup_file", "dynamic_file", "escaped", "has_member_lines", "pointed_at", "proposed_file"]

MEMBER_KEYS: Final = ("server.", "group.", "weight.")
"""What the keys about members of the ensemble begin with."""

_POINTER: Final = "dynamicConfigFile"
_CLIENT_KEYS: Final = frozenset({"clientPort", "clientPortAddress"})


def dynamic_file(static: Path, version: int) -> Path:
    """Where the members of that version are written."""
    return static.with_name(f"{static.name}.dynamic.{version:x}")


def proposed_file(static: Path) -> Path:
    """Where members are written that a quorum has not agreed to yet."""
    return static.with_name(f"{static.name}.dynamic.next")


def backup_file(static: Path) -> Path:
    """Where the file is kept as it was before its server lines went elsewhere."""
    return static.with_name(f"{static.name}.bak")


def has_member_lines(content: bytes) -> bool:
    """Whether a static file says by itself who the members are."""
    return any(key is not None and key.startswith(MEMBER_KEYS) for key, _ in _pieces(content))


def pointed_at(content: bytes, dynamic: Path, *, drop_client_port: bool, client: ClientAddress | None = None) -> bytes:
    """The static file with its lines about members replaced by one that names the file where they are now.

    ``client`` is where clients are taken if that is not written anywhere else any more.
    """
    kept = [source for key, source in _pieces(content) if key is None or not _goes(key, drop_client_port)]
    text = "".join(kept)
    if text and not text.endswith(("\n", "\r")):
        text += "\n"
    if text.rstrip("\r\n").endswith("\\"):
        # The last line would go on with ours.
        text += "\n"
    if client is not None:
        text += f"clientPort={client.port}\n"
        text += f"clientPortAddress={client.host}\n" if client.host is not None else ""
    return f"{text}{_POINTER}={escaped(str(dynamic))}\n".encode("latin-1")


def escaped(value: str) -> str:
    """As the value of a properties file."""
    return "".join("\\\\" if each == "\\" else each if " " <= each <= "~" else _unicode_escapes(each) for each in value)


def _goes(key: str, drop_client_port: bool) -> bool:
    return key.startswith(MEMBER_KEYS) or key in (_POINTER, "peerType") or (drop_client_port and key in _CLIENT_KEYS)


def _pieces(content: bytes) -> list[tuple[str | None, str]]:
    """The logical lines of a properties file, and of each that is a setting the key."""
    pieces: list[tuple[str | None, str]] = []
    for line in parse(content.decode("latin-1")):
        setting = line.setting()
        pieces.append((setting and setting[0].strip().removeprefix(PREFIX), line.source))
    return pieces


def _unicode_escapes(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[n]:02x}{units[n + 1]:02x}" for n in range(0, len(units), 2))
