# SPDX-License-Identifier: Apache-2.0
"""Certificates that end, an authority that is replaced, a host that is kept out: no shard notices,
but for those that have to go.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import pytest

from tests.chaos.rows import UNHEARD
from tests.scenario.fleet import Fleet
from tests.scenario.losing import THREE as HOSTS
from tests.scenario.losing import (
    Note,
    connected,
    host_in,
    kept,
    observed,
    shards_of,
    shares,
)
from tests.scenario.scenarios import (
    UP,
    all_ready,
    disturbances,
    heartbeats_of_all,
    last_record,
    no_judgement,
)
from tests.waiting import wait_for

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(240)]

SHARDS: Final = 8
PAIR: Final = {"alpha": 1.0, "beta": 1.0}
LIFE: Final = 20.0
"""Seconds that a certificate lives; it is renewed after some twelve."""


async def certificates(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """What ``ca status`` says of MASTER's and each host's; empty while MASTER is away."""
    status = await authority(fleet)
    views = status.get("certificates", ())
    return {view["name"]: view for view in views if view["kind"] != "authority"}


async def authority(fleet: Fleet) -> dict[str, Any]:
    done = await fleet.ctl("ca", "status", "--json")
    return dict(json.loads(done.stdout)) if done.stdout.strip() else {}


async def renewed(fleet: Fleet, before: Mapping[str, Mapping[str, Any]], what: str) -> None:
    """Waits until all have another certificate than ``before``."""

    async def all_new() -> bool:
        now = await certificates(fleet)
        return now.keys() == before.keys() and all(
            now[name]["serial"] != before[name]["serial"] for name in before
        )

    await wait_for(all_new, 3 * LIFE, what=what)


async def test_certificates_are_renewed_and_their_authority_is_replaced_under_running_shards(
    fleet: Fleet,
) -> None:
    await fleet.start(
        shards=SHARDS,
        hosts=PAIR,
        simulator={"heartbeat_interval": 3.0},
        master={"certificate_life": LIFE},
    )
    await all_ready(fleet, SHARDS)
    mark = await last_record(fleet.simulator)

    first = await certificates(fleet)
    assert first.keys() == {"MASTER", "alpha", "beta"}
    await renewed(fleet, first, "all have renewed their certificates")
    second = await certificates(fleet)
    await fleet.restart_master()
    await renewed(fleet, second, "all have renewed them again, after a restart of MASTER")

    before = await authority(fleet)
    done = await fleet.ctl("ca", "rotate")
    assert done.returncode == 0, done.stderr
    # At whatever point that meets it.
    await fleet.kill_master()

    async def is_over() -> bool:
        status = await authority(fleet)
        fresh = status.get("fingerprint") not in (None, before["fingerprint"])
        return fresh and status["rotation"] is None

    await wait_for(is_over, UP, what="the authority is replaced")
    signers = {view["authority"] for view in (await certificates(fleet)).values()}
    old = {view["authority"] for view in before["certificates"]}
    assert len(signers) == 1, "all are made by the new one"
    assert signers.isdisjoint(old)
    third = await certificates(fleet)
    await renewed(fleet, third, "the new authority renews")
    for host in PAIR:
        await fleet.restart_control(host)
    await fleet.restart_master()
    await all_ready(fleet, SHARDS)
    await heartbeats_of_all(fleet.simulator, await last_record(fleet.simulator), SHARDS)

    status = await fleet.ctl("ca", "status")
    assert status.returncode == 0, status.stdout
    assert await disturbances(fleet.simulator, mark) == []
    await no_judgement(fleet.simulator)


async def test_revoked_host_is_cut_off_at_once_and_its_shards_resume_elsewhere(
    fleet: Fleet, record_property: Note
) -> None:
    # It must not carry on, though nobody answers it any more and its settings say so.
    ours, observer = await observed(fleet, when_isolated="keep")
    own = await shards_of(fleet, "alpha")
    async with observer.row("a host is revoked", UNHEARD) as doing:
        async with ours.resumed(len(own)):
            done = await fleet.ctl("host", "revoke", "alpha")
            assert done.returncode == 0, done.stderr
            assert host_in(await fleet.status(), "alpha")["state"] == "silent"
        doing.done()
    kept(doing.result, record_property, resumes=len(own))
    assert await shards_of(fleet, "alpha") == set()

    await fleet.restart_control("alpha")

    async def says_so() -> bool:
        # Of itself, not of MASTER.
        asked = ("status", "--json", "--socket", "/nowhere")
        return "alpha was revoked" in (await fleet.ctl(*asked, host="alpha")).stdout

    await wait_for(says_so, UP, what="the host says that it was revoked")
    assert host_in(await fleet.status(), "alpha")["state"] == "lost"

    joined = await fleet.join_again("alpha")
    assert joined.returncode == 0, joined.stderr
    await ours.says(connected("alpha"), "it is let in again")
    await ours.shared(shares(HOSTS))
