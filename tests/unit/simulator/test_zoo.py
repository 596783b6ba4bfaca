# SPDX-License-Identifier: Apache-2.0
"""Bad clients over real sockets: an oracle that does not catch its client proves nothing."""

from __future__ import annotations

import asyncio
import random

import pytest

from discluster.simulator.oracles import Limits, judge
from tests.unit.simulator.client import Client
from tests.unit.simulator.conftest import Rig, StartRig

FACTOR = 0.01
INTERVAL = 40.0  # simulated seconds between heartbeats: 0.4 real ones


async def lively(start: StartRig, **settings: object) -> Rig:
    """A rig in which a hundred seconds pass in one."""
    options = {"time_factor": FACTOR, "heartbeat_interval": INTERVAL, "heartbeat_tolerance": 100.0}
    return await start(**{**options, **settings})


async def caught(rig: Rig, *, slack: float = 0.1) -> set[str]:
    """Violated oracles, with news that travel fast enough for a test."""
    limits = Limits(
        identify_interval=rig.simulator.settings.identify_interval,
        heartbeat_interval=INTERVAL,
        time_factor=FACTOR,
        news=0.02,
        overlap=0.02,
        timer_slack=slack,
        delivery=0.0,
    )
    records = await rig.control.ledger()
    now = rig.simulator.world.timing.now()
    return {verdict.oracle for verdict in judge(records, limits, now=now)}


async def beat_like_a_client(client: Client, jitter: float, beats: int) -> None:
    await asyncio.sleep(jitter * INTERVAL * FACTOR)
    for number in range(beats):
        if number:
            await asyncio.sleep(INTERVAL * FACTOR)
        await client.send(1, client.seq)


async def test_the_good_client_is_not_caught(start: StartRig) -> None:
    rig = await lively(start, identify_interval=5.0, max_concurrency=16)
    clients = [await rig.ready((shard, 24)) for shard in range(16)]
    await asyncio.sleep(6 * FACTOR)
    clients += [await rig.ready((shard, 24)) for shard in range(16, 24)]
    spread = random.Random(3).sample(range(24), 24)
    beats = [
        beat_like_a_client(client, slot / 24, 2)
        for client, slot in zip(clients, spread, strict=True)
    ]
    await asyncio.gather(*beats)
    await rig.control.drop("all")
    for client in clients:
        await client.closed()
        await rig.resumed(client)
    await rig.control.invalidate(3)
    await asyncio.sleep(6 * FACTOR)
    await rig.ready((3, 24))
    assert await caught(rig, slack=0.35) == set()


async def test_the_storm_client_identifies_until_the_token_is_gone(start: StartRig) -> None:
    rig = await lively(start, identify_interval=500.0, session_start_total=6)
    for _ in range(7):
        client = await rig.dial()
        await client.identify()
        payload = await client.until(lambda got: got["op"] == 9 or got.get("t") == "READY")
        client.kill()
        assert payload
        if (await rig.control.summary()).budget.remaining == 0:
            break
    last = await rig.dial()
    await last.identify()
    assert await last.closed() == 4004
    assert {"O-01", "O-03"} <= await caught(rig)


async def test_the_forgetful_client_identifies_instead_of_resuming(start: StartRig) -> None:
    rig = await lively(start)
    client = await rig.ready()
    client.kill()
    await rig.ready()
    assert {"O-03", "O-05"} <= await caught(rig)


async def test_the_double_client_runs_a_shard_twice(start: StartRig) -> None:
    rig = await lively(start)
    await rig.ready()
    await rig.ready()
    await asyncio.sleep(0.05)
    assert {"O-05", "O-09"} <= await caught(rig)


@pytest.mark.parametrize("code", [1000, 1001])
async def test_the_polite_client_kills_its_sessions(start: StartRig, code: int) -> None:
    rig = await lively(start)
    client = await rig.ready()
    await client.close(code)
    again = await rig.dial(client.resume_url)
    await again.resume(client)
    await again.op(9)
    assert "O-12" in await caught(rig)


async def test_the_stubborn_client_uses_a_dead_session_again(start: StartRig) -> None:
    rig = await lively(start)
    client = await rig.ready()
    await rig.control.invalidate(0)
    await client.op(9)
    client.kill()
    again = await rig.dial(client.resume_url)
    await again.resume(client)
    await again.op(9)
    assert await caught(rig) == {"O-06"}


async def test_the_hasty_client_does_not_wait_after_invalid_session(start: StartRig) -> None:
    rig = await start()
    client = await rig.ready()
    await rig.control.invalidate(0)
    await client.op(9)
    await client.identify()
    await client.event("READY")
    assert await rig.oracles() == {"O-06"}


async def test_the_deaf_client_dials_on_after_4004(start: StartRig) -> None:
    rig = await lively(start)
    for _ in range(2):
        client = await rig.dial()
        await client.identify(token="wrong")
        assert await client.closed() == 4004
        await asyncio.sleep(0.05)
    assert await caught(rig) == {"O-07"}


async def test_the_lost_client_identifies_on_the_resume_host(start: StartRig) -> None:
    rig = await lively(start)
    client = await rig.ready()
    await rig.control.invalidate(0, silent=True)
    client.kill()
    await asyncio.sleep(2 * FACTOR)
    again = await rig.dial(client.resume_url)
    await again.identify()
    await again.event("READY")
    assert await caught(rig) == {"O-04"}


async def test_the_talkative_client_sends_too_much(start: StartRig) -> None:
    rig = await lively(start, heartbeat_interval=4000.0)
    client = await rig.ready()
    presence = {"since": None, "activities": list[str](), "status": "online", "afk": False}
    for _ in range(121):
        await client.send(3, presence)
    assert await client.closed() == 4008
    assert "O-10" in await caught(rig)


async def test_the_herd_beats_all_at_once(start: StartRig) -> None:
    rig = await lively(start)
    clients = [await rig.ready((shard, 24)) for shard in range(24)]
    await asyncio.gather(*(beat_like_a_client(client, 0.0, 2) for client in clients))
    assert await caught(rig) == {"O-11"}


async def test_the_sleeper_beats_too_rarely(start: StartRig) -> None:
    rig = await lively(start)
    client = await rig.ready()
    await beat_like_a_client(client, 0.5, 1)
    await asyncio.sleep(1.6 * INTERVAL * FACTOR)
    await client.heartbeat()
    assert await caught(rig) == {"O-11"}
