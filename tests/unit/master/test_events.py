# SPDX-License-Identifier: Apache-2.0
"""What MASTER decided: kept with a bound, over restarts, crashes and full disks."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from discluster.clock import SystemClock
from discluster.console import Event, EventQuery
from discluster.errors import StateError
from discluster.logs import JournalHandler, journal_datagram
from discluster.master.records.events import EventLog
from discluster.master.records.shelf import PAGE
from tests.clock import ManualClock


@pytest.fixture
def journal() -> Iterator[JournalHandler]:
    handler = JournalHandler("test")
    yield handler
    handler.close()


def log_in(directory: Path, *, keep: int = 100, clock: ManualClock | None = None) -> EventLog:
    return EventLog(directory, keep=keep, clock=clock or ManualClock())


def sentences(log: EventLog, query: EventQuery | None = None) -> list[str]:
    return [event.sentence for event in log.page(query or EventQuery()).events]


def test_event_says_all_that_was_told(tmp_path: Path) -> None:
    log = log_in(tmp_path, clock=ManualClock(wall=1_800_000_000.0))
    log.record("cluster", "cluster 3 crashed", host="beta", cluster=3, shard=7, generation=9)
    assert log.page(EventQuery()).events == (
        Event(
            number=1,
            at=1_800_000_000.0,
            kind="cluster",
            sentence="cluster 3 crashed",
            host="beta",
            cluster=3,
            shard=7,
            generation=9,
        ),
    )


def test_same_sentence_goes_to_the_journal_with_its_fields(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, journal: JournalHandler
) -> None:
    with caplog.at_level(logging.INFO):
        log_in(tmp_path).record(
            "host", "beta is lost", host="beta", generation=9, severity="warning"
        )
    (record,) = caplog.records
    lines = journal_datagram("test", record, journal).decode().splitlines()
    assert {"MESSAGE=beta is lost", "HOST=beta", "GENERATION=9", "PRIORITY=4"} <= {*lines}
    assert not [line for line in lines if line.startswith(("SHARD=", "CLUSTER="))]


def test_events_and_their_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    before = log_in(tmp_path)
    before.record("host", "one")
    before.record("host", "two")
    after = log_in(tmp_path)
    after.record("host", "three")
    assert [(e.number, e.sentence) for e in after.page(EventQuery()).events] == [
        (1, "one"),
        (2, "two"),
        (3, "three"),
    ]


@pytest.mark.parametrize("restarts", [False, True])
def test_disk_and_memory_keep_no_more_than_the_bound_and_no_less_than_half(
    tmp_path: Path, restarts: bool
) -> None:
    log = log_in(tmp_path, keep=10)
    for number in range(1, 38):
        log.record("host", f"event {number}")
        if restarts:
            log = log_in(tmp_path, keep=10)
        lines = sum(len(path.read_bytes().splitlines()) for path in tmp_path.iterdir())
        assert lines <= 10
        kept = sentences(log)
        assert min(5, number) <= len(kept) <= 10
        assert kept[-1] == f"event {number}"
    assert sentences(log_in(tmp_path, keep=10))[-5:] == [f"event {n}" for n in range(33, 38)]


@pytest.mark.parametrize("tail", [b'{"type":"event","num', b"\0" * 40, b'{"type":"event"}\n'])
def test_torn_end_of_the_file_is_skipped_and_told_once(tmp_path: Path, tail: bytes) -> None:
    log_in(tmp_path).record("host", "one")
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(tail)
    after = log_in(tmp_path)
    told = "lost 1 line of the stored events, torn as by a power cut or a full disk"
    assert sentences(after) == ["one", told]
    after.record("host", "two")
    assert sentences(log_in(tmp_path))[2:] == ["two"]


def test_file_that_may_not_be_read_is_an_error_in_words(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").mkdir()
    with pytest.raises(StateError, match=r"events\.jsonl: cannot be read"):
        log_in(tmp_path)


def test_disk_that_takes_nothing_stops_nobody_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "state"
    log = log_in(directory)
    directory.write_text("a file where the directory should be")
    log.record("host", "one")
    log.record("host", "two")
    assert sentences(log) == ["one", "two"]
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 1
    assert "events are not kept over a restart" in errors[0]
    directory.unlink()
    log.record("host", "three")
    assert sentences(log_in(directory)) == ["three"]


def test_line_cut_by_a_full_disk_does_not_spoil_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = log_in(tmp_path)
    log.record("host", "one")
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'{"half')
    log.close()
    log = log_in(tmp_path)
    log.record("host", "two")
    assert sentences(log_in(tmp_path))[::2] == ["one", "two"]


def test_query_chooses_by_number_host_time_and_count(tmp_path: Path) -> None:
    clock = ManualClock(wall=100.0)
    log = log_in(tmp_path, clock=clock)
    for number, host in enumerate(["alpha", "beta", "alpha", None, "beta"], start=1):
        log.record("host", f"{number}", host=host)
        clock.jump(10.0)
    assert sentences(log, EventQuery(after=2)) == ["3", "4", "5"]
    assert sentences(log, EventQuery(host="beta")) == ["2", "5"]
    assert sentences(log, EventQuery(since=120.0)) == ["3", "4", "5"]
    assert sentences(log, EventQuery(last=2)) == ["4", "5"]
    assert sentences(log, EventQuery(host="alpha", last=1)) == ["3"]
    assert sentences(log, EventQuery(last=0)) == []


def test_pages_follow_each_other_to_the_newest(tmp_path: Path) -> None:
    log = log_in(tmp_path, keep=4 * PAGE)
    for number in range(PAGE + 7):
        log.record("host", f"{number}", host="beta" if number % 2 else "alpha")
    first = log.page(EventQuery())
    assert (len(first.events), first.upto, first.newest) == (PAGE, PAGE, PAGE + 7)
    second = log.page(EventQuery(after=first.upto))
    assert (len(second.events), second.upto) == (7, PAGE + 7)
    # What is not of this host need not be looked at again.
    assert log.page(EventQuery(host="alpha")).upto == PAGE + 7


def test_number_from_before_the_disk_was_lost_gets_all_there_is(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.record("host", "one")
    page = log.page(EventQuery(after=5000))
    assert [event.sentence for event in page.events] == ["one"]
    assert page.upto == 1


async def test_waiting_ends_with_the_next_event_and_with_the_end_of_master(
    tmp_path: Path,
) -> None:
    log = log_in(tmp_path)
    log.record("host", "one")
    await asyncio.wait_for(log.wait_beyond(0), 5)
    waiting = asyncio.create_task(log.wait_beyond(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    log.record("host", "two")
    await asyncio.wait_for(waiting, 5)
    waiting = asyncio.create_task(log.wait_beyond(2))
    await asyncio.sleep(0)
    log.close()
    await asyncio.wait_for(waiting, 5)


def test_events_after_the_end_are_not_an_error(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.close()
    log.record("master", "stopped")
    assert sentences(log) == ["stopped"]
    assert sentences(EventLog(tmp_path, keep=100, clock=SystemClock())) == []
