# SPDX-License-Identifier: Apache-2.0
"""4003 on all shards at once, as when the token is reset or an intent is withdrawn: F12."""

import asyncio

import pytest

from discluster.simulator import ledger
from discluster.simulator.deeds import Close
from tests.faults.loop import simulated
from tests.faults.scene import Scene

SHARDS = 16


@simulated
@pytest.mark.covers("F12", "T-57", "T-58", "O-08")
async def test_one_shard_tries_for_all_and_all_come_back_when_it_is_accepted(scene: Scene) -> None:
    async with scene.set(shards=SHARDS, gated=True) as stage:
        mark = await stage.hit(lambda: stage.client.close_connection("all", 4003))
        assert stage.records(ledger.Identify, since=mark) == []
        opened = [r.time for r in stage.records(ledger.Open, since=mark)]
        accepted = stage.records(ledger.Resumed, since=mark)[0].time
        assert len([time for time in opened if time <= accepted]) == 1
        assert len(opened) == SHARDS


@simulated
@pytest.mark.covers("F12", "T-04", "T-58", "O-07")
async def test_reset_token_costs_one_dial_of_one_shard(scene: Scene) -> None:
    async with scene.set(shards=SHARDS, gated=True, heals=False) as stage:
        mark = stage.mark
        await stage.client.revoke_token()
        await asyncio.sleep(1800)
        states = sorted(stage.is_in(n) for n in range(SHARDS))
        assert states == ["fatal", *["held"] * (SHARDS - 1)]
        assert len(stage.records(ledger.Open, since=mark)) == 1


@simulated
@pytest.mark.covers("F12", "F29", "T-58", "O-07")
async def test_withdrawn_intent_that_we_use_costs_one_dial_of_one_shard(scene: Scene) -> None:
    async with scene.set(shards=SHARDS, gated=True, heals=False) as stage:
        mark = stage.mark
        for point in ("resume", "identify"):
            await stage.script(point, Close(code=4014), shard="all", times=None)
        await stage.client.close_connection("all", 4003)
        await asyncio.sleep(1800)
        states = sorted(stage.is_in(n) for n in range(SHARDS))
        assert states == ["fatal", *["held"] * (SHARDS - 1)]
        assert len(stage.records(ledger.Open, since=mark)) == 1


@simulated
@pytest.mark.covers("F12", "F29", "T-56", "O-07")
async def test_terminal_code_of_one_shard_keeps_all_others_from_dialing_but_not_from_living(
    scene: Scene,
) -> None:
    async with scene.set(gated=True, heals=False) as stage:
        await stage.client.close_connection(0, 4004)
        await stage.until(lambda: stage.is_in(0) == "fatal", 10)
        mark = stage.mark
        await stage.client.drop(1)
        await asyncio.sleep(900)
        assert [stage.is_in(n) for n in range(4)] == ["fatal", "held", "ready", "ready"]
        assert stage.records(ledger.Open, since=mark) == []
