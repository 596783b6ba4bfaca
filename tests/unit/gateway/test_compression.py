# SPDX-License-Identifier: Apache-2.0
"""Transport compression (traps T-60 to T-66, faults F17 and F18)."""

import json
import logging
import random
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from discluster.gateway.compression import StreamError, ZlibStream, ZstdStream, inflater
from discluster.gateway.envelope import Envelope
from discluster.gateway.identity import Compression
from discluster.gateway.inbound import Inbound
from discluster.gateway.sockets import Message

STREAMS: tuple[Compression, ...] = ("zlib-stream", "zstd-stream")


class Server:
    """Compresses as Discord does: one context, one flush per payload."""

    def __init__(self, compression: Compression, level: int = 6) -> None:
        self._zlib = zlib.compressobj(level) if compression == "zlib-stream" else None
        parameters = zstandard.ZstdCompressionParameters.from_level(6, window_log=18)
        self._zstd = zstandard.ZstdCompressor(compression_params=parameters).compressobj()

    def message(self, payload: bytes) -> bytes:
        if self._zlib is not None:
            return self._zlib.compress(payload) + self._zlib.flush(zlib.Z_SYNC_FLUSH)
        return self._zstd.compress(payload) + self._zstd.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)


def payload(s: int, body: object) -> bytes:
    return json.dumps({"t": "X", "s": s, "op": 0, "d": body}).encode()


def cut(data: bytes, rng: random.Random, pieces: int) -> list[bytes]:
    places = sorted(rng.randrange(len(data) + 1) for _ in range(pieces - 1))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def feed(inbound: Inbound, messages: Iterable[bytes]) -> list[tuple[int | None, bytes]]:
    return [(e.s, bytes(e.d)) for message in messages for e in fed(inbound, message)]


def fed(inbound: Inbound, *messages: Message) -> list[Envelope]:
    return [envelope for run in inbound.feed(messages) for envelope in run]


@pytest.mark.covers("T-62")
@given(
    bodies=st.lists(st.text(max_size=300) | st.lists(st.integers(), max_size=50), max_size=20),
    level=st.sampled_from([1, 6, 9]),
)
@pytest.mark.parametrize("compression", STREAMS)
def test_t62_stream_of_one_payload_a_message(
    compression: Compression, bodies: list[object], level: int
) -> None:
    server = Server(compression, level)
    inbound = Inbound(compression, shard=0)
    messages = [server.message(payload(s, body)) for s, body in enumerate(bodies)]
    expected = [(s, json.dumps(body).encode()) for s, body in enumerate(bodies)]
    assert feed(inbound, messages) == expected


@pytest.mark.covers("T-63", "T-64", "T-66")
@given(
    bodies=st.lists(st.text(max_size=300) | st.binary(max_size=99).map(list), min_size=1),
    pieces=st.integers(1, 50),
    seed=st.integers(),
)
@settings(max_examples=200)
def test_t63_t64_t66_zlib_payloads_cut_and_joined_anywhere(
    bodies: list[object], pieces: int, seed: int
) -> None:
    server = Server("zlib-stream")
    stream = b"".join(server.message(payload(s, body)) for s, body in enumerate(bodies))
    inbound = Inbound("zlib-stream", shard=0)
    expected = [(s, json.dumps(body).encode()) for s, body in enumerate(bodies)]
    assert feed(inbound, cut(stream, random.Random(seed), pieces)) == expected


@pytest.mark.covers("F17")
def test_f17_zlib_one_byte_a_message() -> None:
    server = Server("zlib-stream")
    stream = b"".join(server.message(payload(s, "x" * s)) for s in range(5))
    inbound = Inbound("zlib-stream", shard=0)
    assert [s for s, _ in feed(inbound, (stream[n : n + 1] for n in range(len(stream))))] == [
        0,
        1,
        2,
        3,
        4,
    ]


@pytest.mark.covers("F17")
def test_f17_false_suffix_inside_a_payload_is_waited_out() -> None:
    """A stored block carries its content as it is, so the suffix can be inside of a payload."""
    text = payload(7, "before")[:-1].ljust(60) + b"}"
    server = zlib.compressobj(0)
    half = server.compress(text[:40]) + server.flush(zlib.Z_SYNC_FLUSH)
    rest = server.compress(text[40:]) + server.flush(zlib.Z_SYNC_FLUSH)
    inbound = Inbound("zlib-stream", shard=0)
    assert fed(inbound, half) == []
    [envelope] = fed(inbound, rest)
    assert envelope.s == 7


def test_payload_that_was_cut_off_for_good_does_not_swallow_the_next() -> None:
    server = Server("zlib-stream")
    inbound = Inbound("zlib-stream", shard=0)
    assert fed(inbound, server.message(b'{"op":0,"s":1,"d":{"x')) == []
    [envelope] = fed(inbound, server.message(payload(2, None)))
    assert envelope.s == 2
    assert fed(inbound, server.message(payload(3, None)[:9])) == []
    [envelope] = fed(inbound, server.message(payload(3, None)[9:]))
    assert envelope.s == 3


@pytest.mark.covers("T-60")
@pytest.mark.parametrize("compression", STREAMS)
def test_t60_context_of_another_connection_is_an_error_not_garbage(
    compression: Compression,
) -> None:
    server = Server(compression)
    server.message(payload(1, "hello"))
    second = server.message(payload(2, "more of this"))
    with pytest.raises(StreamError):
        inflater(compression).feed(second)


@pytest.mark.covers("F18")
@pytest.mark.parametrize("compression", STREAMS)
def test_f18_thirty_megabytes_are_one_payload(compression: Compression) -> None:
    body = "".join(random.Random(1).choices("abcdefgh", k=1000)) * 30_000
    [envelope] = fed(Inbound(compression, shard=0), Server(compression).message(payload(1, body)))
    assert bytes(envelope.d) == f'"{body}"'.encode()


@pytest.mark.covers("F18")
@pytest.mark.parametrize("compression", STREAMS)
def test_f18_payload_beyond_the_limit_is_refused(compression: Compression) -> None:
    message = Server(compression).message(payload(1, "x" * 5_000_000))
    assert len(message) < 10_000
    with pytest.raises(StreamError, match="larger than 1 MiB"):
        inflater(compression, limit=1 << 20).feed(message)


@pytest.mark.covers("F18")
@pytest.mark.parametrize("compression", STREAMS)
def test_f18_bomb_is_stopped_long_before_it_is_unpacked(compression: Compression) -> None:
    message = Server(compression).message(b"x" * 200_000_000)
    tracemalloc.start()
    with pytest.raises(StreamError):
        inflater(compression, limit=1 << 20).feed(message)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000_000


def test_zlib_messages_without_end_are_bounded() -> None:
    stream = ZlibStream(limit=1000)
    for _ in range(10):
        assert stream.feed(b"\x01" * 100) == b""
    with pytest.raises(StreamError, match="larger"):
        stream.feed(b"\x01" * 100)


def test_zstd_window_that_eats_the_memory_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(19, window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    message = compressor.compress(b"{}") + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    with pytest.raises(StreamError):
        ZstdStream().feed(message)


@pytest.mark.covers("F18")
@pytest.mark.parametrize("compression", STREAMS)
@given(seed=st.integers())
@settings(max_examples=60)
def test_f18_corrupt_byte_is_a_stream_error_or_skipped_but_never_a_crash(
    compression: Compression, seed: int
) -> None:
    rng = random.Random(seed)
    server = Server(compression)
    inbound = Inbound(compression, shard=0, limit=1 << 20)
    with_fault = rng.randrange(10)
    seen = 0
    for s in range(10):
        message = bytearray(server.message(payload(s, {"text": "words " * s})))
        if s == with_fault:
            message[rng.randrange(len(message))] ^= 1 << rng.randrange(8)
        try:
            envelopes = fed(inbound, bytes(message))
        except StreamError:
            break
        assert all(isinstance(envelope, Envelope) for envelope in envelopes)
        seen += 1
    assert seen >= with_fault


@pytest.mark.parametrize("compression", ["none", *STREAMS])
def test_body_that_is_not_utf_8_is_handed_on_as_it_came(compression: Compression) -> None:
    server = Server(compression)
    inbound = Inbound(compression, shard=0)
    texts = [b'{"op":0,"s":1,"t":"X","d":"\xff"}', payload(2, {})]
    messages: list[Message] = [memoryview(text) for text in texts]
    if compression != "none":
        messages = [server.message(text) for text in texts]
    assert [bytes(envelope.d) for envelope in fed(inbound, *messages)] == [b'"\xff"', b"{}"]


@pytest.mark.covers("F17")
@pytest.mark.parametrize("compression", ["none", *STREAMS])
def test_f17_text_is_a_payload_whatever_was_negotiated(compression: Compression) -> None:
    [envelope] = fed(Inbound(compression, shard=0), '{"op":11}')
    assert envelope.op == 11


def test_ended_stream_is_a_stream_error() -> None:
    zlib_end = zlib.compress(payload(1, None)) + b"\x00\x00\xff\xff"
    with pytest.raises(StreamError):
        ZlibStream().feed(zlib_end)
    zstd = ZstdStream()
    zstd.feed(zstandard.compress(payload(1, None)))
    with pytest.raises(StreamError):
        zstd.feed(zstandard.compress(payload(2, None)))


@pytest.fixture
def quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.covers("T-77")
@pytest.mark.usefixtures("quiet")
def test_t77_five_unreadable_payloads_in_a_row_are_the_end() -> None:
    inbound = Inbound("none", shard=0)
    for _ in range(4):
        assert fed(inbound, "garbage") == []
    assert len(fed(inbound, '{"op":11}')) == 1
    for _ in range(4):
        assert fed(inbound, '{"op":') == []
    with pytest.raises(StreamError):
        fed(inbound, "garbage")


@pytest.mark.parametrize("compression", ["none", *STREAMS])
def test_runs_are_dispatches_in_order_or_one_other_payload(compression: Compression) -> None:
    server = Server(compression)
    texts = [payload(s, "x" * 900) for s in range(1, 101)]
    texts[40:40] = [b'{"op":11}', b'{"op":1,"d":null}']
    messages = texts if compression == "none" else [server.message(text) for text in texts]
    runs = [run for run in Inbound(compression, shard=0).feed(messages) if run]
    assert [e.s for run in runs for e in run if e.op == 0] == list(range(1, 101))
    assert [[e.op for e in run] for run in runs if run[0].op != 0] == [[11], [1]]
    assert all(e.op == 0 for run in runs if len(run) > 1 for e in run)
    assert 2 < max(map(len, runs)) < 80  # many at once, but not everything that was received


def test_nothing_is_inflated_ahead_of_what_is_asked_for() -> None:
    """A batch of messages that each inflate to megabytes never is in memory as a whole."""
    server = Server("zstd-stream")
    messages = [server.message(payload(s, "x" * (1 << 20))) for s in range(20)]
    runs = Inbound("zstd-stream", shard=0).feed(messages)
    tracemalloc.start()
    for run in runs:
        assert len(run) <= 1
        del run
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("compression", STREAMS)
def test_what_came_whole_before_a_broken_message_is_handed_over_first(
    compression: Compression,
) -> None:
    server = Server(compression)
    good = [server.message(payload(s, None)) for s in (1, 2)]
    broken = b"\xff" * 40 + b"\x00\x00\xff\xff"
    runs = Inbound(compression, shard=0).feed([*good, broken])
    assert [envelope.s for envelope in next(runs)] == [1, 2]
    with pytest.raises(StreamError):
        next(runs)
