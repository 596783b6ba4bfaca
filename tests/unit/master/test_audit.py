# SPDX-License-Identifier: Apache-2.0
"""The audit log: on disk before anything is done, kept with a bound, and honest after a crash."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from discluster.errors import StateError
from discluster.logs import JournalHandler, journal_datagram
from discluster.master.access.audit import AuditLog
from discluster.master.access.callers import Caller
from discluster.operators import AuditEntry, AuditQuery
from tests.clock import ManualClock

ALICE = Caller(name="alice", role="operate", how="certificate", address="192.0.2.7")
ROOT = Caller(name="root", role="admin", how="socket", uid=0, pid=77)
DRAIN: dict[str, Any] = {"type": "drain", "host": "beta"}
CALL = ("POST", "/v1/orders", DRAIN)


def log_in(directory: Path, *, keep: int = 100, clock: ManualClock | None = None) -> AuditLog:
    return AuditLog(directory, keep=keep, clock=clock or ManualClock())


def kept(log: AuditLog, **query: Any) -> list[AuditEntry]:
    return list(log.page(AuditQuery(**query)).entries)


def lines(directory: Path) -> list[AuditEntry]:
    text = (directory / "audit.jsonl").read_bytes()
    return [msgspec.json.decode(line, type=AuditEntry) for line in text.splitlines()]


def test_call_is_on_disk_before_it_is_carried_out_and_shown_when_it_is_over(tmp_path: Path) -> None:
    log = log_in(tmp_path, clock=ManualClock(wall=1_800_000_000.0))
    begun = log.begin(ALICE, *CALL)
    assert lines(tmp_path) == [
        AuditEntry(
            number=1,
            call=1,
            at=1_800_000_000.0,
            outcome="begun",
            who="alice",
            role="operate",
            how="certificate",
            verb="POST",
            path="/v1/orders",
            address="192.0.2.7",
            body=DRAIN,
        )
    ]
    assert kept(log) == []
    log.end(begun, "failed", "not now")
    (shown,) = kept(log)
    assert (shown.call, shown.number, shown.outcome, shown.told) == (1, 2, "failed", "not now")
    assert lines(tmp_path)[1] == shown


def test_refused_call_is_one_line(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.refuse(ALICE, *CALL, "alice has the role view")
    assert [entry.outcome for entry in lines(tmp_path)] == ["refused"]
    assert kept(log) == lines(tmp_path)


def test_call_that_master_did_not_outlive_is_unknown_afterwards(tmp_path: Path) -> None:
    before = log_in(tmp_path)
    before.end(before.begin(ALICE, *CALL), "done")
    before.begin(ROOT, *CALL)
    after = log_in(tmp_path)
    assert [(entry.who, entry.outcome) for entry in kept(after)] == [
        ("alice", "done"),
        ("root", "unknown"),
    ]
    after.end(after.begin(ALICE, *CALL), "done")
    numbers = [entry.number for entry in kept(after)]
    assert numbers == sorted(set(numbers)) == [2, 3, 5]


def test_what_cannot_be_recorded_is_not_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "state"
    log = log_in(directory)
    directory.write_text("a file where the directory should be")
    with pytest.raises(StateError, match="audit log cannot be written") as caught:
        log.begin(ALICE, *CALL)
    assert caught.value.code == "audit"
    assert caught.value.message.endswith("; nothing was done")
    assert "refused POST /v1/orders of alice" in caplog.text
    assert kept(log) == []
    directory.unlink()
    log.end(log.begin(ALICE, *CALL), "done")
    assert [entry.outcome for entry in kept(log_in(directory))] == ["done"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_refuses_the_call(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    (tmp_path / "audit.jsonl").symlink_to("/dev/full")
    with pytest.raises(StateError, match="No space left on device"):
        log.begin(ALICE, *CALL)


def test_outcome_that_cannot_be_recorded_fails_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "state"
    log = log_in(directory)
    begun = log.begin(ALICE, *CALL)
    log.close()
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()
    directory.write_text("a file where the directory should be")
    log.end(begun, "done")
    assert "cannot be written" in caplog.text
    assert [entry.outcome for entry in kept(log)] == ["done"]


def test_disk_and_memory_are_bounded_and_the_newest_are_kept(tmp_path: Path) -> None:
    log = log_in(tmp_path, keep=20)
    for number in range(50):
        log.end(log.begin(ALICE, *CALL), "done", f"{number}")
        assert sum(len(path.read_bytes().splitlines()) for path in tmp_path.iterdir()) <= 20
        assert 1 <= len(kept(log)) <= 20
    assert kept(log)[-1].told == "49"
    told = [entry.told for entry in kept(log_in(tmp_path, keep=20))]
    assert told[-5:] == ["45", "46", "47", "48", "49"]


def test_call_whose_beginning_went_with_the_older_file_is_still_whole(tmp_path: Path) -> None:
    log = log_in(tmp_path, keep=4)
    begun = log.begin(ALICE, *CALL)
    for _ in range(2):
        log.refuse(ROOT, *CALL, "no")
    log.end(begun, "done")
    log.refuse(ROOT, *CALL, "no")
    again = log_in(tmp_path, keep=4)
    assert ("alice", "done") in [(entry.who, entry.outcome) for entry in kept(again)]


def test_torn_line_is_told_and_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = log_in(tmp_path)
    log.end(log.begin(ALICE, *CALL), "done")
    log.close()
    with (tmp_path / "audit.jsonl").open("ab") as file:
        file.write(b'{"type":"audit_entry","num')
    assert [entry.outcome for entry in kept(log_in(tmp_path))] == ["done"]
    assert "lost 1 torn lines of the audit log" in caplog.text


def test_journal_has_it_with_fields(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = log_in(tmp_path)
    with caplog.at_level(logging.INFO):
        log.end(log.begin(ALICE, *CALL), "done")
        log.refuse(ROOT, *CALL, "no")
    handler = JournalHandler("test")
    try:
        first, second = (
            journal_datagram("test", record, handler).decode().splitlines()
            for record in caplog.records
        )
    finally:
        handler.close()
    assert {
        "MESSAGE=alice (operate, certificate, from 192.0.2.7): POST /v1/orders done",
        "OPERATOR=alice",
        "ROLE=operate",
        "ADDRESS=192.0.2.7",
        "CALL=POST /v1/orders",
        "OUTCOME=done",
        'BODY={"type":"drain","host":"beta"}',
    } <= {*first}
    assert {
        "MESSAGE=root (admin, socket, process 77): POST /v1/orders refused: no",
        "CALLER_UID=0",
    } <= {*second}


def test_journal_has_it_whatever_severity_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = log_in(tmp_path)
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        log.end(log.begin(ALICE, *CALL), "done")
    finally:
        root.setLevel(before)
    assert [record.getMessage() for record in caplog.records] == [
        "alice (operate, certificate, from 192.0.2.7): POST /v1/orders done"
    ]


def test_query_chooses_by_who_time_and_number(tmp_path: Path) -> None:
    clock = ManualClock(wall=100.0)
    log = log_in(tmp_path, clock=clock)
    for caller in (ALICE, ROOT, ALICE):
        log.end(log.begin(caller, *CALL), "done")
        clock.jump(10.0)
    assert [entry.number for entry in kept(log)] == [2, 4, 6]
    assert [entry.number for entry in kept(log, who="alice")] == [2, 6]
    assert [entry.number for entry in kept(log, after=2)] == [4, 6]
    assert [entry.number for entry in kept(log, since=120.0)] == [6]
    assert [entry.number for entry in kept(log, last=1)] == [6]


async def test_waiting_ends_with_the_next_call_and_with_the_end_of_master(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    begun = log.begin(ALICE, *CALL)
    waiting = asyncio.create_task(log.wait_beyond(0))
    await asyncio.sleep(0)
    assert not waiting.done(), "it is not over"
    log.end(begun, "done")
    await asyncio.wait_for(waiting, 5)
    waiting = asyncio.create_task(log.wait_beyond(2))
    await asyncio.sleep(0)
    log.close()
    await asyncio.wait_for(waiting, 5)
