# SPDX-License-Identifier: Apache-2.0
"""A crowd of attackers: `python -m tests.siege.crowd`, told on its standard input what to do.

One JSON object a line (:class:`Attack`), answered by one line (:class:`Came`). Every attack ends by
itself. Each attacker is an address in 127.0.0.0/8; one whose connection is ended dials again.
"""

import asyncio
import contextlib
import gzip
import resource
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final, cast

import aiohttp
import msgspec
import uvloop

from discluster.messages import PROTOCOL, Hello, HostReport, Ping, encode

_FILES: Final = 12_000
_AT_ONCE: Final = 200
_DRIP: Final = 0.25
# What deflates well: sixty kilobytes on the wire.
_BOMB: Final = gzip.compress(b" " * 60_000_000)


class Attack(msgspec.Struct, frozen=True, kw_only=True):
    """``connections`` of this ``kind`` at a time, from so many ``addresses``, until ``attempts``
    were made, and for ``seconds`` at least. ``certificate``, ``key``: files, if it shows one.
    """

    kind: str
    host: str = "127.0.0.1"
    port: int = 0
    path: str = ""
    connections: int
    addresses: int = 1
    attempts: int
    seconds: float
    certificate: str | None = None
    key: str | None = None


class Came(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. ``refused``: connections that the other end ended."""

    attempts: int
    refused: int
    seconds: float


class Attacker:
    """One connection at a time, again and again."""

    def __init__(self, crowd: "Crowd", number: int) -> None:
        self._crowd = crowd
        self._address = f"127.0.{1 + number % crowd.attack.addresses}.1"

    async def run(self) -> None:
        while not self._crowd.over:
            async with self._crowd.gate:
                self._crowd.attempts += 1
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, aiohttp.ClientError):
                await self._crowd.deed(self)
            self._crowd.refused += 1
            await asyncio.sleep(0.01)

    async def dial(self, *, tls: bool = True) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        attack = self._crowd.attack
        if attack.path:
            return await asyncio.open_unix_connection(attack.path)
        return await asyncio.open_connection(
            attack.host,
            attack.port,
            ssl=self._crowd.context if tls else None,
            local_addr=(self._address, 0),
        )

    async def say(self, text: bytes, *, tls: bool = True) -> None:
        """All of it at once, and then nothing."""
        reader, writer = await self.dial(tls=tls)
        try:
            writer.write(text)
            while await reader.read(65536):
                pass
        finally:
            writer.transport.abort()

    async def drip(self, text: bytes, *, tls: bool = True) -> None:
        """Byte by byte."""
        reader, writer = await self.dial(tls=tls)
        try:
            for number in range(len(text)):
                writer.write(text[number : number + 1])
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_DRIP):
                        if not await reader.read(65536):
                            return
        finally:
            writer.transport.abort()

    async def upgrade(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To a WebSocket."""
        reader, writer = await self.dial()
        writer.write(
            b"GET /v1/control HTTP/1.1\r\nHost: m\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        try:
            await reader.readuntil(b"\r\n\r\n")
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer

    async def converse(
        self, *frames: bytes, again: bytes = b"", reads: bool = True, drips: bool = False
    ) -> None:
        """WebSocket frames, and ``again`` for as long as it is taken."""
        reader, writer = await self.upgrade()
        try:
            for frame in frames:
                if not drips:
                    writer.write(frame)
                    continue
                for number in range(len(frame)):
                    writer.write(frame[number : number + 1])
                    await asyncio.sleep(_DRIP)
            if not reads:
                deafen(writer)
            while again and not writer.is_closing():
                writer.write(again)
                await writer.drain()
                await asyncio.sleep(0)
            while await reader.read(65536):
                pass
        finally:
            writer.transport.abort()


def deafen(writer: asyncio.StreamWriter) -> None:
    """Nothing is read any more."""
    cast(asyncio.Transport, writer.transport).pause_reading()


def frame(payload: bytes, opcode: int = 2) -> bytes:
    """A client's WebSocket frame; the mask is nought."""
    length = len(payload)
    if length < 126:
        head = bytes([0x80 | opcode, 0x80 | length])
    elif length < 65536:
        head = bytes([0x80 | opcode, 0xFE]) + length.to_bytes(2, "big")
    else:
        head = bytes([0x80 | opcode, 0xFF]) + length.to_bytes(8, "big")
    return head + bytes(4) + payload


async def _deaf_operator(attacker: Attacker) -> None:
    """Asks and asks, and takes no answer."""
    _, writer = await attacker.dial()
    try:
        deafen(writer)
        while not writer.is_closing():
            writer.write(b'{"type":"status_query"}\n' * 100)
            await writer.drain()
            await asyncio.sleep(0)
    finally:
        writer.transport.abort()


_REPORT: Final = HostReport(plan_generation=0)
_HELLO: Final = frame(encode(Hello(protocol=PROTOCOL, version="0", report=_REPORT)))
_JOIN: Final = b"POST /v1/join HTTP/1.1\r\nHost: m\r\n"
_CLUSTER: Final = b'{"type":"cluster_report","cluster":1,"pid":1,"generation":0,"uptime":1,'

Deed = Callable[[Attacker], Awaitable[None]]
DEEDS: Final[dict[str, Deed]] = {
    # Who has no certificate of the fleet.
    "tcp-silent": lambda a: a.say(b"", tls=False),
    "tcp-half-hello": lambda a: a.drip(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", tls=False),
    "tcp-garbage": lambda a: a.say(b"GET / HTTP/1.1\r\n\r\n", tls=False),
    "tls-silent": lambda a: a.say(b""),
    "tls-slow-headers": lambda a: a.drip(b"GET /v1/ca HTTP/1.1\r\nX: " + b"x" * 999),
    "tls-endless-header": lambda a: a.say(b"GET /v1/ca HTTP/1.1\r\nX: " + b"x" * 999_999),
    "tls-slow-body": lambda a: a.say(_JOIN + b"Content-Length: 60000\r\n\r\n{"),
    "tls-zip-bomb": lambda a: a.say(
        _JOIN + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(_BOMB) + _BOMB
    ),
    "tls-upgrade": lambda a: a.converse(),
    # Who has the certificate of a host.
    "host-without-hello": lambda a: a.converse(),
    "host-slow-hello": lambda a: a.converse(_HELLO, drips=True),
    "host-huge-hello": lambda a: a.converse(frame(b"[" * 60_000_000)),
    "host-deaf": lambda a: a.converse(
        _HELLO, again=frame(encode(Ping(number=1))) * 100, reads=False
    ),
    "host-floods": lambda a: a.converse(_HELLO, again=frame(encode(_REPORT)) * 100),
    "host-websocket-pings": lambda a: a.converse(_HELLO, again=frame(b"", 9) * 1000, reads=False),
    "host-replaces-itself": lambda a: a.converse(_HELLO, _HELLO),
    # On a UNIX socket.
    "unix-silent": lambda a: a.say(b""),
    "unix-half-line": lambda a: a.say(_CLUSTER),
    "unix-endless-line": lambda a: a.say(b"x" * 2_000_000),
    "unix-deaf-operator": _deaf_operator,
}


class Crowd:
    """One attack."""

    def __init__(self, attack: Attack) -> None:
        self.attack = attack
        self.deed = DEEDS[attack.kind]
        self.attempts = self.refused = 0
        self.over = False
        self.gate = asyncio.Semaphore(_AT_ONCE)
        self.context = ssl.create_default_context()
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        if attack.certificate is not None and attack.key is not None:
            self.context.load_cert_chain(attack.certificate, attack.key)

    async def run(self) -> Came:
        began = time.monotonic()
        attackers = [Attacker(self, number) for number in range(self.attack.connections)]
        tasks = [asyncio.create_task(attacker.run()) for attacker in attackers]
        while (
            time.monotonic() - began < self.attack.seconds or self.attempts < self.attack.attempts
        ):
            await asyncio.sleep(0.05)
            if time.monotonic() - began > 10 * self.attack.seconds:
                break
        self.over = True
        came = Came(attempts=self.attempts, refused=self.refused, seconds=time.monotonic() - began)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return came


async def main() -> None:
    """Reads attacks until the end."""
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    )
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    print("ready", flush=True)
    while line := await lines.readline():
        came = await Crowd(msgspec.json.decode(line, type=Attack)).run()
        print("came", msgspec.json.encode(came).decode(), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
