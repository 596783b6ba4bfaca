# SPDX-License-Identifier: Apache-2.0
"""What an operator orders: written once, run on loopback and on lab machines."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.chaos.rows import ORDERLY, UNHEARD
from tests.scenario.fleet import Fleet
from tests.scenario.losing import (
    SHARDS,
    THREE,
    Note,
    kept,
    observed,
    shards_of,
    shares,
)
from tests.scenario.scenarios import UP, placed
from tests.waiting import wait_for

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(180)]

PAIR = {"alpha": 1.0, "beta": 1.0}


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


async def test_rebalance_moves_guilds_where_they_are_few_by_resume(
    fleet: Fleet, record_property: Note
) -> None:
    """Of 18 guilds two are on each of the first 6 shards; before MASTER knows, shards count."""
    ours, observer = await observed(
        fleet, PAIR, simulator={"guilds": SHARDS * 3 // 2}, master=GUILDS_ON_ORDER
    )
    before = placed(await fleet.status())
    assert guilds_of(await fleet.status()) == {"alpha": 12, "beta": 6}
    moves = await known_moves(fleet)
    told = " ".join((await ordered(fleet, "rebalance", "--dry-run")).split())
    assert f"{len(moves)} shards would move" in told
    assert told.count("evens out alpha and beta") >= 1
    assert placed(await fleet.status()) == before, "nothing moved yet"

    async with observer.row("rebalance", ORDERLY) as doing:
        done = (await ordered(fleet, "rebalance")).splitlines()
        doing.done()
    kept(doing.result, record_property, resumes=len(moves))
    assert done[0] == "the shards are spread afresh over the hosts"
    assert done[-1].startswith(f"rebalance: {len(moves)} of {len(moves)} shards moved in ")
    after = placed(await fleet.status())
    assert {shard for shard in after if after[shard] != before[shard]} == moves
    assert guilds_of(await fleet.status()) == {"alpha": 9, "beta": 9}

    async with observer.row("rebalance of a balanced fleet", ORDERLY) as doing:
        again = await ordered(fleet, "rebalance")
        await ours.ready()
        doing.done()
    kept(doing.result, record_property, resumes=0)
    assert again == "the shards are spread as well as they can be\n"
    assert placed(await fleet.status()) == after


GUILDS_ON_ORDER = {"balance": "guilds", "rebalance_pause": 6.0, "rebalance_gain": 10.0}
"""MASTER looks often at the guilds, and moves nothing for them by itself."""


def guilds_of(status: Mapping[str, Any]) -> dict[str, int]:
    """Host -> guilds of all its shards."""
    return {
        host["host"]: sum(s["guilds"] for cluster in host["clusters"] for s in cluster["shards"])
        for host in status["hosts"]
    }


async def known_moves(fleet: Fleet) -> set[int]:
    """The shards that a rebalance would move, once MASTER knows of all guilds."""
    found: set[int] = set()

    async def even() -> bool:
        answer = json.loads(await ordered(fleet, "rebalance", "--dry-run", "--json"))
        guilds = guilds_of(await fleet.status())
        changes = answer["diff"]["changes"]
        for change in changes:
            weight = 2 if change["shard"] < SHARDS // 2 else 1
            guilds[change["source"][0]] -= weight
            guilds[change["target"][0]] += weight
        found.clear()
        found.update(change["shard"] for change in changes)
        return guilds == {"alpha": 9, "beta": 9} and all(c["reason"] for c in changes)

    await wait_for(even, UP, what="a dry run that would make the hosts even")
    return found


async def test_reload_shows_all_faults_and_changes_nothing_or_carries_the_edit_out(
    fleet: Fleet, record_property: Note
) -> None:
    ours, observer = await observed(fleet, PAIR)
    before = placed(await fleet.status())
    async with observer.row("reload of a file with faults", ORDERLY) as doing:
        await fleet.edit_master({"balance": "guild", "shards_per_cluster": 0, "hosts": MISSPELT})
        for words in (("reload", "--dry-run"), ("reload",)):
            await refused(fleet, *words)
        await ours.ready()
        doing.done()
    kept(doing.result, record_property, resumes=0)
    assert placed(await fleet.status()) == before

    heavier = {"alpha": {"weight": 2.0}, "beta": {}}
    await fleet.edit_master({"balance": "shards", "shards_per_cluster": 8, "hosts": heavier})
    tried = " ".join((await ordered(fleet, "reload", "--dry-run")).split())
    assert "in force: shards_per_cluster, hosts.alpha.weight" in tried
    assert placed(await fleet.status()) == before, "nothing moved yet"
    async with observer.row("reload of new weights and sizes", ORDERLY) as doing:
        await ordered(fleet, "reload")
        await ours.shared({"alpha": 8, "beta": 4})
        doing.done()
    after = placed(await fleet.status())
    moved = sum(after[shard] != before[shard] for shard in after)
    kept(doing.result, record_property, resumes=moved)
    assert len({cluster for _, cluster in after.values()}) == 2
    assert await ordered(fleet, "reload") == "the settings on disk are those in force\n"


MISSPELT = {"alpha": {"wieght": 2.0}, "beta": {}}


async def refused(fleet: Fleet, *words: str) -> None:
    """A file with faults, each of which is told with its place; what was in force stays."""
    done = await fleet.ctl(*words)
    told = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (78, ""), done
    for place in ("balance", "shards_per_cluster", "hosts.alpha"):
        assert any("master.yaml:" in line and place in line for line in told), done.stderr
    assert "the settings in force stay" in told[-1]


async def test_drained_host_is_removed_and_let_in_again_with_a_new_token(
    fleet: Fleet, record_property: Note
) -> None:
    ours, observer = await observed(fleet)
    too_early = await fleet.ctl("host", "remove", "gamma")
    assert (too_early.returncode, too_early.stdout) == (1, "")
    assert "disclusterctl drain gamma" in too_early.stderr
    await ordered(fleet, "drain", "gamma")
    async with observer.row("host remove", ORDERLY) as doing:
        await ordered(fleet, "host", "remove", "gamma")
        await turned_away(fleet, "gamma")
        await ours.ready()
        assert hosts_known(await fleet.status()) == {"alpha", "beta"}
        doing.done()
    kept(doing.result, record_property, resumes=0)

    async with observer.row("it joins with a new token", ORDERLY) as doing:
        await fleet.stop_control("gamma")
        await fleet.add_host("gamma", 1.0)
        await ours.shared(shares(THREE))
        doing.done()
    kept(doing.result, record_property, resumes=SHARDS // 3)


def hosts_known(status: Mapping[str, Any]) -> set[str]:
    return {host["host"] for host in status["hosts"]}


async def turned_away(fleet: Fleet, host: str) -> None:
    """Its CONTROL says why it has no MASTER."""

    async def told() -> bool:
        said = await fleet.ctl("status", host=host)
        return f"{host} was removed from the fleet" in " ".join(said.stdout.split())

    await wait_for(told, UP, what=f"{host} is told that it was removed")
