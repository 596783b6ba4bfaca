# SPDX-License-Identifier: Apache-2.0
"""Operators on other machines: written once, run on loopback and on lab machines."""

import json
import shlex
from typing import Any

import pytest

from tests.scenario.fleet import Fleet
from tests.scenario.scenarios import all_ready, last_record, placed, started
from tests.scenario.shutdown import moved_by_resume

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(180)]

REFUSED = 77


async def invitation(fleet: Fleet, name: str, role: str) -> list[str]:
    """What MASTER's machine prints for that operator, without the program's name."""
    created = await fleet.ctl("operator", "create", name, "--role", role)
    assert created.returncode == 0, created.stderr
    return shlex.split(created.stdout)[1:]


async def audited(fleet: Fleet, name: str) -> list[dict[str, Any]]:
    done = await fleet.ctl("audit", "--who", name, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


async def test_operator_elsewhere_drains_a_host_and_the_audit_log_names_who_did_it(
    fleet: Fleet,
) -> None:
    simulator = await started(fleet)
    before = placed(await fleet.status())
    own = {shard for shard, (host, _) in before.items() if host == "beta"}

    line = await invitation(fleet, "alice", "operate")
    login = await fleet.elsewhere("alice", *line)
    assert login.returncode == 0, login.stderr
    stolen = await fleet.elsewhere("mallory", *line)
    assert (stolen.returncode, stolen.stdout) == (REFUSED, "")
    assert "was used already" in stolen.stderr
    looker = await fleet.elsewhere("carol", *await invitation(fleet, "carol", "view"))
    assert looker.returncode == 0, looker.stderr

    mark = await last_record(simulator)
    refused = await fleet.elsewhere("carol", "drain", "beta")
    assert refused.returncode == REFUSED
    assert "carol has the role view" in refused.stderr
    drained = await fleet.elsewhere("alice", "drain", "beta")
    assert drained.returncode == 0, drained.stderr
    await all_ready(fleet)
    await moved_by_resume(simulator, mark, own)
    seen = await fleet.elsewhere("carol", "status", "--json")
    where = placed(json.loads(seen.stdout))
    assert {host for host, _ in where.values()} == {"alpha", "gamma"}

    asked, done = await audited(fleet, "alice")
    assert (asked["path"], asked["how"], asked["outcome"]) == ("/v1/login", "login", "done")
    assert (done["body"]["host"], done["how"], done["outcome"]) == ("beta", "certificate", "done")
    assert done["address"] == asked["address"]
    assert [entry["outcome"] for entry in await audited(fleet, "carol")] == ["done", "refused"]

    await fleet.restart_master()
    assert (await fleet.elsewhere("alice", "whoami")).returncode == 0, "logins outlive MASTER"
    revoked = await fleet.ctl("operator", "revoke", "alice")
    assert revoked.returncode == 0, revoked.stderr
    out = await fleet.elsewhere("alice", "undrain", "beta")
    assert out.returncode == REFUSED
    assert len(await audited(fleet, "alice")) == 2
