# SPDX-License-Identifier: Apache-2.0
"""The load that a fleet shows is the one that its machines have."""

import asyncio
from typing import Any

import pytest

from tests.lab.conftest import TIMEOUT
from tests.lab.fleet import LabFleet, unit_of
from tests.scenario.scenarios import all_ready
from tests.waiting import wait_for

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(TIMEOUT)]

SHARDS = 4
EVENTS = 200.0  # a second, of all shards together
NOT_SET = str(2**64 - 1), "[not set]", ""
# As a process of a packet handler: it is in the cluster's unit, and takes a part of one core.
BUSY = """
    echo $$ > /sys/fs/cgroup$(systemctl show --value -p ControlGroup {unit})/cgroup.procs
    until [ -e /run/enough ]; do
        i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; sleep 0.02
    done
"""


async def test_load_of_a_cluster_is_that_of_its_unit(fleet: LabFleet) -> None:
    await fleet.start(
        shards=SHARDS, hosts={"alpha": 1.0}, simulator={"events_per_second": EVENTS / SHARDS}
    )
    await all_ready(fleet, SHARDS)
    machine = fleet.lab["alpha"]
    cluster: dict[str, Any] = {}

    async def look() -> None:
        ((found,),) = (host["clusters"] for host in (await fleet.status())["hosts"])
        cluster.update(found)

    async def flows() -> bool:
        await look()
        rate = cluster["event_rate"]
        return rate is not None and abs(rate - EVENTS) < EVENTS / 4

    await wait_for(flows, 60, what="the rate of events")
    assert cluster["memory"] > 10 << 20
    unit = unit_of(cluster["cluster"])
    memory = machine.unit(unit, "MemoryCurrent")
    if memory not in NOT_SET:
        assert cluster["memory"] == pytest.approx(int(memory), rel=0.25)

    async def idle() -> bool:
        await look()
        return cluster["cpu"] is not None and 0 < cluster["cpu"] < 0.1

    await wait_for(idle, 60, what="little use of the processor")
    busy = asyncio.create_task(
        machine.arun("sh", "-c", BUSY.format(unit=unit), timeout=90, check=False)
    )

    async def noticed() -> bool:
        await look()
        return bool(cluster["cpu"] > 0.15)

    await wait_for(noticed, 60, what="the use of the processor by a second process of the unit")
    machine.run("touch", "/run/enough")
    await busy
