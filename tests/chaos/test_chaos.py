# SPDX-License-Identifier: Apache-2.0
"""The short form of ``make chaos``, once; every test looks at rows of it."""

import asyncio
from collections.abc import Mapping

import pytest

from tests.chaos import campaigns, losses
from tests.chaos.__main__ import SEED
from tests.chaos.ours import BATCHES
from tests.chaos.recorder import BATCH
from tests.chaos.report import line
from tests.chaos.rows import Row

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(360)]

Rows = Mapping[str, Row]


@pytest.fixture(scope="module")
def rows() -> Rows:
    found = asyncio.run(campaigns.short_form(SEED, lambda row: print(line(row))))
    return {row.what.removesuffix(BATCHES): row for row in found}


def test_every_row_was_measured_and_keeps_its_promise(rows: Rows) -> None:
    assert {row.what: row.broken for row in rows.values() if row.broken} == {}
    assert set(rows) == {
        *(campaigns.KILLED, campaigns.RESTARTED, campaigns.CONTROL_KILLED),
        *(campaigns.MASTER_KILLED, campaigns.HOSTS_CLUSTERS_KILLED, campaigns.HOST_KILLED),
        *(campaigns.REGROUPED, campaigns.JOINED, campaigns.WEIGHED, losses.LOST),
    }


def test_killed_clusters_lose_no_event_and_spend_no_identify(rows: Rows) -> None:
    row = rows[campaigns.KILLED]
    assert row.times == campaigns.SHORT.clusters
    assert (row.lost, row.unasked, row.identifies, row.twice) == (0, 0, 0, 0)
    assert row.resumes >= row.times
    assert len(row.gaps) >= row.times


def test_what_was_not_acknowledged_before_a_kill_comes_again(rows: Rows) -> None:
    """At least once: the recorder notes at once and acknowledges in batches."""
    row = rows[campaigns.KILLED]
    assert 0 < row.doubled < BATCH * row.resumes


def test_orderly_restart_loses_nothing_and_doubles_nothing(rows: Rows) -> None:
    row = rows[campaigns.RESTARTED]
    assert (row.lost, row.doubled, row.identifies) == (0, 0, 0)
    # Two shards in each cluster; one session each, resumed once.
    assert row.resumes == len(row.gaps) == 2 * row.times


def test_shards_run_on_while_control_and_master_are_killed(rows: Rows) -> None:
    for what in (campaigns.CONTROL_KILLED, campaigns.MASTER_KILLED):
        assert (rows[what].resumes, rows[what].identifies, rows[what].gaps) == (0, 0, ())


def test_killed_host_comes_back_with_its_sessions(rows: Rows) -> None:
    for what in (campaigns.HOSTS_CLUSTERS_KILLED, campaigns.HOST_KILLED):
        assert rows[what].resumes == len(rows[what].gaps) == campaigns.SHORT.shards // 2
        assert (rows[what].lost, rows[what].identifies) == (0, 0)


def test_regrouped_and_moved_shards_are_resumed_and_never_run_twice(rows: Rows) -> None:
    for what in (campaigns.REGROUPED, campaigns.JOINED, campaigns.WEIGHED):
        row = rows[what]
        assert (row.lost, row.doubled, row.identifies, row.twice) == (0, 0, 0, 0)
        assert row.resumes > 0


def test_lost_hosts_leave_no_shard_with_two_processes(rows: Rows) -> None:
    row = rows[losses.LOST]
    assert row.times == campaigns.SHORT.losses
    assert (row.lost, row.unasked, row.identifies, row.overlap) == (0, 0, 0, 0.0)
