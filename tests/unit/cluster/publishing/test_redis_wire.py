# SPDX-License-Identifier: Apache-2.0
"""Redis's protocol as it is read and written."""

import pytest

from discluster.cluster.handlers.publishing.naming import Naming
from discluster.cluster.handlers.redis import streams, wire
from discluster.cluster.handlers.redis.streams import StreamEncoder
from tests.unit.cluster.publishing.events import event
from tests.unit.cluster.publishing.test_naming import naming


def read(data: bytes) -> list[wire.Reply]:
    return wire.Reader().feed(data)


def test_replies_are_told_apart() -> None:
    data = b"+OK\r\n$5\r\na\r\nbc\r\n:-12\r\n$-1\r\n$0\r\n\r\n-WRONGTYPE no stream\r\n"
    assert read(data) == [
        *(b"OK", b"a\r\nbc", -12, None, b""),
        wire.Error("WRONGTYPE", "WRONGTYPE no stream"),
    ]


def test_replies_may_be_cut_anywhere() -> None:
    data = b"+OK\r\n$15\r\n1526919030474-5\r\n-ERR x\r\n$-1\r\n:7\r\n"
    for step in range(1, len(data)):
        reader, found = wire.Reader(), []
        for start in range(0, len(data), step):
            found += reader.feed(data[start : start + step])
        assert found == read(data)
        assert len(found) == 5


@pytest.mark.parametrize(
    "data",
    [
        *(b"HTTP/1.1 400 Bad Request\r\n", b"\r\n", b"*1\r\n$1\r\na\r\n", b":x\r\n", b":\r\n"),
        *(b"$x\r\n", b"$-2\r\n", b"$99999999\r\n", b"$1\r\nabc\r\n", b":" + b"9" * 30 + b"\r\n"),
        b"+" + b"x" * (wire.LONGEST_LINE + 1),
    ],
)
def test_what_is_no_reply_is_refused(data: bytes) -> None:
    with pytest.raises(wire.RedisProtocolError):
        read(data)


def words(message: bytes) -> list[bytes]:
    """Of one command, as Redis reads it."""
    count, _, rest = message.partition(b"\r\n")
    found = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size[1:])
        found.append(rest[:length])
        assert rest[length : length + 2] == b"\r\n"
        rest = rest[length + 2 :]
    assert count == b"*%d" % len(found)
    return found


def test_event_is_added_with_its_id_and_its_shard() -> None:
    encoder = StreamEncoder(stream="discord", length=100, naming=naming())
    body = '{"content":"ü\r\n"}'.encode()
    [message] = encoder.encode([event(41, shard=3, body=body)], 9)
    ident = Naming.prefix(naming(), event(41, shard=3)) + b"41"
    assert words(message) == [
        *(b"XADD", b"discord:MESSAGE_CREATE", b"MAXLEN", b"~", b"100", b"*"),
        *(b"id", ident, b"shard", b"3", b"seq", b"41", b"d", body),
    ]
    assert words(wire.command(b"AUTH", b"", b"a b")) == [b"AUTH", b"", b"a b"]


def test_stream_without_a_length_keeps_all() -> None:
    encoder = StreamEncoder(stream="discord", length=0, naming=naming())
    one, two = encoder.encode([event(1), event(2, type="A:B")], 9)
    assert words(one)[:3] == [b"XADD", b"discord:MESSAGE_CREATE", b"*"]
    assert words(two)[1] == b"discord:A_B"


def test_only_the_id_of_an_entry_acknowledges() -> None:
    assert streams.refusal(b"1526919030474-5", 7) is None
    full = streams.refusal(wire.Error("OOM", "OOM command not allowed"), 7)
    assert full is not None
    assert (full.number, full.reason) == (7, "OOM command not allowed")
    assert full.hint is not None
    assert "maxmemory" in full.hint
    for odd in (None, 7):
        assert streams.refusal(odd, 7) is not None


def test_section_of_info_is_read() -> None:
    section = b"# Persistence\r\nloading:0\r\naof_enabled:0\r\nrdb_last_bgsave_status:ok\r\n"
    assert wire.infos(section)["aof_enabled"] == "0"
