# SPDX-License-Identifier: Apache-2.0
"""The scenarios: written once, run with a fleet on loopback and with one on lab machines.

What happened is asked of the simulator's ledger, never of our own counters.
"""

from typing import Any, TypeVar

import pytest

from discluster.simulator.client import SimulatorClient
from discluster.simulator.ledger import Close, Identify, Record
from tests.scenario.fleet import Fleet
from tests.waiting import wait_for

R = TypeVar("R", bound=Record)

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(180)]

SHARDS = 24
WEIGHTS = {"alpha": 2.0, "beta": 1.0, "gamma": 1.0}
UP = 60.0
"""Seconds for a fleet to come up, or come back; far above what it takes."""


async def all_ready(fleet: Fleet, shards: int = SHARDS) -> None:
    """Waits until Discord sees all shards connected, and MASTER says so too."""
    await fleet.simulator.wait_for_connected(shards, UP)

    async def said() -> bool:
        return bool((await fleet.status())["shards_ready"] == shards)

    await wait_for(said, UP, what=f"MASTER says that {shards} shards are ready")


async def started(fleet: Fleet, **options: Any) -> SimulatorClient:
    """A fleet of the usual size, all shards ready."""
    await fleet.start(shards=SHARDS, hosts=WEIGHTS, **options)
    await all_ready(fleet)
    return fleet.simulator


async def records(simulator: SimulatorClient, kind: type[R], since: int = 0) -> list[R]:
    return [r for r in await simulator.ledger(since=since) if isinstance(r, kind)]


async def last_record(simulator: SimulatorClient) -> int:
    return max((record.n for record in await simulator.ledger()), default=0)


async def disturbances(simulator: SimulatorClient, since: int) -> list[Record]:
    """What a shard that runs undisturbed never shows."""
    return [*await records(simulator, Close, since), *await records(simulator, Identify, since)]


async def heartbeats_of_all(simulator: SimulatorClient, since: int, count: int = SHARDS) -> None:
    """Waits until every shard has been heard again: it lives, and nothing waits in the pipes."""
    seen: set[int] = set()

    def another(record: Record) -> bool:
        if record.kind == "heartbeat" and record.shard is not None:
            seen.add(record.shard[0])
        return len(seen) == count

    await simulator.wait_for_record(another, UP, since=since)


async def no_judgement(simulator: SimulatorClient) -> None:
    assert await simulator.judgement() == []


def placed(status: dict[str, Any]) -> dict[int, tuple[str, int]]:
    """Shard -> (host, cluster), out of disclusterctl's JSON."""
    return {
        shard["shard"]: (host["host"], cluster["cluster"])
        for host in status["hosts"]
        for cluster in host["clusters"]
        for shard in cluster["shards"]
    }


async def test_three_hosts_run_all_shards_by_weight(fleet: Fleet) -> None:
    simulator = await started(fleet)
    status = await fleet.status()
    where = placed(status)

    seen = await simulator.shards()
    assert sorted(view.shard[0] for view in seen) == list(range(SHARDS)) == sorted(where)
    shares = {host: sum(h == host for h, _ in where.values()) for host in WEIGHTS}
    assert shares == {"alpha": 12, "beta": 6, "gamma": 6}
    for host in fleet.hosts:
        planned = {cluster for h, cluster in where.values() if h == host}
        assert await fleet.units(host) == dict.fromkeys(planned, "active")
    assert len(await records(simulator, Identify)) == SHARDS
    await no_judgement(simulator)


async def test_status_agrees_with_the_ledger_shard_by_shard(fleet: Fleet) -> None:
    simulator = await started(fleet)
    seen = {view.shard[0]: view for view in await simulator.shards()}

    async def agrees() -> bool:
        shards = [
            s for h in (await fleet.status())["hosts"] for c in h["clusters"] for s in c["shards"]
        ]
        return len(shards) == SHARDS and all(
            s["state"] == "ready"
            and seen[s["shard"]].state == "connected"
            and s["guilds"] == seen[s["shard"]].guilds
            and s["identifies"] == 1
            and s["resumes"] == 0
            for s in shards
        )

    await wait_for(agrees, UP, what="status and ledger tell the same of every shard")


async def test_restart_of_control_and_of_master_is_not_noticed_by_discord(fleet: Fleet) -> None:
    simulator = await started(fleet, simulator={"heartbeat_interval": 3.0})
    mark = await last_record(simulator)

    for host in fleet.hosts:
        await fleet.restart_control(host)
    await fleet.restart_master()
    await all_ready(fleet)
    await heartbeats_of_all(simulator, await last_record(simulator))

    assert await disturbances(simulator, mark) == []
    await no_judgement(simulator)


async def test_lost_master_leaves_shards_running(fleet: Fleet) -> None:
    simulator = await started(fleet, simulator={"heartbeat_interval": 3.0})
    mark = await last_record(simulator)

    await fleet.stop_master()
    # A minute of Discord's time: every shard is heard twenty times.
    for _ in range(20):
        await heartbeats_of_all(simulator, await last_record(simulator))
    local = await fleet.ctl("status", host="alpha")
    assert "MASTER is not running here" in local.stdout + local.stderr
    assert "12 of 12 shards ready" in local.stdout
    await fleet.start_master()
    await all_ready(fleet)

    assert await disturbances(simulator, mark) == []
    await no_judgement(simulator)


async def test_killed_cluster_comes_back_by_resume(fleet: Fleet) -> None:
    simulator = await started(fleet)
    where = placed(await fleet.status())
    victim = where[0][1]
    shards = {shard for shard, (_, cluster) in where.items() if cluster == victim}
    mark = await last_record(simulator)

    await fleet.kill_cluster(victim)
    resumed = await wait_for_kind(simulator, "resumed", mark, len(shards))
    await all_ready(fleet)

    assert {record.shard[0] for record in resumed if record.shard} == shards
    assert await records(simulator, Identify, mark) == []
    assert (await simulator.summary()).lost == 0
    await no_judgement(simulator)


async def test_orderly_restart_of_a_cluster_keeps_its_sessions(fleet: Fleet) -> None:
    simulator = await started(fleet)
    where = placed(await fleet.status())
    victim = where[0][1]
    shards = {shard for shard, (_, cluster) in where.items() if cluster == victim}
    mark = await last_record(simulator)

    await fleet.restart_cluster(victim)
    await wait_for_kind(simulator, "resumed", mark, len(shards))
    await all_ready(fleet)

    closes = await records(simulator, Close, mark)
    assert {(c.by, c.code) for c in closes} == {("client", 4000)}
    assert await records(simulator, Identify, mark) == []
    await no_judgement(simulator)


async def test_master_down_while_a_cluster_crashes_it_resumes_without_it(fleet: Fleet) -> None:
    simulator = await started(fleet)
    where = placed(await fleet.status())
    victim = where[0][1]
    shards = {shard for shard, (_, cluster) in where.items() if cluster == victim}
    await fleet.stop_master()
    mark = await last_record(simulator)

    await fleet.kill_cluster(victim)
    await wait_for_kind(simulator, "resumed", mark, len(shards))

    assert await records(simulator, Identify, mark) == []
    await fleet.start_master()
    await all_ready(fleet)
    await no_judgement(simulator)


async def test_joining_host_takes_its_share_and_sessions_follow(fleet: Fleet) -> None:
    simulator = await started(fleet)
    before = placed(await fleet.status())
    mark = await last_record(simulator)

    await fleet.add_host("delta", 1.0)

    async def shared_out() -> bool:
        where = placed(await fleet.status())
        return len(where) == SHARDS and sum(h == "delta" for h, _ in where.values()) >= 4

    await wait_for(shared_out, UP, what="delta runs its share")
    await all_ready(fleet)

    after = placed(await fleet.status())
    moved = {shard for shard in after if after[shard][0] != before[shard][0]}
    assert {after[shard][0] for shard in moved} == {"delta"}
    # Each moved shard was closed once, so that its session lives, and resumed on the new machine.
    closes = await records(simulator, Close, mark)
    assert sorted(c.shard[0] for c in closes if c.shard) == sorted(moved)
    assert {(c.by, c.code) for c in closes} == {("client", 4000)}
    assert await records(simulator, Identify, mark) == []
    assert (await simulator.summary()).lost == 0
    await no_judgement(simulator)


async def test_fleet_waits_for_a_late_master(fleet: Fleet) -> None:
    simulator = await started(fleet)
    await fleet.stop_master()
    mark = await last_record(simulator)
    for host in fleet.hosts:
        await fleet.restart_control(host)

    status = await fleet.ctl("status", host="beta")
    assert "MASTER cannot be reached" in " ".join(status.stdout.split())
    await fleet.start_master()
    await all_ready(fleet)

    assert await disturbances(simulator, mark) == []
    await no_judgement(simulator)


@pytest.mark.covers("F12", "T-04", "T-07", "T-58", "O-07")
async def test_rejected_token_stops_the_fleet_and_is_told_in_words(fleet: Fleet) -> None:
    simulator = await started(fleet)
    mark = await last_record(simulator)
    await simulator.revoke_token()
    rejected: list[tuple[int, int]] = []

    async def all_stopped() -> bool:
        shards = [
            (cluster["cluster"], shard)
            for host in (await fleet.status())["hosts"]
            for cluster in host["clusters"]
            for shard in cluster["shards"]
        ]
        rejected[:] = [(cluster, s["shard"]) for cluster, s in shards if s["fatal"] == 4004]
        held = sum(s["state"] == "held" for _, s in shards)
        return len(rejected) == 1 and held == SHARDS - 1

    await wait_for(all_stopped, UP, what="one shard is rejected, all others are held back")
    dials = [record for record in await simulator.ledger(mark) if record.kind == "open"]
    assert len(dials) == 1, "one shard of the whole fleet tried, for all"
    mark = await last_record(simulator)
    status = await fleet.ctl("status")
    # rich wraps long lines; the words count.
    words = " ".join(status.stdout.split())
    assert status.returncode == 3
    assert "4004" in words
    assert "discluster.token" in words
    ((cluster, _),) = rejected
    await fleet.kill_cluster(cluster)
    await nobody_dials(simulator, mark)


@pytest.mark.covers("F12", "T-58")
async def test_withdrawn_intent_costs_one_try_before_all_shards_come_back(fleet: Fleet) -> None:
    """Discord closes all sessions with 4003, also of a bot that does not use the intent."""
    simulator = await started(fleet)
    mark = await last_record(simulator)
    await simulator.set_intents([])
    (first,) = await wait_for_kind(simulator, "ready", mark, 1)
    tries = [r for r in await simulator.ledger(mark) if r.kind == "open" and r.n < first.n]
    assert len(tries) <= 2, "a RESUME, and an IDENTIFY since the session is gone"
    await all_ready(fleet)
    assert len(await records(simulator, Identify, mark)) == SHARDS
    await no_judgement(simulator)


async def wait_for_kind(
    simulator: SimulatorClient, kind: str, since: int, count: int
) -> list[Record]:
    """The first ``count`` records of a kind after ``since``."""
    found: list[Record] = []

    def enough(record: Record) -> bool:
        if record.kind == kind:
            found.append(record)
        return len(found) >= count

    await simulator.wait_for_record(enough, UP, since=since)
    return found


async def nobody_dials(simulator: SimulatorClient, since: int) -> None:
    """For ten seconds no socket is opened: what must not happen can only be waited out."""
    with pytest.raises(TimeoutError):
        await simulator.wait_for_record(lambda record: record.kind == "open", 10.0, since=since)
