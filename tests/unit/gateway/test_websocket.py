# SPDX-License-Identifier: Apache-2.0
"""What a WebSocket does with the bytes of its connection, one callback at a time."""

import asyncio
from typing import Any

import pytest

from discluster.gateway import Closed
from discluster.gateway.websocket import WebSocket

HELLO = b"\x82\x05hello"


class Tcp(asyncio.Transport):
    """A connection on which only what the WebSocket does to it happens."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.calls: list[str] = []
        self.ended = ""

    @property
    def paused(self) -> bool:
        return self.calls[-1:] == ["pause"]

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.written))

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def is_closing(self) -> bool:
        return bool(self.ended)

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = self.ended or "aborted"


def make() -> tuple[WebSocket, Tcp]:
    tcp = Tcp()
    return WebSocket(tcp, limit=1 << 20, release=lambda: None), tcp


@pytest.mark.covers("T-34", "F25")
async def test_at_most_two_reads_wait_in_memory_for_whoever_receives() -> None:
    """One for the task that was woken but not run yet, and the one that shows it is slow."""
    socket, tcp = make()
    receiving = asyncio.create_task(socket.receive())
    await asyncio.sleep(0)
    reads = 0
    while not tcp.paused:
        socket.feed_data(HELLO)
        reads += 1
        assert reads < 10
    assert reads == 2
    assert await receiving == [b"hello"] * 2
    assert tcp.calls == ["pause"]  # until there is somebody again who waits
    receiving = asyncio.create_task(socket.receive())
    await asyncio.sleep(0)
    assert tcp.calls == ["pause", "resume"]
    socket.feed_data(HELLO)
    assert await receiving == [b"hello"]


async def test_nobody_receives_and_one_read_is_enough() -> None:
    socket, tcp = make()
    socket.feed_data(HELLO)
    assert tcp.paused


async def test_half_a_message_wakes_nobody_and_holds_nothing_back() -> None:
    socket, tcp = make()
    socket.feed_data(HELLO[:4])
    assert not tcp.paused
    receiving = asyncio.create_task(socket.receive())
    await asyncio.sleep(0)
    socket.feed_data(HELLO[4:])
    assert await receiving == [b"hello"]


async def test_messages_before_a_close_frame_are_received_before_the_end() -> None:
    socket, _ = make()
    socket.feed_data(HELLO + b"\x88\x06\x0f\xa4gone" + HELLO[:3])
    assert (await socket.receive())[:1] == [b"hello"]  # type: ignore[index]
    assert await socket.receive() == Closed(4004, "gone")
    assert await socket.receive() == Closed(4004, "gone")


async def test_pings_of_a_peer_that_reads_nothing_are_not_answered_without_end() -> None:
    socket, tcp = make()
    for _ in range(5000):
        socket.feed_data(b"\x89\x7d" + bytes(125))
    assert tcp.get_write_buffer_size() < 70_000


async def test_close_of_ours_ends_when_the_peer_has_said_it_too() -> None:
    socket, tcp = make()
    closing = asyncio.create_task(socket.close(4000))
    await asyncio.sleep(0)
    socket.feed_data(HELLO + b"\x88\x02\x0f\xa0")
    assert tcp.ended == "closed"
    assert await socket.receive() == Closed(None)
    socket.feed_eof()
    await closing


async def test_cancelled_receive_loses_nothing() -> None:
    socket, _ = make()
    receiving = asyncio.create_task(socket.receive())
    await asyncio.sleep(0)
    receiving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await receiving
    socket.feed_data(HELLO)
    assert await socket.receive() == [b"hello"]
