# SPDX-License-Identifier: Apache-2.0
"""What follows after the end of a connection, as a table and over a whole day."""

import random
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discluster.gateway.backoff import AT_ONCE, INVALID
from discluster.gateway.closecodes import RULES, Action
from discluster.gateway.ending import Cause, Ending
from discluster.gateway.recovery import RESUME_TRIES, History, Phase, Situation, after

PHASES = get_args(Phase)


def ending(cause: Cause = "closed", **options: Any) -> Ending:
    return Ending(cause=cause, text="", **options)


def situation(phase: Phase = "ready", **changes: Any) -> Situation:
    defaults: dict[str, Any] = {
        "has_session": True,
        "used_resume_url": True,
        "progressed": False,
        "healthy": 0.0,
        "now": 1000.0,
    }
    return Situation(phase=phase, **(defaults | changes))


ENDINGS = st.builds(
    ending,
    st.sampled_from(get_args(Cause)),
    code=st.sampled_from([None, 1006, 4999, *RULES]),
    resumable=st.booleans(),
)
SITUATIONS = st.builds(
    Situation,
    phase=st.sampled_from(PHASES),
    has_session=st.booleans(),
    used_resume_url=st.booleans(),
    progressed=st.booleans(),
    healthy=st.sampled_from([0.0, 59.0, 61.0]),
    now=st.floats(1000, 2000),
)
HISTORIES = st.builds(
    History,
    losses=st.integers(0, 10_000),
    identifies=st.integers(0, 10_000),
    resumes=st.integers(0, 6),
    since=st.none() | st.floats(0, 1000),
    avoid_resume_url=st.booleans(),
)


@pytest.mark.covers("T-08", "T-10")
@given(ENDINGS, SITUATIONS, HISTORIES)
def test_every_step_is_safe(end: Ending, at: Situation, history: History) -> None:
    step = after(end, at, history)
    fatal = end.cause == "closed" and end.code in (4004, 4010, 4011, 4012, 4013, 4014)
    assert (step.action is Action.FATAL) == fatal
    if not at.has_session and not fatal:
        assert step.action is Action.IDENTIFY
    if end.cause == "dial" and at.has_session and at.phase == "dialing":
        assert step.action is Action.RESUME
    assert 0 <= step.delay.low <= step.delay.high <= 600


@pytest.mark.covers("F13")
@pytest.mark.parametrize("phase", PHASES)
def test_op9_false_ends_a_session_only_after_authentication(phase: Phase) -> None:
    step = after(ending("invalid"), situation(phase), History())
    dropped = phase in ("identifying", "resuming", "ready")
    assert step.action is (Action.IDENTIFY if dropped else Action.RESUME)
    if dropped:
        assert step.delay == INVALID


@pytest.mark.covers("T-11")
def test_t11_second_op9_in_a_row_waits_longer() -> None:
    at = situation("identifying", has_session=False)
    first = after(ending("invalid"), at, History(identifies=1))
    second = after(ending("invalid"), at, History(identifies=2))
    assert first.delay == INVALID
    assert second.delay.low >= 5


@pytest.mark.covers("T-14")
def test_t14_only_a_resume_that_was_sent_counts_against_the_session() -> None:
    history = History()
    for phase in ("dialing", "hello") * 50:
        step = after(ending("deadline"), situation(phase), history)
        assert step.action is Action.RESUME
        history = step.history
    assert history.resumes == 0


@pytest.mark.covers("T-12")
def test_t12_fifth_resume_in_vain_drops_the_session() -> None:
    history, actions = History(), []
    for _ in range(RESUME_TRIES):
        step = after(ending(), situation("resuming"), history)
        actions.append(step.action)
        history = step.history
    assert actions == [Action.RESUME] * 4 + [Action.IDENTIFY]
    assert (history.resumes, history.since) == (0, None)


@pytest.mark.covers("T-12")
def test_resume_in_vain_after_five_minutes_drops_the_session() -> None:
    history = after(ending(), situation("ready", now=1000.0), History()).history
    late = situation("resuming", now=1301.0)
    assert after(ending(), late, history).action is Action.IDENTIFY
    early = situation("resuming", now=1290.0)
    assert after(ending(), early, history).action is Action.RESUME


@pytest.mark.covers("T-16")
def test_resume_that_brought_events_is_not_in_vain() -> None:
    history = History()
    for _ in range(RESUME_TRIES * 2):
        step = after(ending(), situation("resuming", progressed=True), history)
        assert step.action is Action.RESUME
        history = step.history


@pytest.mark.covers("T-79")
def test_minute_of_health_forgets_everything() -> None:
    worn = History(losses=9, identifies=9, resumes=3, since=1.0, avoid_resume_url=True)
    step = after(ending(), situation(healthy=60.0), worn)
    assert step.delay == AT_ONCE
    assert step.history == History(losses=1, since=1000.0)


@pytest.mark.covers("T-13", "T-15")
def test_resume_url_is_left_after_one_failure_and_tried_again_after_health() -> None:
    step = after(ending("dial"), situation("dialing"), History())
    assert step.history.avoid_resume_url
    assert step.delay == AT_ONCE
    at = situation("ready", used_resume_url=False, healthy=60.0)
    assert not after(ending(), at, step.history).history.avoid_resume_url


@pytest.mark.covers("T-01", "T-02", "O-03")
def test_t01_day_of_a_session_that_dies_after_each_ready_costs_few_identifies() -> None:
    rng = random.Random(3)
    now, history, identifies = 0.0, History(), 0
    while now < 86_400:
        identifies += 1
        history = History(
            losses=history.losses, identifies=history.identifies + 1, since=history.since
        )
        step = after(ending(code=4002), situation("ready", now=now + 2), history)
        now += 2 + step.delay.draw(rng)
        step = after(ending("invalid"), situation("resuming", now=now), step.history)
        assert step.action is Action.IDENTIFY
        now += step.delay.draw(rng)
        history = step.history
    assert identifies < 210


@pytest.mark.covers("T-16")
def test_confirmed_resume_starts_the_count_of_vain_ones_again() -> None:
    history = History()
    vain: tuple[Phase, ...] = ("resuming",) * 4
    for phase in (*vain, "ready", *vain):
        step = after(ending(), situation(phase), history)
        assert step.action is Action.RESUME
        history = step.history
