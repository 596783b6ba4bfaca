# SPDX-License-Identifier: Apache-2.0
"""Makes the stream of events of one bot, and deals it to sessions. No I/O, no clock.

An event belongs to a guild and is made once, with the guild's next count; every session whose
`[shard_id, num_shards]` covers the guild gets a copy. So consumers can check that they miss
nothing, across sessions and across a change of the shard count.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import islice

from discluster.simulator.events import Catalogue
from discluster.simulator.guilds import guild_id, numbers_on_shard, shard_of
from discluster.simulator.intents import Intent
from discluster.simulator.ledger import Shard
from discluster.simulator.sessions import Session
from discluster.simulator.templates import AnyTemplate, Literal, Template, dump, reverse_sorted

# After a stall (a debugger, a suspended machine) the stream does not catch up more than this.
_MAX_CATCH_UP = 1.0


class Stream:
    """Events of the guilds of one `[shard_id, num_shards]`, for all sessions of that shard."""

    def __init__(self, shard: Shard, *, guilds: int, seed: str) -> None:
        self.sessions: list[Session] = []
        self.last: Session | None = None
        self.numbers = numbers_on_shard(*shard, guilds)
        self._rng = random.Random(f"{seed}/{shard}")
        self._position = self._rng.randrange(1 << 16)
        # A random phase, so that the shards of a fleet do not all send in the same tick.
        self._credit = self._rng.random()

    def due(self, events: float) -> int:
        """Whole events that are due after `events` more, the fraction is carried over."""
        self._credit += events
        whole = int(self._credit)
        self._credit -= whole
        return whole

    def pick(self, deck: list[Template]) -> tuple[Template, int]:
        """The next event type and a guild."""
        self._position += 1
        numbers = self.numbers
        number = numbers[int(self._rng.random() * len(numbers))]
        return deck[self._position % len(deck)], guild_id(number)


class Producer:
    """All streams of one bot."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        guilds: int,
        rate: float,
        guild_create_rate: float,
        unavailable_percent: int,
        seed: str,
        without_session: bool = False,
    ) -> None:
        """`rate` and `guild_create_rate`: per second and shard; the latter 0 means at once.

        `without_session`: a shard that had a session has events, too, while it has none.
        """
        self.rate = rate
        self._catalogue = catalogue
        self._guilds = guilds
        self._guild_create_rate = guild_create_rate
        self._unavailable_percent = unavailable_percent
        self._seed = seed
        self._without_session = without_session
        # Shard counts in the order in which they came up: the eldest makes the events.
        self._generations: dict[int, dict[int, Stream]] = {}
        self._arriving: dict[Session, tuple[Iterator[int], float]] = {}
        # Events that each guild has had, over the whole life of the simulator.
        self.counts: dict[int, int] = {}

    def guild_ids(self, shard: Shard) -> list[int]:
        """Ids of all guilds of a shard."""
        return [guild_id(number) for number in numbers_on_shard(*shard, self._guilds)]

    def add(self, session: Session) -> None:
        """A session that just got READY: its guilds arrive, then its events begin."""
        shard_id, num_shards = session.facts.shard
        generation = self._generations.setdefault(num_shards, {})
        if shard_id not in generation:
            generation[shard_id] = Stream(session.facts.shard, guilds=self._guilds, seed=self._seed)
        stream = generation[shard_id]
        stream.sessions.append(session)
        stream.last = session
        session.guilds = len(stream.numbers)
        if not session.facts.intents & Intent.GUILDS:
            session.streaming = True
        elif self._guild_create_rate:
            self._arriving[session] = (iter(stream.numbers), 0.0)
        else:
            self._arrive(session, stream.numbers)
            session.streaming = True

    def remove(self, session: Session) -> None:
        """A session that ended gets nothing more."""
        shard_id, num_shards = session.facts.shard
        session.streaming = False
        self._arriving.pop(session, None)
        generation = self._generations.get(num_shards, {})
        stream = generation.get(shard_id)
        if stream is None or session not in stream.sessions:
            return
        stream.sessions.remove(session)
        if not stream.sessions and not self._without_session:
            del generation[shard_id]
        if not generation:
            del self._generations[num_shards]

    def tick(self, seconds: float) -> set[Session]:
        """Let `seconds` go by; returns the sessions that got something."""
        seconds = min(seconds, _MAX_CATCH_UP)
        touched = self._tick_arrivals(seconds) if self._arriving else set()
        events = self.rate * seconds
        elders: list[int] = []
        for num_shards, streams in self._generations.items():
            for stream in streams.values():
                self._tick_stream(stream, events, elders, touched)
            elders.append(num_shards)
        return touched

    def inject(self, name: str, body: dict[str, object], sessions: Iterable[Session]) -> int | None:
        """One event for these sessions. With a guild_id it is counted; returns the count."""
        guild = body.get("guild_id")
        if not isinstance(guild, str | int) or not str(guild).isdecimal():
            literal = Literal(name, dump(body))
            for session in sessions:
                session.append(literal)
            return None
        number = int(guild)
        count = self._next_count(number)
        literal = Literal(name, dump({**body, "_count": count}), counted=True)
        for session in sessions:
            session.append(literal, number, count)
        return count

    def can_burst(self, session: Session) -> bool:
        """Whether `burst` has something to send: guilds, and the intent for their messages."""
        stream = self._stream_of(session)
        intents = session.facts.intents & Intent.GUILD_MESSAGES
        return stream is not None and bool(stream.numbers) and bool(intents)

    def burst(self, session: Session, events: int) -> set[Session]:
        """Messages of the guilds of one session, all different; returns who got something.

        Sessions that share guilds with it get them, too.
        """
        stream, touched = self._stream_of(session), {session}
        if stream is None:
            return touched
        deck = self._catalogue.chatter
        alone = len(self._generations) == 1 and len(stream.sessions) == 1
        for _ in range(events):
            template, guild = stream.pick(deck)
            if alone:
                session.append(template, guild, self._next_count(guild))
            else:
                touched.update(self._deal(template, guild))
        return touched

    def _stream_of(self, session: Session) -> Stream | None:
        shard_id, num_shards = session.facts.shard
        return self._generations.get(num_shards, {}).get(shard_id)

    def _tick_stream(
        self, stream: Stream, events: float, elders: list[int], touched: set[Session]
    ) -> None:
        lead = next((session for session in stream.sessions if session.streaming), None)
        if not stream.numbers:
            return
        if lead is None:
            self._miss(stream, events)
            return
        due = stream.due(events)
        if not due:
            return
        deck = self._catalogue.deck(lead.facts.intents)
        alone = len(self._generations) == 1 and len(stream.sessions) == 1
        for _ in range(due):
            template, guild = stream.pick(deck)
            if alone:
                lead.append(template, guild, self._next_count(guild))
            elif not any(self._covering(num_shards, guild) for num_shards in elders):
                touched.update(self._deal(template, guild))
        touched.add(lead)

    def _miss(self, stream: Stream, events: float) -> None:
        """Guilds have events that nobody gets, unless a session of another shard count covers
        them: that one's stream makes them.
        """
        if not self._without_session or stream.last is None:
            return
        deck = self._catalogue.deck(stream.last.facts.intents)
        for _ in range(stream.due(events)):
            _, guild = stream.pick(deck)
            if not any(self._covering(num_shards, guild) for num_shards in self._generations):
                stream.last.sent.miss(guild, self._next_count(guild))

    def _deal(self, template: Template, guild: int) -> Iterator[Session]:
        """One event to every session that covers the guild and has the intent."""
        count = self._next_count(guild)
        intent = self._catalogue.intents[template.name]
        for num_shards in self._generations:
            for session in self._covering(num_shards, guild):
                if session.facts.intents & intent == intent:
                    session.append(template, guild, count)
                    yield session

    def _covering(self, num_shards: int, guild: int) -> list[Session]:
        stream = self._generations[num_shards].get(shard_of(guild, num_shards))
        if stream is None:
            return []
        return [session for session in stream.sessions if session.streaming]

    def _next_count(self, guild: int) -> int:
        count = self.counts.get(guild, 0) + 1
        self.counts[guild] = count
        return count

    def _tick_arrivals(self, seconds: float) -> set[Session]:
        touched = set()
        for session, (numbers, credit) in list(self._arriving.items()):
            credit += self._guild_create_rate * seconds
            batch = list(islice(numbers, int(credit)))
            self._arriving[session] = (numbers, credit - int(credit))
            self._arrive(session, batch)
            touched.add(session)
            if len(batch) < int(credit):
                del self._arriving[session]
                session.streaming = True
        return touched

    def _arrive(self, session: Session, numbers: Iterable[int]) -> None:
        variants = self._catalogue.guild_create
        for number in numbers:
            guild = guild_id(number)
            # A multiplicative hash: the same guilds are out for every session.
            if number * 2_654_435_761 % 100 < self._unavailable_percent:
                session.append(_unavailable(guild), guild)
            else:
                session.append(variants[number % len(variants)], guild)


def _unavailable(guild: int) -> AnyTemplate:
    return Literal("GUILD_DELETE", dump(reverse_sorted({"unavailable": True, "id": str(guild)})))
