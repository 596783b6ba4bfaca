# SPDX-License-Identifier: Apache-2.0
"""How long it takes until the shards of a machine that lost its power run on the others."""

from collections.abc import Callable
from statistics import median

import pytest

from tests.chaos.rows import UNHEARD
from tests.lab.conftest import TIMEOUT
from tests.lab.fleet import LabFleet
from tests.scenario.losing import observed, shards_of

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(TIMEOUT)]

SHARDS = 64
HOSTS = {"alpha": 2.0, "beta": 1.0, "gamma": 1.0}
LEASE = 10.0
MARGIN = 2.0
"""As shipped."""
AFTERWARDS = 5.0
"""Seconds beyond the lease in which all shards have to be back, the margin among them."""


async def test_all_shards_are_resumed_within_the_lease_and_five_seconds(
    fleet: LabFleet, record_property: Callable[[str, object], None]
) -> None:
    ours, observer = await observed(
        fleet,
        HOSTS,
        shards=SHARDS,
        shards_per_cluster=16,
        master={"lease": LEASE, "lease_margin": MARGIN, "ping_interval": LEASE / 6},
    )
    own = await shards_of(fleet, "alpha")
    async with observer.row("power cut", UNHEARD) as doing:
        async with ours.resumed(len(own)):
            await fleet.cut_power("alpha")
        doing.done()

    row = doing.result
    down = sorted(row.pauses)[-len(own) :]
    figures = f"{len(own)} of {SHARDS} shards: median {median(down):.2f} s, worst {down[-1]:.2f} s"
    print(f"\n{figures}; lease {LEASE:g} s")
    record_property("failover", figures)
    assert row.broken == []
    assert (row.resumes, row.identifies) == (len(own), 0)
    assert down[-1] <= LEASE + AFTERWARDS
