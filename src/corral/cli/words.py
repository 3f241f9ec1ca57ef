"""Ask a server one of the four letter words."""

import socket
from typing import Final

__all__ = ["ask"]

ANSWER_MAX: Final = 16 * 1024 * 1024
"""Stop reading there: what answers on a port need not be a ZooKeeper server."""


def ask(host: str, port: int, word: str, timeout_s: float = 5.0) -> str:
    """The whole answer to ``word``.

    Raises:
        OSError: nothing answers there, or not within ``timeout_s`` of silence.
    """
    answer = bytearray()
    with socket.create_connection((host, port), timeout_s) as connection:
        connection.sendall(word.encode("ascii"))
        while len(answer) < ANSWER_MAX and (piece := connection.recv(65536)):
            answer += piece
    return answer.decode("utf-8", "replace")
