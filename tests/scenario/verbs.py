# SPDX-License-Identifier: Apache-2.0
"""What an operator orders; on loopback only, since it costs the machines what a failure costs."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.chaos.rows import ORDERLY, UNHEARD
from tests.scenario.fleet import Fleet
from tests.scenario.losing import SHARDS, THREE, Note, kept, observed, shards_of, shares
from tests.scenario.scenarios import placed

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(180)]


async def ordered(fleet: Fleet, *words: str) -> str:
    """Carried out to its end; what it printed."""
    done = await fleet.ctl(*words)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


async def test_drain_undrain_and_rollback_cost_resumes_only(
    fleet: Fleet, record_property: Note
) -> None:
    ours, observer = await observed(fleet)
    own = await shards_of(fleet, "alpha")
    told = await ordered(fleet, "drain", "alpha", "--dry-run")
    assert all(f"{shard}" in told for shard in own)
    assert await shards_of(fleet, "alpha") == own, "nothing moved yet"
    async with observer.row("drain", ORDERLY) as doing:
        await ordered(fleet, "drain", "alpha")
        drained = hosts_of(await fleet.status())
        assert set(drained.values()) == {"beta", "gamma"}
        doing.done()
    kept(doing.result, record_property, resumes=len(own))
    history = json.loads(await ordered(fleet, "plan", "history", "--json"))
    (then,) = (entry["generation"] for entry in history["entries"] if entry["current"])

    async with observer.row("undrain", ORDERLY) as doing:
        await ordered(fleet, "undrain", "alpha")
        await ours.shared(shares(THREE))
        doing.done()
    kept(doing.result, record_property, resumes=len(own))

    async with observer.row("plan rollback", ORDERLY) as doing:
        await ordered(fleet, "plan", "rollback", str(then))
        await ours.ready()
        doing.done()
    kept(doing.result, record_property, resumes=len(own))
    assert hosts_of(await fleet.status()) == drained


def hosts_of(status: Mapping[str, Any]) -> dict[int, str]:
    return {shard: host for shard, (host, _) in placed(dict(status)).items()}


async def test_shards_per_cluster_is_changed_by_resume(fleet: Fleet, record_property: Note) -> None:
    ours, observer = await observed(fleet, {"alpha": 1.0})
    async with observer.row("shards-per-cluster", ORDERLY) as doing:
        await ordered(fleet, "shards-per-cluster", "alpha", "6")
        await ours.sized(6)
        doing.done()
    kept(doing.result, record_property, resumes=4)
    assert len(await fleet.units("alpha")) == 2


async def test_standby_host_takes_over_and_gives_back(fleet: Fleet, record_property: Note) -> None:
    hosts = {"alpha": {}, "beta": {}, "gamma": {"standby": True}}
    working = {"alpha": SHARDS // 2, "beta": SHARDS // 2, "gamma": 0}
    ours, observer = await observed(
        fleet, dict.fromkeys(hosts, 1.0), master={"hosts": hosts}, expected=working
    )
    async with observer.row("a host lost, the standby host takes over", UNHEARD) as doing:
        async with ours.resumed(SHARDS // 2):
            await fleet.cut_power("alpha")
        doing.done()
    kept(doing.result, record_property, resumes=SHARDS // 2)
    assert len(await shards_of(fleet, "gamma")) == SHARDS // 2

    async with observer.row("it is back, the standby host gives back", ORDERLY) as doing:
        await fleet.power_on("alpha")
        await ours.shared(working)
        doing.done()
    kept(doing.result, record_property, resumes=SHARDS // 2)


async def test_hosts_that_too_few_witnesses_miss_are_replaced_when_the_operator_says_so(
    fleet: Fleet, record_property: Note
) -> None:
    """Two of three: for all that MASTER knows it is itself cut off, and they hear each other."""
    ours, observer = await observed(fleet)
    own = await shards_of(fleet, "alpha", "beta")
    async with observer.row("two of three hosts off, host remove --lost", UNHEARD) as doing:
        await asyncio.gather(fleet.cut_power("alpha"), fleet.cut_power("beta"))
        await ours.says(stuck, "MASTER says what would help")
        assert await shards_of(fleet, "gamma") == set(range(SHARDS)) - own
        for host in ("alpha", "beta"):
            await ordered(fleet, "host", "remove", host, "--lost", "--yes")
        await ours.ready()
        doing.done()
    kept(doing.result, record_property, resumes=len(own))
    assert await shards_of(fleet, "gamma") == set(range(SHARDS))


def stuck(status: Mapping[str, Any]) -> bool:
    return any("--lost" in f"{t['text']} {t.get('hint')}" for t in status["troubles"])
