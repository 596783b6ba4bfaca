# SPDX-License-Identifier: Apache-2.0
"""Machines that go down by their own systemctl: in which order, and what becomes of the shards."""

import asyncio
import time

import pytest

from discluster.simulator.ledger import Identify
from tests.lab.conftest import TIMEOUT
from tests.lab.fleet import LabFleet, unit_of
from tests.lab.machines import Machine
from tests.scenario.network import MASTER
from tests.scenario.scenarios import (
    all_ready,
    last_record,
    no_judgement,
    placed,
    records,
    wait_for_kind,
)
from tests.scenario.shutdown import STOP_TIME, moved_by_resume
from tests.waiting import wait_for

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(TIMEOUT)]

SHARDS = 12
HOSTS = {"alpha": 1.0, "beta": 1.0}

# A machine of the lab has its network from outside; so a stand-in for what sets up a real one's.
NETWORK = "lab-network.service"
NETWORK_UNIT = """\
[Unit]
Wants=network.target
Before=network.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=true

[Install]
WantedBy=multi-user.target
"""


def at(journal: list[str], text: str) -> int:
    """Index of the last line with ``text``."""
    found = [index for index, line in enumerate(journal) if text in line]
    assert found, f"{text!r} is not in the journal"
    return found[-1]


async def shards_of(fleet: LabFleet, host: str) -> set[int]:
    return {s for s, (name, _) in placed(await fleet.status()).items() if name == host}


async def ended(machine: Machine, verb: str) -> None:
    began = time.monotonic()
    await asyncio.to_thread(machine.power_off, verb)
    assert time.monotonic() - began < STOP_TIME, "the machine waited for a time-out"


async def test_reboot_hands_the_shards_over_and_brings_as_many_back(fleet: LabFleet) -> None:
    await fleet.start(shards=SHARDS, hosts=HOSTS)
    await all_ready(fleet, SHARDS)
    own = await shards_of(fleet, "alpha")
    mark = await last_record(fleet.simulator)

    await ended(fleet.lab["alpha"], "reboot")
    await all_ready(fleet, SHARDS)
    assert await shards_of(fleet, "beta") == set(range(SHARDS))
    await moved_by_resume(fleet.simulator, mark, own)

    mark = await last_record(fleet.simulator)
    await fleet.boot("alpha")

    async def shared_out() -> bool:
        return len(await shards_of(fleet, "alpha")) == SHARDS // 2

    await wait_for(shared_out, 60, what="alpha runs its share again")
    await all_ready(fleet, SHARDS)
    await moved_by_resume(fleet.simulator, mark, await shards_of(fleet, "alpha"))


async def test_clusters_stop_first_then_control_then_master_then_the_network(
    fleet: LabFleet,
) -> None:
    """MASTER's own machine, which is a host as well: what it ran is others' before MASTER ends."""
    await fleet.start(shards=SHARDS, hosts=HOSTS)
    await fleet.add_host(MASTER, 1.0)

    async def shared_out() -> bool:
        return len(await shards_of(fleet, MASTER)) == SHARDS // 3

    await wait_for(shared_out, 60, what="MASTER's machine runs its share")
    await all_ready(fleet, SHARDS)
    machine = fleet.lab[MASTER]
    machine.write(f"/etc/systemd/system/{NETWORK}", NETWORK_UNIT)
    await machine.arun("systemctl", "enable", "--now", "--quiet", NETWORK)
    own, clusters = await shards_of(fleet, MASTER), await fleet.units(MASTER)
    mark = await last_record(fleet.simulator)

    await ended(machine, "poweroff")
    await wait_for_kind(fleet.simulator, "resumed", mark, len(own))
    await moved_by_resume(fleet.simulator, mark, own)

    journal = machine.journal("--boot=0", "--output=cat").splitlines()
    assert not [line for line in journal if "Failed with result" in line and "discluster" in line]
    order = [max(at(journal, f"Stopped {unit_of(cluster)}") for cluster in clusters)]
    order += [at(journal, f"{verb} discluster-control") for verb in ("Stopping", "Stopped")]
    order += [at(journal, f"{verb} discluster-master") for verb in ("Stopping", "Stopped")]
    order += [at(journal, f"Stopped {NETWORK}")]
    assert order == sorted(order)

    await fleet.boot(MASTER)
    await wait_for(shared_out, 60, what="MASTER's machine runs its share again")
    await all_ready(fleet, SHARDS)
    assert await records(fleet.simulator, Identify, mark) == []
    assert (await fleet.simulator.summary()).lost == 0
    await no_judgement(fleet.simulator)


async def test_whole_fleet_that_goes_down_at_once_comes_back_by_resume(fleet: LabFleet) -> None:
    await fleet.start(shards=SHARDS, hosts=HOSTS)
    await all_ready(fleet, SHARDS)
    mark = await last_record(fleet.simulator)
    names = (*HOSTS, MASTER)

    await asyncio.gather(*(ended(fleet.lab[name], "poweroff") for name in names))
    await asyncio.gather(*(fleet.boot(name) for name in names))
    await all_ready(fleet, SHARDS)

    assert await records(fleet.simulator, Identify, mark) == []
    assert (await fleet.simulator.summary()).lost == 0
    await no_judgement(fleet.simulator)
