# SPDX-License-Identifier: Apache-2.0
"""What is counted is counted right: losses, doubles, gaps and double connections are found."""

import pytest

from discluster.simulator.ledger import Close, Identify, InvalidSession, Ready, Record, Resume
from tests.chaos.figures import (
    ShardFigures,
    asked_again,
    authenticated,
    calls,
    floor_of,
    shard_figures,
)
from tests.chaos.recordings import Taken

SECOND = 1_000_000_000
GUILD = 7
SENT = [(GUILD, number, number + 10) for number in range(1, 7)]


def taken(*numbers: int, process: int = 0, start: float = 0.0) -> list[Taken]:
    """Events a tenth of a second apart, as one process takes them."""
    return [
        Taken(
            at=round((start + position / 10) * SECOND),
            guild=GUILD,
            number=number,
            seq=number + 10,
            session=0,
            process=process,
        )
        for position, number in enumerate(numbers)
    ]


def figures(
    events: list[Taken],
    *,
    again: tuple[range, ...] = (),
    floor: int = 0,
    since: float = 0.0,
    came: tuple[float, ...] = (),
) -> ShardFigures:
    return shard_figures(
        SENT,
        events,
        sessions=["s"],
        again={"s": again},
        floor={GUILD: floor},
        since=round(since * SECOND),
        came=[round(at * SECOND) for at in came],
    )


def test_all_events_taken_once_are_neither_lost_nor_doubled() -> None:
    found = figures(taken(1, 2, 3, 4, 5, 6))
    assert (found.sent, found.lost, found.doubled, found.unasked) == (6, 0, 0, 0)
    assert (found.gaps, found.overlap) == ((), 0.0)


@pytest.mark.parametrize("missing", [1, 3, 6])
def test_event_that_no_process_took_is_lost(missing: int) -> None:
    found = figures(taken(*(n for n in range(1, 7) if n != missing)))
    assert (found.lost, found.doubled) == (1, 0)


def test_event_taken_again_after_a_resume_that_asked_for_it_is_doubled_but_not_unasked() -> None:
    events = [*taken(1, 2, 3), *taken(3, 4, 5, 6, process=1, start=1.0)]
    found = figures(events, again=(range(13, 15),))
    assert (found.lost, found.doubled, found.unasked) == (0, 1, 0)


@pytest.mark.parametrize("again", [(), (range(14, 16),)])
def test_event_taken_again_that_no_resume_asked_for_is_unasked(again: tuple[range, ...]) -> None:
    events = [*taken(1, 2, 3), *taken(3, 4, 5, 6, process=1, start=1.0)]
    assert figures(events, again=again).unasked == 1


def test_each_resume_allows_one_more_time_and_no_further() -> None:
    events = [event for turn in range(3) for event in taken(6, process=turn, start=turn)]
    assert figures(events, again=(range(16, 17), range(16, 17))).unasked == 0
    assert figures(events, again=(range(16, 17),)).unasked == 1


def test_pause_is_the_longest_time_without_an_event_in_whatever_process() -> None:
    events = [*taken(1, 2), *taken(3, start=2.1), *taken(4, 5, process=1, start=3.0)]
    assert figures(events).pause == pytest.approx(2.0)
    assert figures(events, since=1.1).pause == pytest.approx(1.0), "counted from there"
    assert figures(events, since=2.5).pause == pytest.approx(0.5), "of what began before, the rest"
    assert figures(taken(1, start=1.0)).pause == pytest.approx(1.0), "the first counts, too"


def test_process_that_goes_on_after_another_took_over_is_an_overlap() -> None:
    events = [*taken(1), *taken(2, 3, process=1, start=1.0), *taken(4, start=1.7)]
    assert figures(events, came=(0.0, 0.9)).overlap == pytest.approx(0.7)


def test_shard_that_comes_back_to_a_process_by_a_new_connection_is_no_overlap() -> None:
    events = [*taken(1), *taken(2, 3, process=1, start=1.0), *taken(4, start=1.7)]
    assert figures(events, came=(0.0, 0.9, 1.6)).overlap == 0.0


def test_connections_are_dated_by_the_clock_of_whoever_asks() -> None:
    records: list[Record] = [
        Ready(time=0.5, shard=(0, 2), guilds=1, resume_url=""),
        Resume(time=1.5, shard=(0, 2), accepted=False),
        Resume(time=2.0, shard=(1, 2), accepted=True),
    ]
    assert authenticated(records, 10 * SECOND) == {0: [10.5 * SECOND], 1: [12 * SECOND]}


def test_gap_is_from_the_last_event_of_a_process_to_the_first_of_the_next() -> None:
    events = [*taken(1, 2, 3), *taken(4, 5, 6, process=1, start=1.7)]
    assert figures(events).gaps == pytest.approx((1.5,))


def test_row_counts_its_own_events_and_nothing_of_the_row_before() -> None:
    # Event 2 was lost in the row before; 3 is doubled in this one.
    events = [*taken(1, 3), *taken(4, 3, 5, 6, process=1, start=2.0)]
    found = figures(events, floor=3, since=1.0)
    assert (found.sent, found.lost, found.doubled, found.unasked) == (3, 0, 1, 1)
    assert found.gaps == ()
    assert floor_of(SENT) == {GUILD: 6}


def test_resume_names_what_it_asks_for_again() -> None:
    session = "0123456789abcdef" * 4
    resume = Resume(session=session, accepted=True, seq=3, last_seq=6)
    refused = Resume(session=session, accepted=False, seq=1, last_seq=6)
    assert asked_again([resume, refused]) == {session[:32]: [range(4, 7)]}


def ledger(*records: Record) -> list[Record]:
    numbered: list[Record] = []
    for number, record in enumerate(records, 1):
        fields = {name: getattr(record, name) for name in record.__struct_fields__}
        numbered.append(type(record)(**{**fields, "n": number, "shard": (0, 4)}))
    return numbered


FIRST = (Identify(connection=1, accepted=True), Ready(connection=1, guilds=1, resume_url=""))
AGAIN = Resume(connection=2, accepted=True, seq=1, last_seq=1)
GONE = Close(connection=1, by="tcp")


def test_resume_before_the_end_of_the_old_connection_is_twice() -> None:
    assert calls(ledger(*FIRST, AGAIN, GONE), since=2).twice == 1


def test_resume_after_the_end_of_the_old_connection_is_not_twice() -> None:
    found = calls(ledger(*FIRST, GONE, AGAIN), since=0)
    assert (found.identifies, found.resumes, found.twice) == (1, 1, 0)


def test_new_session_on_a_connection_whose_session_was_taken_away_is_not_twice() -> None:
    taken_away = InvalidSession(connection=1, resumable=False)
    records = ledger(*FIRST, taken_away, Ready(connection=2, guilds=1, resume_url=""))
    assert calls(records, since=0).twice == 0


def test_end_of_a_connection_that_names_no_shard_is_an_end() -> None:
    first, end = ledger(*FIRST), Close(n=3, connection=1, by="tcp")
    again = Ready(n=4, connection=2, shard=(0, 4), guilds=1, resume_url="")
    assert calls([*first, end, again], since=0).twice == 0
    assert calls([*first, again, end], since=0).twice == 1


def test_calls_before_the_row_are_not_counted() -> None:
    found = calls(ledger(*FIRST, AGAIN, GONE, AGAIN), since=4)
    assert (found.identifies, found.resumes, found.twice) == (0, 1, 0)
