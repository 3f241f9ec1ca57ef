"""Kafka's brokers, which share all that they know through ZooKeeper, on an ensemble of Corral servers.

Kafka 3.9 is the last whose brokers do so. What they need: sessions with ephemeral znodes for brokers and controller,
watches on all of it, sequential znodes for notifications, and multis that depend on the controller's epoch.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, Self

import pytest
from tests.interop.kazoo_clients import ClientFactory, wait_until
from tests.interop.peers import KAFKA_JARS, LOOPBACK, QUIET_JVM, class_path, free_port

from corral.testing import Ensemble

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

    from kazoo.client import KazooClient

LIMIT_S: Final = 60.0
TOPIC: Final = "orders"
MESSAGES: Final = 4000
JAVA: Final = ("java", *QUIET_JVM, "-cp", class_path(KAFKA_JARS))

pytestmark = pytest.mark.timeout(300)


class Broker:
    """One broker, a child process. Its session ends after 4 s without a word of it."""

    def __init__(self, number: int, zookeeper: str, directory: Path) -> None:
        self.number = number
        self.port = free_port()
        directory.mkdir()
        self._output = directory / "output"
        self._properties = directory / "server.properties"
        self._properties.write_text(
            f"broker.id={number}\n"
            f"listeners=PLAINTEXT://{LOOPBACK}:{self.port}\n"
            f"log.dirs={directory / 'logs'}\n"
            f"zookeeper.connect={zookeeper}/kafka\n"
            "zookeeper.session.timeout.ms=4000\n"
            "offsets.topic.replication.factor=2\n"
            "offsets.topic.num.partitions=3\n"
            "group.initial.rebalance.delay.ms=0\n"
            "log.cleaner.dedupe.buffer.size=2097152\n"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if value is not None:
            print(f"--- broker {self.number}", self._output.read_text(errors="replace")[-5000:], sep="\n")
        self.end(signal.SIGKILL)

    def start(self) -> None:
        """Return once it answers."""
        command = [*JAVA, "kafka.Kafka", str(self._properties)]
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        wait_until(self._answers, f"broker {self.number} answers", LIMIT_S)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._output.read_text(errors="replace")[-5000:]
        try:
            socket.create_connection((LOOPBACK, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(LIMIT_S)
            self._process = None


class Producer:
    """Sends numbered messages, 500 a second, each until all replicas in step have it, and have it once."""

    def __init__(self, brokers: str, properties: Path) -> None:
        properties.write_text("enable.idempotence=true\nretries=2147483647\n")
        tool = ["org.apache.kafka.tools.VerifiableProducer", "--bootstrap-server", brokers, "--topic", TOPIC]
        how = ["--acks", "-1", "--throughput", "500", "--max-messages", str(MESSAGES)]
        how += ["--producer.config", str(properties)]
        self._process = subprocess.Popen([*JAVA, *tool, *how], stdout=subprocess.PIPE, text=True)
        self.acknowledged: set[str] = set()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = _event(line)
            if told.get("name") == "producer_send_success":
                self.acknowledged.add(told["value"])

    def wait_for(self, count: int) -> None:
        wait_until(lambda: len(self.acknowledged) >= count, f"{count} messages are acknowledged", LIMIT_S)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join(LIMIT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


def _event(line: str) -> dict[str, Any]:
    """What one of Kafka's verifiable programs prints; whatever else stands there is nothing."""
    return dict(json.loads(line)) if line.startswith("{") else {}


def consumed(brokers: str, count: int) -> list[str]:
    """The values of the first ``count`` messages that a consumer group gets."""
    tool = ["org.apache.kafka.tools.VerifiableConsumer", "--bootstrap-server", brokers, "--topic", TOPIC]
    how = ["--group-id", "readers", "--reset-policy", "earliest", "--max-messages", str(count), "--verbose"]
    done = subprocess.run([*JAVA, *tool, *how], capture_output=True, text=True, timeout=LIMIT_S, check=True)
    events = map(_event, done.stdout.splitlines())
    return [event["value"] for event in events if event.get("name") == "record_data"]


@pytest.fixture
def ensemble() -> Iterator[Ensemble]:
    with Ensemble(3, in_process=False) as started:
        yield started


@pytest.fixture
def client(ensemble: Ensemble) -> Iterator[KazooClient]:
    with ClientFactory(ensemble.address) as factory:
        yield factory()


def controller(client: KazooClient) -> int:
    return int(json.loads(client.retry(client.get, "/kafka/controller")[0])["brokerid"])


def in_step(client: KazooClient) -> list[list[int]]:
    """The replicas in step of each partition, as the controller has written them."""
    root = f"/kafka/brokers/topics/{TOPIC}/partitions"
    parts = client.retry(client.get_children, root)
    states = [json.loads(client.retry(client.get, f"{root}/{part}/state")[0]) for part in parts]
    return [sorted(state["isr"]) for state in states]


def test_brokers_go_on_while_leaders_die(ensemble: Ensemble, client: KazooClient, tmp_path: Path) -> None:
    """The ensemble's leader dies, then the controller: what was acknowledged is there, and whoever left is gone."""
    with ExitStack() as until_end:
        brokers = [
            until_end.enter_context(Broker(number, ensemble.address, tmp_path / str(number))) for number in (0, 1)
        ]
        addresses = ",".join(f"{LOOPBACK}:{broker.port}" for broker in brokers)
        topic = ["--create", "--topic", TOPIC, "--partitions", "4", "--replication-factor", "2"]
        command = [*JAVA, "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", addresses, *topic]
        subprocess.run(command, check=True, capture_output=True, timeout=LIMIT_S)
        assert in_step(client) == [[0, 1]] * 4

        producer = Producer(addresses, tmp_path / "producer.properties")
        until_end.callback(producer.close)
        producer.wait_for(500)
        ensemble.kill(ensemble.leader())
        producer.wait_for(1500)

        first = controller(client)
        brokers[first].end(signal.SIGKILL)
        producer.wait_for(2500)
        assert controller(client) == 1 - first
        assert in_step(client) == [[1 - first]] * 4

        brokers[first].start()
        wait_until(lambda: in_step(client) == [[0, 1]] * 4, "all replicas are in step", LIMIT_S)
        producer.wait_for(MESSAGES)
        assert sorted(map(int, consumed(addresses, MESSAGES))) == list(range(MESSAGES))

        for broker in brokers:
            broker.end(signal.SIGTERM)
        assert client.get_children("/kafka/brokers/ids") == []
        assert client.exists("/kafka/controller") is None
