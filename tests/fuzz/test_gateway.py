# SPDX-License-Identifier: Apache-2.0
"""What whoever answers in Discord's place can do to a cluster, and to MASTER."""

import zlib
from collections.abc import Callable

import pytest
import zstandard

from discluster.errors import DiscordError, UnavailableError
from discluster.gateway.compression import MAXIMUM_PAYLOAD, MAXIMUM_WINDOW, StreamError
from discluster.gateway.frames import FrameError, FrameReader
from discluster.gateway.identity import Compression
from discluster.gateway.inbound import Inbound
from discluster.gateway.sockets import Messages
from discluster.gateway.urls import usable_resume_url
from discluster.master.discord import RetryLaterError, _judge
from tests.clock import settle
from tests.fuzz import masters
from tests.fuzz.contract import check_error, within
from tests.unit.gateway.fakes import GATEWAY, Rig, stored_session

MEBIBYTE = 1 << 20


def zlib_bomb(size: int) -> bytes:
    deflate = zlib.compressobj(9)
    made = b"".join(deflate.compress(b" " * MEBIBYTE) for _ in range(size // MEBIBYTE))
    return made + deflate.flush(zlib.Z_SYNC_FLUSH)


def zstd_bomb(size: int) -> bytes:
    compress = zstandard.ZstdCompressor().compressobj()
    made = b"".join(compress.compress(b" " * MEBIBYTE) for _ in range(size // MEBIBYTE))
    return made + compress.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)


@pytest.mark.parametrize(
    ("compression", "make"),
    [("zlib-stream", zlib_bomb), ("zstd-stream", zstd_bomb)],
    ids=["zlib", "zstd"],
)
def test_bomb_is_refused_before_it_is_inflated(
    compression: Compression, make: Callable[[int], bytes]
) -> None:
    """Half a gigabyte in as many kilobytes; what may be is 64 MiB."""
    bomb = make(512 * MEBIBYTE)
    assert len(bomb) < MEBIBYTE
    inbound = Inbound(compression, shard=0)
    limit = 3.5 * MAXIMUM_PAYLOAD / MEBIBYTE  # the text, its copies while it is put together
    with within(cpu=10, mebibytes=limit), pytest.raises(StreamError, match="larger than 64 MiB"):
        list(inbound.feed([bomb]))


def test_window_of_gigabytes_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    compress = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = compress.compress(b"x" * 100) + compress.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    assert MAXIMUM_WINDOW < 1 << 27
    with pytest.raises(StreamError, match="corrupt"):
        list(Inbound("zstd-stream", shard=0).feed([data]))


def test_many_small_bombs_in_one_read_are_inflated_one_after_the_other() -> None:
    compress = zstandard.ZstdCompressor().compressobj()
    messages: Messages = []
    for _ in range(50):
        text = b'{"op":0,"d":"' + b"x" * 4 * MEBIBYTE + b'"}'
        messages.append(compress.compress(text) + compress.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    inbound = Inbound("zstd-stream", shard=0)
    with within(cpu=10, mebibytes=40):
        assert sum(len(run) for run in inbound.feed(messages)) == 50


def test_message_of_many_empty_frames_takes_no_memory() -> None:
    """Two bytes each on the wire; a list of their payloads would take four times that."""
    reader = FrameReader(limit=MAXIMUM_PAYLOAD)
    assert reader.feed(b"\x02\x00") == []
    with within(cpu=10, mebibytes=2):
        for _ in range(40):
            assert reader.feed(b"\x00\x00" * 10_000) == []
    assert reader.feed(b"\x80\x01x") == [b"x"]


def test_message_of_frames_with_two_bytes_takes_what_was_sent() -> None:
    """An object for each would take ten times that."""
    reader = FrameReader(limit=MAXIMUM_PAYLOAD)
    reader.feed(b"\x02\x00")
    with within(cpu=10, mebibytes=2):
        for _ in range(20):
            reader.feed(b"\x00\x02xx" * 10_000)
    (whole,) = reader.feed(b"\x80\x00")
    assert len(whole) == 400_000


@pytest.mark.parametrize("length", [MAXIMUM_PAYLOAD + 1, 1 << 40, (1 << 63) - 1, (1 << 64) - 1])
def test_frame_that_says_it_is_huge_is_refused_by_its_header(length: int) -> None:
    with pytest.raises(FrameError, match="larger than 64 MiB"):
        FrameReader(limit=MAXIMUM_PAYLOAD).feed(b"\x82\x7f" + length.to_bytes(8) + b"x")


@pytest.mark.parametrize("interval", ["1e400", "1" + "0" * 400, "1" + "0" * 30, "-1", "[]"])
async def test_hello_that_counts_beyond_all_numbers_is_a_bad_hello(interval: str) -> None:
    async with Rig() as rig:
        with masters.quiet():
            rig.socket.push('{"op":10,"d":{"heartbeat_interval":' + interval + "}}")
            await settle()
            first = rig.socket
            assert first.aborted
            assert await rig.next_socket() is not first


@pytest.mark.parametrize(
    "offered",
    [
        *("file:///etc/shadow", "http://gateway.example", "https://gateway.example", "gopher://x"),
        *("ws://gateway.example", "wss://token@evil.example", "wss://a:b@evil.example"),
        *("wss://e\r\nX: y", "wss://e/\n", "wss://e/?q", "wss://e#f", "wss://", "wss://:1", "//e"),
        *("wss://[::1", "wss://e:99999", "wss://e:0", "WSS://e", " wss://e", "wss://\u0435", ""),
        *("wss://" + "a" * 300, "wss://e/" + "a" * 300, "javascript:alert(1)", "wss:\\\\e"),
    ],
)
async def test_resume_address_that_cannot_be_is_not_dialed(offered: str) -> None:
    """What can be is dialed wherever it is: it comes over TLS from Discord, which has the token."""
    assert usable_resume_url(offered, gateway_url="wss://gateway.example") is None


@pytest.mark.parametrize("handed", ["ws://edge.example", "wss://user@evil.example", "wss://e:0"])
async def test_session_that_came_with_a_plan_sends_the_token_nowhere_in_the_clear(
    handed: str,
) -> None:
    """A hostile host can give back such a session; MASTER hands it to another one."""
    async with Rig(session=stored_session(url=handed)) as rig:
        assert rig.socket.url.startswith(f"{GATEWAY}/")
        await rig.become_resumed()


@pytest.mark.parametrize("name", ["a\r\nb", "x" * 65, "", "a b", "\u202e", "a\x00", 5, None, ["a"]])
async def test_session_id_that_cannot_be_is_none(name: object) -> None:
    async with Rig() as rig:
        rig.socket.hello()
        await settle()
        rig.socket.ready(name)
        await settle()
        assert rig.sessions.saved == []


ANSWER = '{"url":"wss://g","shards":1,"session_start_limit":{"total":%s,"remaining":%s,%s}}'


@pytest.mark.parametrize(
    "body",
    [
        "[" * 500_000,
        '{"url":"wss://g","shards":' + "[" * 500_000,
        ANSWER % ("1" + "0" * 30, 1, '"max_concurrency":1'),
        ANSWER % (1000, "1" + "0" * 25, '"max_concurrency":1'),
        ANSWER % (1000, 1000, '"max_concurrency":100000000000000000000000'),
        ANSWER % (1000, 1000, '"max_concurrency":1000000'),
        '{"url":"wss://' + "g" * 900_000 + ' ","shards":1}',
        '{"url":"\x1b[2J","shards":1}',
        '{"url":"wss://g","shards":65537}',
        "\xff",
    ],
)
def test_answer_that_no_plan_could_hold_is_refused_in_words(body: str) -> None:
    """MASTER's loop ends with an error that nobody expects, and its file is read at its start."""
    with within(cpu=2), pytest.raises(UnavailableError) as refused:
        _judge("https://d.example/gateway/bot", 200, None, body.encode("latin-1"))
    check_error(refused.value, names="https://d.example")
    assert len(refused.value.message) < 600


@pytest.mark.parametrize("zeros", [14, 310])
def test_reset_that_is_no_days_away_is_planned_with_as_a_month(zeros: int) -> None:
    body = ANSWER % (1000, 1000, '"reset_after":1' + "0" * zeros)
    answer = _judge("https://d.example/gateway/bot", 200, None, body.encode())
    assert answer.session_start_limit.reset_after == 30 * 86_400_000


@pytest.mark.parametrize(
    "body", [b"", b"[" * 500_000, b'{"retry_after":"nan"}', b'{"retry_after":[]}']
)
@pytest.mark.parametrize("header", [None, "", "nan", "inf", "-inf", "-1", "1e999", "0", "9" * 9999])
def test_pause_after_429_is_never_absurd(header: str | None, body: bytes) -> None:
    with pytest.raises(RetryLaterError) as asked:
        _judge("https://d.example", 429, header, body)
    assert 1 <= asked.value.after <= 3600


def test_status_that_means_no_is_told_as_such_whatever_the_body_holds() -> None:
    with pytest.raises(DiscordError):
        _judge("https://d.example", 401, "nan", b"[" * 500_000)
