# SPDX-License-Identifier: Apache-2.0
"""The file of the checkpoints: what is damaged is found, and what a host says cannot spoil it."""

import pytest

from discluster.master.records.checkpoints import Checkpointed, Checkpoints
from discluster.messages import Checkpoint
from discluster.plan import is_sound
from discluster.stays import Stay
from tests.unit.master.fleets import session


def known() -> Checkpoints:
    kept = Checkpoints()
    kept.follow(2)
    kept.take("a", Checkpoint(shard_count=2, sessions={0: session("s", 7)}, entered={0: 4}))
    kept.take("b", Checkpoint(shard_count=2, ended=(1,), entered={1: 5}))
    return kept


def test_what_was_packed_is_taken_up() -> None:
    again = Checkpoints()
    again.unpack(known().packed())
    assert again.by_shard == {
        0: Checkpointed(host="a", stay=Stay(entered=4, session=session("s", 7))),
        1: Checkpointed(host="b", stay=Stay(entered=5)),
    }


def test_file_that_was_cut_off_anywhere_is_damaged() -> None:
    packed = known().packed()
    for end in range(len(packed)):
        again = Checkpoints()
        with pytest.raises(ValueError, match=r"\w"):
            again.unpack(packed[:end])
        assert again.by_shard == {}


def test_no_changed_byte_brings_a_session_that_no_plan_can_hold() -> None:
    packed = known().packed()
    for place in range(len(packed)):
        for value in (0, 1, 0x7F, 0xC0, 0xCF, 0xFF):
            again = Checkpoints()
            try:
                again.unpack(packed[:place] + bytes([value]) + packed[place + 1 :])
            except ValueError:
                continue
            stays = [kept.stay for kept in again.by_shard.values()]
            assert all(stay.session is None or is_sound(stay.session) for stay in stays)
            again.packed()


@pytest.mark.parametrize("entered", [-1, 2**64, 2**80])
def test_generation_that_cannot_be_is_not_taken(entered: int) -> None:
    kept = known()
    kept.take("a", Checkpoint(shard_count=2, ended=(0,), entered={0: entered}))
    assert kept.by_shard[0].stay.entered == 4
    kept.packed()


@pytest.mark.parametrize("seq", [-1, 2**64, 2**80])
def test_sequence_that_cannot_be_is_not_taken(seq: int) -> None:
    kept = known()
    kept.take("a", Checkpoint(shard_count=2, sessions={0: session("s", seq)}, entered={0: 4}))
    assert kept.by_shard[0].stay.session == session("s", 7)
    kept.packed()


def test_without_a_plan_the_first_host_tells_the_count() -> None:
    """A MASTER that lost its files: hosts do not tell the same again once it has a plan."""
    kept = Checkpoints()
    kept.take("a", Checkpoint(shard_count=2, sessions={0: session("s", 7)}, entered={0: 4}))
    kept.follow(2)
    assert list(kept.by_shard) == [0]
    kept.follow(4)
    assert kept.by_shard == {}
