# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: what MASTER knows of sessions whose host says nothing about them any more."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discluster.control.checkpointing import Told, newest_stays
from discluster.master.ownership import advance
from discluster.master.records.checkpointing import CheckpointKeeper
from discluster.master.records.checkpoints import Checkpointed, Checkpoints
from discluster.master.settings import HostSettings
from discluster.master.store import MasterStore
from discluster.messages import Checkpoint, encode
from discluster.plan import Grant, Session
from discluster.stays import ShardKey, Stay
from tests.clock import ManualClock
from tests.unit.master.fakes import Discord, Running, answer, settings
from tests.unit.master.fleets import fleet, part_of, report, session

SHARDS = 6


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


STAYS = st.builds(
    Stay,
    entered=st.integers(1, 5),
    session=st.none() | st.builds(session, st.sampled_from(["s", "t"]), st.integers(0, 9)),
)


def checkpoint(shard: int, stay: Stay, *, shard_count: int = 2) -> Checkpoint:
    return Checkpoint(
        shard_count=shard_count,
        entered={shard: stay.entered},
        sessions={shard: stay.session} if stay.session else {},
        ended=() if stay.session else (shard,),
    )


def keeper_of(directory: Path, clock: ManualClock, shard_count: int = 2) -> CheckpointKeeper:
    store = MasterStore(directory)
    return CheckpointKeeper(store=store, clock=clock, shard_count=shard_count)


def following(shard_count: int) -> Checkpoints:
    kept = Checkpoints()
    kept.follow(shard_count)
    return kept


@given(st.lists(st.dictionaries(st.integers(0, SHARDS - 1), STAYS), max_size=6), st.integers(0, 5))
def test_master_knows_what_stands_in_the_files(
    courses: list[dict[int, Stay]], reconnects_at: int
) -> None:
    """Each look at the files, with a connection that is made anew once in between."""
    kept, told, truth = following(SHARDS), Told(), dict[int, Stay]()
    for look, changes in enumerate(courses):
        if look == reconnects_at:
            told = Told()
        for shard, stay in changes.items():
            if shard not in truth or stay.entered >= truth[shard].entered:
                truth[shard] = stay
        for message in told.news(SHARDS, truth):
            kept.take("a", message)
        assert {shard: known.stay for shard, known in kept.by_shard.items()} == truth


def test_what_master_knows_is_not_told_again() -> None:
    told, stays = Told(), {0: Stay(entered=1, session=session("s", 1))}
    assert len(told.news(SHARDS, stays)) == 1
    assert told.news(SHARDS, stays) == []
    assert len(told.news(SHARDS + 1, stays)) == 1, "they are other shards"


def test_very_many_shards_are_told_in_messages_of_a_bounded_size() -> None:
    long = Session(session_id="s" * 64, resume_url="wss://" + "r" * 250, seq=2**62)
    stays = {shard: Stay(entered=9, session=long) for shard in range(20_000)}
    messages = Told().news(20_000, stays)
    assert max(len(encode(message)) for message in messages) < 1_000_000
    kept = following(20_000)
    for message in messages:
        kept.take("a", message)
    assert {shard: known.stay for shard, known in kept.by_shard.items()} == stays


def test_newest_stay_of_a_shard_counts_whichever_file_it_is_in() -> None:
    old, new = Stay(entered=3, session=session("old", 900)), Stay(entered=4)
    files: Mapping[int, Mapping[ShardKey, Stay]] = {
        1: {(0, 2): old, (1, 4): old},
        2: {(0, 2): new},
    }
    assert newest_stays(files, 2) == {0: new}


def test_of_two_hosts_the_one_that_entered_the_shard_last_knows() -> None:
    kept = following(2)
    late = Stay(entered=7, session=session("late", 1))
    kept.take("b", checkpoint(0, late))
    kept.take("a", checkpoint(0, Stay(entered=3, session=session("early", 500))))
    assert kept.by_shard == {0: Checkpointed(host="b", stay=late)}


def test_checkpoints_of_another_shard_count_are_dropped() -> None:
    kept = following(2)
    kept.take("a", checkpoint(0, Stay(entered=1), shard_count=4))
    assert kept.by_shard == {}
    kept.take("a", checkpoint(0, Stay(entered=1)))
    kept.follow(4)
    assert kept.by_shard == {}


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\x93\x01"])
def test_damaged_file_is_told_and_counts_as_none(
    tmp_path: Path, clock: ManualClock, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    MasterStore(tmp_path).save_checkpoints(damage)
    assert keeper_of(tmp_path, clock).by_shard == {}
    assert "the stored checkpoints cannot be used" in caplog.text


def test_they_are_there_after_a_restart(tmp_path: Path, clock: ManualClock) -> None:
    keeper = keeper_of(tmp_path, clock)
    keeper.said("a", checkpoint(0, Stay(entered=4, session=session("s", 12))))
    keeper.said("b", checkpoint(1, Stay(entered=5)))
    keeper.save()
    assert keeper_of(tmp_path, clock).by_shard == keeper.by_shard
    assert len(keeper.by_shard) == 2
    assert (tmp_path / "checkpoints.msgpack").stat().st_mode & 0o077 == 0
    assert keeper_of(tmp_path, clock, shard_count=4).by_shard == {}


def test_disk_that_cannot_be_written_is_told_once_and_tried_again(
    tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "state"
    keeper = keeper_of(directory, clock)
    directory.write_text("in the way")
    for seq in (1, 2):
        keeper.said("a", checkpoint(0, Stay(entered=4, session=session("s", seq))))
        keeper.save()
    assert len(caplog.records) == 1
    directory.unlink()
    keeper.save()
    assert keeper_of(directory, clock).by_shard == keeper.by_shard


WITHDRAWN = fleet({"b": {1: [0]}}, generation=6, granted={0: Grant(host="a", since=3, withdrawn=6)})


@pytest.mark.parametrize(
    ("host", "entered", "handed_on"),
    [
        ("a", 3, True),
        ("a", 2, False),  # of an earlier stay
        ("c", 3, False),  # of somebody else's
    ],
)
def test_shard_released_without_a_word_on_its_session_gets_the_checkpointed_one(
    host: str, entered: int, handed_on: bool
) -> None:
    known = Checkpointed(host=host, stay=Stay(entered=entered, session=session("s", 70)))
    step = advance(WITHDRAWN, {"a": report(6)}, {0: known})
    assert step.fleet.granted[0].host == "b"
    assert part_of(step.fleet, "b").handover == ({0: session("s", 70)} if handed_on else {})


async def test_moved_shard_whose_file_was_lost_carries_its_checkpointed_session(
    tmp_path: Path, clock: ManualClock
) -> None:
    """From CONTROL's message to the other host's plan, over a restart of MASTER."""
    async with Running(tmp_path, settings("a", "b"), Discord(answer()), clock) as run:
        a, b = run.connect("a"), run.connect("b")
        await run.after()
        plan, other = a.plan(), b.plan()
        a.say(report(plan.generation, plan.shards()))
        b.say(report(other.generation, other.shards()))
        stays = {
            shard: Stay(entered=plan.generation, session=session(f"of-{shard}", 41))
            for shard in plan.shards()
        }
        for shard, stay in stays.items():
            a.say(checkpoint(shard, stay, shard_count=plan.shard_count))
        await run.after()
    away = settings(hosts={"a": HostSettings(weight=0.0), "b": HostSettings()})
    async with Running(tmp_path, away, Discord(answer()), clock) as run:
        a = run.connect("a", report(plan.generation, plan.shards()))
        b = run.connect("b", report(other.generation, other.shards()))
        await run.after()
        a.say(report(a.plan().generation))
        await run.after()
        assert b.plan().handover == {shard: stay.session for shard, stay in stays.items()}
