# SPDX-License-Identifier: Apache-2.0
"""Calls between clusters: written once, run on loopback and on lab machines."""

import asyncio
import json
from typing import Any

import pytest

from tests.scenario.fleet import Completed, Fleet
from tests.scenario.scenarios import (
    UP,
    all_ready,
    disturbances,
    last_record,
    no_judgement,
    placed,
    started,
)
from tests.waiting import wait_for

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(180)]

NOT_ALL = 3
UNAVAILABLE = 69


async def clusters_of(fleet: Fleet) -> dict[int, str]:
    """Every cluster, and its host."""
    return {cluster: host for host, cluster in placed(await fleet.status()).values()}


def entries(done: Completed) -> dict[int, dict[str, Any]]:
    """By cluster, what ``disclusterctl call --json`` shows; each once."""
    assert done.stdout.strip(), done.stderr
    found = json.loads(done.stdout)["entries"]
    by_cluster = {entry["cluster"]: entry for entry in found}
    assert len(by_cluster) == len(found)
    return by_cluster


async def ask(fleet: Fleet, host: str, cluster: int, badly: dict[str, list[int]]) -> dict[str, Any]:
    """What ``cluster`` gets when it calls all; it is told to by way of its host's CONTROL."""
    words = ("ask", json.dumps(badly), "--cluster", str(cluster), "--timeout", "30", "--json")
    done = await fleet.ctl("call", *words, host=host)
    assert done.returncode == 0, done.stdout + done.stderr
    value: dict[str, Any] = entries(done)[cluster]["value"]
    return value


async def test_call_of_all_clusters_ends_in_time_whatever_some_of_them_do(fleet: Fleet) -> None:
    simulator = await started(fleet, recording=True)
    mark, hosts = await last_record(simulator), await clusters_of(fleet)
    hangs, raises, *_ = sorted(hosts)

    well = await fleet.ctl("call", "behave", "{}", "--all", "--json")
    assert well.returncode == 0, well.stdout + well.stderr
    assert {n: (e["host"], e["value"], e["fault"]) for n, e in entries(well).items()} == {
        cluster: (host, cluster, None) for cluster, host in hosts.items()
    }

    badly = json.dumps({"hang": [hangs], "raise": [raises]})
    some = await fleet.ctl("call", "behave", badly, "--all", "--timeout", "8", "--json")
    assert some.returncode == NOT_ALL
    faults = {n: e["fault"] for n, e in entries(some).items() if e["fault"] is not None}
    assert entries(some).keys() == hosts.keys()
    assert {n: fault["code"] for n, fault in faults.items()} == {
        hangs: "time-out",
        raises: "raised",
    }
    assert faults[hangs]["text"].startswith("behave took longer than")
    assert f"cluster {raises} was told to raise" in faults[raises]["text"]

    table = await fleet.ctl("call", "nonsense", "--cluster", str(hangs), "--cluster", "777")
    assert table.returncode == NOT_ALL
    shown = " ".join(table.stdout.split())
    assert "no-such-call: its handler has no call nonsense; it has: ask, behave, heard" in shown
    assert "no-such-cluster: the fleet's plan has no such cluster" in shown

    assert await disturbances(simulator, mark) == []
    await no_judgement(simulator)


async def test_cluster_calls_all_others_and_those_of_its_host_while_master_is_away(
    fleet: Fleet,
) -> None:
    simulator = await started(fleet, recording=True)
    mark, hosts = await last_record(simulator), await clusters_of(fleet)
    one = min(cluster for cluster, host in hosts.items() if host == "alpha")
    far = min(cluster for cluster, host in hosts.items() if host == "beta")
    beside = {str(cluster): cluster for cluster, host in hosts.items() if host == "alpha"}

    told = await ask(fleet, "alpha", one, {"raise": [far]})
    assert told["hosts"] == {str(cluster): host for cluster, host in hosts.items()}
    assert told["faults"] == {str(far): "raised"}
    assert told["values"].keys() == told["hosts"].keys() - {str(far)}
    assert told["unasked"] is None

    # MASTER is killed while a call is under way.
    asking = asyncio.create_task(ask(fleet, "alpha", one, {"hang": [far]}))

    async def heard() -> bool:
        done = await fleet.ctl("call", "heard", "--cluster", str(far), "--json")
        return bool(entries(done)[far]["value"] == 2)

    await wait_for(heard, UP, what=f"cluster {far} was called a second time")
    await fleet.kill_master()
    told = await asking
    assert told["faults"][str(far)] == "away"
    assert told["values"].items() >= beside.items()

    async def there_again() -> bool:
        return (await fleet.ctl("status")).returncode != UNAVAILABLE

    await wait_for(there_again, UP, what="MASTER is started again")
    await all_ready(fleet)
    await fleet.stop_master()
    told = await ask(fleet, "alpha", one, {})
    assert told["values"] == beside
    assert told["faults"] == {}
    assert told["unasked"] == "MASTER is away: only clusters of alpha are asked"
    by_hand = await fleet.ctl("call", "behave", "{}", "--all", "--json", host="alpha")
    assert by_hand.returncode == NOT_ALL
    assert {str(n): e["value"] for n, e in entries(by_hand).items()} == beside
    assert "other hosts" in json.loads(by_hand.stdout)["unasked"]

    await fleet.start_master()
    await all_ready(fleet)
    assert (await ask(fleet, "alpha", one, {}))["unasked"] is None
    assert await disturbances(simulator, mark) == []
    await no_judgement(simulator)
