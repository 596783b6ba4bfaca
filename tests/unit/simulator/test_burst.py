# SPDX-License-Identifier: Apache-2.0
"""Bursts: made ahead, written at once, and ordinary events in every other respect."""

from __future__ import annotations

import json
import zlib

import pytest

from discluster.simulator.burst import Burst
from discluster.simulator.chatter import SIZE
from discluster.simulator.client import SimulatorError
from discluster.simulator.compression import make_encoder
from discluster.simulator.events import Catalogue
from tests.unit.simulator.client import Client
from tests.unit.simulator.conftest import StartRig

QUERIES = [
    "v=10&encoding=json",
    "v=10&encoding=json&compress=zlib-stream",
    "v=10&encoding=json&compress=zstd-stream",
]


class Narrow:
    """An outlet that is full after each write."""

    def __init__(self) -> None:
        self.writable = True
        self.got: list[bytes] = []

    def write(self, frames: object) -> None:
        assert isinstance(frames, tuple)
        self.got += frames
        self.writable = False


def sequences(client: Client) -> list[int]:
    return [payload["s"] for payload in client.dispatches if payload["t"] == "MESSAGE_CREATE"]


@pytest.mark.parametrize("query", QUERIES)
async def test_burst_is_written_whole_and_in_order_on_release(start: StartRig, query: str) -> None:
    rig = await start()
    clients = [await rig.ready((shard, 2), query=query) for shard in range(2)]
    first = [(await rig.control.shards())[shard].seq + 1 for shard in range(2)]
    assert await rig.control.prepare_burst(events=500) == 1000
    held = await rig.control.burst()
    assert (held.connections, held.events) == (2, 1000)
    assert held.unsent == held.bytes > 100_000
    assert await rig.control.release_burst() == 1000
    for client, begin in zip(clients, first, strict=True):
        await client.reach(begin + 499)
        assert sequences(client) == list(range(begin, begin + 500))
    assert (await rig.control.burst()).unsent == 0
    assert await rig.oracles() == set()


async def test_acknowledgement_queues_behind_the_burst(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready((0, 1), query=QUERIES[1])
    await client.reach((await rig.control.shards())[0].seq)
    await rig.control.prepare_burst(events=50)
    await client.send(1, client.seq)
    await rig.control.wait_for_summary(lambda summary: summary.heartbeats == 1, 5.0)
    await rig.control.release_burst()
    order = [(await client.receive())["op"] for _ in range(51)]
    assert order == [0] * 50 + [11]
    await rig.control.event(0, "AFTER", {})
    await client.event("AFTER")


async def test_burst_of_a_lost_connection_is_replayed(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready((0, 1))
    await client.reach((await rig.control.shards())[0].seq)
    await rig.control.prepare_burst(events=300)
    await rig.control.drop(0)
    assert await client.closed() is None
    again = await rig.resumed(client)
    assert len(sequences(again)) == 300
    assert (await rig.control.burst()).unsent == 0


async def test_burst_is_in_the_log_of_what_was_sent(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready((0, 1))
    await rig.control.prepare_burst(0, events=40)
    await rig.control.release_burst()
    await client.reach((await rig.control.shards())[0].seq)
    got = [
        (int(payload["d"]["guild_id"]), payload["d"]["_count"], payload["s"])
        for payload in client.dispatches
        if payload["t"] == "MESSAGE_CREATE"
    ]
    assert await rig.control.sent(0) == got


async def test_burst_that_cannot_be_is_refused(start: StartRig) -> None:
    rig = await start(guilds=1)
    with pytest.raises(SimulatorError, match="no shard is connected"):
        await rig.control.prepare_burst()
    client = await rig.ready((0, 1), intents=0)
    with pytest.raises(SimulatorError, match="GUILD_MESSAGES"):
        await rig.control.prepare_burst(0)
    with pytest.raises(SimulatorError, match="at least 1"):
        await rig.control.prepare_burst(0, events=0)
    await rig.control.event(0, "STILL_THERE", {})
    await client.event("STILL_THERE")


def test_burst_is_written_piece_by_piece_and_counts_what_is_left() -> None:
    burst, narrow = Burst(), Narrow()
    for number in range(5):
        burst.write([bytes([number]) * 100_000])
    assert burst.left == burst.size == 500_000
    assert not burst.drain(narrow)
    assert burst.left == 500_000 - len(narrow.got[0])
    narrow.writable = True
    assert burst.drain(narrow)
    assert b"".join(narrow.got) == b"".join(bytes([number]) * 100_000 for number in range(5))


@pytest.mark.parametrize(("scheme", "most"), [("zlib-stream", 4.5), ("zstd-stream", 4.5)])
def test_bodies_of_a_burst_are_varied(scheme: str, most: float) -> None:
    deck = Catalogue(1).chatter
    rounds = [
        [template.render(seq, 900 << 22, seq, True) for seq, template in enumerate(deck, begin)]
        for begin in (1, SIZE + 1)
    ]
    plain = rounds[0] + rounds[1]
    assert len({json.dumps(json.loads(payload)["d"]) for payload in plain}) == 2 * SIZE
    assert 900 <= sum(map(len, plain)) / len(plain) <= 1100
    _, encode = make_encoder(scheme, zlib_level=6, zstd_level=3)
    ratio = sum(map(len, plain)) / sum(len(encode(payload)) for payload in plain)
    assert 3.5 <= ratio <= most
    assert len(zlib.compress(b"".join(plain))) * 3 < sum(map(len, plain))
