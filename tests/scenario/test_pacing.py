# SPDX-License-Identifier: Apache-2.0
"""A start in real time, with Discord's interval and the settings as they are shipped."""

from itertools import pairwise

import pytest

from discluster.simulator.ledger import HeldUp, Identify
from tests.scenario.fleet import Fleet
from tests.scenario.scenarios import all_ready, no_judgement, records

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(120)]

SHARDS = 64
LANES = 16


@pytest.mark.covers("T-37", "T-39", "O-01", "O-02")
async def test_start_takes_what_discord_demands_within_two_hundredths(fleet: Fleet) -> None:
    await fleet.start(
        shards=SHARDS,
        hosts={"alpha": 1.0, "beta": 1.0},
        max_concurrency=LANES,
        shards_per_cluster=16,
        simulator={"identify_interval": 5.0},
    )
    await all_ready(fleet, SHARDS)
    identifies = await records(fleet.simulator, Identify)
    assert len(identifies) == SHARDS
    assert all(record.accepted for record in identifies)
    took = identifies[-1].time - identifies[0].time
    least = 5.0 * (SHARDS // LANES - 1)
    buckets = [record.shard[0] // LANES for record in identifies if record.shard is not None]
    print(f"\n{SHARDS} shards in {LANES} lanes: {took:.2f} s, at least {least:g}")
    # What the machine stood still for is nobody's doing.
    pauses = await records(fleet.simulator, HeldUp, since=identifies[0].n)
    held_up = sum(pause.seconds for pause in pauses)
    assert least <= took <= 1.02 * least + held_up
    assert all(earlier <= later for earlier, later in pairwise(buckets)), buckets
    await no_judgement(fleet.simulator)
