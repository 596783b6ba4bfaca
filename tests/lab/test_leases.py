# SPDX-License-Identifier: Apache-2.0
"""Leases on real machines: systemd restarts a cluster, and nobody is there to ask but its disk."""

import pytest

from discluster.simulator.ledger import Identify
from tests.lab.conftest import TIMEOUT
from tests.lab.fleet import LabFleet, unit_of
from tests.scenario.scenarios import all_ready, last_record, no_judgement, records
from tests.waiting import wait_for

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(TIMEOUT)]

SHARDS = 4


async def test_cluster_that_crashes_after_its_control_said_goodbye_resumes_by_itself(
    fleet: LabFleet,
) -> None:
    await fleet.start(shards=SHARDS, hosts={"alpha": 1.0})
    await all_ready(fleet, SHARDS)
    machine = fleet.lab["alpha"]
    (cluster,) = await fleet.units("alpha")
    mark = await last_record(fleet.simulator)

    await fleet.stop_control("alpha")
    assert '"until":null' in machine.run("cat", "/run/discluster/clusters/lease.json").stdout
    machine.run("systemctl", "kill", "--signal=KILL", unit_of(cluster))

    async def resumed() -> bool:
        found = await fleet.simulator.ledger(since=mark)
        return sum(record.kind == "resumed" for record in found) == SHARDS

    await wait_for(resumed, 30, what="every shard is resumed")
    assert await records(fleet.simulator, Identify, mark) == []
    await no_judgement(fleet.simulator)


async def test_cluster_that_crashes_with_neither_control_nor_a_lease_waits_and_says_so(
    fleet: LabFleet,
) -> None:
    await fleet.start(shards=SHARDS, hosts={"alpha": 1.0})
    await all_ready(fleet, SHARDS)
    machine = fleet.lab["alpha"]
    (cluster,) = await fleet.units("alpha")
    unit = unit_of(cluster)

    await fleet.stop_control("alpha")
    # As written in another boot of this machine.
    lease = "/run/discluster/clusters/lease.json"
    machine.run("sed", "-i", 's/"boot_id":"[^"]*"/"boot_id":"other"/', lease)
    mark = await last_record(fleet.simulator)
    machine.run("systemctl", "kill", "--signal=KILL", unit)

    def says() -> bool:
        return "no lease yet: CONTROL is away" in machine.unit(unit, "StatusText")

    await wait_for(says, 30, what="the cluster says what it waits for")
    found = await fleet.simulator.ledger(since=mark)
    assert not any(record.kind in ("open", "resumed", "identify") for record in found)
    await machine.arun("systemctl", "start", "discluster-control")
    await all_ready(fleet, SHARDS)
    assert await records(fleet.simulator, Identify, mark) == []
    await no_judgement(fleet.simulator)
