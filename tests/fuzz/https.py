# SPDX-License-Identifier: Apache-2.0
"""An HTTP interface of ours without a network: bytes in, what it answers out."""

import asyncio
import socket
from typing import Final

from aiohttp import web

from discluster.master.serving import runner
from tests.clock import settle

_PAUSE: Final = 0.001
_PAUSES: Final = 5


class Wire(asyncio.Transport):
    """The peer's end: keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self._closing = False
        self.ends = socket.socketpair()  # whose end it is, the kernel tells

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def writelines(self, parts: object) -> None:
        for part in parts:  # type: ignore[attr-defined]
            self.write(part)

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    abort = close

    def get_extra_info(self, name: str, default: object = None) -> object:
        if name == "socket":
            return self.ends[0]
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def exchange(application: web.Application, data: bytes) -> bytes:
    """What one connection that sends ``data`` and then ends is answered."""
    served = runner(application)
    await served.setup()
    assert served.server is not None
    wire = Wire()
    protocol = served.server()
    protocol.connection_made(wire)
    try:
        protocol.data_received(data)
        await settle(20)
        for _ in range(_PAUSES):  # it waits for the rest, or a thread is at work
            if wire.written or wire.is_closing():
                break
            await asyncio.sleep(_PAUSE)
    finally:
        protocol.eof_received()
        protocol.connection_lost(None)
        await settle(5)
        await served.cleanup()
        for end in wire.ends:
            end.close()
    return bytes(wire.written)


def statuses(answered: bytes) -> list[int]:
    """Of all responses in it."""
    heads = [line for line in answered.split(b"\r\n") if line.startswith(b"HTTP/1.")]
    return [int(line.split()[1]) for line in heads]
