# SPDX-License-Identifier: Apache-2.0
"""Rolling restarts: written once, run on loopback and on lab machines."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from discluster.simulator.client import SimulatorClient
from discluster.simulator.ledger import Close, Identify, Record, Resumed
from tests.scenario.fleet import Fleet
from tests.scenario.scenarios import (
    SHARDS,
    UP,
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

GOOD_HANDLER = "discluster.cluster.handlers.count:CountingHandler"
CLUSTERS = 7
"""Of four shards each at most: three on alpha, two on beta and on gamma."""


def most_apart(history: Sequence[Record], where: dict[int, tuple[str, int]]) -> int:
    """The most clusters that had a shard without connection at the same instant."""
    gone: set[int] = set()
    most = 0
    for record in history:
        if record.shard is not None and record.kind in ("close", "resumed"):
            (gone.add if record.kind == "close" else gone.discard)(record.shard[0])
            most = max(most, len({where[shard] for shard in gone}))
    return most


async def resumed_once(simulator: SimulatorClient, since: int, shards: set[int]) -> None:
    """Those shards, and no others, were closed by us once and resumed once; nothing is lost."""
    closes = await records(simulator, Close, since)
    resumes = await records(simulator, Resumed, since)
    assert sorted(c.shard[0] for c in closes if c.shard) == sorted(shards)
    assert {(c.by, c.code) for c in closes} <= {("client", 4000)}
    assert sorted(r.shard[0] for r in resumes if r.shard) == sorted(shards)
    assert await records(simulator, Identify, since) == []
    assert (await simulator.summary()).lost == 0
    await no_judgement(simulator)


def rollout_problems(status: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (t["severity"], t["text"]) for t in status["troubles"] if "rolling restart" in t["text"]
    ]


async def test_rolling_restart_costs_resumes_only(fleet: Fleet) -> None:
    simulator = await started(fleet, simulator={"events_per_second": 20})
    where = placed(await fleet.status())
    mark = await last_record(simulator)

    done = await fleet.ctl("restart", "--rolling", "--all", "--at-a-time", "2")

    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"restarting {CLUSTERS} clusters, 2 at a time"
    assert sum("is back after" in line for line in lines) == CLUSTERS
    assert lines[-1].startswith(f"{CLUSTERS} of {CLUSTERS} clusters restarted; back after ")
    assert lines[-1].endswith("no session was lost")
    await resumed_once(simulator, mark, set(range(SHARDS)))
    assert most_apart(await simulator.ledger(mark), where) <= 2
    assert placed(await fleet.status()) == where
    assert rollout_problems(await fleet.status()) == []


async def test_rolling_restart_stops_at_the_first_cluster_that_does_not_come_back(
    fleet: Fleet,
) -> None:
    simulator = await started(fleet)
    where = placed(await fleet.status())
    # alpha's first, then beta's, then gamma's: the hosts take turns.
    first = min(cluster for host, cluster in where.values() if host == "alpha")
    broken = min(cluster for host, cluster in where.values() if host == "beta")
    mark = await last_record(simulator)
    await fleet.set_cluster_setting("beta", "handler", "nobody.wrote:This")

    stopped = await fleet.ctl("restart", "--rolling", "--all", "--at-a-time", "1")

    assert stopped.returncode == 4
    assert f"cluster {broken} on beta did not come back" in stopped.stderr
    assert "journalctl" in stopped.stderr or "exit status 78" in stopped.stderr
    assert f"stopped: 1 of {CLUSTERS} clusters restarted" in stopped.stdout
    touched = {s for s, (_, c) in where.items() if c in (first, broken)}
    closes = await records(simulator, Close, mark)
    assert {c.shard[0] for c in closes if c.shard} == touched
    ((severity, text),) = rollout_problems(await fleet.status())
    assert severity == "error"
    assert f"cluster {broken} on beta" in text
    again = await fleet.ctl("restart", "--rolling", "--all")
    assert (again.returncode, "--continue" in again.stderr) == (1, True)

    await fleet.set_cluster_setting("beta", "handler", GOOD_HANDLER)
    mended = await fleet.ctl("restart", "--rolling", "--continue", "--at-a-time", "3")

    assert mended.returncode == 0, mended.stderr
    await all_ready(fleet)
    await resumed_once(simulator, mark, set(range(SHARDS)))


async def test_interrupted_rolling_restart_can_be_continued(fleet: Fleet) -> None:
    simulator = await started(fleet)
    where = placed(await fleet.status())
    mark = await last_record(simulator)

    command = ("restart", "--rolling", "--all", "--at-a-time", "1")
    restarting = asyncio.create_task(fleet.ctl(*command))
    await wait_for_kind(simulator, "resumed", mark, 1)
    paused = await fleet.ctl("restart", "--rolling", "--pause")
    first = await restarting

    assert paused.returncode == 0
    assert paused.stdout.startswith("paused: ")
    assert first.returncode == 4
    assert "continue with: disclusterctl restart --rolling --continue" in first.stdout
    await all_ready(fleet)
    before = len(await records(simulator, Resumed, mark))
    assert 0 < before < SHARDS

    await fleet.restart_master()
    await all_ready(fleet)
    ((severity, text),) = rollout_problems(await fleet.status())
    assert (severity, text.startswith("rolling restart paused: ")) == ("warning", True)
    assert len(await records(simulator, Resumed, mark)) == before, "it stays paused"

    going_on = asyncio.create_task(fleet.ctl("restart", "--rolling", "--continue"))
    await wait_for(lambda: some_more(simulator, mark, before), UP, what="it goes on")
    await fleet.kill_master()
    done = await going_on

    assert done.returncode == 0, done.stderr
    await all_ready(fleet)
    await resumed_once(simulator, mark, set(range(SHARDS)))
    assert most_apart(await simulator.ledger(mark), where) == 1


async def some_more(simulator: SimulatorClient, since: int, than: int) -> bool:
    return len(await records(simulator, Resumed, since)) > than
