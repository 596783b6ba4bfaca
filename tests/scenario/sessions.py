# SPDX-License-Identifier: Apache-2.0
"""Sessions outlive processes: written once, run on loopback and on lab machines.

Every event that the simulator made is compared with what the handlers took, over all processes.
"""

from collections.abc import Callable, Mapping

import pytest

from tests.chaos.observer import Observer
from tests.chaos.ours import SIMULATOR, OurFleet
from tests.chaos.report import line
from tests.chaos.rows import CRASH, ORDERLY, Row
from tests.scenario.fleet import Fleet
from tests.scenario.scenarios import SHARDS, placed

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(180)]

RATE = 50.0
PAIR = {"alpha": 1.0, "beta": 1.0}

Note = Callable[[str, object], None]


async def observed(
    fleet: Fleet, *, hosts: Mapping[str, float], shards_per_cluster: int = 6
) -> tuple[OurFleet, Observer]:
    """A fleet with all shards ready, whose events are all counted."""
    await fleet.start(
        shards=SHARDS,
        hosts=hosts,
        max_concurrency=16,
        shards_per_cluster=shards_per_cluster,
        simulator=SIMULATOR,
        recording=True,
    )
    ours = OurFleet(fleet, SHARDS)
    await ours.ready()
    return ours, Observer(ours, rate=RATE)


def kept(row: Row, note: Note) -> None:
    """The row keeps its promise; what it measured goes into the test's report."""
    print(line(row))
    note("gap_median", row.gap_median)
    note("gap_worst", row.gap_worst)
    assert row.broken == []


async def test_orderly_restart_loses_nothing_doubles_nothing_and_tells_its_gap(
    fleet: Fleet, record_property: Note
) -> None:
    ours, observer = await observed(fleet, hosts={"alpha": 1.0})
    victim, shards = next(iter((await ours.clusters()).items()))
    async with observer.row("orderly restart", ORDERLY) as doing:
        async with ours.resumed(len(shards)):
            await fleet.restart_cluster(victim)
        doing.done()

    kept(doing.result, record_property)
    assert doing.result.resumes == len(doing.result.gaps) == len(shards)


async def test_regrouping_a_running_host_costs_resumes_only(
    fleet: Fleet, record_property: Note
) -> None:
    ours, observer = await observed(fleet, hosts={"alpha": 1.0}, shards_per_cluster=10)
    async with observer.row("10 to 7 to 16 shards per cluster", ORDERLY) as doing:
        for size in (7, 16):
            await fleet.configure(shards_per_cluster=size)
            await ours.sized(size)
            doing.done()

    kept(doing.result, record_property)
    sizes = [len(shards) for shards in (await ours.clusters()).values()]
    assert sorted(sizes) == [8, 16]
    assert len(await fleet.units("alpha")) == 2


async def test_shards_that_move_between_hosts_by_weight_are_resumed(
    fleet: Fleet, record_property: Note
) -> None:
    ours, observer = await observed(fleet, hosts=PAIR)
    before = placed(await fleet.status())
    async with observer.row("weights changed", ORDERLY) as doing:
        await fleet.configure(weights={"alpha": 3.0, "beta": 1.0})
        await ours.shared({"alpha": 18, "beta": 6})
        doing.done()

    kept(doing.result, record_property)
    after = placed(await fleet.status())
    moved = [shard for shard in after if after[shard][0] != before[shard][0]]
    assert len(moved) == 6
    # Those of a host that has fewer now may have been regrouped, too.
    assert doing.result.resumes >= len(moved)


async def test_host_whose_clusters_are_all_killed_at_once_resumes_every_shard(
    fleet: Fleet, record_property: Note
) -> None:
    ours, observer = await observed(fleet, hosts=PAIR)
    where = placed(await fleet.status())
    shards = sum(host == "alpha" for host, _ in where.values())
    async with observer.row("all clusters of a host", CRASH) as doing:
        async with ours.resumed(shards):
            await fleet.kill_clusters("alpha")
        doing.done()

    kept(doing.result, record_property)
    assert doing.result.resumes == shards
    assert placed(await fleet.status()) == where


async def test_host_whose_control_and_clusters_are_killed_resumes_every_shard(
    fleet: Fleet, record_property: Note
) -> None:
    ours, observer = await observed(fleet, hosts=PAIR)
    where = placed(await fleet.status())
    shards = sum(host == "alpha" for host, _ in where.values())
    async with observer.row("everything of a host", CRASH) as doing:
        async with ours.resumed(shards):
            await fleet.kill_host("alpha")
        doing.done()

    kept(doing.result, record_property)
    assert doing.result.resumes == shards
