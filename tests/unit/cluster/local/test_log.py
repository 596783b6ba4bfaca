# SPDX-License-Identifier: Apache-2.0
"""What one shard's log keeps, tells apart and gives back."""

import itertools

import msgspec
import pytest

from discluster.cluster.local.keeping import Keeping
from discluster.cluster.local.log import EventLog
from discluster.cluster.local.losses import Why
from discluster.gateway.frames import FrameReader
from tests.clock import ManualClock
from tests.unit.cluster.local.events import event, opened, positions, run

ALL = 1 << 30


def keeping(*clients: str, unacknowledged: int = 1000) -> Keeping:
    return Keeping(
        size=ALL,
        age=60.0,
        clients=clients or ("bot",),
        unacknowledged=unacknowledged,
        clock=ManualClock(),
    )


@pytest.fixture
def log() -> EventLog:
    return keeping().open(0)


def test_frame_carries_type_position_and_body_as_they_are(log: EventLog) -> None:
    odd = 'X"\\é'
    log.extend([event(1, "TYPING_START"), event(2, size=200), event(3, odd), event(4, size=70_000)])
    frames, last = log.read_each(0, size=ALL)
    assert last == 4
    assert len(FrameReader(limit=ALL).feed(b"".join(frames))) == 4
    assert opened(frames[0]) == {
        "t": "TYPING_START",
        "s": 1,
        "op": 0,
        "d": {"id": "1", "content": ""},
    }
    assert [opened(frame)["t"] for frame in frames[1:]] == ["MESSAGE_CREATE", odd, "MESSAGE_CREATE"]
    assert len(opened(frames[3])["d"]["content"]) == 70_000


def test_frame_is_utf_8_whatever_came(log: EventLog) -> None:
    """A client would close at any other, and get the same again after its RESUME."""
    odd = event(2)
    odd.body = msgspec.Raw(b'{"id":"2","content":"caf\xe9"}')
    log.extend([event(1), odd, event(3)])
    frames, _ = log.read_each(0, size=ALL)
    assert [opened(frame)["d"]["content"] for frame in frames] == ["", "caf\ufffd", ""]
    assert positions(frames) == [1, 2, 3]


def test_more_types_than_discord_has_are_not_remembered_for_ever(log: EventLog) -> None:
    log.extend([event(seq, f"TYPE_{seq}") for seq in range(1, 2000)])
    frames, _ = log.read_each(0, size=ALL)
    assert [opened(frame)["t"] for frame in frames] == [f"TYPE_{seq}" for seq in range(1, 2000)]
    assert len(log._heads.known) <= 256


def test_read_gives_as_much_as_was_asked_for_and_one_event_at_least(log: EventLog) -> None:
    log.extend([event(seq, size=1000) for seq in range(1, 101)])
    assert positions(log.read_each(10, size=1)[0]) == [11]
    frames, last = log.read_each(10, size=10_000)
    assert sum(map(len, frames)) <= 10_000
    assert positions(frames) == list(range(11, last + 1))
    assert len(frames) in range(7, 10)
    assert log.read_each(100, size=ALL) == ([], 100)
    assert log.read_each(500, size=ALL) == ([], 500), "a position that is still to come"


def test_types_are_left_out_but_their_positions_are_passed(log: EventLog) -> None:
    names = itertools.cycle(["MESSAGE_CREATE", "TYPING_START", "TYPING_START"])
    log.extend([event(seq, next(names)) for seq in range(1, 7)])
    frames, last = log.read_each(0, size=ALL, without={"TYPING_START"})
    assert positions(frames) == [1, 4]
    assert last == 6
    assert log.read_each(4, size=ALL, without={"TYPING_START"}) == ([], 6)


def test_repeated_events_are_not_appended_twice(log: EventLog) -> None:
    log.extend(run([1, 2, 3]))
    log.extend(run([2, 3, 4, 4]))
    assert positions(log.read_each(0, size=ALL)[0]) == [1, 2, 3, 4]
    assert log.repeated == 3


def test_resumed_session_has_the_positions_that_it_had(log: EventLog) -> None:
    log.extend([*run([501, 502]), event(503, "RESUMED")])
    assert (log.base, log.first, log.last) == (0, 501, 503)
    assert log.acknowledged_by("bot") == 500
    assert log.holds(500)
    assert not log.holds(499)


def test_new_session_goes_on_after_the_last_position(log: EventLog) -> None:
    log.extend(run([501, 502]))
    log.extend([event(503), event(1, "READY", session="new"), *run([2, 3], session="new")])
    assert (log.session_id, log.base, log.last) == ("new", 503, 506)
    frames, _ = log.read_each(500, size=ALL)
    assert positions(frames) == [501, 502, 503, 505, 506], "READY is for each connection to make"


def test_sessions_without_an_id_are_told_apart(log: EventLog) -> None:
    log.extend([event(1, "READY", session=""), event(2, session="")])
    log.extend([event(3, session=""), event(1, "READY", session=""), event(2, session="")])
    assert positions(log.read_each(0, size=ALL)[0]) == [2, 3, 5]
    assert log.base == 3


def test_acknowledged_events_are_owed_no_more_and_can_still_be_read(log: EventLog) -> None:
    log.extend(run(range(1, 11)))
    log.acknowledged("bot", 4)
    assert (log.acknowledged_by("bot"), log.owed("bot")) == (4, 6)
    log.acknowledged("bot", 2)
    assert log.acknowledged_by("bot") == 4, "an older word changes nothing"
    assert log.resume("bot", 2)
    assert log.owed("bot") == 8, "what it says itself that it lacks, it is owed"


def test_nobody_acknowledges_what_has_not_come(log: EventLog) -> None:
    log.extend(run([1, 2]))
    log.acknowledged("bot", 10**15)
    log.extend(run([3]))
    assert log.owed("bot") == 1


def test_released_is_what_all_clients_have() -> None:
    log = keeping("bot", "stats").open(7)
    assert log.release() is None
    log.extend(run(range(1, 11), shard=7))
    log.acknowledged("bot", 8)
    assert log.release() is None
    log.acknowledged("stats", 5)
    released = log.release()
    assert released is not None
    assert (released.shard, released.seq, released.session_id) == (7, 5, "5e551011")
    assert log.release() is None, "it is told once"
    assert log.resume("stats", 3)
    log.acknowledged("stats", 4)
    assert log.release() is None, "what is taken is taken"


def test_events_that_are_not_kept_are_released_with_those_before() -> None:
    log = keeping().open(0)
    log.extend([event(1, "READY")])
    released = log.release()
    assert released is not None
    assert released.seq == 1
    log.extend([event(2), event(3, "RESUMED")])
    assert log.release() is None
    log.acknowledged("bot", 2)
    released = log.release()
    assert released is not None
    assert released.seq == 3


def test_events_too_far_back_are_released_and_kept_in_memory_only() -> None:
    log = keeping(unacknowledged=10).open(0)
    log.extend(run(range(1, 26)))
    released = log.release()
    assert released is not None
    assert released.seq == 15
    assert log.owed("bot") == 25


def test_released_of_a_new_session_is_counted_from_its_start() -> None:
    log = keeping().open(0)
    log.extend(run(range(1, 11)))
    log.extend([event(1, "READY", session="new"), event(2, session="new")])
    log.acknowledged("bot", 10)
    released = log.release()
    assert released is None or released.session_id == "new"
    log.acknowledged("bot", 12)
    released = log.release()
    assert released is not None
    assert (released.seq, released.session_id) == (2, "new")


def test_client_that_asks_for_what_came_before_the_start_is_told_no_and_counted_once() -> None:
    kept = keeping()
    log = kept.open(0)
    log.extend(run([501]))
    assert not log.resume("bot", 490)
    assert not log.resume("bot", 490)
    assert kept.losses.of("bot") == {Why.RESTART: 10}
    assert log.resume("bot", 500)
    assert log.resume("bot", 505), "Discord is still repeating what the client has"
    assert log.acknowledged_by("bot") == 501


def test_shard_that_leaves_loses_only_what_discord_does_not_repeat() -> None:
    kept = keeping("bot", "stats", unacknowledged=10)
    log = kept.open(0)
    log.extend(run(range(1, 26)))
    log.acknowledged("bot", 12)
    log.release()
    kept.close(0)
    assert kept.losses.of("bot") == {Why.LEFT: 3}
    assert kept.losses.of("stats") == {Why.LEFT: 15}
    assert kept.held == 0
    back = kept.open(0)
    back.extend(run(range(16, 26)))
    assert (back.first, back.owed("bot")) == (16, 10)


def test_shard_that_leaves_takes_an_earlier_session_with_it() -> None:
    kept = keeping()
    log = kept.open(0)
    log.extend([*run([1, 2]), event(1, "READY", session="new"), event(2, session="new")])
    kept.close(0)
    assert kept.losses.of("bot") == {Why.LEFT: 2}


def test_client_that_was_not_declared_is_a_mistake(log: EventLog) -> None:
    with pytest.raises(KeyError):
        log.attach("nobody")
    with pytest.raises(KeyError):
        log.acknowledged("nobody", 1)
