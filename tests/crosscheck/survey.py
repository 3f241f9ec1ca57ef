"""A look at the whole server: its tree through the protocol, its counts and tables through the admin words."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from tests.crosscheck.plan import Bool, Bytes, Call
from tests.crosscheck.wire import ask

from corral.jute.ops import OpCode

if TYPE_CHECKING:
    from tests.crosscheck.normaliser import Normaliser

Fetch = Callable[[Sequence[Call]], list[tuple[int, dict[str, Any]]]]

CALLS_AT_ONCE: Final = 150

SETTLE_LIMIT_S: Final = 3.0
"""How long a server may take to notice that dropped connections are gone."""

MONITORED: Final = (
    "zk_server_state",
    "zk_znode_count",
    "zk_ephemerals_count",
    "zk_watch_count",
    "zk_approximate_data_size",
    "zk_num_alive_connections",
    "zk_global_sessions",
    "zk_outstanding_requests",
)
"""The keys of ``mntr`` that depend on nothing but what was asked of the server."""

CONNECTION_FIELDS: Final = ("sid", "lop", "to", "lcxid")

_SESSION_LINE: Final = re.compile(r"^\t?(0x[0-9a-f]+):?$", re.MULTILINE)


class Survey:
    """Takes stock of one server. `fetch` asks with super rights."""

    def __init__(self, address: tuple[str, int], normaliser: Normaliser, fetch: Fetch) -> None:
        self._address = address
        self._normaliser = normaliser
        self._fetch = fetch

    def take(self, connections: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Topics and what was found; `connections` is how many the server should have, besides the asking one."""
        yield "tree", self._tree()
        yield "mntr", self._monitor(connections + 1)
        yield "srvr", self._pairs("srvr", ": ", ("Mode", "Node count", "Outstanding"))
        yield "wchs", self._watch_summary()
        yield "wchp", self._groups("wchp")
        yield "wchc", self._groups("wchc")
        yield "dump", self._dump()
        yield "cons", self._connections()

    def _ask(self, word: str) -> str:
        return self._normaliser.text(ask(self._address, word.encode("ascii")))

    def _tree(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        level: list[bytes] = [b"/"]
        while level:
            below: list[bytes] = []
            for start in range(0, len(level), CALLS_AT_ONCE // 3):
                paths = level[start : start + CALLS_AT_ONCE // 3]
                calls = [call for path in paths for call in _reads(path)]
                replies = self._fetch(calls)
                for i, path in enumerate(paths):
                    node: dict[str, Any] = {}
                    for err, body in replies[3 * i : 3 * i + 3]:
                        node.update(body if err == 0 else {"err": err})
                    found[path.decode("utf-8", "backslashreplace")] = self._normaliser.value(node)
                    prefix = path if path == b"/" else path + b"/"
                    below += [prefix + child for child in node.get("children", ())]
            level = below
        return found

    def _monitor(self, connections: int) -> dict[str, Any]:
        deadline = time.monotonic() + SETTLE_LIMIT_S
        while True:
            values = self._pairs("mntr", "\t", MONITORED)
            if values.get("zk_num_alive_connections") == str(connections) or time.monotonic() > deadline:
                return values
            time.sleep(0.05)

    def _pairs(self, word: str, separator: str, keys: Sequence[str]) -> dict[str, Any]:
        pairs = (line.partition(separator) for line in self._ask(word).splitlines())
        values = {key: value for key, found, value in pairs if found}
        return {key: values.get(key) for key in keys}

    def _watch_summary(self) -> dict[str, Any]:
        """The number of connections is left out: Apache also counts those that have no watch any more."""
        text = self._ask("wchs")
        found = re.fullmatch(r"\d+ connections watching (\d+) paths\nTotal watches:(\d+)\n", text)
        return {"paths": found[1], "watches": found[2]} if found else {"unexpected": text}

    def _groups(self, word: str) -> dict[str, Any]:
        """``wchp`` and ``wchc``: lines, each followed by its indented members; neither has an order.

        Lines without members are left out: Apache's remain when the last watch is gone.
        """
        groups: dict[str, list[str]] = {}
        members: list[str] = []
        for line in self._ask(word).split("\n"):
            if line.startswith("\t"):
                members.append(line[1:])
            else:
                members = groups.setdefault(line, [])  # an empty line is the empty path, or the end
        return {group: sorted(members) for group, members in groups.items() if members}

    def _dump(self) -> dict[str, Any]:
        text = ask(self._address, b"dump")
        sessions, found, rest = text.partition("ephemeral nodes dump:")
        ephemerals, _, _ = rest.partition("Connections dump:")
        groups: dict[str, list[str]] = {}
        members: list[str] = []
        for line in self._normaliser.text(ephemerals).split("\n"):
            if line.startswith("\t"):
                members.append(line[1:])
            elif line.endswith(":"):
                members = groups.setdefault(line, [])
        return {
            "sessions": sorted(self._normaliser.text(each) for each in _SESSION_LINE.findall(sessions)),
            "ephemerals": {group: sorted(members) for group, members in groups.items() if members},
            "all parts there": bool(found),
        }

    def _connections(self) -> dict[str, Any]:
        connections: list[list[str]] = []
        for line in self._ask("cons").splitlines():
            pairs = dict(re.findall(r"(\w+)=([^,)]+)", line))
            if "sid" in pairs:
                connections.append([f"{key}={pairs.get(key)}" for key in CONNECTION_FIELDS])
        return {"connections with a session": sorted(connections)}


def _reads(path: bytes) -> list[Call]:
    quiet = (Bytes(path), Bool(False))
    return [Call(OpCode.GET_DATA, quiet), Call(OpCode.GET_CHILDREN2, quiet), Call(OpCode.GET_ACL, (Bytes(path),))]
