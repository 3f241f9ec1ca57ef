"""The client through TLS: a proxy in front of a real server, with a certificate made for the test."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import pytest
from tests.client_peer import PATIENCE_S

from corral.client import Client, ConnectionLoss, connect
from corral.testing import Address, Server

if TYPE_CHECKING:
    from pathlib import Path

OPENSSL: Final = shutil.which("openssl")

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="the openssl program makes the certificate")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key, and a certificate of this machine that it has signed itself."""
    assert OPENSSL is not None
    key, certificate = (tmp_path_factory.mktemp("tls") / name for name in ("key.pem", "certificate.pem"))
    command = [OPENSSL, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=corral", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return key, certificate


class Proxy:
    """Takes TLS off, and passes on what it holds."""

    def __init__(self, port: int, certificate: tuple[Path, Path]) -> None:
        self._port = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate[1], certificate[0])
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0, ssl=self._context)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        # Each of them ends now.
        await asyncio.sleep(0)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with suppress(OSError):
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)
            self._writers.append(there_writer)
            await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


@asynccontextmanager
async def client(address: str, context: ssl.SSLContext, **options: Any) -> AsyncIterator[Client]:
    async with asyncio.timeout(PATIENCE_S), connect(address, ssl=context, backoff_first=0.001, **options) as zk:
        yield zk


def test_requests_go_through_tls(zookeeper_shared: Address, certificate: tuple[Path, Path]) -> None:
    async def main() -> None:
        async with (
            Proxy(zookeeper_shared.server.port, certificate) as address,
            client(address, trusting(certificate[1])) as zk,
        ):
            data = bytes(range(256)) * 3000
            await zk.create("/a", data)
            assert (await zk.get("/a")).data == data
            await asyncio.gather(*[zk.set("/a", b"%d" % number) for number in range(1000)])
            session = zk.session
            async with zk.watch("/a") as events:
                zk.reconnect()
                assert (await anext(events)).kind.name == "MISSED"
                await zk.set("/a", b"")
                assert (await anext(events)).kind.name == "DATA_CHANGED"
            assert zk.session is session
            # The heartbeat cannot write past the loop here, and must not try.
            connection = zk._keeper.connection
            assert connection is not None
            connection.beat()
            await zk.sync()

    asyncio.run(main())


@pytest.mark.slow
def test_a_server_that_nobody_vouches_for_is_refused(zookeeper_shared: Address, certificate: tuple[Path, Path]) -> None:
    async def main() -> None:
        async with Proxy(zookeeper_shared.server.port, certificate) as address:
            for context, complaint in (
                (ssl.create_default_context(), "certificate verify failed"),
                (trusting(certificate[1]), "mismatch"),
            ):
                host = address if complaint != "mismatch" else address.replace("127.0.0.1", "localhost")
                with pytest.raises(ConnectionLoss, match=complaint):
                    await connect(host, ssl=context, connect_timeout=2).start()

    asyncio.run(main())


@pytest.mark.slow
def test_a_server_without_tls_is_given_up_in_time(zookeeper_shared: Address, certificate: tuple[Path, Path]) -> None:
    async def main() -> None:
        with pytest.raises(ConnectionLoss, match=r"within 0\.2 s"):
            await connect(zookeeper_shared, ssl=trusting(certificate[1]), connect_timeout=0.2).start()

    asyncio.run(main())


@pytest.mark.slow
def test_a_busy_program_keeps_its_session_as_long_as_it_lasts(certificate: tuple[Path, Path]) -> None:
    async def main() -> None:
        with Server(minSessionTimeout=100, tickTime=50) as server:
            async with (
                Proxy(server.port, certificate) as address,
                client(address, trusting(certificate[1]), session_timeout=1.0) as zk,
            ):
                session = zk.session
                time.sleep(0.5)
                await zk.sync()
                assert zk.session is session

    asyncio.run(main())
