# SPDX-License-Identifier: Apache-2.0
"""What is said of what was lost, and how often."""

import pytest

from discluster.cluster.local.losses import Losses, Why
from discluster.cluster.local.lost import LossWatch
from tests.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def losses() -> Losses:
    return Losses()


@pytest.fixture
def watch(losses: Losses, clock: ManualClock) -> LossWatch:
    return LossWatch(losses, clients=("bot", "stats"), clock=clock)


def test_losses_are_told_once_a_minute_with_client_reason_and_number(
    watch: LossWatch, losses: Losses, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    watch.tell()
    assert caplog.messages == []
    losses.add("bot", Why.AGE, 7)
    watch.tell()
    losses.add("bot", Why.AGE, 2)
    losses.add("stats", Why.SIZE, 3)
    clock.jump(59)
    watch.tell()
    told = "7 events are lost to bot: nobody fetched them within 'keep_age'"
    assert caplog.messages == [told]
    clock.jump(2)
    watch.tell()
    assert caplog.messages[1:] == [
        "2 events are lost to bot: nobody fetched them within 'keep_age'",
        "3 events are lost to stats: 'keep_size' was not enough",
    ]


def test_losses_are_shown_until_ten_minutes_after_the_last(
    watch: LossWatch, losses: Losses, clock: ManualClock
) -> None:
    assert watch.recent() is None
    losses.add("bot", Why.AGE, 7)
    watch.tell()
    clock.jump(599)
    assert watch.recent() == "7 events were lost to bot"
    clock.jump(2)
    assert watch.recent() is None
