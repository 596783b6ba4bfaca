# SPDX-License-Identifier: Apache-2.0
"""The share of a host on its disk, and the desk that grants from it; see also the fleet's side in
tests/unit/master/test_budget_shares.py.
"""

import asyncio
from pathlib import Path

import pytest

from discluster.control.allowance import Purse, Share, ShareFile
from discluster.control.permits import PermitDesk
from discluster.errors import StateError
from discluster.messages import Allowance, Message, Permit, PermitDenied
from discluster.plan import IdentifySlots
from tests.clock import ManualClock
from tests.unit.control.purses import full_purse

TOLD = Allowance(serial=4, identifies=2, resets_in=3600.0, daily=3)


def test_share_survives_on_disk(tmp_path: Path) -> None:
    file, clock = ShareFile(tmp_path / "identify.json"), ManualClock()
    purse = Purse(file.load(), save=file.save, clock=clock)
    purse.take(TOLD)
    assert purse.spend()
    again = Purse(file.load(), save=file.save, clock=clock)
    assert again.report() == purse.report()
    assert again.report().spent == 1


@pytest.mark.covers("F32")
@pytest.mark.parametrize("text", ["", "{", "[]", '{"serial": "x"}'])
def test_damaged_share_is_told_and_counts_as_none(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "identify.json"
    path.write_text(text)
    assert ShareFile(path).load() == Share()
    assert f"{path} cannot be read" in caplog.text


@pytest.mark.covers("F32")
def test_what_cannot_be_written_down_is_not_spent_nor_taken() -> None:
    def full_disk(_: Share) -> None:
        raise StateError("no room")

    share = Share(serial=3, limit=5, daily=5, resets_at=2e9)
    purse = Purse(share, save=full_disk, clock=ManualClock())
    assert not purse.spend()
    assert purse.take(TOLD) is None
    assert (purse.report().serial, purse.report().spent) == (3, 0)


@pytest.mark.covers("T-05", "F28")
async def test_host_grants_from_its_slots_only_within_its_share_and_says_why() -> None:
    clock = ManualClock()
    desk = PermitDesk(clock=clock, interval=5.25, purse=full_purse(clock, limit=2))
    desk.follow(IdentifySlots(slot=0, slots=1))
    answers: list[Message] = []
    task = asyncio.create_task(desk.run())
    for shard in range(3):
        desk.request(shard, cluster=1, reply=answers.append)
    await clock.advance(60)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [a.shard for a in answers if isinstance(a, Permit)] == [0, 1]
    (denied,) = [a for a in answers if isinstance(a, PermitDenied)]
    assert denied.shard == 2
    assert denied.reason.startswith(
        "MASTER is away and this host's share of the identify budget is used: 0 of 2 left, resets"
    )
