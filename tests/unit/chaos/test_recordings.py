# SPDX-License-Identifier: Apache-2.0
"""What a recorder noted is read back, also when its process was killed."""

from pathlib import Path

import msgspec
import pytest

from discluster.gateway.events import Event
from tests.chaos import recorder
from tests.chaos.recordings import read


def event(number: int, *, shard: int = 3, body: bytes | None = None) -> Event:
    text = body or b'{"guild_id":"42","_count":%d}' % number
    return Event(shard, number + 100, "MESSAGE_CREATE", msgspec.Raw(text), "session-a")


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(recorder.DIRECTORY, str(tmp_path))
    return tmp_path


class Acknowledged:
    """The part of a handler's commands that a recorder uses."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def taken(self, event: Event) -> None:
        self.numbers.append(event.seq - 100)


async def started(cluster: int) -> recorder.Recorder:
    made = recorder.Recorder()
    await made.start(cluster, Acknowledged())  # type: ignore[arg-type]
    return made


async def test_events_of_all_processes_come_back_in_order_by_shard(directory: Path) -> None:
    first, second = await started(1), await started(2)
    first.handle(event(1))
    second.handle(event(2, shard=5))
    second.handle(event(3))
    found = read([directory])
    assert found.shards() == [3, 5]
    assert [(e.guild, e.number, e.seq, e.process) for e in found.of(3)] == [
        (42, 1, 101, 0),
        (42, 3, 103, 1),
    ]
    assert found.sessions == ["session-a"]


async def test_event_is_in_the_file_as_soon_as_it_is_taken(directory: Path) -> None:
    made = await started(1)
    made.handle(event(1))
    (path,) = directory.glob("*.events")
    assert path.stat().st_size == recorder.RECORD.size


async def test_events_that_are_not_counted_are_not_noted(directory: Path) -> None:
    made = await started(1)
    made.handle(event(1, body=b'{"id":"42","unavailable":false}'))
    assert read([directory]).shards() == []


async def test_record_that_was_cut_off_is_no_record(directory: Path) -> None:
    made = await started(1)
    for number in (1, 2):
        made.handle(event(number))
    (path,) = directory.glob("*.events")
    path.write_bytes(path.read_bytes()[:-1])
    assert [e.number for e in read([directory]).of(3)] == [1]


async def test_batching_recorder_notes_at_once_and_acknowledges_later(directory: Path) -> None:
    told = Acknowledged()
    made = recorder.BatchingRecorder()
    await made.start(1, told)  # type: ignore[arg-type]
    for number in range(1, recorder.BATCH + 3):
        made.handle(event(number))
    assert len(read([directory]).of(3)) == recorder.BATCH + 2
    assert told.numbers == [recorder.BATCH]
    await made.flush(3)
    assert told.numbers == [recorder.BATCH, recorder.BATCH + 2]
