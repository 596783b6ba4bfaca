# SPDX-License-Identifier: Apache-2.0
"""A small MASTER on loopback: TLS with an authority of its own, and a script."""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from aiohttp import WSMsgType, web
from cryptography.hazmat.primitives.asymmetric import ec

from discluster import pem
from discluster.console import Failure, JoinAnswer, JoinRequest
from discluster.control.identity import Identity
from discluster.master.access.authority import DEFAULT_LIFE, Authority
from discluster.messages import (
    PROTOCOL,
    ControlToMaster,
    Message,
    Ping,
    Pong,
    Welcome,
    control_to_master,
    decode,
    encode,
)

NOW = datetime.datetime.now(datetime.UTC)
WELCOME = Welcome(protocol=PROTOCOL, version="0", ping_interval=5.0, lease=30.0, now=1e6)

Script = Callable[["Conversation"], Awaitable[None]]


class Conversation:
    """One connection of a CONTROL, from MASTER's side."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket

    async def hear(self) -> ControlToMaster:
        """The next message; a ping is answered on the way, as if no time passed at MASTER."""
        while True:
            received = await self.socket.receive(timeout=5)
            assert received.type is WSMsgType.BINARY, received
            message: ControlToMaster = decode(control_to_master, received.data, peer="CONTROL")
            if not isinstance(message, Ping):
                return message
            await self.say(Pong(number=message.number, now=WELCOME.now))

    async def say(self, message: Message) -> None:
        await self.socket.send_bytes(encode(message))


class SmallMaster:
    """``script`` is run for every connection; the connection ends with it."""

    def __init__(self, directory: Path, *, now: datetime.datetime = NOW) -> None:
        self.authority = Authority(directory / "ca", now=now)
        self.now = now
        self.script: Script = self.hang
        self.connections = 0
        self.refusal: Failure | None = None
        # What is answered to who joins, instead of one for its key.
        self.certificate: str | None = None
        self.joined: list[JoinRequest] = []
        self.url = ""

    async def hang(self, conversation: Conversation) -> None:
        """Answers nothing, for ever."""
        await conversation.socket.receive()
        await asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def serve(
        self, context: ssl.SSLContext | None = None, *, port: int = 0
    ) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_get("/v1/control", self._control)
        app.router.add_get("/v1/ca", self._ca)
        app.router.add_post("/v1/join", self._join)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        context = context or self.authority.server_context(["127.0.0.1"], now=self.now)
        site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=context)
        await site.start()
        self.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield
        finally:
            await runner.cleanup()

    async def _control(self, request: web.Request) -> web.StreamResponse:
        self.connections += 1
        socket = web.WebSocketResponse(timeout=0.2)
        await socket.prepare(request)
        await self.script(Conversation(socket))
        await socket.close()
        return socket

    async def _ca(self, request: web.Request) -> web.Response:
        return web.Response(text=self.authority.bundle)

    async def _join(self, request: web.Request) -> web.Response:
        asked = msgspec.json.decode(await request.read(), type=JoinRequest)
        self.joined.append(asked)
        if self.refusal is not None:
            return web.Response(status=403, body=encode(self.refusal))
        made = self.authority.sign_host(asked.csr, asked.host, now=self.now)
        certificate = self.certificate or made
        answer = JoinAnswer(certificate=certificate, ca=self.authority.bundle)
        return web.Response(body=encode(answer))


def joined_identity(
    directory: Path,
    authority: Authority,
    *,
    host: str = "alpha",
    now: datetime.datetime = NOW,
    url: str = "https://m",
    life: float = DEFAULT_LIFE,
) -> Identity:
    """What ``join`` leaves behind, with a certificate made at ``now``."""
    directory.mkdir(parents=True)
    identity = Identity(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority.sign_host(pem.request_for(key, host), host, now=now, life=life)
    identity.store(key, certificate, authorities=authority.bundle, master=url)
    return identity
