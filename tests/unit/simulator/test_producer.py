# SPDX-License-Identifier: Apache-2.0
"""Sessions' buffers and the dealing of events, without any socket."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from discluster.simulator.events import Catalogue
from discluster.simulator.guilds import shard_of
from discluster.simulator.intents import DEFINED_INTENTS, Intent
from discluster.simulator.ledger import Shard
from discluster.simulator.producer import Producer
from discluster.simulator.sessions import SentLog, Session, SessionFacts
from discluster.simulator.templates import Literal

CATALOGUE = Catalogue(1)
TICK = Literal("TICK", b"{}")


def session(
    shard: Shard = (0, 1), *, intents: int = DEFINED_INTENTS, replay: int = 1000, log: int = 10**6
) -> Session:
    facts = SessionFacts(
        id=f"{shard}",
        bot=0,
        shard=shard,
        sharded=True,
        intents=intents,
        parameters=("10", "json", None),
        edge="/edge-a",
        resume_url="",
        since=0.0,
    )
    return Session(facts, replay_events=replay, sent=SentLog(log))


def producer(*, guilds: int = 32, rate: float = 10.0, **changes: float | bool) -> Producer:
    options = {"guild_create_rate": 0.0, "unavailable_percent": 0, **changes}
    return Producer(
        catalogue=CATALOGUE,
        guilds=guilds,
        rate=rate,
        seed="x",
        **options,  # type: ignore[arg-type]
    )


def received(target: Session) -> list[tuple[int, int]]:
    """(guild, count) of the counted events in a session, read from the rendered bytes."""
    bodies = [json.loads(payload)["d"] for payload in target.payloads(0, target.seq)]
    return [(int(body["guild_id"]), body["_count"]) for body in bodies if "_count" in body]


def test_sequence_is_contiguous_and_replay_begins_after_what_was_seen() -> None:
    target = session()
    assert [target.append(TICK) for _ in range(5)] == [1, 2, 3, 4, 5]
    payloads = [json.loads(payload)["s"] for payload in target.payloads(2, 100)]
    assert payloads == [3, 4, 5]
    assert [json.loads(payload)["s"] for payload in target.payloads(2, 2)] == [3, 4]


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(0, 100))
def test_replay_buffer_holds_exactly_the_newest_events(replay: int, events: int) -> None:
    target = session(replay=replay)
    for _ in range(events):
        target.append(TICK)
    for seq in range(events + 1):
        assert target.replayable(seq) == (events - seq <= replay)
        if target.replayable(seq):
            assert len(target.payloads(seq, 1000)) == events - seq


def test_acknowledgement_only_grows_and_never_beyond_what_was_sent() -> None:
    target = session()
    for _ in range(5):
        target.append(TICK)
    for claimed, believed in [(3, 3), (2, 3), (99, 5)]:
        target.acknowledge(claimed)
        assert target.acknowledged == believed
    assert target.unacknowledged == 0


def test_sent_log_remembers_the_newest_events() -> None:
    log = SentLog(3)
    for number in range(100):
        log.add(1, number, number + 1)
    assert list(log) == [(1, 97, 98), (1, 98, 99), (1, 99, 100)]


def test_all_guilds_arrive_before_the_stream_begins() -> None:
    maker, target = producer(guilds=8, guild_create_rate=4.0), session()
    maker.add(target)
    for _ in range(7):
        maker.tick(0.25)
        assert not received(target)
    for _ in range(30):
        maker.tick(0.25)
    names = [json.loads(payload)["t"] for payload in target.payloads(0, 1000)]
    assert names[:8] == ["GUILD_CREATE"] * 8
    assert len(received(target)) > 50
    assert "GUILD_CREATE" not in names[8:]


def test_guilds_in_an_outage_are_announced_as_deleted() -> None:
    maker, target = producer(guilds=200, unavailable_percent=30), session()
    maker.add(target)
    events = [json.loads(payload) for payload in target.payloads(0, 1000)]
    out = [event["d"] for event in events if event["t"] == "GUILD_DELETE"]
    assert 40 <= len(out) <= 80
    assert all(body["unavailable"] is True for body in out)


def test_without_the_guilds_intent_no_guild_arrives() -> None:
    maker, target = producer(), session(intents=Intent.GUILD_MESSAGES)
    maker.add(target)
    assert target.seq == 0
    maker.tick(1.0)
    assert received(target)


def test_rate_is_kept_over_many_small_ticks() -> None:
    maker, target = producer(rate=7.0), session()
    maker.add(target)
    for _ in range(1000):
        maker.tick(0.02)
    assert abs(len(received(target)) - 140) <= 1


def test_guilds_have_events_while_their_shard_has_no_session_if_so_wanted() -> None:
    maker, first, second = producer(without_session=True), session(), session()
    maker.add(first)
    maker.tick(1.0)
    maker.remove(first)
    had = sum(maker.counts.values())
    maker.tick(1.0)
    missed = [(guild, count, seq) for guild, count, seq in first.sent if not seq]
    assert len(missed) == 10 == sum(maker.counts.values()) - had
    assert list(first.sent.sessions())[-10:] == [""] * 10
    maker.add(second)
    maker.tick(1.0)
    everything = received(first) + received(second) + [(guild, count) for guild, count, _ in missed]
    assert Counter(guild for guild, _ in everything) == maker.counts
    assert len(set(everything)) == len(everything) == 30


def test_events_that_nobody_gets_are_not_made_twice_for_two_shard_counts() -> None:
    maker, gone = producer(without_session=True, rate=50.0), session()
    maker.add(gone)
    maker.remove(gone)
    halves = [session((0, 2)), session((1, 2))]
    for half in halves:
        maker.add(half)
    maker.tick(1.0)
    assert list(gone.sent) == []
    assert sum(maker.counts.values()) == sum(len(received(half)) for half in halves)


def test_without_that_wish_guilds_wait_for_their_shard() -> None:
    maker, target = producer(), session()
    maker.add(target)
    maker.remove(target)
    maker.tick(1.0)
    assert not maker.counts


def test_a_long_stall_is_not_made_up_for() -> None:
    maker, target = producer(rate=10.0), session()
    maker.add(target)
    maker.tick(3600.0)
    assert len(received(target)) <= 11


def test_counts_of_a_guild_have_no_gaps_across_sessions() -> None:
    maker, first = producer(), session()
    maker.add(first)
    maker.tick(1.0)
    maker.remove(first)
    second = session()
    maker.add(second)
    maker.tick(1.0)
    by_guild = defaultdict(list)
    for guild, count in received(first) + received(second):
        by_guild[guild].append(count)
    assert all(counts == list(range(1, len(counts) + 1)) for counts in by_guild.values())


def test_a_removed_session_gets_nothing_more() -> None:
    maker, target = producer(), session()
    maker.add(target)
    maker.remove(target)
    before = target.seq
    assert maker.tick(1.0) == set()
    assert target.seq == before


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([1, 2, 3, 4, 6]), st.integers(0, 5), st.integers(0, 3)),
        min_size=1,
        max_size=12,
    )
)
def test_every_session_gets_every_event_of_its_guilds_while_it_lives(
    steps: list[tuple[int, int, int]],
) -> None:
    """Sessions of several shard counts come and go in any order."""
    maker = producer(guilds=24, rate=20.0)
    living: list[tuple[Session, Counter[int]]] = []
    for num_shards, shard, action in steps:
        if action == 0 and living:
            gone, _ = living.pop(shard % len(living))
            maker.remove(gone)
        else:
            fresh = session((shard % num_shards, num_shards))
            so_far = Counter(maker.counts)
            maker.add(fresh)
            living.append((fresh, so_far))
        maker.tick(0.5)
    total = Counter(maker.counts)
    for target, before in living:
        shard_id, num_shards = target.facts.shard
        expected = {
            (guild, count)
            for guild in total
            if shard_of(guild, num_shards) == shard_id
            for count in range(before[guild] + 1, total[guild] + 1)
        }
        got = received(target)
        assert len(got) == len(set(got))
        assert set(got) == expected


def test_two_generations_together_make_no_more_events_than_one() -> None:
    maker = producer(guilds=24, rate=10.0)
    old = [session((shard, 2)) for shard in range(2)]
    new = [session((shard, 4)) for shard in range(4)]
    for target in old + new:
        maker.add(target)
    for _ in range(100):
        maker.tick(0.1)
    assert abs(sum(maker.counts.values()) - 200) <= 2
    assert sum(len(received(target)) for target in new) == sum(maker.counts.values())


def test_injected_events_are_counted_if_they_have_a_guild() -> None:
    maker, target = producer(rate=0.0), session()
    maker.add(target)
    before = target.seq
    assert maker.inject("A", {"guild_id": "77"}, [target]) == 1
    assert maker.inject("B", {"guild_id": 77, "x": 1}, [target]) == 2
    assert maker.inject("C", {"x": "100 %"}, [target]) is None
    events = [json.loads(payload) for payload in target.payloads(before, 10)]
    assert [event["d"] for event in events] == [
        {"guild_id": "77", "_count": 1},
        {"guild_id": 77, "x": 1, "_count": 2},
        {"x": "100 %"},
    ]


def test_a_shard_without_guilds_is_quiet() -> None:
    maker, target = producer(guilds=10), session((10, 64))
    maker.add(target)
    maker.tick(1.0)
    assert target.seq == 0
