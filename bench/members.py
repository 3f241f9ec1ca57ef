"""Several servers of one side as an ensemble: all child processes, on this machine."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.errors import BenchError
from bench.server import Server, free_ports
from bench.sides import Side
from bench.words import ask, mode_in, values_in

_LIMITS = {"initLimit": "10", "syncLimit": "5", "4lw.commands.whitelist": "*"}
_STEP_LIMIT_S = 120.0
_POLL_S = 0.02


class Members:
    """An ensemble that runs from its start until the context closes. Members are numbered from 1, like their `myid`."""

    def __init__(
        self,
        side: Side,
        directory: Path,
        count: int,
        heap_mib: int,
        placed: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """`placed` opens a context in which servers that are started get their cores."""
        self._name = side.name
        self._placed = placed
        ports = free_ports(3 * count)
        lines = {
            f"server.{number}": f"127.0.0.1:{ports[3 * number - 2]}:{ports[3 * number - 1]}"
            for number in range(1, count + 1)
        }
        self.servers: dict[int, Server] = {}
        for number in range(1, count + 1):
            server = Server(side, directory / str(number), heap_mib, {**_LIMITS, **lines}, ports[3 * number - 3])
            server.data_directory.mkdir(parents=True)
            (server.data_directory / "myid").write_text(f"{number}\n")
            self.servers[number] = server

    def __enter__(self) -> Self:
        try:
            with self._placed():
                for server in self.servers.values():
                    server.begin()
                for server in self.servers.values():
                    server.wait_until_answering()
            self.leader()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None or isinstance(error, BenchError):
                for server in self._running:
                    server.check()
        finally:
            self._stop()

    @property
    def addresses(self) -> str:
        """Of all members, as a client takes them."""
        return ",".join(server.address for server in self.servers.values())

    @property
    def pids(self) -> list[int]:
        """The processes of the members that run."""
        return [server.pid for server in self._running]

    def start(self, number: int) -> Server:
        """Starts a member that was stopped or killed, and returns when it has answered a request."""
        server = self.servers[number]
        with self._placed():
            server.start()
        return server

    def begin(self, number: int) -> None:
        """Starts the process of a member that was stopped or killed, and waits for nothing."""
        with self._placed():
            self.servers[number].begin()

    def leader(self) -> int:
        """The number of the member that leads, once all others that run follow it."""
        return self._found_leader(lambda leader: self._followers_of(leader) == len(self._running) - 1)

    def leader_now(self) -> int:
        """The number of the member that leads and serves, whoever follows it."""
        return self._found_leader(lambda _leader: True)

    def _found_leader(self, is_settled: Callable[[int], bool]) -> int:
        end = time.monotonic() + _STEP_LIMIT_S
        while time.monotonic() < end:
            leaders = [number for number, server in self.servers.items() if server.is_running and _leads(server)]
            if len(leaders) == 1 and is_settled(leaders[0]):
                return leaders[0]
            for server in self._running:
                server.check()
            time.sleep(_POLL_S)
        raise BenchError(f"{self._name}'s servers are not in step within {_STEP_LIMIT_S:.0f} s")

    def followers(self) -> list[int]:
        """The numbers of the members that run and do not lead."""
        leader = self.leader()
        return [number for number, server in self.servers.items() if server.is_running and number != leader]

    @property
    def _running(self) -> list[Server]:
        return [server for server in self.servers.values() if server.is_running]

    def _followers_of(self, leader: int) -> int:
        try:
            values = values_in(ask(self.servers[leader].port, "mntr"))
        except OSError:
            return -1
        # Java prints it as a floating-point number.
        return int(float(values.get("synced_followers", "-1")))

    def _stop(self) -> None:
        for server in self.servers.values():
            server.stop()


def _leads(server: Server) -> bool:
    try:
        return mode_in(ask(server.port, "srvr")) == "leader"
    except OSError:
        return False
