# SPDX-License-Identifier: Apache-2.0
"""The local gateway as Discord, bots and time see it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from discluster.cluster.local.gateway import HELD
from discluster.gateway.commands import UpdatePresence
from discluster.gateway.events import LATER
from tests.clock import settle
from tests.unit.cluster.local.gateways import MIB, Rig

MESSAGE = "MESSAGE_CREATE"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    yield made
    await made.images.stop()


async def test_bot_gets_the_image_then_what_it_has_not_acknowledged_then_what_comes(
    rig: Rig,
) -> None:
    rig.begin(guilds=2)
    rig.messages(4, 6)
    bot = rig.client()
    bot.identify()
    assert bot.known
    image = [("READY", 1), ("GUILD_CREATE", 1), ("GUILD_CREATE", 1)]
    kept = [("GUILD_CREATE", 2), ("GUILD_CREATE", 3), *(("MESSAGE_CREATE", n) for n in (4, 5, 6))]
    assert bot.dispatches == [*image, *kept]
    rig.messages(7, 8)
    assert bot.dispatches[-2:] == [("MESSAGE_CREATE", 7), ("MESSAGE_CREATE", 8)]
    bot.beat()
    assert rig.commands.taken_up_to[-1] == (0, 8)
    bot.vanish()
    rig.messages(9, 9)
    again = rig.client()
    again.identify()
    assert again.dispatches == [
        ("READY", 8),
        ("GUILD_CREATE", 8),
        ("GUILD_CREATE", 8),
        ("MESSAGE_CREATE", 9),
    ]


async def test_nothing_is_acknowledged_to_discord_before_every_client_has_it(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, clients=("bot", "stats"))
    rig.begin()
    bot, stats = rig.client("bot"), rig.client("stats")
    bot.identify()
    stats.identify()
    rig.messages(3, 9)
    bot.beat(9)
    assert rig.commands.taken_up_to[-1:] in ([], [(0, 1)])
    stats.beat(5)
    assert rig.commands.taken_up_to[-1] == (0, 5)
    stats.beat(9)
    assert rig.commands.taken_up_to[-1] == (0, 9)
    await rig.images.stop()


async def test_types_of_other_intents_are_left_out_and_count_as_acknowledged(rig: Rig) -> None:
    rig.begin()
    bot = rig.client()
    bot.identify(intents=1)
    rig.messages(3, 9)
    assert bot.dispatches[-1] == ("GUILD_CREATE", 2)
    bot.beat(2)
    assert rig.commands.taken_up_to[-1] == (0, 9)


async def test_resumed_session_has_the_intents_with_which_it_began(rig: Rig) -> None:
    rig.begin()
    rig.begin(shard=1)
    bot = rig.client()
    bot.identify(intents=1)
    again = rig.client()
    again.resume(bot.session_id, 2)
    rig.messages(3, 9)
    assert again.dispatches == [("RESUMED", 2)]
    again.beat()
    assert rig.commands.taken_up_to[-1] == (0, 9)
    forged = rig.client()
    forged.resume(bot.session_id[:24] + f"{513:08x}", 2)
    assert forged.ops == [10, 9]


async def test_identify_waits_for_its_shard_and_is_told_which_are_here(rig: Rig) -> None:
    bot, late = rig.client(), rig.client()
    bot.identify(0)
    late.identify(1)
    assert bot.ops == [10]
    rig.begin()
    assert bot.dispatches[0] == ("READY", 1)
    rig.clock.jump(HELD)
    late.beat(0)
    rig.gateway.tick()
    assert late.closed_with == (4000, "Shard 1 is not on this cluster, which has 0, 1; try again")


async def test_nothing_is_answered_before_discord_has_replayed_what_was_missed(rig: Rig) -> None:
    rig.begin()
    bot = rig.client()
    bot.identify()
    session = bot.session_id
    await rig.images.stop()
    fresh = Rig(rig.images._directory)
    fresh.messages(3, 4)
    late, new = fresh.client(), fresh.client()
    late.resume(session, 2)
    new.identify()
    assert late.ops == new.ops == [10]
    fresh.messages(5, 6)
    fresh.resumed(7)
    assert [s for _, s in late.dispatches] == [3, 4, 5, 6, 6]
    assert late.dispatches[-1][0] == "RESUMED"
    assert new.dispatches[0][0] == "READY"
    await fresh.images.stop()


@pytest.mark.parametrize("when_unknown", ["identify", "wait"])
async def test_session_whose_guilds_nobody_knows_is_renewed_once_if_so_set(
    tmp_path: Path, when_unknown: str
) -> None:
    rig = Rig(tmp_path, when_unknown=when_unknown)  # type: ignore[arg-type]
    rig.resumed(40)
    one, two = rig.client(), rig.client()
    one.identify()
    two.identify()
    assert one.ops == two.ops == [10]
    assert rig.commands.renewed == ([0] if when_unknown == "identify" else [])
    assert (rig.gateway.problem(0) is None) is (when_unknown == "identify")
    rig.clock.jump(HELD + 1)
    rig.gateway.tick()
    assert one.closed_with is None
    rig.begin("another")
    assert one.dispatches[0] == two.dispatches[0] == ("READY", 39)
    assert rig.gateway.problem(0) is None
    await rig.images.stop()


async def test_new_session_of_discords_ends_that_of_a_bot_after_what_it_is_owed(rig: Rig) -> None:
    rig.begin()
    bot = rig.client()
    bot.identify()
    bot.bot.pause()
    rig.messages(3, 5)
    before = bot.session_id
    rig.begin("another")
    assert bot.dispatches[-1] == ("GUILD_CREATE", 2)
    bot.bot.resume()
    assert bot.dispatches[-1] == ("MESSAGE_CREATE", 5)
    assert bot.ops[-1] == 9
    rig.messages(3, 3, session="another")
    assert bot.ops[-1] == 9
    bot.identify()
    assert bot.session_id != before
    assert bot.dispatches[-1] == ("MESSAGE_CREATE", 5 + 3)


async def test_resume_with_what_is_not_ours_or_not_here_is_invalid(rig: Rig) -> None:
    rig.begin()
    rig.begin(shard=1)
    bot = rig.client()
    bot.identify()
    for session, seq in (("unknown", 2), (bot.session_id, 99)):
        other = rig.client()
        other.resume(session, seq)
        assert other.ops == [10, 9]
        other.identify()
        assert other.dispatches[0][0] == "READY"


async def test_shard_is_held_back_while_an_attached_bot_does_not_take_what_fills_the_log(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path, size=MIB)
    rig.begin()
    bot = rig.client()
    bot.identify()
    bot.bot.pause()
    last = 2
    while (taken := rig.messages(last + 1, last + 20, size=1000)) is LATER:
        last += 20
    last += 20
    assert isinstance(taken, asyncio.Task)
    await settle()
    assert not taken.done()
    assert rig.gateway.problem(0) == "a bot does not take its events in time; it is held back"
    bot.bot.resume()
    assert bot.seq == last
    assert bot.ops[-1] == 1 or 1 in bot.ops
    bot.beat()
    await settle()
    assert taken.result() is LATER
    assert rig.keeping.losses.total == 0
    await rig.images.stop()


async def test_bot_that_goes_lets_a_shard_go_on_that_was_held_back_for_it(tmp_path: Path) -> None:
    rig = Rig(tmp_path, size=MIB)
    rig.begin()
    bot = rig.client()
    bot.identify()
    bot.bot.pause()
    last = 2
    while (taken := rig.messages(last + 1, last + 20, size=1000)) is LATER:
        last += 20
    bot.vanish()
    await settle()
    assert taken.result() is LATER
    rig.messages(last + 21, last + 40, size=1000)
    assert rig.keeping.losses.total > 0
    rig.gateway.tick()
    problem = rig.gateway.problem(0) or ""
    assert "events were lost to bot" in problem
    await rig.images.stop()


async def test_bot_that_acknowledges_nothing_for_a_minute_is_sent_away(rig: Rig) -> None:
    rig.begin()
    bot = rig.client()
    bot.identify()
    rig.messages(3, 9)
    for _ in range(14):
        rig.clock.jump(5)
        bot.beat(1)
        rig.gateway.tick()
    assert bot.closed_with == (4000, "Nothing was acknowledged for 60 seconds")
    rig.clock.jump(3)
    rig.gateway.tick()
    assert bot.transport.aborted


async def test_shard_that_leaves_takes_its_bots_acknowledgements_with_it(rig: Rig) -> None:
    rig.begin()
    bot = rig.client()
    bot.identify()
    rig.messages(3, 9)
    leaving = asyncio.create_task(rig.gateway.flush(0))
    await settle()
    assert bot.ops[-1] == 1
    assert not bot.transport.written
    bot.beat()
    await settle()
    assert leaving.done()
    assert rig.commands.taken_up_to[-1] == (0, 9)
    assert bot.closed_with == (4000, "The shard leaves this cluster")
    assert rig.keeping.held == 0


async def test_shard_that_leaves_waits_for_a_silent_bot_for_a_moment_only(rig: Rig) -> None:
    rig.begin()
    bot = rig.client()
    bot.identify()
    rig.messages(3, 9)
    leaving = asyncio.create_task(rig.gateway.flush(0))
    await rig.clock.advance(1.9)
    assert not leaving.done()
    await rig.clock.advance(0.2)
    assert leaving.done()
    assert bot.closed_with is not None


async def test_shard_is_gone_also_where_there_is_no_patience_for_acknowledgements(
    rig: Rig,
) -> None:
    rig.begin()
    bot = rig.client()
    bot.identify()
    rig.messages(3, 9)
    leaving = asyncio.create_task(rig.gateway.flush(0))
    await settle()
    leaving.cancel()
    await settle()
    assert bot.closed_with == (4000, "The shard leaves this cluster")
    assert rig.keeping.held == 0


async def test_presence_and_commands_go_to_discord_once_the_bot_is_fed(rig: Rig) -> None:
    presence: dict[str, Any] = {"status": "dnd", "activities": [], "since": None, "afk": False}
    bot = rig.client()
    bot.identify(presence=presence)
    await settle()
    assert rig.commands.sent == []
    rig.begin()
    await settle()
    bot.say(3, presence)
    await settle()
    assert rig.commands.sent == [(0, UpdatePresence(status="dnd"))] * 2


async def test_bot_with_more_commands_than_discord_takes_for_long_is_sent_away(rig: Rig) -> None:
    rig.begin()
    bot = rig.client()
    bot.identify()
    presence: dict[str, Any] = {"status": "dnd", "activities": [], "since": None, "afk": False}
    for number in range(501):
        if number % 200 == 0:
            rig.clock.jump(60)
        bot.say(3, presence)
    reason = "Rate limited: too many commands wait for Discord's limits"
    assert bot.closed_with == (4008, reason)
    await settle()
    assert rig.commands.sent == []


async def test_bot_that_talks_and_does_not_listen_is_cut_off(rig: Rig) -> None:
    rig.begin()
    bot = rig.client()
    bot.identify()
    rig.messages(3, 3, size=5 * MIB)
    bot.bot.pause()
    bot.say(1, 3)
    assert bot.transport.aborted


async def test_several_connections_of_one_client_each_get_what_comes(rig: Rig) -> None:
    rig.begin()
    old, new = rig.client(), rig.client()
    old.identify()
    new.identify()
    rig.messages(3, 4)
    assert old.dispatches[-2:] == new.dispatches[-2:] == [(MESSAGE, 3), (MESSAGE, 4)]
    new.beat()
    old.vanish()
    rig.messages(5, 5)
    assert new.dispatches[-1] == (MESSAGE, 5)
    assert rig.commands.taken_up_to[-1] == (0, 4)


async def test_summary_says_who_is_there_and_what_is_kept(rig: Rig) -> None:
    rig.begin()
    rig.messages(3, 9)
    assert rig.gateway.summary() == "bot on 0 of 2 shards, 8 events kept, 0 lost"
    bot = rig.client()
    bot.identify()
    bot.beat()
    assert rig.gateway.summary() == "bot on 1 of 2 shards, 0 events kept, 0 lost"


async def test_frame_that_cannot_be_ends_the_connection_with_a_code_of_websockets(
    rig: Rig,
) -> None:
    bot = rig.client()
    bot.bot.received(b"\x81\x00")
    assert bot.closed_with == (1002, "a frame from the client is not masked")
    assert bot.transport.closed
