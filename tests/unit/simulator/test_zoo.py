# SPDX-License-Identifier: Apache-2.0
"""Bad clients over real sockets: an oracle that does not catch its client proves nothing.

Each lives beside a good client of another bot; it is caught by the oracle that is meant for it
and by no other, and the good client is not accused.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from discluster.simulator import ledger
from discluster.simulator.client import SimulatorClient
from discluster.simulator.ledger import Shard
from discluster.simulator.oracles import (
    Claims,
    Consumed,
    Limits,
    Verdict,
    resources_are_flat,
    sample_process,
    secrets_are_kept,
)
from discluster.simulator.settings import SimulatorSettings
from discluster.simulator.simulator import Simulator
from tests.faults.loop import SimulatedLoop, simulated
from tests.unit.simulator.client import UPGRADE, Client, dialing
from tests.unit.simulator.zoo import bad
from tests.unit.simulator.zoo.good import Good, Habitat
from tests.waiting import wait_for

INTERVAL = 20.0  # between heartbeats; all times are simulated seconds
GOOD, BAD = 0, 1
TIMEOUT = 500.0

SETTINGS: dict[str, Any] = {
    "tokens": ("good-token", "bad-token"),
    "heartbeat_interval": INTERVAL,
    "heartbeat_tolerance": 60.0,
    "events_per_second": 0.0,
    "guilds": 100,
    "shards": 1,
    "gateway_bot_limit": 0,
    "rejected_identify_delay": 0.0,
}
LIMITS = Limits(heartbeat_interval=INTERVAL)


@dataclass
class Zoo:
    """A simulator with a good and a bad bot; each client lives in a task of its own."""

    control: SimulatorClient
    simulator: Simulator
    homes: list[Habitat]
    lives: list[asyncio.Task[None]] = field(default_factory=list)

    def settle(self, make: Callable[[Habitat, Shard], Good], shard: Shard, bot: int) -> Good:
        animal = make(self.homes[bot], shard)
        self.lives.append(asyncio.create_task(animal.live()))
        return animal

    async def pair(self, make: Callable[[Habitat, Shard], Good]) -> tuple[Good, Good]:
        """A good client (shard 0 of 2) and a bad one (shard 0 of 4), both ready."""
        good, wicked = self.settle(Good, (0, 2), GOOD), self.settle(make, (0, 4), BAD)
        await self.ready(good, wicked)
        return good, wicked

    async def ready(self, *animals: Good) -> None:
        async with asyncio.timeout(TIMEOUT):
            for animal in animals:
                await animal.ready.wait()

    async def seen(self, predicate: Callable[[ledger.AnyRecord], bool], times: int = 1) -> None:
        """Wait until so many records of the bad bot satisfy `predicate`."""
        since = 0
        for _ in range(times):
            record = await self.control.wait_for_record(predicate, TIMEOUT, since=since)
            since = record.n

    async def caught(self, claims: Claims | None = None, **limits: Any) -> set[str]:
        """The oracles that the bad bot violated; the good one must not have."""
        chosen = msgspec.structs.replace(LIMITS, **limits)
        said = msgspec.structs.replace(claims or Claims(), limits=chosen)
        verdicts = await self.control.judgement(said)
        return accused(verdicts)


def accused(verdicts: list[Verdict]) -> set[str]:
    assert [verdict for verdict in verdicts if verdict.bot == GOOD] == []
    return {verdict.oracle for verdict in verdicts}


@asynccontextmanager
async def open_zoo(**settings: Any) -> AsyncIterator[Zoo]:
    async with (
        Simulator(
            SimulatorSettings(**{**SETTINGS, **settings}), clock=asyncio.get_running_loop().time
        ) as simulator,
        SimulatorClient(simulator.control_url) as control,
        dialing(simulator.gateway_url, "127.0.0.1", TIMEOUT) as first,
        dialing(simulator.gateway_url, "127.0.0.2", TIMEOUT) as second,
    ):
        homes = [
            Habitat(dialer, token, INTERVAL, random.Random(token))
            for dialer, token in ((first, "good-token"), (second, "bad-token"))
        ]
        zoo = Zoo(control, simulator, homes)
        try:
            yield zoo
        finally:
            for life in zoo.lives:
                life.cancel()
            await asyncio.gather(*zoo.lives, return_exceptions=True)


def stalled(seconds: float) -> None:
    """The machine, with all clients."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    loop.stall(seconds)


def resumed(record: ledger.AnyRecord) -> bool:
    return isinstance(record, ledger.Resumed) and record.bot == BAD


def identified(record: ledger.AnyRecord) -> bool:
    return isinstance(record, ledger.Identify) and record.bot == BAD


@simulated
async def test_good_clients_are_not_caught() -> None:
    """Through drops, RECONNECT, invalid sessions, requests, and long enough for their beats."""
    async with open_zoo(events_per_second=1.0) as zoo:
        animals = [zoo.settle(Good, (shard, 2), bot) for bot in (GOOD, BAD) for shard in (0, 1)]
        await zoo.ready(*animals)
        for disturb in (
            zoo.control.drop("all"),
            zoo.control.reconnect("all"),
            zoo.control.invalidate("all", resumable=True),
            zoo.control.close_connection("all", 4000),
            zoo.control.invalidate("all"),
            zoo.control.request_heartbeat("all"),
        ):
            await disturb
            await asyncio.sleep(15)
            await zoo.ready(*animals)
        calm = (await zoo.control.summary()).now
        await zoo.control.stream(0)
        await asyncio.sleep(2 * INTERVAL)
        consumed = [
            Consumed(shard=animal.shard, events=animal.events, bot=bot)
            for animal, bot in zip(animals, (GOOD, GOOD, BAD, BAD), strict=True)
        ]
        claims = Claims(consumed=consumed, calm_since=calm, within=30.0, soft=True)
        assert all(len(animal.events) > 30 for animal in animals)
        assert await zoo.caught(claims, recovery=40.0) == set()


@simulated
async def test_good_client_is_not_caught_when_the_machine_stands_still() -> None:
    async with open_zoo(events_per_second=1.0) as zoo:
        good = zoo.settle(Good, (0, 2), GOOD)
        await zoo.ready(good)
        time.sleep(1.0)  # what is meant: nothing of this process runs
        await asyncio.sleep(2 * INTERVAL)
        assert await zoo.caught() == set()


class StalledAtIdentify(Good):
    """The machine stands still as soon as it has sent its IDENTIFY, so that is read late."""

    async def identify(self, client: Client) -> None:
        await super().identify(client)
        stalled(1.0)


@simulated
async def test_simulator_that_was_held_up_blames_nobody_for_it() -> None:
    async with open_zoo(events_per_second=1.0, heartbeat_tolerance=1.0) as zoo:
        zoo.homes[GOOD].spacing = 5.1
        first, second = (
            zoo.settle(kind, (shard, 2), GOOD)
            for shard, kind in enumerate((StalledAtIdentify, Good))
        )
        await zoo.ready(first, second)
        for _ in range(5):
            await asyncio.sleep(0.3 * INTERVAL)
            stalled(1.2 * INTERVAL)
        await asyncio.sleep(2 * INTERVAL)
        assert await zoo.caught() == set()
        assert (await zoo.control.summary()).closes == {}
        held_up = await zoo.control.ledger(kinds=("held_up",))
        assert len(held_up) == 6
        assert sum(record.seconds for record in held_up if isinstance(record, ledger.HeldUp)) > 120


@simulated
async def test_client_that_never_beats_is_caught_by_a_simulator_that_was_held_up() -> None:
    async with open_zoo(heartbeat_tolerance=1.0) as zoo:
        await zoo.pair(bad.Dead)
        stalled(1.2 * INTERVAL)
        await asyncio.sleep(1.2 * INTERVAL)
        assert await zoo.caught() == {"O-11"}


@simulated
async def test_good_client_beats_without_a_sequence_until_its_next_session_is_ready() -> None:
    async with open_zoo(ready_delay=1.5 * INTERVAL, events_per_second=1.0) as zoo:
        good = zoo.settle(Good, (0, 2), GOOD)
        await zoo.ready(good)
        await wait_for(lambda: good.seq > 5, TIMEOUT, what="some events")
        await zoo.control.invalidate("all")
        await wait_for(lambda: not good.ready.is_set(), TIMEOUT, what="op 9")
        await zoo.ready(good)
        assert await zoo.caught(recovery=60.0) == set()


@simulated
async def test_hasty_client_identifies_too_fast() -> None:
    async with open_zoo() as zoo:
        good = zoo.settle(Good, (0, 2), GOOD)
        hasty = [zoo.settle(bad.Hasty, (shard, 4), BAD) for shard in range(2)]
        await zoo.ready(good, *hasty)
        assert await zoo.caught() == {"O-01"}


@simulated
async def test_client_that_starts_its_buckets_in_the_wrong_order() -> None:
    async with open_zoo() as zoo:
        for shard in (0, 1):
            await zoo.ready(zoo.settle(Good, (shard, 2), GOOD))
        for shard in (3, 0, 1, 2):
            await zoo.ready(zoo.settle(Good, (shard, 4), BAD))
        assert await zoo.caught() == set()
        assert await zoo.caught(Claims(soft=True)) == {"O-02"}


@simulated
async def test_storm_client_burns_the_budget() -> None:
    async with open_zoo(ready_delay=5.0, session_start_total=5) as zoo:
        good, storm = zoo.settle(Good, (0, 2), GOOD), zoo.settle(bad.Storm, (0, 4), BAD)
        await zoo.ready(good)
        async with asyncio.timeout(TIMEOUT):
            await storm.settled.wait()
        assert await zoo.caught() == {"O-03"}


@simulated
async def test_lost_client_identifies_on_the_resume_host() -> None:
    async with open_zoo() as zoo:
        await zoo.pair(bad.Lost)
        await zoo.control.invalidate((0, 4), silent=True)
        await zoo.control.invalidate((0, 2), silent=True)
        for home in zoo.homes:
            home.dialer.clients[-1].kill()
        await zoo.seen(identified, 2)
        assert await zoo.caught() == {"O-04"}


@pytest.mark.parametrize(
    ("make", "resume_from"),
    [(bad.Forgetful, "consumed"), (bad.Boaster, "consumed"), (bad.Nostalgic, "received")],
)
@simulated
async def test_client_that_does_not_resume_its_living_session_rightly(
    make: type[Good], resume_from: str
) -> None:
    async with open_zoo(events_per_second=1.0) as zoo:
        animals = await zoo.pair(make)
        await asyncio.sleep(1.5 * INTERVAL)  # past the first heartbeat, which names a sequence
        await zoo.control.drop("all")
        for animal in animals:
            await wait_for(lambda animal=animal: not animal.ready.is_set(), TIMEOUT)  # type: ignore[misc]
        await zoo.ready(*animals)
        assert await zoo.caught(resume_from=resume_from) == {"O-05"}


@pytest.mark.parametrize("make", [bad.Impatient, bad.Stubborn])
@simulated
async def test_client_that_does_not_take_invalid_session_seriously(make: type[Good]) -> None:
    async with open_zoo() as zoo:
        animals = await zoo.pair(make)
        await asyncio.sleep(6)
        await zoo.control.invalidate("all")
        await zoo.seen(identified, 2)
        await zoo.ready(*animals)
        assert await zoo.caught() == {"O-06"}


@simulated
async def test_unstoppable_client_dials_on_after_4004() -> None:
    async with open_zoo() as zoo:
        zoo.homes[BAD].token = "nobody"
        good, unstoppable = zoo.settle(Good, (0, 2), GOOD), zoo.settle(bad.Unstoppable, (0, 4), BAD)
        await zoo.ready(good)
        await zoo.seen(lambda record: isinstance(record, ledger.Close) and record.code == 4004, 3)
        assert unstoppable.codes[:2] == [4004, 4004]
        assert await zoo.caught() == {"O-07"}


@simulated
async def test_client_that_asks_on_after_401() -> None:
    async with open_zoo() as zoo:
        await zoo.ready(zoo.settle(Good, (0, 2), GOOD))
        for _ in range(2):
            headers = {"Authorization": "Bot nobody"}
            url = f"{zoo.simulator.api}/gateway/bot"
            async with zoo.homes[BAD].dialer.http.get(url, headers=headers) as response:
                assert response.status == 401
            await asyncio.sleep(LIMITS.news + 1)
        assert await zoo.caught() == {"O-07"}


@simulated
async def test_frantic_client_reconnects_in_a_tight_loop() -> None:
    async with open_zoo() as zoo:
        good, frantic = zoo.settle(Good, (0, 2), GOOD), zoo.settle(bad.Frantic, (0, 4), BAD)
        await zoo.seen(resumed, 12)
        await zoo.ready(good, frantic)
        assert await zoo.caught(delivery=0.0) == {"O-08"}


@simulated
async def test_client_that_reuses_its_inflate_context_makes_no_progress() -> None:
    """It hears garbage instead of HELLO and hangs up, again and again."""
    async with open_zoo() as zoo:
        _, reuser = await zoo.pair(bad.Reuser)
        assert isinstance(reuser, bad.Reuser)
        await zoo.control.drop((0, 4))
        await wait_for(lambda: reuser.garbage >= 7, TIMEOUT)
        assert await zoo.caught() == {"O-08"}


@simulated
async def test_shard_that_runs_twice() -> None:
    async with open_zoo() as zoo:
        good, _ = await zoo.pair(Good)
        await zoo.ready(good, zoo.settle(Good, (0, 4), BAD))
        await asyncio.sleep(10)
        assert await zoo.caught() == {"O-09"}


@simulated
async def test_talkative_client_sends_too_much() -> None:
    async with open_zoo() as zoo:
        await zoo.pair(bad.Talkative)
        await zoo.seen(resumed)
        assert await zoo.caught() == {"O-10"}


@pytest.mark.parametrize("make", [bad.Late, bad.Dead])
@simulated
async def test_client_that_beats_late_or_never(make: type[Good]) -> None:
    async with open_zoo(heartbeat_tolerance=40.0) as zoo:
        await zoo.pair(make)
        await asyncio.sleep(3.5 * INTERVAL)
        assert await zoo.caught() == {"O-11"}


@simulated
async def test_herd_beats_all_at_once() -> None:
    async with open_zoo(max_concurrency=24) as zoo:
        herds = [zoo.settle(Good, (shard, 24), GOOD) for shard in range(24)]
        herds += [zoo.settle(bad.Unjittered, (shard, 24), BAD) for shard in range(24)]
        for home in zoo.homes:
            home.spacing = 0.0
        await zoo.ready(*herds)
        await asyncio.sleep(1.2 * INTERVAL)
        assert await zoo.caught() == {"O-11"}


@simulated
async def test_deaf_client_does_not_answer_requests() -> None:
    async with open_zoo(heartbeat_interval=2 * INTERVAL) as zoo:
        for home in zoo.homes:
            home.interval = 2 * INTERVAL
        await zoo.pair(bad.Deaf)
        beats = lambda record: isinstance(record, ledger.Heartbeat) and record.bot == BAD  # noqa: E731
        await zoo.seen(beats)
        await zoo.control.request_heartbeat("all")
        await zoo.seen(beats, 2)
        assert await zoo.caught(heartbeat_interval=2 * INTERVAL) == {"O-11"}


@pytest.mark.parametrize("make", [bad.Polite, bad.Departing])
@simulated
async def test_polite_client_kills_its_sessions(make: type[Good]) -> None:
    async with open_zoo() as zoo:
        animals = await zoo.pair(make)
        await zoo.control.reconnect("all")
        await zoo.seen(identified, 2)
        await zoo.ready(*animals)
        assert await zoo.caught() == {"O-12"}


@pytest.mark.parametrize("make", [bad.Leaky, bad.Stutterer, bad.Shuffler])
@simulated
async def test_client_whose_consumer_does_not_get_every_event_once_and_in_order(
    make: type[Good],
) -> None:
    async with open_zoo(events_per_second=2.0) as zoo:
        good, wicked = await zoo.pair(make)
        await wait_for(lambda: len(good.events) > 100 and len(wicked.events) > 100, TIMEOUT)
        await zoo.control.stream(0)
        shards = {view.shard: view.seq for view in await zoo.control.shards()}
        for animal in (good, wicked):
            await wait_for(lambda animal=animal: animal.seq >= shards[animal.shard], TIMEOUT)  # type: ignore[misc]
        claims = Claims(
            consumed=[
                Consumed(shard=good.shard, events=good.events, bot=GOOD),
                Consumed(shard=wicked.shard, events=wicked.events, bot=BAD),
            ]
        )
        assert await zoo.caught(claims) == {"O-13"}


@simulated
async def test_sluggish_client_takes_long_to_come_back() -> None:
    async with open_zoo() as zoo:
        animals = await zoo.pair(bad.Sluggish)
        await asyncio.sleep(6)
        await zoo.control.drop("all")
        await zoo.seen(resumed)
        await zoo.ready(*animals)
        assert await zoo.caught(recovery=30.0) == {"O-14"}
        good, sluggish, *_ = await zoo.control.report()
        assert [one.cause for one in good.recoveries] == ["tcp"]
        assert good.recoveries[0].p99 < 30 < sluggish.recoveries[0].p50


@simulated
async def test_client_that_leaks_sockets_grows() -> None:
    async with open_zoo() as zoo:
        await zoo.ready(zoo.settle(Good, (0, 2), GOOD))
        url = urlsplit(zoo.simulator.gateway_url)
        samples = {GOOD: [], BAD: []}  # type: dict[int, list[Any]]
        kept: list[asyncio.StreamWriter] = []
        for bot, leaks in ((GOOD, False), (BAD, True)):
            for _ in range(12):
                reader, writer = await asyncio.open_connection(url.hostname, url.port)
                writer.write(UPGRADE)
                await reader.readuntil(b"\r\n\r\n")
                kept.append(writer)
                if not leaks:
                    writer.close()
                    await writer.wait_closed()
                samples[bot].append(sample_process(os.getpid()))
        assert list(resources_are_flat(samples[GOOD])) == []
        (verdict,) = resources_are_flat(samples[BAD])
        assert (verdict.oracle, verdict.text.split()[0]) == ("O-15", "fds")
        for writer in kept:
            writer.close()
            await writer.wait_closed()


@simulated
async def test_chatterbox_writes_its_token_to_its_log() -> None:
    async with open_zoo() as zoo:
        good, chatterbox = await zoo.pair(bad.Chatterbox)
        logs = {"good log": "\n".join(good.log), "bad log": "\n".join(chatterbox.log)}
        secrets = {"the token": "good-token", "the other token": "bad-token"}
        (verdict,) = secrets_are_kept(logs, secrets)
        assert (verdict.oracle, verdict.text) == ("O-16", "bad log holds the other token whole")
        assert await zoo.caught() == set()


@simulated
async def test_liar_is_always_well() -> None:
    async with open_zoo() as zoo:
        good, liar = await zoo.pair(bad.Liar)
        await zoo.control.mute((0, 4), 500.0)
        await asyncio.sleep(3 * INTERVAL)
        for animal, bot in ((good, GOOD), (liar, BAD)):
            shards = [animal.shard] if animal.claims_health() else []
            expected = {"O-17"} if animal is liar else set()
            assert await zoo.caught(Claims(bot=bot, healthy=shards)) == expected


@simulated
async def test_sulky_client_never_comes_back() -> None:
    async with open_zoo() as zoo:
        good, sulky = await zoo.pair(bad.Sulky)
        await asyncio.sleep(6)
        await zoo.control.drop("all")
        calm = (await zoo.control.summary()).now
        await wait_for(sulky.settled.is_set, TIMEOUT)
        await zoo.ready(good)
        await asyncio.sleep(15)
        assert await zoo.caught(Claims(calm_since=calm, within=10.0)) == {"O-18"}
