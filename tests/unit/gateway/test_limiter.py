# SPDX-License-Identifier: Apache-2.0
"""120 payloads in any 60 seconds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discluster.gateway.limiter import LIMIT, WINDOW, Kind, SendLog

INTERVAL = 41.25


@pytest.mark.covers("T-69", "O-10")
def test_commands_leave_room_for_regular_and_requested_beats() -> None:
    log = SendLog(heartbeat_interval=INTERVAL)
    sent = 0
    while log.wait("command", now=0.0) == 0:
        log.sent(now=0.0)
        sent += 1
    assert sent == 114
    while log.wait("answer", now=0.0) == 0:
        log.sent(now=0.0)
        sent += 1
    assert sent == 117
    assert log.wait("vital", now=0.0) == 0


def test_wait_is_until_the_oldest_leaves_the_window() -> None:
    log = SendLog(heartbeat_interval=INTERVAL)
    for n in range(114):
        log.sent(now=n * 0.1)
    assert log.wait("command", now=20.0) == WINDOW - 20.0
    assert log.wait("command", now=60.0) == 0


@pytest.mark.covers("O-10")
@given(st.lists(st.tuples(st.floats(0, 5), st.sampled_from(["command", "answer"])), max_size=600))
def test_o10_no_window_ever_holds_more_than_the_limit(steps: list[tuple[float, Kind]]) -> None:
    log = SendLog(heartbeat_interval=INTERVAL)
    now, beat, times = 0.0, 0.0, []
    for gap, kind in steps:
        now += gap / 10
        while beat <= now:
            log.sent(now=beat)
            times.append(beat)
            beat += INTERVAL
        if log.wait(kind, now=now) == 0:
            log.sent(now=now)
            times.append(now)
    for start in times:
        assert sum(start <= time < start + WINDOW for time in times) <= LIMIT


def test_waiting_as_told_is_enough() -> None:
    log = SendLog(heartbeat_interval=INTERVAL)
    now = 0.0
    for _ in range(500):
        now += log.wait("command", now=now)
        assert log.wait("command", now=now) <= 1e-9
        log.sent(now=now)
    assert 4 * WINDOW <= now < 5 * WINDOW


def test_interval_of_a_scaled_test_gateway_leaves_room_for_commands() -> None:
    assert SendLog(heartbeat_interval=0.02).wait("command", now=0.0) == 0
