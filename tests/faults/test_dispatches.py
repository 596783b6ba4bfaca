# SPDX-License-Identifier: Apache-2.0
"""Payloads that are not what they should be, and sequences that jump: F19, F20, F22, F23, F34."""

import asyncio
import itertools
import json
from typing import Final

import pytest

from discluster.gateway import Compression
from discluster.simulator import ledger
from discluster.simulator.deeds import Close, Dispatch, Gap, Raw
from tests.faults.loop import simulated
from tests.faults.scene import Scene
from tests.faults.test_reconnects import COMPRESSIONS

DEEP: Final = "[" * 200_000 + "]" * 200_000
# Each is followed by living events: one is no reason to lose a connection.
ODD: Final = {
    "unknown-op": Raw(text='{"op":77,"d":{"a":1}}'),
    "unknown-type": Raw(text='{"t":"NEVER_HEARD_OF","s":$S,"op":0,"d":{}}', consume=True),
    "extra-keys": Raw(text='{"x":[{}],"t":"TYPING_START","s":$S,"op":0,"d":{}}', consume=True),
    "other-order": Raw(text='{"d":{"t":"X","s":7,"op":9},"op":0,"s":$S,"t":"Y"}', consume=True),
    "blanks": Raw(text=' {\n"op" : 0 , "t":"Y", "s": $S ,"d": null } ', consume=True),
    "no-type": Raw(text='{"s":$S,"op":0,"d":{}}', consume=True),
    "null-sequence": Raw(text='{"t":"TYPING_START","s":null,"op":0,"d":{}}'),
    "float-sequence": Raw(text='{"t":"TYPING_START","s":2.5,"op":0,"d":{}}'),
    "text-sequence": Raw(text='{"t":"TYPING_START","s":"9","op":0,"d":{}}'),
    "wrong-types": Raw(
        text='{"t":"PRESENCE_UPDATE","s":$S,"op":0,"d":{"user":[],"status":{},"guild_id":null}}',
        consume=True,
    ),
    "integer-ids": Raw(text='{"t":"X","s":$S,"op":0,"d":{"id":[1,"2"]}}', consume=True),
    "duplicate-keys": Raw(text='{"t":"X","s":$S,"op":0,"d":{"a":1,"a":2}}', consume=True),
    "surrogates": Raw(text='{"t":"X","s":$S,"op":0,"d":"\\ud800 \\udfff"}', consume=True),
    "invalid-utf-8": Raw(data=b'{"t":"X","s":null,"op":0,"d":"\xff\xfe\x80"}'),
    "not-json": Raw(text="<html>502 Bad Gateway</html>"),
    "empty": Raw(text=""),
    "no-object": Raw(text="[1,2,3]"),
    "deep": Raw(text=f'{{"t":"X","s":null,"op":0,"d":{DEEP}}}'),
    "op-as-text": Raw(text='{"t":"X","s":null,"op":"0","d":{}}'),
    "no-op": Raw(text='{"t":"X","s":null,"d":{}}'),
}


@simulated
@COMPRESSIONS
@pytest.mark.covers("F19", "T-77")
async def test_odd_payload_costs_no_connection(scene: Scene, compression: Compression) -> None:
    """Each shard meets another one."""
    async with scene.set(shards=len(ODD), compression=compression) as stage:
        for shard, deed in enumerate(ODD.values()):
            await stage.script("dispatch", deed, shard=shard, count=3)
        await asyncio.sleep(120)
        assert len(stage.records(ledger.Open)) == len(ODD)


@simulated
@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.covers("F19", "T-77")
async def test_four_unreadable_payloads_in_a_row_are_skipped(scene: Scene, times: int) -> None:
    async with scene.set() as stage:
        await stage.script(
            "dispatch", Raw(text="garbage", times=times), shard="all", each_shard=True, count=3
        )
        await asyncio.sleep(60)
        assert len(stage.records(ledger.Open)) == 4


@simulated
@pytest.mark.parametrize("times", [5, 20])
@pytest.mark.covers("F19", "T-77")
async def test_five_unreadable_payloads_in_a_row_cost_the_connection_and_no_event(
    scene: Scene, times: int
) -> None:
    async with scene.set() as stage:
        mark = stage.mark
        await stage.script(
            "dispatch", Raw(text="garbage", times=times), shard="all", each_shard=True, count=3
        )
        await stage.until(lambda: len(stage.records(ledger.Resumed, since=mark)) == 4, 60)
        assert stage.records(ledger.Identify, since=mark) == []


# --- sequences ------------------------------------------------------------------------------------


@simulated
@pytest.mark.parametrize(
    "deed",
    [
        Dispatch(shift=0),
        Dispatch(shift=-3),
        Dispatch(s=1),
        Dispatch(s=0),
        Gap(sequences=1),
        Gap(sequences=1000),
    ],
    ids=["duplicate", "regress", "first", "zero", "gap", "wide-gap"],
)
@pytest.mark.covers("F20", "O-05")
async def test_checkpoint_never_goes_back_and_no_gap_is_a_crash(
    scene: Scene, deed: Dispatch | Gap
) -> None:
    async with scene.set(events_per_second=20) as stage:
        await stage.script("dispatch", deed, shard="all", each_shard=True, count=20)
        await asyncio.sleep(10)
        mark = await stage.hit(lambda: stage.client.drop("all"))
        resumes = stage.records(ledger.Resume, since=mark)
        assert len(resumes) == 4
        assert all(r.accepted for r in resumes)
        assert min(r.seq or 0 for r in resumes) > 100
        assert stage.records(ledger.Identify, since=mark) == []


@simulated
@pytest.mark.parametrize("seq", [2**53 + 1, 2**63, 2**64, 10**40, -1])
@pytest.mark.covers("F20")
async def test_impossible_sequence_is_no_crash(scene: Scene, seq: int) -> None:
    """What Discord says of its own sequences is believed, but it must not end the shard."""
    async with scene.set(shards=2, conserves=False, heals=False) as stage:
        await stage.script("dispatch", Dispatch(s=seq), shard=0, count=5)
        await asyncio.sleep(200)
        assert [stage.is_in(n) for n in range(2)] == ["ready", "ready"]


# --- guilds ---------------------------------------------------------------------------------------


@simulated
@pytest.mark.parametrize("share", [0.1, 1.0])
@pytest.mark.covers("F22", "T-72")
async def test_guilds_in_an_outage_still_count_and_come_back(scene: Scene, share: float) -> None:
    async with scene.set(guilds=80) as stage:
        before = [shard.view().guilds for shard in stage.shards]
        ids = {
            n: [t.event[0] for t in stage.taken if t.shard == n and t.event is not None]
            for n in range(4)
        }
        for shard in range(4):
            known = sorted(set(ids[shard]))
            for guild in known[: max(1, int(len(known) * share))]:
                gone = {"id": str(guild), "unavailable": True}
                await stage.client.event(shard, "GUILD_DELETE", gone)
        await asyncio.sleep(10)
        assert [shard.view().guilds for shard in stage.shards] == before
        for shard in range(4):
            for guild in sorted(set(ids[shard])):
                await stage.client.event(shard, "GUILD_CREATE", {"id": str(guild)})
        await asyncio.sleep(10)
        assert [shard.view().guilds for shard in stage.shards] == before


@simulated
@pytest.mark.covers("F22", "T-72")
async def test_guild_that_the_bot_left_counts_no_more(scene: Scene) -> None:
    async with scene.set(guilds=80) as stage:
        await asyncio.sleep(20)
        guild = next(t.event[0] for t in stage.taken if t.shard == 0 and t.event is not None)
        before = stage.shards[0].view().guilds
        assert before is not None
        await stage.client.event(0, "GUILD_DELETE", {"id": str(guild)})
        await asyncio.sleep(1)
        assert stage.shards[0].view().guilds == before - 1


@simulated
@pytest.mark.covers("F22", "T-73")
async def test_shard_is_ready_though_none_of_its_guilds_ever_becomes_available(
    scene: Scene,
) -> None:
    async with scene.set(unavailable_percent=100, start=False) as stage:
        await stage.all_are("ready", 5)
        assert all("GUILD_CREATE" not in stage.types(n) for n in range(4))
        assert all(shard.view().guilds == 5 for shard in stage.shards)


# --- storms ---------------------------------------------------------------------------------------


@simulated
@pytest.mark.parametrize("kind", ["GUILD_MEMBER_UPDATE", "PRESENCE_UPDATE"])
@pytest.mark.covers("F23", "T-75", "T-76")
async def test_storm_of_one_guild_delays_no_other_shard_and_no_heartbeat(
    scene: Scene, kind: str
) -> None:
    body = {"guild_id": "1", "user": {"id": "2"}, "roles": ["3"] * 20}
    text = f'{{"t":"{kind}","s":$S,"op":0,"d":{json.dumps(body)}}}'
    async with scene.set() as stage:
        for n in range(10):
            storm = Raw(text=text, consume=True, times=2000)
            await stage.script("now", storm, shard=0, after=float(n))
        await asyncio.sleep(120)
        assert stage.types(0).count(kind) >= 20_000
        assert len(stage.records(ledger.Open)) == 4
        for shard in range(1, 4):
            times = [t.time for t in stage.taken if t.shard == shard]
            assert max(b - a for a, b in itertools.pairwise(times)) < 2


@simulated
@pytest.mark.covers("F34")
async def test_answers_to_member_requests_are_handed_over_as_they_come(scene: Scene) -> None:
    """Missing, out of order, twice, with numbers as ids: what to make of it is the handler's."""
    chunks = [2, 0, 0, 4]
    limited = '{"t":"RATE_LIMITED","s":$S,"op":0,"d":{"opcode":8,"retry_after":12.5,"meta":{}}}'
    async with scene.set() as stage:
        for index in chunks:
            body = {"chunk_index": index, "chunk_count": 5, "not_found": [1, 2], "members": []}
            text = f'{{"t":"GUILD_MEMBERS_CHUNK","s":$S,"op":0,"d":{json.dumps(body)}}}'
            await stage.script("now", Raw(text=text, consume=True), shard=1)
        await stage.script("now", Raw(text=limited, consume=True), shard=1)
        await stage.until(lambda: "RATE_LIMITED" in stage.types(1), 5)
        assert stage.types(1).count("GUILD_MEMBERS_CHUNK") == len(chunks)
        mark = await stage.hit(lambda: stage.client.drop("all"))
        assert stage.records(ledger.Identify, since=mark) == []


@simulated
@pytest.mark.covers("F33", "F35", "T-53", "T-61")
async def test_nothing_of_an_old_connection_reaches_the_new_one(scene: Scene) -> None:
    """Discord goes on sending after its close frame, and never hangs up."""
    async with scene.set(events_per_second=20) as stage:
        late = Raw(text='{"t":"LATE","s":99999999,"op":0,"d":{}}')
        await stage.script(
            "dispatch", Close(code=4000), late, shard="all", each_shard=True, count=5
        )
        await stage.until(lambda: len(stage.records(ledger.Resumed)) == 4, 60)
        await asyncio.sleep(30)
        assert all("LATE" not in stage.types(n) for n in range(4))
