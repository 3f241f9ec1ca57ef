"""The four letter words answer alike on both servers in the same situation, but for what depends on time and chance."""

from __future__ import annotations

import re
import socket
import struct
from typing import TYPE_CHECKING, Final

import pytest
from tests.interop.kazoo_clients import ClientFactory, Events
from tests.interop.peers import SERVERS, Server

if TYPE_CHECKING:
    from collections.abc import Callable

WORDS: Final = (
    "ruok isro gtmk conf cons crst srst dirs dump envi hash mntr srvr stat wchs wchc wchp".split()  # noqa: SIM905
)

NUMBER: Final = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?")
VARYING: Final = (
    (re.compile(r"[A-Z][a-z]{2} [A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d [A-Z]+ \d{4}"), "DATE"),
    (re.compile(r"version: 3\.\d+\.\d+[^,]*, built on \d{4}-\d\d-\d\d \d\d:\d\d UTC"), "version: VERSION"),
    (re.compile(r"/127\.0\.0\.1:\d+"), "/CLIENT"),
    (re.compile(r"0x[0-9a-f]{6,}"), "0xSESSION"),
)


def without_chance(answer: str) -> str:
    for pattern, replacement in VARYING:
        answer = pattern.sub(replacement, answer)
    return answer


def shape(answer: str) -> list[str]:
    """The lines with every number blanked out."""
    return sorted(NUMBER.sub("N", line) for line in without_chance(answer).splitlines())


def shapes(answer: str) -> set[str]:
    """`shape`, for answers in which it is chance how often a line comes."""
    return set(shape(answer))


def keys(answer: str) -> list[str]:
    """What stands before the first separator of each line."""
    return sorted(re.split(r"[=\t:]", line)[0] for line in answer.splitlines())


def monitored(answer: str) -> list[str]:
    """`keys`, without the figures for each top-level path, which only Apache keeps: see docs/divergence.md."""
    return [key for key in keys(answer) if not key.endswith(("_read_per_namespace", "_write_per_namespace"))]


def lines(answer: str) -> list[str]:
    """The lines in order: that of Apache's answers is the order of its hash tables."""
    return sorted(without_chance(answer).splitlines())


def configuration(answer: str) -> dict[str, str]:
    """The pairs of ``conf``, without those that name this server's port, directories and their sizes."""
    pairs = dict(line.split("=", 1) for line in answer.splitlines())
    return {key: "…" if ("Port" in key and "Address" not in key) or "data" in key else pairs[key] for key in pairs}


COMPARED_BY: Final[dict[str, Callable[[str], object]]] = {
    "conf": configuration,
    "cons": shape,
    "dirs": shape,
    "dump": shapes,
    "envi": keys,
    "mntr": monitored,
    "srvr": shape,
    "stat": shape,
}
"""How the answers to a word are compared; all others by `lines`."""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The answer to each word by kind of server; a client with an ephemeral and watches is connected meanwhile."""
    return {kind: ask(server(tmp_path_factory.mktemp(kind) / "data")) for kind, server in SERVERS.items()}


def ask(server: Server) -> dict[str, str]:
    with server, ClientFactory(server.address) as clients:
        client = clients()
        client.create("/ephemeral", b"", ephemeral=True)
        client.create("/node", b"")
        client.get("/node", watch=Events())
        client.get_children("/node", watch=Events())
        client.exists("/missing", watch=Events())
        return {word: server.four_letter_word(word) for word in WORDS}


@pytest.mark.parametrize("word", WORDS)
def test_answers_alike(answers: dict[str, dict[str, str]], word: str) -> None:
    compared = COMPARED_BY.get(word, lines)
    assert compared(answers["corral"][word]) == compared(answers["apache"][word])


def test_white_list(server_type: type[Server], tmp_path_factory: pytest.TempPathFactory) -> None:
    config: dict[str, str | int] = {"4lw.commands.whitelist": "isro, srvr,nonsense"}
    with server_type(tmp_path_factory.mktemp(server_type.kind) / "data", config) as server:
        assert "Mode: standalone" in server.four_letter_word("srvr")
        for word in ("ruok", "stat", "mntr", "envi"):
            answer = server.four_letter_word(word)
            assert answer == f"{word} is not executed because it is not in the whitelist.\n"


def test_trace_mask(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(b"stmk" + struct.pack("!q", 258))
        assert connection.makefile().read() == "258"
    assert server.four_letter_word("gtmk") == "258"
