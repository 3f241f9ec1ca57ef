"""Options of the JVM as settings: which names Apache's server would take, and what is said about others."""

import logging

import pytest

from corral.server.config import Notice, Reading, read


def with_flags(flags: str) -> Reading:
    return read(None, arguments=(), environment={"JVMFLAGS": flags})


def test_names_with_and_without_prefix() -> None:
    reading = with_flags(
        "-Dzookeeper.forceSync=no -Dreadonlymode.enabled=true -Dznode.container.checkIntervalMs=5"
        " -Dfsync.warningthresholdms=20"
    )
    assert not reading.config.storage.force_sync
    assert reading.config.storage.fsync_warning_threshold_ms == 20
    assert reading.config.tree.container_check_interval_ms == 5
    assert reading.config.answers_word("isro")
    assert reading.notices == ()


@pytest.mark.parametrize(
    ("flag", "level", "text"),
    [
        ("-Xmx1g", logging.INFO, "-Xmx1g has no effect in Corral, which has no JVM"),
        ("-Dcom.example=1", logging.INFO, "-Dcom.example has no effect in Corral, which has no JVM"),
        ("-DsnapCount=5", logging.WARNING, "snapCount has no effect; the property is called zookeeper.snapCount"),
        (
            "-Dzookeeper.snapcount=5",
            logging.WARNING,
            "unknown key zookeeper.snapcount is ignored; did you mean snapCount?",
        ),
        (
            "-Djava.security.auth.login.config=x",
            logging.WARNING,
            "java.security.auth.login.config is not supported yet by Corral",
        ),
    ],
)
def test_others_are_mentioned(flag: str, level: int, text: str) -> None:
    reading = with_flags(flag)
    assert reading.notices == (Notice(level, f"JVMFLAGS: {text}"),)
    assert reading.config.storage.snap_count == 100_000
