# SPDX-License-Identifier: Apache-2.0
"""Networks that break: written once, run on loopback and on lab machines."""

import asyncio
from itertools import product

import pytest

from discluster.simulator.ledger import Open, Resume
from tests.chaos.rows import CRASH, ORDERLY, UNHEARD
from tests.scenario.fleet import Fleet
from tests.scenario.losing import (
    LEASE,
    SHARDS,
    THREE,
    Note,
    connected,
    kept,
    observed,
    shards_of,
    shares,
)
from tests.scenario.network import DISCORD, MASTER
from tests.scenario.scenarios import UP, placed, records
from tests.waiting import wait_for

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(180)]

PAIR = {"alpha": 1.0, "beta": 1.0}


WAYS = (("alpha", MASTER, False), ("alpha", MASTER, True), (MASTER, "alpha", True))


async def test_host_cut_from_master_stops_before_others_take_its_shards(
    fleet: Fleet, record_property: Note
) -> None:
    """Both ways, and each way alone."""
    ours, observer = await observed(fleet)
    for one, other, one_way in WAYS:
        own = await shards_of(fleet, "alpha")
        lost = f"only what {one} sends to {other}" if one_way else "both ways"
        async with observer.row(f"a host cut from MASTER, {lost}", CRASH) as doing:
            async with ours.resumed(len(own)):
                await fleet.network.cut(one, other, one_way=one_way)
            doing.done()
        # Its sockets were closed before the others', so not even Discord sees a shard twice.
        kept(doing.result, record_property, resumes=len(own))
        assert await shards_of(fleet, "alpha") == set()

        async with observer.row("mended", ORDERLY) as doing:
            await fleet.network.mend(one, other)
            await ours.shared(shares(THREE))
            doing.done()
        kept(doing.result, record_property, resumes=len(own))


async def test_master_cut_from_all_hosts_is_not_noticed(
    fleet: Fleet, record_property: Note
) -> None:
    ours, observer = await observed(fleet)
    where = placed(await fleet.status())
    async with observer.row("MASTER cut from all hosts", ORDERLY) as doing:
        await fleet.network.unplug(MASTER)
        await asyncio.sleep(1.5 * LEASE)
        await fleet.network.plug(MASTER)
        await ours.ready()
        doing.done()

    kept(doing.result, record_property, resumes=0)
    assert placed(await fleet.status()) == where


async def test_host_cut_from_everybody_hands_over_nothing_more_when_it_returns(
    fleet: Fleet, record_property: Note
) -> None:
    ours, observer = await observed(fleet, master={"return_wait": 60.0})
    own = await shards_of(fleet, "alpha")
    async with observer.row("a host cut from everybody", UNHEARD) as doing:
        async with ours.resumed(len(own)):
            await fleet.network.unplug("alpha")
        await fleet.network.plug("alpha")
        await ours.says(connected("alpha"), "alpha is back")
        # It has a plan and a lease again: whatever it wanted to open, it would open now.
        await asyncio.sleep(LEASE)
        doing.done()

    kept(doing.result, record_property, resumes=len(own))
    assert await shards_of(fleet, "alpha") == set()


async def test_isolated_hosts_stop_and_resume_when_they_see_each_other_again(
    fleet: Fleet, record_property: Note
) -> None:
    ours, observer = await observed(fleet, PAIR)
    where = placed(await fleet.status())
    async with observer.row("MASTER gone, hosts isolated, stop", ORDERLY) as doing:
        await fleet.network.unplug(MASTER)
        await fleet.network.cut(*PAIR)
        await wait_for(lambda: connections(fleet, 0), UP, what="all sockets are closed")
        async with ours.resumed(SHARDS):
            await fleet.network.mend(*PAIR)
        doing.done()
        await fleet.network.plug(MASTER)
        await ours.ready()

    kept(doing.result, record_property, resumes=SHARDS)
    assert placed(await fleet.status()) == where


async def connections(fleet: Fleet, count: int) -> bool:
    views = await fleet.simulator.shards()
    return sum(view.state == "connected" for view in views) == count


async def test_isolated_hosts_that_shall_keep_their_shards_run_on(
    fleet: Fleet, record_property: Note
) -> None:
    ours, observer = await observed(fleet, PAIR, when_isolated="keep")
    where = placed(await fleet.status())
    async with observer.row("MASTER gone, hosts isolated, keep", ORDERLY) as doing:
        await fleet.network.unplug(MASTER)
        await fleet.network.cut(*PAIR)
        await asyncio.sleep(1.5 * LEASE)
        await fleet.network.mend(*PAIR)
        await fleet.network.plug(MASTER)
        await ours.ready()
        doing.done()

    kept(doing.result, record_property, resumes=0)
    assert placed(await fleet.status()) == where


async def test_host_cut_from_discord_only_gives_its_shards_to_others(
    fleet: Fleet, record_property: Note
) -> None:
    ours, observer = await observed(fleet)
    own = await shards_of(fleet, "alpha")
    async with observer.row("a host cut from Discord only", UNHEARD) as doing:
        async with ours.resumed(len(own)):
            await fleet.network.cut("alpha", DISCORD)
        doing.done()

    kept(doing.result, record_property, resumes=len(own))
    assert await shards_of(fleet, "alpha") == set()
    status = await fleet.status()
    assert any(trouble["host"] == "alpha" for trouble in status["troubles"])


async def test_half_of_the_fleet_without_master_stops_before_the_other_takes_over(
    fleet: Fleet, record_property: Note
) -> None:
    left, right = ("alpha", "beta"), ("gamma", "delta")
    ours, observer = await observed(fleet, dict.fromkeys((*left, *right), 1.0))
    own = await shards_of(fleet, *left)
    async with observer.row("the fleet splits in halves", CRASH) as doing:
        async with ours.resumed(len(own)):
            for one, other in product(left, (*right, MASTER)):
                await fleet.network.cut(one, other)
        doing.done()

    kept(doing.result, record_property, resumes=len(own))
    assert {host for host, _ in placed(await fleet.status()).values()} == set(right)


async def test_slow_and_lossy_network_moves_nothing(fleet: Fleet, record_property: Note) -> None:
    ours, observer = await observed(fleet, delay=0.15)
    where = placed(await fleet.status())
    victim = where[0][1]
    shards = sum(cluster == victim for _, cluster in where.values())
    async with observer.row("300 ms there and back, a cluster crashes", CRASH) as doing:
        async with ours.resumed(shards):
            await fleet.kill_cluster(victim)
        doing.done()
    kept(doing.result, record_property, resumes=shards)
    assert await soonest_resume(fleet) >= 0.3, "HELLO there, RESUME back"

    async with observer.row("and 5 % of all packets lost", ORDERLY) as doing:
        await fleet.network.lose(0.05)
        await asyncio.sleep(1.5 * LEASE)
        doing.done()
        await fleet.network.lose(0.0)
    kept(doing.result, record_property, resumes=0)
    await ours.ready()
    assert placed(await fleet.status()) == where


async def soonest_resume(fleet: Fleet) -> float:
    """Least time from the opening of a connection to the RESUME on it, seconds."""
    opened = {r.connection: r.time for r in await records(fleet.simulator, Open)}
    return min(r.time - opened[r.connection] for r in await records(fleet.simulator, Resume))
