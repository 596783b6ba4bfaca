# SPDX-License-Identifier: Apache-2.0
"""Odd frames and slow bytes: pure, and over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import random
import zlib
from collections.abc import Callable

import aiohttp
import pytest

from discluster.simulator.compression import make_encoder
from discluster.simulator.deeds import AnyDeed, Close, Corrupt, Frames, Throttle, Truncate
from discluster.simulator.frames import FrameReader, Opcode
from discluster.simulator.pacing import Pace, Pacer
from discluster.simulator.script import At
from discluster.simulator.shape import Shape, pieces
from tests.unit.simulator.client import TIMEOUT, Client, ClosedError, client_frame, decoder
from tests.unit.simulator.conftest import Rig, StartRig

COMPRESSED = pytest.mark.parametrize("scheme", ["zlib-stream", "zstd-stream"])
PAYLOADS = [b'{"number":%d,"text":"%b"}' % (n, b"abcdefgh" * n) for n in range(1, 6)]


def messages(shape: Shape, scheme: str | None, payloads: list[bytes]) -> list[tuple[int, bytes]]:
    """Opcode and payload of the messages that arrive."""
    opcode, encode = make_encoder(scheme, zlib_level=6, zstd_level=3)
    reader = FrameReader(max_message=1 << 20, too_large=1009)
    masked = b"".join(as_client(wire) for wire in shape.wire(payloads, opcode, encode))
    return [(message.opcode, message.payload) for message in reader.feed(masked)]


def as_client(wire: bytes) -> bytes:
    """A server's small frame, masked, so that the strict reader takes it."""
    assert wire[1] < 126
    return client_frame(wire[0] & 0x0F, wire[2:], final=bool(wire[0] & 0x80))


@COMPRESSED
@pytest.mark.parametrize(
    ("frames", "count"),
    [
        (Frames(split=3), 15),
        (Frames(suffix=True), 10),
        (Frames(suffix=True, split=2), 15),
        (Frames(false_suffix=True), 10),
        (Frames(join=5), 1),
        (Frames(join=2), 3),
        (Frames(fragments=4), 5),
        (Frames(split=50, fragments=2), None),
    ],
)
def test_split_and_joined_streams_decode(scheme: str, frames: Frames, count: int | None) -> None:
    shape = Shape()
    shape.frames = frames
    seen = messages(shape, scheme, PAYLOADS)
    assert count is None or len(seen) == count
    decode = decoder(scheme)
    assert b"".join(decode(body) for _, body in seen) == b"".join(PAYLOADS)


def test_suffix_of_zlib_is_torn_apart() -> None:
    shape = Shape()
    shape.frames = Frames(suffix=True)
    (_, head), (_, tail) = messages(shape, "zlib-stream", PAYLOADS[:1])
    assert head.endswith(b"\x00\x00")
    assert tail == b"\xff\xff"


def test_false_suffix_ends_a_message_that_is_not_the_end() -> None:
    shape = Shape()
    shape.frames = Frames(false_suffix=True)
    decode = decoder("zlib-stream")
    (_, first), (_, second) = messages(shape, "zlib-stream", PAYLOADS[:1])
    assert first.endswith(b"\x00\x00\xff\xff")
    assert decode(first) == PAYLOADS[0][: len(PAYLOADS[0]) // 2]
    assert decode(second) == PAYLOADS[0][len(PAYLOADS[0]) // 2 :]


def test_text_frames_though_compressed() -> None:
    shape = Shape()
    shape.frames = Frames(text=True)
    assert {opcode for opcode, _ in messages(shape, "zlib-stream", PAYLOADS)} == {Opcode.TEXT}


def test_corruption_hits_one_payload() -> None:
    shape = Shape()
    shape.corrupt = 1
    seen = [body for _, body in messages(shape, None, PAYLOADS[:2])]
    assert seen[0] != PAYLOADS[0]
    assert sum(a != b for a, b in zip(seen[0], PAYLOADS[0], strict=True)) == 1
    assert seen[1] == PAYLOADS[1]


def test_after_a_truncated_payload_nothing_comes() -> None:
    shape = Shape()
    shape.truncate = True
    seen = [body for _, body in messages(shape, None, PAYLOADS)]
    assert seen == [PAYLOADS[0][: len(PAYLOADS[0]) // 2]]


@pytest.mark.parametrize(("size", "count"), [(10, 3), (2, 5), (0, 4), (7, 7)])
def test_pieces_lose_nothing(size: int, count: int) -> None:
    body = bytes(range(size))
    cut = pieces(body, count)
    assert b"".join(cut) == body
    assert len(cut) == max(1, min(count, size))


# Over real sockets


async def odd(rig: Rig, scheme: str, *deeds: AnyDeed) -> Client:
    await rig.control.script(At(point="accepted"), *deeds)
    return await rig.dial(query=f"v=10&encoding=json&compress={scheme}", hello=False)


async def stream(client: Client, enough: Callable[[bytes], bool]) -> bytes:
    """Decompressed bytes, joined over messages."""
    text = b""
    async with asyncio.timeout(TIMEOUT):
        while not enough(text):
            message = await client.ws.receive()
            assert message.type is aiohttp.WSMsgType.BINARY, message
            text += client.decode(message.data)
    return text


@COMPRESSED
@pytest.mark.parametrize(
    "deeds",
    [
        (Frames(split=7, fragments=3),),
        (Frames(suffix=True),),
        (Frames(join=50),),
        (Throttle(chunk=1),),
        (Frames(split=50), Throttle(chunk=3, delay=1, jitter=2)),
        (Throttle(bytes_per_second=2000),),
    ],
    ids=str,
)
async def test_everything_arrives_in_order(
    start: StartRig, scheme: str, deeds: tuple[AnyDeed, ...]
) -> None:
    rig = await start(guilds=4, time_factor=0.01)
    client = await odd(rig, scheme, *deeds)
    await client.identify((0, 1))
    text = await stream(client, lambda text: text.count(b'"GUILD_CREATE"') == 4)
    positions = [text.find(b'"s":%d,"op":0' % seq) for seq in range(1, 6)]
    assert positions == sorted(positions)
    assert min(positions) > 0


async def test_bandwidth_is_limited(start: StartRig) -> None:
    rig = await start(guilds=4)
    client = await odd(rig, "zlib-stream", Throttle(bytes_per_second=20_000))
    begin = asyncio.get_running_loop().time()
    await client.identify((0, 1))
    text = await stream(client, lambda text: text.count(b'"GUILD_CREATE"') == 4)
    least = len(zlib.compress(text)) * 0.7 / 20_000
    assert asyncio.get_running_loop().time() - begin >= least


async def test_corrupt_byte_breaks_the_stream(start: StartRig) -> None:
    rig = await start(guilds=0)
    client = await rig.ready(query="v=10&encoding=json&compress=zlib-stream")
    await rig.control.script("now", Corrupt())
    await rig.control.event(0, "TEST", {"text": "x" * 50})
    message = await client.ws.receive(TIMEOUT)
    sent = b'{"t":"TEST","s":2,"op":0,"d":{"text":"%b"}}' % (b"x" * 50)
    with contextlib.suppress(zlib.error):
        assert client.decode(message.data) != sent


@pytest.mark.parametrize("closed", [False, True])
async def test_truncated_stream_then_silence_or_close(start: StartRig, closed: bool) -> None:
    rig = await start(guilds=0)
    client = await rig.ready()
    await rig.control.script("now", Truncate())
    await rig.control.event(0, "TEST", {})
    await rig.control.event(0, "TEST", {})
    with pytest.raises(ValueError, match=r"column \d+"):
        await client.receive()
    if closed:
        await rig.control.script("now", Close(code=4000))
        with pytest.raises(ClosedError):
            await client.receive()
    else:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.receive(), 0.1)


async def test_close_frame_waits_for_what_is_throttled(start: StartRig) -> None:
    rig = await start(guilds=4)
    client = await odd(rig, "zstd-stream", Throttle(bytes_per_second=30_000))
    await client.identify((0, 1))
    await client.receive()
    await rig.control.wait_for_connected(1, TIMEOUT)
    await rig.control.script("now", Close(code=4000))
    assert await client.closed() == 4000
    assert [event["t"] for event in client.dispatches] == ["READY"] + ["GUILD_CREATE"] * 4


async def test_answer_to_a_close_frame_waits_for_what_is_throttled(start: StartRig) -> None:
    rig = await start(guilds=4)
    client = await odd(rig, "zstd-stream", Throttle(delay=0.1))
    await client.receive()
    assert await client.ws.close(code=4000)
    assert client.ws.close_code == 4000


async def test_pacer_keeps_order_and_rate() -> None:
    written: list[bytes] = []
    empty = asyncio.Event()
    loop = asyncio.get_running_loop()
    pacer = Pacer(
        Pace(bytes_per_second=1000, delay=0.01, jitter=0.02),
        write=written.append,
        drained=empty.set,
        loop=loop,
        rng=random.Random(1),
    )
    begin = loop.time()
    for number in range(10):
        pacer.push(bytes([number]) * 20)
    assert pacer.queued == 200
    await asyncio.wait_for(empty.wait(), TIMEOUT)
    assert b"".join(written) == b"".join(bytes([number]) * 20 for number in range(10))
    assert pacer.queued == 0
    assert loop.time() - begin >= 0.08
