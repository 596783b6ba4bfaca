# SPDX-License-Identifier: Apache-2.0
"""The storms in which others lost their tokens, for 24 hours, against budget, guard and allowances.

Real shards and a simulated Discord, with MASTER's and the hosts' own parts in between. After each
Discord's own count has the reserve left, by which no loop came to the reset of the token.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from discluster.errors import DiscordError
from discluster.master.discord import TOKEN_REJECTED, GatewayBot
from discluster.simulator import ledger
from discluster.simulator.deeds import Close, Delay, Invalidate, Reset
from tests.faults.fleet import MASTER, Fleet
from tests.faults.loop import SimulatedLoop, simulated
from tests.faults.scene import Scene
from tests.faults.stage import Stage

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
LIMIT: Final = MASTER.identify_loop_limit
TERMINAL: Final = (4004, 4010, 4011, 4012, 4013, 4014)


class Storm:
    """A stage with the fleet's part of it."""

    def __init__(self, stage: Stage, fleet: Fleet) -> None:
        self.stage = stage
        self.fleet = fleet
        total = stage.simulator.settings.session_start_total
        self.reserve = -(-total // 10)

    @property
    def left(self) -> int:
        """Of Discord's own count."""
        world = self.stage.simulator.world
        return world.bots[0].budget.view(world.timing.now()).remaining

    def identifies(self, shard: int | None = None, *, since: int = 0) -> int:
        """That arrived at Discord."""
        records = self.stage.records(ledger.Identify, since=since)
        return sum(shard is None or (r.shard or (None,))[0] == shard for r in records)

    def are(self, state: str, *shards: int) -> bool:
        return all(self.stage.is_in(shard) == state for shard in shards)


@asynccontextmanager
async def storm(
    scene: Scene,
    *,
    shards: int = 4,
    hosts: int = 1,
    heals: bool = True,
    calm: bool = True,
    **settings: Any,
) -> AsyncIterator[Storm]:
    """``calm``: all shards are ready when it begins; ``heals``: and when it ends."""
    defaults: dict[str, Any] = {"events_per_second": 0, "heartbeat_interval": 300.0, "tick": 10.0}
    chosen = defaults | settings
    async with scene.set(
        shards=shards, start=False, heals=False, conserves=False, **chosen
    ) as stage:
        await stage.stop()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimulatedLoop)
        fleet = Fleet(stage, shards=shards, hosts=hosts)
        stage.permits = fleet  # type: ignore[assignment]
        await fleet.start()
        try:
            await stage.start(ready=calm)
            loop.hurry(5.0)
            made = Storm(stage, fleet)
            yield made
            if heals:
                await stage.all_are("ready", HOUR)
            assert made.left >= made.reserve
        finally:
            loop.hurry(0.1)
            await stage.stop()
            await fleet.stop()
            await asyncio.sleep(5)  # until Discord has seen it, too


@simulated
@pytest.mark.covers("T-01", "O-03")
async def test_restart_loop_resumes_where_sessions_are_kept(scene: Scene) -> None:
    async with storm(scene) as it:
        for _ in range(200):
            await it.fleet.kill_processes()
            await it.stage.start()
            await asyncio.sleep(30)
        assert it.identifies() == 4


@simulated
@pytest.mark.covers("T-01", "O-03")
async def test_restart_loop_that_loses_its_sessions_is_stopped_and_told(scene: Scene) -> None:
    # Killed as it waits, a shard hangs up on HELLO; and the sessions are lost by our own doing.
    async with storm(scene, accused=frozenset({"O-05", "O-08"})) as it:
        for _ in range(200):
            await it.fleet.kill_processes()
            for shard in range(4):
                it.stage.file.slot(shard, 4).clear()
            await it.stage.start(ready=False)
            await asyncio.sleep(60)
        assert it.identifies() <= 4 * (LIMIT + 1)
        assert it.are("waiting", 0, 1, 2, 3)
        assert f"shards 0, 1, 2, 3 held back: identified {LIMIT} times within an hour" in (
            it.fleet.troubles
        )
        it.fleet.resume()


@simulated
@pytest.mark.covers("T-02", "T-06", "O-03")
async def test_close_after_every_ready_stops_that_shard_and_no_other(scene: Scene) -> None:
    async with storm(scene) as it:
        mark = it.stage.mark
        for point in ("ready", "resumed"):
            deeds = (Delay(seconds=2.0), Invalidate(d="false"))
            await it.stage.script(point, *deeds, shard=0, times=None)
        await it.stage.client.drop(0)
        await asyncio.sleep(DAY)
        assert it.identifies(since=mark) == it.identifies(0, since=mark) <= LIMIT + 1
        assert it.are("waiting", 0)
        assert it.are("ready", 1, 2, 3)
        assert f"shard 0 held back: identified {LIMIT} times within an hour; the last time" in (
            it.fleet.troubles
        )
        reason = it.fleet.hosts["host0"].cluster.denials[0]
        assert reason.startswith("held back by the identify guard: ")
        await it.stage.client.unscript()
        await asyncio.sleep(HOUR)
        assert it.are("waiting", 0), "nobody but the operator lets it go"
        assert it.fleet.resume(0) == ("Released shard 0; identifies are counted anew.",)


@simulated
@pytest.mark.covers("T-03", "O-09")
async def test_connections_that_die_all_day_cost_no_identify(scene: Scene) -> None:
    async with storm(scene) as it:
        mark = it.stage.mark
        for _ in range(480):
            await it.stage.client.drop("all")
            await asyncio.sleep(180)
        assert it.identifies(since=mark) == 0


@simulated
@pytest.mark.covers("T-04", "O-07")
async def test_reset_token_is_not_tried_for_a_day(scene: Scene) -> None:
    async with storm(scene, gated=True, heals=False) as it:
        mark = it.stage.mark
        await it.stage.client.revoke_token()
        await asyncio.sleep(DAY)
        assert it.identifies(since=mark) <= 1
        assert len(it.stage.records(ledger.Open, since=mark)) <= 1
        assert "4004" in it.fleet.troubles


@simulated
@pytest.mark.covers("T-05", "O-03")
async def test_three_hosts_share_what_is_left_also_with_master_away(scene: Scene) -> None:
    """1.2 identifies for each shard above the reserve; all sessions are lost again and again."""
    async with storm(
        scene,
        shards=12,
        hosts=3,
        session_start_total=100,
        session_start_remaining=26,
        reset_after=30 * HOUR,
    ) as it:
        await it.stage.client.invalidate("all", resumable=False)
        await asyncio.sleep(HOUR)
        assert it.left == it.reserve
        assert "waiting for identify budget, 10 left (10 of them the reserve), resets in 29 h" in (
            it.fleet.troubles
        )
        assert "waiting for identify budget, 10 left" in it.fleet.status().state
        await it.fleet.master_stops()
        await asyncio.sleep(2 * HOUR)
        assert it.left == it.reserve
        reasons = [r for host in it.fleet.hosts.values() for r in host.cluster.denials.values()]
        assert reasons
        assert all("this host's share of the identify budget is used" in r for r in reasons)
        await it.fleet.master_starts()
        await asyncio.sleep(DAY)
        assert it.left == it.reserve
        await asyncio.sleep(4 * HOUR)


@simulated
@pytest.mark.covers("T-05", "O-03")
async def test_hosts_without_master_spend_their_shares_and_no_more(scene: Scene) -> None:
    async with storm(
        scene, shards=6, hosts=3, session_start_total=100, reset_after=DAY, max_concurrency=2
    ) as it:
        await asyncio.sleep(60)
        await it.fleet.master_stops()
        for _ in range(12):
            await it.stage.client.invalidate("all", resumable=False)
            await asyncio.sleep(HOUR)
        assert it.reserve < it.left < 94
        before = it.left
        await asyncio.sleep(HOUR)
        assert it.left == before
        await it.fleet.master_starts()


@simulated
@pytest.mark.covers("T-06", "O-03")
async def test_shard_that_fails_for_ever_costs_a_bounded_number_and_is_told(scene: Scene) -> None:
    async with storm(scene, calm=False) as it:
        await it.stage.script("identify", Close(code=4000), shard=0, times=None, instead=True)
        await asyncio.sleep(DAY)
        assert it.identifies(0) <= LIMIT + 1
        assert it.are("ready", 1, 2, 3)
        assert "shard 0 held back" in it.fleet.troubles
        await it.stage.client.unscript()
        it.fleet.resume()


@simulated
@pytest.mark.parametrize("code", TERMINAL)
@pytest.mark.covers("T-07", "T-08", "O-07")
async def test_terminal_code_stops_the_fleet_for_the_day(scene: Scene, code: int) -> None:
    async with storm(scene, gated=True, heals=False) as it:
        await it.stage.client.close_connection(0, code)
        await asyncio.sleep(60)
        mark = it.stage.mark
        await it.stage.client.drop(1)
        await asyncio.sleep(DAY)
        assert it.stage.records(ledger.Open, since=mark) == []
        assert it.are("fatal", 0)
        assert it.are("ready", 2, 3)
        assert str(code) in it.fleet.troubles


@simulated
@pytest.mark.covers("T-09", "O-07")
async def test_token_that_the_api_rejects_is_asked_with_once_a_day(scene: Scene) -> None:
    async with storm(scene) as it:
        mark, asked = it.stage.mark, it.fleet.asked

        async def rejected() -> GatewayBot:
            it.fleet.asked += 1
            raise DiscordError("Discord rejected the bot token (HTTP 401)", code=TOKEN_REJECTED)

        await it.fleet.master_stops()
        fetch, it.fleet.fetch = it.fleet.fetch, rejected
        await it.fleet.master_starts()
        await it.stage.client.invalidate("all", resumable=False)
        await asyncio.sleep(DAY)
        assert it.fleet.asked == asked + 1
        assert it.identifies(since=mark) == 0
        assert "Discord rejected the bot token" in it.fleet.troubles
        await it.fleet.master_stops()
        it.fleet.fetch = fetch
        await it.fleet.master_starts()


@simulated
@pytest.mark.covers("T-10", "O-03")
async def test_network_that_is_gone_for_half_a_minute_costs_no_identify_all_day(
    scene: Scene,
) -> None:
    async with storm(scene, shards=8) as it:
        mark = it.stage.mark
        for _ in range(24):
            await it.stage.script("upgrade", Reset(), times=None, lasts=30.0)
            await it.stage.client.drop("all")
            await asyncio.sleep(HOUR)
        assert it.identifies(since=mark) == 0
        assert it.are("ready", *range(8))


@simulated
@pytest.mark.covers("T-11", "O-03")
async def test_op_9_on_a_living_session_costs_one_identify_each_time(scene: Scene) -> None:
    async with storm(scene) as it:
        for times in range(1, 61):
            await it.stage.client.invalidate(0, resumable=False)
            await asyncio.sleep(DAY / 60)
            assert it.identifies(0) == 1 + times
        assert it.fleet.status().identify.stopped == ()


@simulated
@pytest.mark.covers("T-02", "T-06", "T-11", "O-03")
async def test_fleet_that_identifies_on_a_broad_front_is_stopped_before_its_budget_is(
    scene: Scene,
) -> None:
    """Each shard stays below its own limit."""
    async with storm(scene, shards=16, session_start_total=200) as it:
        for _ in range(24):
            await it.stage.client.invalidate("all", resumable=False)
            await asyncio.sleep(HOUR)
        assert it.left > it.reserve
        assert it.fleet.status().identify.closed is not None
        assert "the identify guard has stopped all" in it.fleet.troubles
        it.fleet.resume()
