"""Where settings are written: properties files and options of the JVM."""

from pathlib import Path

import pytest

from corral.server.config import ConfigError, Layer
from corral.server.config.sources import Entry, entries_of_file, entries_of_flags


def entries(directory: Path, content: bytes) -> list[tuple[str, str, str]]:
    path = directory / "zoo.cfg"
    path.write_bytes(content)
    return [(entry.name, entry.text, entry.place.removeprefix(f"{path}, ")) for entry in entries_of_file(path)]


def test_file_has_the_syntax_of_java_properties(tmp_path: Path) -> None:
    content = (
        b"# comment \\\n! another\n\n"
        b"tickTime = 2000\n"
        b"dataDir : /var/lib/zoo\\\n    keeper\r\n"
        b"  snapCount 7  \r"
        b"name=\\u0041\\ttab\n"
        b"empty\n"
        b"path=C:\\\\x\n"
        b"caf\xe9=\xe9"
    )
    assert entries(tmp_path, content) == [
        ("tickTime", "2000", "line 4"),
        ("dataDir", "/var/lib/zookeeper", "line 5"),
        ("snapCount", "7", "line 7"),
        ("name", "A\ttab", "line 8"),
        ("empty", "", "line 9"),
        ("path", "C:\\x", "line 10"),
        ("café", "é", "line 11"),
    ]


def test_malformed_escape_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"zoo\.cfg, line 2: \\u12 is not an escape of a character"):
        entries(tmp_path, b"a=1\nb=\\u12\n")


def test_flags_are_words_of_the_variables() -> None:
    environment = {
        "JVMFLAGS": "-Xmx1g  -Djute.maxbuffer=0x100 -Dempty",
        "SERVER_JVMFLAGS": "-Dzookeeper.superDigest=a=b",
        "CLIENT_JVMFLAGS": "-Dzookeeper.snapCount=7",
    }
    assert list(entries_of_flags(environment)) == [
        Entry("zookeeper.superDigest", "a=b", "SERVER_JVMFLAGS", Layer.FLAG),
        Entry("-Xmx1g", "", "JVMFLAGS", Layer.FLAG),
        Entry("jute.maxbuffer", "0x100", "JVMFLAGS", Layer.FLAG),
        Entry("empty", "", "JVMFLAGS", Layer.FLAG),
    ]


def test_key_is_the_name_without_prefix() -> None:
    assert Entry("zookeeper.snapCount", "7", "here", Layer.FILE).key == "snapCount"
    assert Entry("tickTime", "7", "here", Layer.FILE).key == "tickTime"
