# SPDX-License-Identifier: Apache-2.0
"""Operators on MASTER's machine, as the package sets it up: who gets in, and what is on record."""

import json
import stat

import pytest

from tests.lab.conftest import TIMEOUT
from tests.lab.fleet import LabFleet
from tests.scenario.network import MASTER

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(TIMEOUT)]

UNIT = "discluster-master"
STATE = "/var/lib/discluster/master"
SOCKET = "run/discluster/master/master.sock"


async def test_operator_is_who_is_in_the_group_and_is_named_in_audit_log_and_journal(
    fleet: LabFleet,
) -> None:
    await fleet.start(shards=4, hosts={})
    machine = fleet.lab[MASTER]
    made = (machine.root / SOCKET).stat()
    group = machine.run("getent", "group", "discluster-admin").stdout.split(":")[2]
    assert (made.st_gid, stat.S_IMODE(made.st_mode)) == (int(group), 0o660)

    machine.run("useradd", "--groups", "discluster-admin", "alice")
    machine.run("useradd", "mallory")
    taken = machine.run("disclusterctl", "reload", "--no-wait", user="alice")
    assert taken.returncode == 0
    refused = machine.run("disclusterctl", "reload", user="mallory", check=False)
    assert refused.returncode == 77
    assert "usermod -aG discluster-admin mallory" in refused.stderr

    listed = machine.run("disclusterctl", "audit", "--json").stdout.splitlines()
    entries = [json.loads(line) for line in listed]
    uid = int(machine.run("id", "-u", "alice").stdout)
    (entry,) = (entry for entry in entries if entry["who"] == "alice")
    assert (entry["uid"], entry["how"], entry["role"]) == (uid, "socket", "admin")
    assert (entry["body"]["type"], entry["outcome"]) == ("reload", "done")
    assert "mallory" not in {entry["who"] for entry in entries}

    journal = machine.journal(f"--unit={UNIT}", "OPERATOR=alice", "--output=json")
    (line,) = journal.splitlines()
    assert (json.loads(line)["CALL"], json.loads(line)["OUTCOME"]) == ("POST /v1/orders", "done")
    assert "is not for the group" not in machine.journal(f"--unit={UNIT}")
    for name in ("audit.jsonl", "operators.json"):
        read = machine.run("cat", f"{STATE}/{name}", user="alice", check=False)
        assert read.returncode != 0, "not even who may order MASTER about can change its records"
