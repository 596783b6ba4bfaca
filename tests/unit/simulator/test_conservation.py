# SPDX-License-Identifier: Apache-2.0
"""O-13 on small logs: what may be missing or come twice, and what may not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discluster.simulator import ledger
from discluster.simulator.oracles.conservation import (
    Consumed,
    Event,
    Fate,
    Sent,
    events_are_conserved,
    replays,
)

SHARD = (0, 2)
LIVING = Fate(ended=False, acknowledged=0)
GONE = Fate(ended=True, acknowledged=0)


def sent(session: str, events: Sequence[Event], first: int = 2) -> list[Sent]:
    return [Sent(session, guild, count, seq) for seq, (guild, count) in enumerate(events, first)]


def complaints(
    got: Sequence[Event],
    log: Sequence[Sent],
    *,
    fates: dict[str, Fate] | None = None,
    again: dict[str, list[range]] | None = None,
    settled: bool = True,
) -> list[str]:
    """The complaints in a word each."""
    verdicts = events_are_conserved(
        Consumed(shard=SHARD, events=list(got), settled=settled),
        log,
        fates=fates or {"a": LIVING},
        again=again or {},
    )
    return [verdict.text.split(" events ")[1].split(",")[0] for verdict in verdicts]


EVENTS: list[Event] = [(7, 1), (9, 1), (7, 2), (7, 3), (9, 2)]


def test_what_was_sent_and_came_is_good() -> None:
    assert complaints(EVENTS, sent("a", EVENTS)) == []


@pytest.mark.parametrize("index", range(5))
def test_event_that_did_not_come_is_lost(index: int) -> None:
    got = EVENTS[:index] + EVENTS[index + 1 :]
    assert complaints(got, sent("a", EVENTS)) == ["lost"]


def test_last_events_may_be_under_way() -> None:
    assert complaints(EVENTS[:3], sent("a", EVENTS), settled=False) == []
    assert complaints([*EVENTS[:2], *EVENTS[3:4]], sent("a", EVENTS), settled=False) == ["lost"]


def test_last_events_of_a_session_that_was_taken_away_may_be_missing() -> None:
    log = sent("a", EVENTS) + sent("b", [(7, 4), (9, 3)])
    got = [*EVENTS[:3], (7, 4), (9, 3)]
    fates = {"a": GONE, "b": LIVING}
    assert complaints(got, log, fates=fates) == []
    with_hole = [*EVENTS[:2], EVENTS[3], (7, 4), (9, 3)]
    assert complaints(with_hole, log, fates=fates) == ["lost"]


def test_what_was_acknowledged_must_have_come() -> None:
    log = sent("a", EVENTS) + sent("b", [(7, 4)])
    fates = {"a": Fate(ended=True, acknowledged=5), "b": LIVING}
    assert complaints([*EVENTS[:3], (7, 4)], log, fates=fates) == ["lost"]
    assert complaints([*EVENTS[:4], (7, 4)], log, fates=fates) == []


def test_event_may_come_twice_if_it_was_replayed() -> None:
    twice = [*EVENTS, EVENTS[3], EVENTS[4]]
    assert complaints(twice, sent("a", EVENTS)) == ["duplicated"]
    assert complaints(twice, sent("a", EVENTS), again={"a": [range(5, 7)]}) == []
    thrice = [*twice, EVENTS[3]]
    assert complaints(thrice, sent("a", EVENTS), again={"a": [range(5, 7)]}) == ["duplicated"]
    assert complaints(twice, sent("a", EVENTS), again={"a": [range(6, 7)]}) == ["duplicated"]


def test_order_is_kept_in_each_guild() -> None:
    other_guild_first = [EVENTS[1], EVENTS[0], *EVENTS[2:]]
    assert complaints(other_guild_first, sent("a", EVENTS)) == []
    swapped = [EVENTS[0], EVENTS[1], EVENTS[3], EVENTS[2], EVENTS[4]]
    assert complaints(swapped, sent("a", EVENTS)) == ["reordered"]


def test_replayed_events_are_not_out_of_order() -> None:
    replayed = [*EVENTS, *EVENTS[2:]]
    assert complaints(replayed, sent("a", EVENTS), again={"a": [range(4, 7)]}) == []


def test_event_that_was_never_sent_is_made_up() -> None:
    assert complaints([*EVENTS, (9, 99)], sent("a", EVENTS)) == ["made up"]


def test_what_the_log_forgot_is_not_judged() -> None:
    assert complaints(EVENTS, sent("a", EVENTS[2:], first=4)) == []


def test_each_session_that_covers_a_guild_has_its_copy() -> None:
    log = sent("a", EVENTS) + sent("b", EVENTS[3:])
    fates = {"a": LIVING, "b": LIVING}
    assert complaints([*EVENTS, *EVENTS[3:]], log, fates=fates) == []
    assert complaints(EVENTS, log, fates=fates) == []


def test_replays_are_what_accepted_resumes_asked_for() -> None:
    good = ledger.Resume(accepted=True, session="a", seq=4, last_seq=9)
    bad = ledger.Resume(accepted=False, session="a", seq=1, last_seq=9)
    assert replays([good, bad, ledger.Command(op=4)]) == {"a": [range(5, 10)]}


@given(st.lists(st.integers(0, 3), max_size=40), st.data())
def test_any_stream_is_good_and_any_hole_is_found(guilds: list[int], data: st.DataObject) -> None:
    counts = [0, 0, 0, 0]
    events: list[Event] = []
    for guild in guilds:
        counts[guild] += 1
        events.append((guild, counts[guild]))
    assert complaints(events, sent("a", events)) == []
    if events:
        hole = data.draw(st.integers(0, len(events) - 1))
        got = events[:hole] + events[hole + 1 :]
        assert complaints(got, sent("a", events)) == ["lost"]
