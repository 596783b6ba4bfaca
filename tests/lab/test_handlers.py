# SPDX-License-Identifier: Apache-2.0
"""Handlers in the packaged unit: out of an operator's virtual environment (docs/handlers.md), and
the local gateway on its UNIX socket.

Debian's Python makes the environment without pip; what an installer would put there is written.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.lab.commands import wait_until
from tests.lab.conftest import TIMEOUT, lab_fleet
from tests.lab.fleet import LabFleet, unit_of
from tests.lab.machines import Machine
from tests.lab.runs import Run
from tests.scenario.network import MASTER
from tests.scenario.scenarios import all_ready

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(TIMEOUT)]

CONFIG = "/etc/discluster/cluster.yaml"
VENV = "/srv/bot/venv"
SHARDS = 4
BOT = """
import our_library

class Bot:
    wants = {"MESSAGE_CREATE"}
    async def start(self, cluster, commands): pass
    def handle_batch(self, events): pass
    async def stop(self): pass
    def summary(self): return our_library.NAME
"""
INSTALL = f"""
set -e
umask 022
python3 -m venv --without-pip {VENV}
cd {VENV}/lib/python3*/site-packages
echo 'NAME = "a bot out of its own environment"' > our_library.py
cat > our_bot.py
mkdir our_bot-1.0.dist-info
printf 'Metadata-Version: 2.1\\nName: our-bot\\nVersion: 1.0\\n' > our_bot-1.0.dist-info/METADATA
printf '[discluster.handlers]\\nour-bot = our_bot:Bot\\n' > our_bot-1.0.dist-info/entry_points.txt
"""
GATEWAYS = "/run/discluster/gateways"
ASK = """
import socket, sys
bot = socket.socket(socket.AF_UNIX)
bot.connect(sys.argv[1])
bot.sendall(b"GET /gateway HTTP/1.1\\r\\n\\r\\n")
print(bot.recv(4096).decode())
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(
    request: pytest.FixtureRequest, lab_run: Run, package_lower: tuple[Path, ...]
) -> AsyncIterator[LabFleet]:
    async with lab_fleet(request, lab_run, package_lower) as made:
        await made.start(shards=SHARDS, hosts={}, shards_per_cluster=SHARDS)
        machine = made.lab[MASTER]
        machine.run("sh", "-c", INSTALL, stdin=BOT)
        machine.write(CONFIG, f"handler: our-bot\nvirtual_environment: {VENV}\n")
        await made.add_host(MASTER, 1.0)
        await all_ready(made, SHARDS)
        yield made


def unit_in(machine: Machine) -> str:
    [number] = machine.run("ls", "/var/lib/discluster/clusters").stdout.split()
    return unit_of(int(number))


def test_packaged_cluster_runs_a_handler_of_a_virtual_environment_and_says_if_it_cannot_be_read(
    fleet: LabFleet,
) -> None:
    machine = fleet.lab[MASTER]
    unit = unit_in(machine)
    wait_until(
        lambda: "a bot out of its own environment" in machine.unit(unit, "StatusText"),
        timeout=30,
        what="the handler is in the cluster's status",
    )

    # Where the unit's sandbox hides it.
    machine.run("cp", "-a", VENV, "/home/venv")
    machine.write(CONFIG, "handler: our-bot\nvirtual_environment: /home/venv\n")
    machine.run("systemctl", "restart", unit, check=False)
    wait_until(
        lambda: "error: virtual_environment /home/venv: " in machine.journal(f"--unit={unit}"),
        timeout=30,
        what="the cluster says why it cannot run",
    )


def test_local_gateways_socket_is_for_members_of_its_group_and_made_by_clusters_alone(
    fleet: LabFleet,
) -> None:
    machine = fleet.lab[MASTER]
    unit = unit_in(machine)
    machine.write(CONFIG, "handler: gateway\nlocal_gateway:\n  unix_socket: true\n")
    machine.run("systemctl", "reset-failed", unit, check=False)
    machine.run("systemctl", "restart", unit)
    wait_until(
        lambda: f"bot on 0 of {SHARDS} shards" in machine.unit(unit, "StatusText"),
        timeout=30,
        what="the local gateway is in the cluster's status",
    )
    [name] = machine.run("ls", GATEWAYS).stdout.split()
    machine.run("useradd", "--groups", "discluster-bot", "bot-owner")
    machine.run("useradd", "bystander")
    ask = ("python3", "-c", ASK, f"{GATEWAYS}/{name}")
    assert '{"url":"ws://' in machine.run(*ask, user="bot-owner").stdout
    assert "Permission denied" in machine.run(*ask, user="bystander", check=False).stderr
    for user in ("bot-owner", "bystander"):
        made = machine.run("touch", f"{GATEWAYS}/7.sock", user=user, check=False)
        assert made.returncode != 0
