"""The four-letter words that tell what a server is: `srvr`, `mntr`."""

import socket
from contextlib import closing

_LIMIT_S = 5.0


def ask(port: int, word: str) -> str:
    """The whole answer of the server on the loopback port; OSError when nobody answers."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=_LIMIT_S)) as connection:
        connection.sendall(word.encode("ascii"))
        answer = bytearray()
        while piece := connection.recv(65536):
            answer += piece
    return answer.decode("utf-8", "replace")


def mode_in(answer: str) -> str | None:
    """`leader`, `follower` and the like from an answer to `srvr`; None from a server that serves nobody."""
    found = [line.removeprefix("Mode: ").strip() for line in answer.splitlines() if line.startswith("Mode: ")]
    return found[0] if found else None


def values_in(answer: str) -> dict[str, str]:
    """The keys, without their `zk_`, and values of an answer to `mntr`."""
    pairs = (line.partition("\t") for line in answer.splitlines())
    return {key.removeprefix("zk_"): value for key, tab, value in pairs if tab}
