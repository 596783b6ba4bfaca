# SPDX-License-Identifier: Apache-2.0
"""Machines that are shut down: written once, run on loopback and on lab machines."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from discluster.simulator.client import SimulatorClient
from discluster.simulator.ledger import Close, Identify, Resumed
from tests.scenario.fleet import Fleet
from tests.scenario.scenarios import (
    SHARDS,
    UP,
    WEIGHTS,
    all_ready,
    last_record,
    no_judgement,
    placed,
    records,
    started,
    wait_for_kind,
)
from tests.waiting import wait_for

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(180)]

STOP_TIME = 20.0
"""Seconds; TimeoutStopSec= of the units. A stop that needs them all was a hang."""


async def gaps(simulator: SimulatorClient, since: int) -> dict[int, float]:
    """Seconds from each shard's close to its RESUMED; each was closed and resumed once."""
    closed = {c.shard[0]: c.time for c in await records(simulator, Close, since) if c.shard}
    resumed = {r.shard[0]: r.time for r in await records(simulator, Resumed, since) if r.shard}
    assert closed.keys() == resumed.keys()
    return {shard: resumed[shard] - closed[shard] for shard in sorted(closed)}


async def moved_by_resume(simulator: SimulatorClient, since: int, moved: set[int]) -> None:
    """Those shards, and no others, were closed once with their session kept, and resumed."""
    closes = await records(simulator, Close, since)
    assert sorted(c.shard[0] for c in closes if c.shard) == sorted(moved)
    assert {(c.by, c.code) for c in closes} == {("client", 4000)}
    assert await records(simulator, Identify, since) == []
    assert (await simulator.summary()).lost == 0
    await no_judgement(simulator)


async def shut_down_alone(fleet: Fleet, host: str) -> None:
    """What nobody can take over must not hold the machine up."""
    began = time.monotonic()
    await fleet.shut_down(host)
    assert time.monotonic() - began < STOP_TIME


def on(status: Mapping[str, Any], host: str) -> dict[str, Any]:
    (found,) = (entry for entry in status["hosts"] if entry["host"] == host)
    return dict(found)


async def test_host_that_shuts_down_hands_its_sessions_over(
    fleet: Fleet, record_property: Callable[[str, object], None]
) -> None:
    simulator = await started(fleet)
    before = placed(await fleet.status())
    own = {shard for shard, (host, _) in before.items() if host == "alpha"}
    mark = await last_record(simulator)

    began = time.monotonic()
    off = asyncio.create_task(fleet.shut_down("alpha"))
    await wait_for_kind(simulator, "resumed", mark, len(own))
    elapsed = time.monotonic() - began
    await off
    await all_ready(fleet)

    await moved_by_resume(simulator, mark, own)
    away = sorted((await gaps(simulator, mark)).values())
    figures = f"{elapsed:.1f} s to the last RESUMED; gap {away[len(away) // 2]:.2f}, {away[-1]:.2f}"
    record_property("shutdown", figures)
    print(f"{len(own)} shards handed over: {figures} s (median, worst)")
    after = await fleet.status()
    assert on(after, "alpha")["state"] == "down"
    assert not any(trouble["host"] == "alpha" for trouble in after["troubles"])
    assert {h for h, _ in placed(after).values()} == WEIGHTS.keys() - {"alpha"}

    mark = await last_record(simulator)
    await fleet.boot("alpha")

    async def has_its_share() -> bool:
        where = placed(await fleet.status())
        return len(where) == SHARDS and sum(h == "alpha" for h, _ in where.values()) == len(own)

    await wait_for(has_its_share, UP, what="alpha runs its share again")
    await all_ready(fleet)
    back = {s for s, (host, _) in placed(await fleet.status()).items() if host == "alpha"}
    await moved_by_resume(simulator, mark, back)


async def test_last_host_that_shuts_down_keeps_its_sessions_for_its_return(fleet: Fleet) -> None:
    await fleet.start(shards=8, hosts={"alpha": 1.0})
    await all_ready(fleet, 8)
    mark = await last_record(fleet.simulator)

    await shut_down_alone(fleet, "alpha")
    status = await fleet.status()
    assert on(status, "alpha")["state"] == "down"
    assert any("nobody else could take its shards" in t["text"] for t in status["troubles"])
    await fleet.boot("alpha")
    await all_ready(fleet, 8)

    await moved_by_resume(fleet.simulator, mark, set(range(8)))


async def test_host_that_shuts_down_without_master_resumes_its_own_shards(fleet: Fleet) -> None:
    simulator = await started(fleet)
    own = {s for s, (host, _) in placed(await fleet.status()).items() if host == "alpha"}
    await fleet.stop_master()
    mark = await last_record(simulator)

    await shut_down_alone(fleet, "alpha")
    await fleet.boot("alpha")
    await wait_for_kind(simulator, "resumed", mark, len(own))
    await fleet.start_master()
    await all_ready(fleet)

    await moved_by_resume(simulator, mark, own)
