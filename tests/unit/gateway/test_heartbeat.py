# SPDX-License-Identifier: Apache-2.0
"""The rule by which a connection counts as alive."""

import pytest

from discluster.gateway.heartbeat import Heartbeat, Verdict, usable_interval


def beat(heartbeat: Heartbeat, *, frames: int, unread: float = 0.0, late: float = 0.0) -> Verdict:
    """The next beat is due, and sent if the connection is alive."""
    now = heartbeat.due + late
    verdict = heartbeat.tick(now, frames=frames, unread=unread)
    if verdict is Verdict.ALIVE:
        heartbeat.sent(now, unread=unread)
    return verdict


def started(interval: float = 40.0) -> Heartbeat:
    heartbeat = Heartbeat(interval=interval, now=0.0, jitter=0.5)
    assert heartbeat.due == interval / 2
    assert beat(heartbeat, frames=1) is Verdict.ALIVE
    return heartbeat


@pytest.mark.covers("F08")
def test_nothing_for_an_interval_is_silence() -> None:
    assert beat(started(), frames=1) is Verdict.SILENT


@pytest.mark.covers("F09")
def test_any_frame_is_life_for_an_interval() -> None:
    heartbeat = started()
    assert beat(heartbeat, frames=2) is Verdict.ALIVE
    assert beat(heartbeat, frames=2) is Verdict.SILENT


@pytest.mark.covers("F09")
def test_three_intervals_without_acknowledgement_are_the_end_all_the_same() -> None:
    heartbeat = started()
    verdicts = [beat(heartbeat, frames=n) for n in (10, 20, 30)]
    assert verdicts == [Verdict.ALIVE, Verdict.ALIVE, Verdict.UNACKNOWLEDGED]


def test_an_acknowledgement_starts_the_count_again() -> None:
    heartbeat = started()
    for n in range(2, 50):
        if n % 2:
            heartbeat.acknowledged(heartbeat.due - 1.0, unread=0.0)
        assert beat(heartbeat, frames=n) is Verdict.ALIVE


@pytest.mark.covers("F09")
def test_acknowledgements_that_nobody_waits_for_are_harmless() -> None:
    heartbeat = started()
    heartbeat.acknowledged(21.0, unread=0.0)
    heartbeat.acknowledged(22.0, unread=0.0)
    assert heartbeat.latency == 1.0


@pytest.mark.covers("T-34")
def test_time_that_was_not_read_is_not_held_against_the_peer() -> None:
    heartbeat = started()
    assert [beat(heartbeat, frames=1, unread=40.0 * n) for n in range(1, 9)] == [Verdict.ALIVE] * 8
    assert beat(heartbeat, frames=1, unread=320.0) is Verdict.SILENT


def test_latency_leaves_out_what_was_not_read() -> None:
    heartbeat = started()
    heartbeat.acknowledged(50.0, unread=28.0)
    assert heartbeat.latency == 2.0


@pytest.mark.covers("T-36")
def test_late_beat_is_no_occasion_to_judge() -> None:
    assert beat(started(), frames=1, late=20.0) is Verdict.ALIVE


@pytest.mark.covers("T-35")
def test_beat_late_by_more_than_an_interval_means_that_discord_has_given_us_up() -> None:
    assert beat(started(), frames=9, late=41.0) is Verdict.STALLED


def test_next_beat_is_an_interval_after_the_one_before() -> None:
    heartbeat = started()
    beat(heartbeat, frames=2, late=3.0)
    assert heartbeat.due == 60.0 + 3.0 + 40.0


@pytest.mark.covers("F07")
@pytest.mark.parametrize(
    ("milliseconds", "seconds"),
    [
        (41250, 41.25),
        (45000.0, 45.0),
        (412, 0.412),
        (0, None),
        (1, None),
        (-5, None),
        (2**40, None),
        ("41250", None),
        (None, None),
        (True, None),
        ([], None),
    ],
)
def test_usable_interval(milliseconds: object, seconds: float | None) -> None:
    assert usable_interval(milliseconds) == seconds


@pytest.mark.covers("T-29")
def test_t29_request_right_before_each_beat_does_not_undo_the_acknowledgements() -> None:
    heartbeat = started()
    for n in range(2, 20):
        heartbeat.acknowledged(heartbeat.due - 1.0, unread=0.0)
        heartbeat.sent(heartbeat.due - 0.1, unread=0.0)
        assert beat(heartbeat, frames=n) is Verdict.ALIVE
