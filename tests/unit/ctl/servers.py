# SPDX-License-Identifier: Apache-2.0
"""A MASTER and a CONTROL of a few lines, on real UNIX sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from discluster import messages
from discluster.messages import Message

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Requests:
    """What a server was asked: ``METHOD /path body`` each."""

    def __init__(self) -> None:
        self.seen: list[str] = []


def says(answer: Message | str | bytes, *, status: int = 200) -> Answer:
    """A handler with one answer: a message as JSON, text as YAML, or bytes as they are."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if isinstance(answer, Message):
            body, kind = messages.encode(answer), "application/json"
        elif isinstance(answer, str):
            body, kind = answer.encode(), "application/yaml"
        else:
            body, kind = answer, "application/octet-stream"
        return web.Response(body=body, status=status, content_type=kind)

    return handler


@asynccontextmanager
async def master(socket: Path, routes: dict[str, Answer]) -> AsyncIterator[Requests]:
    """MASTER's operator API with ``routes`` (path -> handler, any method)."""
    requests = Requests()

    async def handle(request: web.Request) -> web.StreamResponse:
        body = (await request.read()).decode()
        requests.seen.append(f"{request.method} {request.path} {body}".strip())
        return await routes[request.path](request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    # shutdown_timeout: a test that ends with an unanswered request does not wait for it.
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(socket)).start()
        yield requests
    finally:
        await runner.cleanup()


@asynccontextmanager
async def control(socket: Path, answer: bytes | None) -> AsyncIterator[Requests]:
    """A CONTROL that sends ``answer`` after each line and closes; None never answers."""
    requests = Requests()
    open_ones: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            requests.seen.append((await reader.readline()).decode().strip())
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
            writer.close()
            await writer.wait_closed()
        except ConnectionError:
            writer.transport.abort()  # a client that hangs up first is what some tests are about

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.add(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_unix_server(accept, socket)
    try:
        yield requests
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.gather(*open_ones)
