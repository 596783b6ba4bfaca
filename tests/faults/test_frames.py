# SPDX-License-Identifier: Apache-2.0
"""Payloads cut, joined, throttled, corrupt and huge: F17, F18, F24."""

import asyncio
import resource
from typing import Final

import pytest

from discluster.gateway import Compression
from discluster.simulator import ledger
from discluster.simulator.deeds import (
    AnyDeed,
    Big,
    Corrupt,
    Frames,
    StopReading,
    Throttle,
    Truncate,
)
from tests.faults.loop import simulated
from tests.faults.scene import Scene
from tests.faults.test_reconnects import COMPRESSIONS

ZLIB: Final[dict[str, AnyDeed]] = {
    "two-messages": Frames(split=2),
    "fifty-messages": Frames(split=50),
    "suffix-apart": Frames(suffix=True),
    "suffix-apart-of-three": Frames(split=3, suffix=True),
    "joined": Frames(join=5),
    "false-suffix": Frames(false_suffix=True),
    "false-suffix-and-cut": Frames(false_suffix=True, split=5),
}
ANY: Final[dict[str, AnyDeed]] = {
    "continuation-frames": Frames(fragments=7),
    "one-byte-segments": Throttle(chunk=1),
    "small-segments": Throttle(chunk=13),
}


@simulated
@pytest.mark.parametrize("how", ZLIB)
@pytest.mark.covers("F17", "T-62", "T-63", "T-64", "T-66")
async def test_zlib_payloads_are_read_however_they_are_cut_and_joined(
    scene: Scene, how: str
) -> None:
    async with scene.set(
        shards=2, compression="zlib-stream", start=False, events_per_second=40
    ) as stage:
        await stage.stop()
        await stage.script("hello", ZLIB[how], times=None)
        await stage.start()
        await asyncio.sleep(60)
        await stage.hit(lambda: stage.client.drop("all"))
        await asyncio.sleep(10)
        assert len(stage.records(ledger.Open)) == 4


@simulated
@COMPRESSIONS
@pytest.mark.parametrize("how", ANY)
@pytest.mark.covers("F17", "F24")
async def test_frames_are_read_however_they_arrive(
    scene: Scene, how: str, compression: Compression
) -> None:
    async with scene.set(shards=2, compression=compression, start=False) as stage:
        await stage.stop()
        await stage.script("hello", ANY[how], times=None)
        await stage.start()
        await asyncio.sleep(20)
        assert len(stage.records(ledger.Open)) == 2


@simulated
@pytest.mark.covers("F17", "T-66")
async def test_several_payloads_in_one_message_without_compression_are_all_read(
    scene: Scene,
) -> None:
    async with scene.set(shards=2, compression="none", start=False, events_per_second=40) as stage:
        await stage.stop()
        await stage.script("hello", Frames(join=5), times=None)
        await stage.start()
        await asyncio.sleep(60)
        assert len(stage.records(ledger.Open)) == 2


@simulated
@COMPRESSIONS
@pytest.mark.covers("F17")
async def test_text_frames_where_binary_ones_are_due_cost_at_most_a_connection(
    scene: Scene, compression: Compression
) -> None:
    async with scene.set(shards=2, compression=compression) as stage:
        mark = stage.mark
        await stage.script("hello", Frames(text=True), times=2)
        await stage.client.drop("all")
        await stage.until(lambda: len(stage.records(ledger.Resumed, since=mark)) == 2, 60)
        assert stage.records(ledger.Identify, since=mark) == []


@simulated
@pytest.mark.parametrize("compression", ["zlib-stream", "zstd-stream"])
@pytest.mark.covers("F18", "T-60", "T-62", "T-64")
async def test_corrupt_byte_costs_a_connection_and_never_the_session(
    scene: Scene, compression: Compression
) -> None:
    """Not every flipped bit breaks the stream at once: what it breaks may be one payload."""
    async with scene.set(
        shards=8, compression=compression, events_per_second=40, conserves=False
    ) as stage:
        await stage.script("dispatch", Corrupt(), shard="all", each_shard=True, count=5)
        await stage.until(lambda: len(stage.records(ledger.Resumed)) >= 1, 60)
        await asyncio.sleep(60)
        await stage.all_are("ready")
        assert len(stage.records(ledger.Identify)) == 8
        assert all(resume.accepted for resume in stage.records(ledger.Resume))


@simulated
@COMPRESSIONS
@pytest.mark.covers("F18", "T-63", "O-13")
async def test_stream_that_stops_in_the_middle_of_a_payload_is_left_and_resumed(
    scene: Scene, compression: Compression
) -> None:
    async with scene.set(compression=compression) as stage:
        mark = stage.mark
        await stage.script("dispatch", Truncate(), shard="all", each_shard=True, count=3)
        await stage.until(lambda: len(stage.records(ledger.Resumed, since=mark)) == 4, 120)
        assert stage.records(ledger.Identify, since=mark) == []


@simulated
@COMPRESSIONS
@pytest.mark.covers("F18", "T-65")
async def test_thirty_megabytes_are_one_event(scene: Scene, compression: Compression) -> None:
    async with scene.set(shards=1, compression=compression) as stage:
        await stage.script("dispatch", Big(bytes=30_000_000, t="GUILD_CREATE"), shard=0)
        guilds = stage.types(0).count("GUILD_CREATE")
        await stage.until(lambda: stage.types(0).count("GUILD_CREATE") > guilds, 30)
        assert len(stage.records(ledger.Open)) == 1


@simulated
@pytest.mark.parametrize("compression", ["zlib-stream", "zstd-stream"])
@pytest.mark.parametrize("ratio", [100, 1000])
@pytest.mark.covers("F18")
async def test_bomb_costs_few_resumes_one_identify_and_little_memory(
    scene: Scene, compression: Compression, ratio: int
) -> None:
    """It is in the session, so every RESUME brings it again: the session is given up."""
    async with scene.set(
        shards=1, compression=compression, accused=frozenset({"O-05"}), conserves=False
    ) as stage:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        mark = stage.mark
        await stage.script("dispatch", Big(bytes=100_000_000, ratio=ratio), shard=0)
        await stage.seen(ledger.Ready, since=mark, timeout=120)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        # The bomb itself is made in this process, too, and more than once.
        assert grown < 600_000
        assert len(stage.records(ledger.Identify, since=mark)) == 1
        assert len(stage.records(ledger.Resume, since=mark)) <= 5


# --- slow networks --------------------------------------------------------------------------------


@simulated
@pytest.mark.parametrize(
    "deed",
    [
        Throttle(bytes_per_second=125_000),
        Throttle(delay=0.3, jitter=0.2),
        Throttle(delay=0.3, jitter=0.2, chunk=1400, bytes_per_second=20_000),
    ],
    ids=["1-mbps", "latency", "both"],
)
@pytest.mark.covers("F24", "T-36", "O-11")
async def test_slow_network_makes_no_heartbeat_late(scene: Scene, deed: Throttle) -> None:
    async with scene.set(start=False, events_per_second=20) as stage:
        await stage.stop()
        await stage.script("accepted", deed, times=None)
        await stage.start()
        await asyncio.sleep(300)
        assert len(stage.records(ledger.Open)) == 4
        assert all(0 <= (s.view().latency or 0) < 3 for s in stage.shards)


@simulated
@pytest.mark.covers("F24", "T-23")
async def test_window_that_is_closed_for_a_while_costs_nothing(scene: Scene) -> None:
    """Discord reads nothing for 20 seconds; heartbeats wait in the socket."""
    async with scene.set() as stage:
        mark = stage.mark
        await stage.script("now", StopReading(seconds=20), shard="all", times=None, lasts=1.0)
        await asyncio.sleep(200)
        assert stage.records(ledger.Open, since=mark) == []
