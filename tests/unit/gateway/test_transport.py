# SPDX-License-Identifier: Apache-2.0
"""The real socket, against a server on loopback that misbehaves on purpose.

Everything is shown of both kinds: with our frames, and with aiohttp's, which is the fallback.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from discluster.errors import UnavailableError
from discluster.gateway import AiohttpTransport, Closed, Socket, takeover
from discluster.gateway.sockets import CLOSE_LIMIT
from discluster.gateway.transport import Frames
from discluster.gateway.websocket import WebSocket
from tests.certificates import loopback_certificate
from tests.unit.gateway.rawserver import BINARY, CLOSE, PING, PONG, TEXT, Peer, RawServer


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    async with RawServer() as server:
        yield server


@pytest.fixture(params=["ours", "aiohttp"])
def frames(request: pytest.FixtureRequest) -> Frames:
    kind: Frames = request.param
    return kind


@pytest.fixture
async def transport(frames: Frames) -> AsyncIterator[AiohttpTransport]:
    async with AiohttpTransport(frames=frames) as transport:
        yield transport


async def pair(transport: AiohttpTransport, server: RawServer) -> tuple[Socket, Peer]:
    return await asyncio.gather(transport.connect(server.url), server.peer())


async def messages(socket: Socket, count: int) -> list[bytes | str | Closed]:
    """The next messages, in whatever portions they come, text as str; Closed is the last."""
    seen: list[bytes | str | Closed] = []
    while len(seen) < count:
        received = await socket.receive()
        if isinstance(received, Closed):
            return [*seen, received]
        seen += [str(m, "utf-8") if isinstance(m, memoryview) else m for m in received]
    return seen


async def test_upgrade_has_the_user_agent_and_offers_no_extension(
    transport: AiohttpTransport, server: RawServer
) -> None:
    _, peer = await pair(transport, server)
    assert b"User-Agent: DiscordBot (https://" in peer.request
    assert b"sec-websocket-extensions" not in peer.request.lower()


async def test_text_binary_and_continued_messages_come_whole(
    transport: AiohttpTransport, server: RawServer
) -> None:
    socket, peer = await pair(transport, server)
    peer.send(TEXT, b'{"op":11}')
    peer.send(BINARY, b"ab", final=False)
    peer.send(0, b"c" * 70_000)
    peer.send(PING, b"x")
    peer.send(BINARY, b"z")
    assert await messages(socket, 3) == ['{"op":11}', b"ab" + b"c" * 70_000, b"z"]
    assert await peer.receive() == (PONG, b"x")
    await socket.send(b'{"op":1,"d":null}')
    assert await peer.receive() == (TEXT, b'{"op":1,"d":null}')


@pytest.mark.covers("O-12")
@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ((4004).to_bytes(2) + b"Authentication failed.", Closed(4004, "Authentication failed.")),
        ((1000).to_bytes(2), Closed(1000)),
        ((1001).to_bytes(2), Closed(1001)),
        (b"", Closed(None)),
    ],
)
async def test_o12_close_of_the_server_is_reported_and_never_answered_with_1000(
    transport: AiohttpTransport, server: RawServer, frame: bytes, expected: Closed
) -> None:
    socket, peer = await pair(transport, server)
    peer.send(CLOSE, frame)
    assert await socket.receive() == expected
    closing = asyncio.create_task(socket.close(4000))
    assert await peer.receive() == (CLOSE, (4000).to_bytes(2))
    peer.writer.close()
    await closing
    assert isinstance(await socket.receive(), Closed)


@pytest.mark.covers("O-12")
@pytest.mark.parametrize("how", ["fin", "half", "reset"])
async def test_o12_lost_connection_has_no_code_and_sends_none(
    transport: AiohttpTransport, server: RawServer, how: str
) -> None:
    socket, peer = await pair(transport, server)
    peer.send(TEXT, b"last words")
    if how == "fin":
        peer.writer.close()
    elif how == "half":
        peer.writer.write_eof()
    else:
        await peer.writer.drain()
        peer.writer.transport.abort()
    assert (await messages(socket, 2))[-1] == Closed(None)
    await socket.close(4000)
    assert not {1000, 1001} & set(await peer.close_codes())


async def test_malformed_frame_ends_the_socket_without_1000(
    transport: AiohttpTransport, server: RawServer
) -> None:
    socket, peer = await pair(transport, server)
    peer.writer.write(b"\xff\xff\xff\xff")
    assert isinstance(await socket.receive(), Closed)
    await socket.close(4000)
    assert not {1000, 1001} & set(await peer.close_codes())


@pytest.mark.covers("F35")
@pytest.mark.parametrize("streaming", [False, True])
async def test_f35_close_handshake_that_is_not_answered_takes_a_second(
    transport: AiohttpTransport, server: RawServer, streaming: bool
) -> None:
    socket, peer = await pair(transport, server)

    async def stream() -> None:
        while True:
            peer.send(TEXT, b"more")
            await asyncio.sleep(0.05)

    task = asyncio.create_task(stream() if streaming else asyncio.sleep(60))
    began = time.monotonic()
    await socket.close(4000)
    assert CLOSE_LIMIT * 0.9 <= time.monotonic() - began <= CLOSE_LIMIT + 1.0
    assert await peer.close_codes() == [4000]
    task.cancel()
    await asyncio.wait({task})


async def test_close_while_somebody_receives_ends_both_with_the_first_code(
    transport: AiohttpTransport, server: RawServer
) -> None:
    socket, peer = await pair(transport, server)
    receiving = asyncio.create_task(socket.receive())
    await asyncio.sleep(0)
    closing = asyncio.gather(socket.close(4000), socket.close(1000))
    assert await peer.receive() == (CLOSE, (4000).to_bytes(2))
    peer.send(CLOSE, (4000).to_bytes(2))
    await closing
    assert isinstance(await receiving, Closed)
    assert await peer.close_codes() == []


@pytest.mark.covers("T-22")
@pytest.mark.parametrize("code", [4000, 1000])
async def test_t22_close_amid_events_sends_its_own_code(
    transport: AiohttpTransport, server: RawServer, code: int
) -> None:
    async def receive_all(socket: Socket) -> None:
        while not isinstance(await socket.receive(), Closed):
            pass

    for turns in range(40):
        socket, peer = await pair(transport, server)
        receiving = asyncio.create_task(receive_all(socket))
        peer.send(TEXT, b"event")
        for _ in range(turns % 8):
            await asyncio.sleep(0)
        peer.send(TEXT, b"event")
        closing = asyncio.create_task(socket.close(code))
        assert await peer.receive() == (CLOSE, code.to_bytes(2))
        peer.writer.close()
        await asyncio.gather(closing, receiving)


async def test_abort_ends_a_receive_at_once_and_sends_no_close_frame(
    transport: AiohttpTransport, server: RawServer
) -> None:
    socket, peer = await pair(transport, server)
    receiving = asyncio.create_task(socket.receive())
    await asyncio.sleep(0)
    socket.abort()
    assert await receiving == Closed(None)
    assert await peer.close_codes() == []
    socket.abort()
    with pytest.raises(ConnectionError):
        await socket.send(b"{}")
    began = time.monotonic()
    await socket.close(4000)
    assert time.monotonic() - began < CLOSE_LIMIT / 2


async def test_one_transport_carries_more_sockets_than_aiohttp_allows_by_default(
    transport: AiohttpTransport, server: RawServer
) -> None:
    sockets = await asyncio.gather(*(transport.connect(server.url) for _ in range(120)))
    assert len(sockets) == 120


async def test_what_nobody_receives_is_held_back_at_the_sender(
    transport: AiohttpTransport, server: RawServer
) -> None:
    socket, peer = await pair(transport, server)
    message = b"x" * 100_000

    async def flood() -> int:
        for sent in range(1000):
            peer.send(TEXT, message)
            try:
                await asyncio.wait_for(peer.writer.drain(), 0.5)
            except TimeoutError:
                return sent
        return 1000

    assert await flood() < 500
    assert (await messages(socket, 3))[:3] == [message.decode()] * 3


async def test_message_beyond_the_limit_ends_the_socket(server: RawServer, frames: Frames) -> None:
    async with AiohttpTransport(maximum_message=1000, frames=frames) as transport:
        socket, peer = await pair(transport, server)
        peer.send(BINARY, b"x" * 999)
        peer.send(BINARY, b"x" * 1001)
        end = (await messages(socket, 2))[-1]
        assert isinstance(end, Closed)
        assert end.code is None
        await socket.close(4000)
        assert not {1000, 1001} & set(await peer.close_codes())


@pytest.mark.covers("F06", "T-78")
@pytest.mark.parametrize("status", [200, 401, 403, 429, 502, 503])
async def test_f06_t78_upgrade_that_is_refused_is_a_dial_error(
    transport: AiohttpTransport, status: int
) -> None:
    answer = f"HTTP/1.1 {status} No\r\nContent-Length: 6\r\n\r\n<html>".encode()
    async with RawServer(answer=answer) as server:
        with pytest.raises(UnavailableError, match=f"upgrade with HTTP {status}"):
            await transport.connect(server.url)


@pytest.mark.covers("F06")
@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 101 x\r\n\r\n"])
async def test_f06_garbage_instead_of_an_upgrade_is_a_dial_error(
    transport: AiohttpTransport, answer: bytes
) -> None:
    async with RawServer(answer=answer) as server:
        with pytest.raises(UnavailableError):
            await transport.connect(server.url)


@pytest.mark.covers("F06")
@pytest.mark.parametrize("url", ["ws://127.0.0.1:1/", "ws://", "wss://[bad", "ws://127.0.0.1:0/"])
async def test_f06_address_that_cannot_be_dialed_is_a_dial_error(
    transport: AiohttpTransport, url: str
) -> None:
    with pytest.raises(UnavailableError):
        await transport.connect(url)


async def test_dial_can_be_cancelled(transport: AiohttpTransport) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    dial = asyncio.create_task(transport.connect(f"ws://127.0.0.1:{port}/"))
    done, _ = await asyncio.wait({dial}, timeout=0.2)
    assert not done
    dial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dial
    listener.close()
    await listener.wait_closed()


async def test_transport_outside_of_its_context_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="context"):
        await AiohttpTransport().connect("ws://127.0.0.1:1/")


async def test_tls_certificate_is_checked(tmp_path: Path, frames: Frames) -> None:
    certificate = loopback_certificate(tmp_path)
    async with RawServer(tls=certificate.server_context()) as server:
        async with AiohttpTransport(frames=frames) as distrusting:
            with pytest.raises(UnavailableError, match="certificate"):
                await distrusting.connect(server.url)
        trusting = certificate.trusting_context()
        async with AiohttpTransport(tls=trusting, frames=frames) as transport:
            socket, peer = await pair(transport, server)
            peer.send(TEXT, b"hi")
            assert await messages(socket, 1) == ["hi"]
            socket.abort()
            assert await socket.receive() == Closed(None)


class Aiohttp:
    """An aiohttp whose connections work otherwise in one respect."""

    def __init__(self, otherwise: str) -> None:
        self._otherwise = otherwise
        self._connection = takeover.aiohttps_connection()
        self._parser: Any = None

    def set_parser(self, parser: Any, payload: Any) -> None:
        if self._otherwise == "is called otherwise":
            raise TypeError("set_parser() takes 2 positional arguments but 3 were given")
        self._parser = parser
        self._connection.set_parser(parser, payload)

    def data_received(self, data: bytes) -> None:
        if self._otherwise == "loses what came before" and self._parser is None:
            return
        if self._otherwise == "keeps what comes after" and self._parser is not None:
            return
        self._connection.data_received(data)

    def connection_lost(self, error: None) -> None:
        if self._otherwise != "does not tell of the end":
            self._connection.connection_lost(error)


@pytest.mark.parametrize(
    "otherwise",
    [
        "is called otherwise",
        "loses what came before",
        "keeps what comes after",
        "does not tell of the end",
    ],
)
async def test_aiohttp_that_works_otherwise_is_noticed_before_it_is_relied_on(
    otherwise: str,
) -> None:
    assert takeover.possible(lambda: Aiohttp("")), "the stand-in alone changes nothing"
    assert not takeover.possible(lambda: Aiohttp(otherwise))
    assert not takeover.possible(lambda: None)


async def test_our_frames_are_used_with_this_aiohttp(server: RawServer) -> None:
    assert takeover.possible()
    async with AiohttpTransport() as transport:
        socket, _ = await pair(transport, server)
        assert isinstance(socket, WebSocket)


@pytest.mark.parametrize("cut", [0, 4, 9])
async def test_messages_that_come_with_the_upgrade_are_not_lost(frames: Frames, cut: int) -> None:
    """Discord's HELLO often shares a TCP segment with the answer to the upgrade."""
    stream = b"\x82\x05hello\x82\x02wo"
    server, transport = RawServer(greeting=stream[:cut]), AiohttpTransport(frames=frames)
    async with server, transport:
        socket, peer = await pair(transport, server)
        peer.writer.write(stream[cut:])
        assert await messages(socket, 2) == [b"hello", b"wo"]


async def test_what_one_read_brought_comes_in_one_piece(server: RawServer) -> None:
    async with AiohttpTransport(frames="ours") as transport:
        socket, peer = await pair(transport, server)
        peer.writer.write(b"\x82\x01a\x82\x01b\x89\x00\x82\x01c")
        assert await socket.receive() == [b"a", b"b", b"c"]


async def test_header_of_a_message_beyond_the_limit_is_enough(server: RawServer) -> None:
    async with AiohttpTransport(frames="ours", maximum_message=1000) as transport:
        socket, peer = await pair(transport, server)
        peer.writer.write(b"\x82\x7f" + (1 << 40).to_bytes(8))
        assert isinstance(await socket.receive(), Closed)


@pytest.mark.parametrize(
    ("answer", "frames"),
    # aiohttp does not mind an extension that it did not offer, and then meets its frames.
    [("accept", "ours"), ("accept", "aiohttp"), ("upgrade", "ours"), ("extension", "ours")],
)
async def test_answer_to_the_upgrade_must_fit_the_request(answer: str, frames: Frames) -> None:
    server, transport = RawServer(spoil=answer), AiohttpTransport(frames=frames)
    async with server, transport:
        with pytest.raises(UnavailableError):
            await transport.connect(server.url)
