# SPDX-License-Identifier: Apache-2.0
"""Calls wait until nothing else does."""

import asyncio
from pathlib import Path

import msgspec

from discluster.messages import (
    LONGEST_VALUE,
    CallAnswer,
    CallFault,
    Message,
    Permit,
    Ping,
    control_to_cluster,
    decode,
    encode,
)
from discluster.sidelane import ROOM, OutgoingQueue, SideLane
from tests.waiting import wait_for

LARGE = CallAnswer(number=1, cluster=3, value=msgspec.Raw(b'"%s"' % (b"x" * (LONGEST_VALUE - 2))))
SMALL = CallAnswer(number=1, cluster=4, fault=CallFault(code="busy", text="no room"))
PERMIT = Permit(shard=1, since=0, until=1)


def test_what_cannot_wait_overtakes_all_calls() -> None:
    queue = OutgoingQueue()
    for message in (LARGE, SMALL, Ping(number=1), LARGE, Ping(number=2)):
        queue.put_nowait(message)
    assert (queue.qsize(), queue.empty()) == (5, False)
    told = [queue.get_nowait() for _ in range(5)]
    assert told == [Ping(number=1), Ping(number=2), LARGE, SMALL, LARGE]
    assert queue.empty()


def test_calls_have_room_of_their_own_and_what_says_so_still_has_some() -> None:
    queue = OutgoingQueue()
    count = 0
    while queue.admits(LARGE):
        queue.put_nowait(LARGE)
        count += 1
    assert ROOM - 2 * LONGEST_VALUE < count * LONGEST_VALUE <= ROOM
    assert queue.admits(SMALL)
    queue.get_nowait()
    assert queue.admits(LARGE)


async def test_permit_is_behind_few_answers_on_a_stream_that_is_not_read(tmp_path: Path) -> None:
    peers: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    server = await asyncio.start_unix_server(
        lambda reader, writer: peers.append((reader, writer)), tmp_path / "s"
    )
    reader, writer = await asyncio.open_unix_connection(tmp_path / "s", limit=LONGEST_VALUE + 4096)
    await wait_for(lambda: peers, 5)
    ours = peers[0][1]
    lane = SideLane(ours)
    sent = 0
    while lane.send(LARGE):
        sent += 1
    assert lane.send(SMALL)
    await wait_for(lambda: ours.transport.get_write_buffer_size() > 0, 5)
    assert ours.transport.get_write_buffer_size() < 2 * LONGEST_VALUE
    ours.write(encode(PERMIT) + b"\n")
    heard: list[Message] = []
    async with asyncio.timeout(10):
        while len(heard) < sent + 2:
            line = await reader.readline()
            heard.append(decode(control_to_cluster, line, peer="CONTROL"))
    # Two that the reader takes by itself, two in the kernel, two in the stream's own buffer.
    assert heard.index(PERMIT) <= 8 < sent // 10
    assert heard.count(LARGE) == sent
    assert heard[-1] == SMALL
    lane.close()
    ours.close()
    assert not lane.send(SMALL)
    writer.close()
    server.close()
    await asyncio.gather(ours.wait_closed(), writer.wait_closed(), return_exceptions=True)
