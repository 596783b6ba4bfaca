# SPDX-License-Identifier: Apache-2.0
"""The real socket, against a server on loopback that misbehaves on purpose."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from discluster.errors import UnavailableError
from discluster.gateway import AiohttpTransport, Closed
from discluster.gateway.transport import CLOSE_LIMIT, AiohttpSocket
from tests.certificates import loopback_certificate
from tests.unit.gateway.rawserver import BINARY, CLOSE, PING, PONG, TEXT, Peer, RawServer


@pytest.fixture
async def server() -> AsyncIterator[RawServer]:
    async with RawServer() as server:
        yield server


@pytest.fixture
async def transport() -> AsyncIterator[AiohttpTransport]:
    async with AiohttpTransport() as transport:
        yield transport


async def pair(transport: AiohttpTransport, server: RawServer) -> tuple[AiohttpSocket, Peer]:
    return await asyncio.gather(transport.connect(server.url), server.peer())


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
    assert await socket.receive() == '{"op":11}'
    assert await socket.receive() == b"ab" + b"c" * 70_000
    assert await socket.receive() == b"z"
    assert await peer.receive() == (PONG, b"x")
    await socket.send(b'{"op":1,"d":null}')
    assert await peer.receive() == (TEXT, b'{"op":1,"d":null}')


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
    messages = [await socket.receive(), await socket.receive()]
    assert messages[-1] == Closed(None)
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


@pytest.mark.parametrize("code", [4000, 1000])
async def test_t22_close_amid_events_sends_its_own_code(
    transport: AiohttpTransport, server: RawServer, code: int
) -> None:
    async def receive_all(socket: AiohttpSocket) -> None:
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
    assert await socket.receive() == message.decode()


async def test_message_beyond_the_limit_ends_the_socket(server: RawServer) -> None:
    async with AiohttpTransport(maximum_message=1000) as transport:
        socket, peer = await pair(transport, server)
        peer.send(BINARY, b"x" * 999)
        peer.send(BINARY, b"x" * 1001)
        assert await socket.receive() == b"x" * 999
        assert isinstance(await socket.receive(), Closed)
        await socket.close(4000)
        assert not {1000, 1001} & set(await peer.close_codes())


@pytest.mark.parametrize("status", [200, 401, 403, 429, 502, 503])
async def test_f06_t78_upgrade_that_is_refused_is_a_dial_error(
    transport: AiohttpTransport, status: int
) -> None:
    answer = f"HTTP/1.1 {status} No\r\nContent-Length: 6\r\n\r\n<html>".encode()
    async with RawServer(answer=answer) as server:
        with pytest.raises(UnavailableError, match=f"upgrade with HTTP {status}"):
            await transport.connect(server.url)


@pytest.mark.parametrize("answer", [b"", b"garbage\r\n\r\n", b"HTTP/1.1 101 x\r\n\r\n"])
async def test_f06_garbage_instead_of_an_upgrade_is_a_dial_error(
    transport: AiohttpTransport, answer: bytes
) -> None:
    async with RawServer(answer=answer) as server:
        with pytest.raises(UnavailableError):
            await transport.connect(server.url)


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


async def test_tls_certificate_is_checked(tmp_path: Path) -> None:
    certificate = loopback_certificate(tmp_path)
    async with RawServer(tls=certificate.server_context()) as server:
        async with AiohttpTransport() as distrusting:
            with pytest.raises(UnavailableError, match="certificate"):
                await distrusting.connect(server.url)
        async with AiohttpTransport(tls=certificate.trusting_context()) as transport:
            socket, peer = await pair(transport, server)
            peer.send(TEXT, b"hi")
            assert await socket.receive() == "hi"
            socket.abort()
            assert await socket.receive() == Closed(None)
