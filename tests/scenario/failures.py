# SPDX-License-Identifier: Apache-2.0
"""Processes and machines that fail: written once, run on loopback and on lab machines."""

import asyncio
from typing import Any

import pytest

from tests.chaos.rows import CRASH, ORDERLY, UNHEARD, Promise
from tests.scenario.fleet import Fleet
from tests.scenario.losing import (
    GIVEN_AWAY,
    LEASE,
    SHARDS,
    THREE,
    Note,
    connected,
    host_in,
    kept,
    observed,
    shards_of,
    shares,
)
from tests.scenario.scenarios import UP, placed
from tests.waiting import wait_for

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(180)]

PAIR = {"alpha": 1.0, "beta": 1.0}


async def test_cluster_in_a_crash_loop_gives_its_shards_to_another_host(
    fleet: Fleet, record_property: Note
) -> None:
    ours, observer = await observed(fleet)
    where = placed(await fleet.status())
    victim = where[0][1]
    shards = {shard for shard, (_, cluster) in where.items() if cluster == victim}
    async with observer.row("a cluster crashes again and again", CRASH) as doing:
        await killed_for_good(fleet, victim, where[0][0])
        await ours.says(lambda status: gone(status, where[0][0], shards), "its shards moved")
        doing.done()

    # Between two crashes it resumed what it could.
    kept(doing.result, record_property, resumes=doing.result.resumes)
    assert doing.result.resumes >= len(shards)
    status = await fleet.status()
    after = placed(status)
    assert {s for s in after if after[s][0] != where[s][0]} == shards
    assert any(f"cluster {victim}" in trouble["text"] for trouble in status["troubles"])


async def killed_for_good(fleet: Fleet, cluster: int, host: str) -> None:
    """SIGKILL as soon as it has a process, until its supervisor gives it up."""
    for _ in range(5):
        await wait_for(lambda: runs(fleet, host, cluster), UP, what="it is started again")
        await fleet.kill_cluster(cluster)
        await wait_for(lambda: runs(fleet, host, cluster, False), UP, what="it has ended")


async def runs(fleet: Fleet, host: str, cluster: int, wanted: bool = True) -> bool:
    return ((await fleet.units(host)).get(cluster) == "active") is wanted


def gone(status: dict[str, Any], host: str, shards: set[int]) -> bool:
    where = placed(status)
    elsewhere = all(shard in where and where[shard][0] != host for shard in shards)
    return elsewhere and bool(status["shards_ready"] == len(where))


async def test_shards_run_on_while_controls_are_killed_and_master_loses_its_files(
    fleet: Fleet, record_property: Note
) -> None:
    ours, observer = await observed(fleet, PAIR)
    async with observer.row("every CONTROL killed", ORDERLY) as doing:
        await asyncio.gather(*(fleet.kill_control(host) for host in PAIR))
        # They would stop now, had nobody renewed their lease.
        await asyncio.sleep(1.2 * LEASE)
        await ours.ready()
        doing.done()
    kept(doing.result, record_property, resumes=0)

    await fleet.stop_master()
    await fleet.back_up_master()
    await fleet.start_master()
    await fleet.configure(weights={"alpha": 2.0, "beta": 1.0})
    await ours.shared({"alpha": 8, "beta": 4})
    where = placed(await fleet.status())
    for what, harm in (
        ("MASTER restored from an older backup", fleet.restore_master),
        ("MASTER's disk lost", fleet.wipe_master),
    ):
        async with observer.row(what, ORDERLY) as doing:
            await fleet.stop_master()
            await harm()
            await fleet.start_master()
            await ours.ready()
            doing.done()
        kept(doing.result, record_property, resumes=0)
        assert placed(await fleet.status()) == where


async def test_host_without_power_is_replaced_from_checkpoints_and_stays_so_when_it_returns(
    fleet: Fleet, record_property: Note
) -> None:
    ours, observer = await observed(fleet)
    own = await shards_of(fleet, "alpha")
    async with observer.row("a host loses its power", UNHEARD) as doing:
        async with ours.resumed(len(own)):
            await fleet.cut_power("alpha")
        doing.done()
    kept(doing.result, record_property, resumes=len(own))
    status = await fleet.status()
    assert host_in(status, "alpha")["state"] == "lost"
    assert {host for host, _ in placed(status).values()} == {"beta", "gamma"}

    async with observer.row("it is back while MASTER is away", ORDERLY) as doing:
        # All others say that they do not hear MASTER; but they follow a newer plan.
        await fleet.stop_master()
        await fleet.power_on("alpha")
        await asyncio.sleep(1.5 * LEASE)
        doing.done()
    kept(doing.result, record_property, resumes=0)

    async with observer.row("MASTER is back, too", ORDERLY) as doing:
        await fleet.start_master()
        await ours.shared(shares(THREE))
        doing.done()
    kept(doing.result, record_property, resumes=len(own))


async def test_shards_of_a_lost_host_that_no_checkpoint_told_of_identify_elsewhere(
    fleet: Fleet, record_property: Note
) -> None:
    """The host had all windows of wall-clock time; once it is lost nobody keeps clear of them."""
    hosts = {"alpha": {}, "beta": {"standby": True}}
    ours, observer = await observed(
        fleet,
        PAIR,
        master={"hosts": hosts},
        expected={"alpha": SHARDS, "beta": 0},
        checkpoints=3600.0,
    )
    # What came while nobody had a session is lost with it, and the oracle of that says so (O-13).
    # And for Discord the connections of a machine without power are open until they miss beats, so
    # on a busy machine it sees two of a shard for longer than the oracle of that allows (O-09).
    promise = Promise(lost=None, doubles="replayed", identifies=SHARDS, twice=None)
    async with observer.row("a host loses its power, no checkpoint was told", promise) as doing:
        await fleet.cut_power("alpha")
        await ours.shared({"alpha": 0, "beta": SHARDS})
        doing.done()
    row = doing.result
    broken = [broken for broken in row.broken if broken[:4] not in ("O-09", "O-13")]
    assert broken == [], broken
    assert (row.identifies, row.resumes) == (SHARDS, 0)
    record_property(row.what, f"down {max(row.pauses):.2f} s at the most")
    assert max(row.pauses) < GIVEN_AWAY + 5.0


async def test_clusters_that_crash_while_master_is_away_for_long_come_back_without_it(
    fleet: Fleet, record_property: Note
) -> None:
    ours, observer = await observed(fleet, PAIR)
    where = placed(await fleet.status())
    async with observer.row("MASTER away, all clusters of a host crash", CRASH) as doing:
        await fleet.stop_master()
        # By now nobody's lease is MASTER's.
        await asyncio.sleep(1.5 * LEASE)
        async with ours.resumed(SHARDS // 2):
            await fleet.kill_clusters("alpha")
        doing.done()
        await asyncio.sleep(LEASE)
        await fleet.start_master()
        await ours.ready()

    kept(doing.result, record_property, resumes=SHARDS // 2)
    assert placed(await fleet.status()) == where


async def test_master_that_returns_moves_nothing_while_hosts_are_still_away(
    fleet: Fleet, record_property: Note
) -> None:
    ours, observer = await observed(fleet, PAIR, master={"start_wait": 3 * GIVEN_AWAY})
    where = placed(await fleet.status())
    others, own = await shards_of(fleet, "alpha"), await shards_of(fleet, "beta")
    async with observer.row("MASTER back before half of its hosts", UNHEARD) as doing:
        await fleet.cut_power("beta")
        await fleet.kill_master()
        # So long that a MASTER that had been there would have given its shards away.
        await asyncio.sleep(1.5 * GIVEN_AWAY)
        assert await shards_of(fleet, "alpha") == others
        async with ours.resumed(len(own)):
            await fleet.power_on("beta")
        await ours.ready()
        doing.done()

    kept(doing.result, record_property, resumes=len(own))
    assert placed(await fleet.status()) == where


async def test_frozen_host_hands_over_nothing_once_its_shards_are_others(
    fleet: Fleet, record_property: Note
) -> None:
    ours, observer = await observed(fleet, master={"return_wait": 60.0})
    own = await shards_of(fleet, "alpha")
    async with observer.row("a host stands still, and goes on", UNHEARD) as doing:
        async with ours.resumed(len(own)):
            await fleet.freeze("alpha")
        await fleet.thaw("alpha")
        await ours.says(connected("alpha"), "alpha is back")
        await asyncio.sleep(LEASE)
        doing.done()

    kept(doing.result, record_property, resumes=len(own))
    assert await shards_of(fleet, "alpha") == set()
