# SPDX-License-Identifier: Apache-2.0
"""Compression as bytes on the wire, beside what captures of the real gateway show.

Read with public decompressors on a raw WebSocket: nothing of the simulator's is used to read it.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

import aiohttp
import pytest
import zstandard

from tests.unit.simulator.client import IDENTIFY
from tests.unit.simulator.conftest import Rig, StartRig

MESSAGES = 12
SUFFIX = b"\x00\x00\xff\xff"


async def wire(rig: Rig, query: str = "", **changes: Any) -> list[aiohttp.WSMessage]:
    """The first messages of a session, undecoded: HELLO, READY and GUILD_CREATEs."""
    url = f"{rig.simulator.gateway_url}/?v=10&encoding=json{query}"
    async with aiohttp.ClientSession() as http, http.ws_connect(url, max_msg_size=0) as ws:
        messages = [await ws.receive(timeout=5)]
        await ws.send_json({"op": 2, "d": {**IDENTIFY, "shard": [0, 1], **changes}})
        messages += [await ws.receive(timeout=5) for _ in range(MESSAGES - 1)]
        await ws.close(code=4000)
    return messages


def names(payloads: list[bytes]) -> list[str | None]:
    return [json.loads(payload)["t"] for payload in payloads]


EXPECTED = [None, "READY", *["GUILD_CREATE"] * (MESSAGES - 2)]


async def test_without_compression_each_message_is_a_text_of_compact_json(
    start: StartRig,
) -> None:
    messages = await wire(await start())
    assert {message.type for message in messages} == {aiohttp.WSMsgType.TEXT}
    assert names([message.data for message in messages]) == EXPECTED
    assert messages[0].data.startswith('{"t":null,"s":null,"op":10,"d":{"heartbeat_interval":41250')
    assert messages[1].data.startswith('{"t":"READY","s":1,"op":0,"d":{"v":10,')


@pytest.mark.parametrize(("level", "header"), [(6, b"\x78\x9c"), (9, b"\x78\xda")])
async def test_zlib_stream_has_one_header_and_a_suffix_for_each_payload(
    start: StartRig, level: int, header: bytes
) -> None:
    messages = await wire(await start(zlib_level=level), "&compress=zlib-stream")
    assert {message.type for message in messages} == {aiohttp.WSMsgType.BINARY}
    assert [message.data.startswith(header) for message in messages] == [True] + [False] * 11
    assert all(message.data.endswith(SUFFIX) for message in messages)
    context = zlib.decompressobj()
    assert names([context.decompress(message.data) for message in messages]) == EXPECTED


async def test_zlib_stream_is_bit_exact_what_the_real_gateway_s_parameters_give(
    start: StartRig,
) -> None:
    messages = await wire(await start(zlib_level=6), "&compress=zlib-stream")
    context = zlib.decompressobj()
    again = zlib.compressobj(level=6, method=zlib.DEFLATED, wbits=15, memLevel=8)
    for message in messages:
        payload = context.decompress(message.data)
        assert again.compress(payload) + again.flush(zlib.Z_SYNC_FLUSH) == message.data


async def test_zlib_contexts_fail_on_another_connection_as_in_the_bug_reports(
    start: StartRig,
) -> None:
    rig = await start(zlib_level=6, guilds=32)
    first = await wire(rig, "&compress=zlib-stream")
    with pytest.raises(zlib.error, match=r"unknown compression method|incorrect header check"):
        zlib.decompressobj().decompress(first[1].data)
    used = zlib.decompressobj()
    used.decompress(first[0].data)
    with pytest.raises(zlib.error, match="invalid stored block lengths"):
        used.decompress((await wire(rig, "&compress=zlib-stream", shard=[1, 2]))[0].data)


async def test_zstd_stream_is_one_endless_frame_with_the_captured_header(start: StartRig) -> None:
    messages = await wire(await start(), "&compress=zstd-stream")
    assert {message.type for message in messages} == {aiohttp.WSMsgType.BINARY}
    head = messages[0].data
    assert head[:6] == b"\x28\xb5\x2f\xfd\x00\x40"
    frame = zstandard.get_frame_parameters(head)
    assert frame.window_size == 1 << 18
    assert frame.content_size == zstandard.CONTENTSIZE_UNKNOWN
    assert frame.dict_id == 0
    assert frame.has_checksum is False
    assert not any(message.data.startswith(b"\x28\xb5\x2f\xfd") for message in messages[1:])
    context = zstandard.ZstdDecompressor().decompressobj()
    assert names([context.decompress(message.data) for message in messages]) == EXPECTED
    assert not context.eof


async def test_payload_compression_makes_each_payload_a_stream_of_its_own(
    start: StartRig,
) -> None:
    rig = await start()
    hello, *rest = await wire(rig, compress=True)
    assert hello.type is aiohttp.WSMsgType.TEXT, "nobody has asked yet"
    assert {message.type for message in rest} == {aiohttp.WSMsgType.BINARY}
    assert names([zlib.decompress(message.data) for message in rest]) == EXPECTED[1:]
    assert await rig.oracles() == set()


async def test_payload_compression_can_be_ignored(start: StartRig) -> None:
    messages = await wire(await start(payload_compression=False), compress=True)
    assert {message.type for message in messages} == {aiohttp.WSMsgType.TEXT}


async def test_transport_compression_makes_identify_s_compress_void(start: StartRig) -> None:
    rig = await start()
    messages = await wire(rig, "&compress=zlib-stream", compress=True)
    context = zlib.decompressobj()
    assert names([context.decompress(message.data) for message in messages]) == EXPECTED
    assert await rig.oracles() == set(), "discord.py asks for both, always"
