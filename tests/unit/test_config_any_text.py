"""Whatever is written: a configuration comes of it, or a ConfigError, and never another error."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from corral.server.config import ConfigError, from_properties, read
from corral.server.config.assembly import PLACES
from corral.server.config.other_keys import OTHER_KEYS
from corral.server.config.values import INT_MAX, LONG_MAX

KEYS = st.sampled_from([*PLACES, *OTHER_KEYS, "server.1", "weight.1", "superUser.x"]) | st.text(max_size=20)
NUMBERS = st.integers().map(str) | st.sampled_from([str(INT_MAX), str(LONG_MAX), "-1", "0", "0x7fffffff", "1e9", "nan"])
WORDS = st.sampled_from(["true", "FALSE", "yes", "no", "", "*", "gz", "a:1:2;3", "a:1:2:observer;[::1]:3", "SHAKE128"])
TEXTS = NUMBERS | WORDS | st.text(max_size=300)


@given(st.dictionaries(KEYS, TEXTS, max_size=4))
@settings(max_examples=250, deadline=None)
def test_properties(written: dict[str, str]) -> None:
    try:
        config = from_properties({"dataDir": "data", "clientPort": "2181", **written})
    except ConfigError:
        return
    assert 0 <= config.min_session_timeout_ms <= config.max_session_timeout_ms
    assert config.answers_word("srvr")


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_file(content: bytes) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "zoo.cfg"
        path.write_bytes(b"dataDir=data\nclientPort=2181\n" + content)
        try:
            reading = read(path, arguments=(), environment={})
        except ConfigError as error:
            messages = [str(error)]
        else:
            messages = [notice.text for notice in reading.notices]
    assert all(message.startswith(f"{path}, line ") for message in messages)
