# SPDX-License-Identifier: Apache-2.0
"""What only real machines can show of a running fleet: upgrades, reboots, and where secrets are."""

import shutil

import pytest

from discluster.simulator.ledger import Close, Identify
from tests.lab import deb
from tests.lab.conftest import TIMEOUT
from tests.lab.fleet import TOKEN, LabFleet, unit_of
from tests.lab.machines import Machine
from tests.scenario.network import MASTER
from tests.scenario.scenarios import all_ready, last_record, no_judgement, records
from tests.waiting import wait_for

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(TIMEOUT)]

SHARDS = 12
HOSTS = {"alpha": 1.0, "beta": 1.0}
# Prints every file, process and journal entry with the bot token in it.
SEARCH = f"""
    grep -rlF {TOKEN} /var/lib/discluster /run/discluster /etc/discluster /var/log
    for process in $(pgrep -u discluster-master,discluster-control,discluster-cluster); do
        echo looked at $(cat /proc/$process/comm) >&2
        grep -lF {TOKEN} /proc/$process/cmdline /proc/$process/environ
    done
    journalctl --no-pager --output=export | grep -aF {TOKEN}
    true
"""


async def start(fleet: LabFleet) -> None:
    await fleet.start(shards=SHARDS, hosts=HOSTS)
    await all_ready(fleet, SHARDS)


async def cluster_pids(fleet: LabFleet) -> dict[str, str]:
    """Main pid of every cluster unit of the fleet."""
    return {
        f"{host}/{cluster}": fleet.lab[host].unit(unit_of(cluster), "MainPID")
        for host in fleet.hosts
        for cluster in await fleet.units(host)
    }


async def upgrade(machine: Machine, package: deb.Package) -> None:
    shutil.copy(package.path, machine.disk / "root/discluster.deb")
    await machine.arun("apt-get", "-q", "-y", "install", "/root/discluster.deb", timeout=120)


async def test_upgrade_of_the_package_is_not_noticed_by_discord(
    fleet: LabFleet, newer_package: deb.Package
) -> None:
    await start(fleet)
    before = await cluster_pids(fleet)
    mark = await last_record(fleet.simulator)

    for name in (MASTER, *fleet.hosts):
        old = fleet.lab[name].unit("discluster-control", "MainPID")
        await upgrade(fleet.lab[name], newer_package)
        if name != MASTER:
            assert fleet.lab[name].unit("discluster-control", "MainPID") not in ("0", old)
    await all_ready(fleet, SHARDS)

    assert await cluster_pids(fleet) == before
    assert await records(fleet.simulator, Close, mark) == []
    assert await records(fleet.simulator, Identify, mark) == []
    await no_judgement(fleet.simulator)


async def test_rebooted_machine_runs_its_shards_again_by_resume(fleet: LabFleet) -> None:
    await start(fleet)
    mark = await last_record(fleet.simulator)
    machine = fleet.lab["alpha"]

    machine.shut_down()
    machine.boot()
    await all_ready(fleet, SHARDS)

    closes = await records(fleet.simulator, Close, mark)
    assert {(close.by, close.code) for close in closes} == {("client", 4000)}
    assert await records(fleet.simulator, Identify, mark) == []
    await no_judgement(fleet.simulator)


async def test_machine_that_lost_power_runs_its_shards_again_by_resume(fleet: LabFleet) -> None:
    await start(fleet)
    mark = await last_record(fleet.simulator)
    machine = fleet.lab["alpha"]

    machine.cut_power()
    machine.boot()

    async def resumed() -> bool:
        found = await fleet.simulator.ledger(since=mark)
        return sum(record.kind == "resumed" for record in found) >= SHARDS // 2

    await wait_for(resumed, 60, what="the shards of alpha are resumed")
    await all_ready(fleet, SHARDS)
    assert await records(fleet.simulator, Identify, mark) == []
    await no_judgement(fleet.simulator)


async def test_shutdown_leaves_no_failed_unit_and_no_cluster_behind(fleet: LabFleet) -> None:
    await start(fleet)
    machine = fleet.lab["alpha"]
    clusters = await fleet.units("alpha")

    machine.shut_down()

    journal = machine.journal("--boot=0", "--output=cat").splitlines()
    ends = [line for line in journal if "Failed with result" in line and "discluster" in line]
    assert ends == []
    control = next(i for i, line in enumerate(journal) if "Stopping discluster-control" in line)
    for cluster in clusters:
        stopped = next(i for i, line in enumerate(journal) if f"Stopped {unit_of(cluster)}" in line)
        assert stopped < control, "clusters save their sessions while CONTROL still runs"


async def test_bot_token_is_nowhere_but_in_the_credential(fleet: LabFleet) -> None:
    await start(fleet)
    await fleet.restart_cluster(next(iter(await fleet.units("alpha"))))
    await all_ready(fleet, SHARDS)
    for name in (MASTER, *fleet.hosts):
        machine = fleet.lab[name]
        assert machine.run("grep", "-rlF", TOKEN, "/etc/credstore").stdout, "grep would find it"
        found = machine.run("sh", "-c", SEARCH)
        assert found.stdout == "", f"on {name}"
        assert "looked at discluster-" in found.stderr
