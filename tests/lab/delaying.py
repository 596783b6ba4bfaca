# SPDX-License-Identifier: Apache-2.0
"""A proxy that keeps what passes for a while, both ways: ``python3 delaying.py PORT SECONDS``.

Runs on a machine of the lab, whose own connections nftables leads to it. It uses nothing but
Python, so that it can be copied there.
"""

import asyncio
import socket
import struct
import sys

NEAR = "127.0.0.1"
_ORIGINAL_DESTINATION = 80  # SO_ORIGINAL_DST, linux/netfilter_ipv4.h
_ADDRESS = struct.Struct("!2xH4s8x")  # struct sockaddr_in
_READ = 65536


def destination(connection: socket.socket) -> tuple[str, int]:
    """Where it was going to before it was led here."""
    told = connection.getsockopt(socket.SOL_IP, _ORIGINAL_DESTINATION, _ADDRESS.size)
    port, address = _ADDRESS.unpack(told)
    return socket.inet_ntoa(address), port


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Until one end is gone. What is read is sent ``delay`` seconds later, in order."""
    chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
    clock = asyncio.get_running_loop().time

    async def read() -> None:
        data = b"first"
        while data:
            data = await reader.read(_READ)
            chunks.put_nowait((clock() + delay, data))

    reading = asyncio.create_task(read())
    try:
        while True:
            due, data = await chunks.get()
            await asyncio.sleep(due - clock())
            if not data:
                break
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    finally:
        reading.cancel()


async def serve(port: int, delay: float) -> None:
    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            where = destination(writer.get_extra_info("socket"))
            await asyncio.sleep(delay)
            far_reader, far_writer = await asyncio.open_connection(*where)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(pump(reader, far_writer, delay))
                    group.create_task(pump(far_reader, writer, delay))
            finally:
                far_writer.transport.abort()
        except* OSError:
            pass  # one end is gone, and so will the other be
        finally:
            writer.transport.abort()

    async with await asyncio.start_server(accepted, NEAR, port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
