# SPDX-License-Identifier: Apache-2.0
"""``systemctl reload discluster-master``: a good edit is taken, a bad one refused and told."""

import pytest

from tests.chaos.ours import OurFleet
from tests.lab.conftest import TIMEOUT
from tests.lab.fleet import LabFleet
from tests.scenario.network import MASTER

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(TIMEOUT)]

SHARDS = 4
UNIT = "discluster-master"


async def test_reload_takes_a_good_edit_and_refuses_a_bad_one(fleet: LabFleet) -> None:
    await fleet.start(shards=SHARDS, hosts={"alpha": 1.0})
    ours = OurFleet(fleet, SHARDS)
    await ours.ready()
    machine = fleet.lab[MASTER]
    pid = machine.unit(UNIT, "MainPID")

    await fleet.edit_master({"shards_per_cluster": 2})
    await machine.arun("systemctl", "reload", UNIT)
    await ours.sized(2)

    await fleet.edit_master({"shards_per_cluster": 0})
    refused = await machine.arun("systemctl", "reload", UNIT, check=False)
    assert refused.returncode != 0
    assert "shards_per_cluster" in machine.journal(f"--unit={UNIT}", "--lines=20")
    assert machine.unit(UNIT, "ActiveState") == "active"

    await fleet.edit_master({"shards_per_cluster": 4})
    await machine.arun("systemctl", "kill", "--kill-whom=main", "--signal=HUP", UNIT)
    await ours.sized(4)
    assert machine.unit(UNIT, "MainPID") == pid
