# SPDX-License-Identifier: Apache-2.0
"""Whatever a handler takes at once, late or never: nothing is lost, and nothing comes twice to a
handler that lives on.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Literal

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from discluster.clock import SystemClock
from discluster.gateway.batches import make_intake
from discluster.gateway.envelope import Envelope
from discluster.gateway.events import LATER, Event, Later
from discluster.gateway.failing import HandlerFailures
from discluster.gateway.handling import Handling, as_handling
from discluster.gateway.intake import Intake
from discluster.gateway.waiting import end
from tests.clock import settle
from tests.unit.gateway.fakes import GATEWAY, FakeSessions

LIMIT = 6
MOST = 8  # events of one read
Way = Literal[
    "at once", "later", "soon", "soon later", "fails", "fails soon", "acknowledges itself"
]
WAYS: tuple[Way, ...] = (
    *("at once", "later", "soon", "soon later", "fails", "fails soon", "acknowledges itself"),
    *("later", "later", "later"),
)


class StoppedError(Exception):
    """What the handler raises on purpose."""


class Late(RuleBasedStateMachine):
    """One shard, several sessions and lives of its process. Discord sends 1, 2, 3 …"""

    def __init__(self) -> None:
        super().__init__()
        self.sessions = FakeSessions()
        self.names = 0
        self.sent = 0
        self.taken: set[int] = set()
        """Of this session: for these a handler has done its work, in whatever life."""
        self.known: set[int] = set()
        """Those of them that this life of the process can know of."""
        self.past: list[Event] = []
        """All that this life of the process and those before were handed."""
        self.loop = asyncio.new_event_loop()
        self.waiting: asyncio.Task[None] | None = None
        self.resumed_full = 0
        """How often this life resumed with a handler that had enough, since it last had room."""
        self.live()
        self.identify()

    def live(self) -> None:
        self.resumed_full = 0
        self.now: list[int] = []
        """What this life of the process was handed of this session."""
        self.ways: list[Way] = []
        self.together: list[int] = []
        self.intake = self.make()
        self.intake.load()

    def make(self) -> Intake:
        return Intake(
            shard=1,
            sessions=self.sessions,
            handling=as_handling(self.handle, clock=SystemClock()),
            note=self.note,
            wanted=lambda: True,
            unacknowledged=LIMIT,
        )

    # --- the handler ---

    def handle(self, event: Event) -> Awaitable[Later | None] | Later | None:
        if event.type == "READY":
            self.take(event.seq)
            return None
        self.past.append(event)
        self.now.append(event.seq)
        way = self.ways.pop(0)
        if way.endswith("later"):
            return self.soon(event, LATER) if "soon" in way else LATER
        if way == "acknowledges itself":
            self.acknowledge(event)
            return LATER
        if way == "fails":
            self.take(event.seq)
            raise StoppedError
        if "soon" in way:
            return self.soon(event, None, way == "fails soon")
        self.take(event.seq)
        return None

    def take(self, seq: int) -> None:
        self.taken.add(seq)
        self.known.add(seq)

    async def soon(self, event: Event, answer: Later | None, fails: bool = False) -> Later | None:
        await asyncio.sleep(0)
        if answer is None:
            self.take(event.seq)
        if fails:
            raise StoppedError
        return answer

    def acknowledge(self, event: Event) -> None:
        if event.session_id == f"session-{self.names}":
            for seq in self.handed_ever():
                if seq <= event.seq:
                    self.take(seq)
        self.intake.taken(event)

    def handed_ever(self) -> set[int]:
        return {e.seq for e in self.past if e.session_id == f"session-{self.names}"} | {1}

    # --- Discord ---

    def note(self, envelope: Envelope) -> None:
        if envelope.t == "READY":
            self.intake.begin(envelope, gateway_url=GATEWAY)

    def identify(self) -> None:
        self.names += 1
        self.sent = 1
        self.taken, self.known, self.now = set(), set(), []
        body = {"session_id": f"session-{self.names}", "resume_gateway_url": GATEWAY, "guilds": []}
        raw = msgspec.Raw(msgspec.json.encode(body))
        self.give([Envelope(op=0, t="READY", s=1, d=raw)])

    def events(self, first: int, last: int) -> list[Envelope]:
        return [
            Envelope(op=0, t="MESSAGE_CREATE", s=seq, d=msgspec.Raw(b"{}"))
            for seq in range(first, last + 1)
        ]

    def give(self, run: list[Envelope]) -> None:
        """One run; what it leads to goes on until the handler has enough."""
        self.loop.run_until_complete(self._give(run))

    async def _give(self, run: list[Envelope]) -> None:
        going = self.intake.take(run, now=0.0)
        if going is not None:
            self.waiting = asyncio.ensure_future(going)
        await self._go_on()

    async def _go_on(self) -> None:
        await settle(30)
        if self.waiting is not None and self.waiting.done():
            self.waiting.result()
            self.waiting = None

    # --- what happens ---

    @rule(ways=st.lists(st.sampled_from(WAYS), min_size=1, max_size=MOST))
    def events_come(self, ways: list[Way]) -> None:
        if self.waiting is not None:
            return  # the socket is not read
        self.ways = ways
        first, self.sent = self.sent + 1, self.sent + len(ways)
        self.give(self.events(first, self.sent))

    @rule(data=st.data())
    def handler_acknowledges(self, data: st.DataObject) -> None:
        """Any event that it ever had, also one of a session or of a process that is gone."""
        if self.past:
            self.acknowledge(data.draw(st.sampled_from(self.past)))
            self.loop.run_until_complete(self._go_on())

    @rule()
    def handler_acknowledges_all(self) -> None:
        if self.past:
            self.acknowledge(self.past[-1])
            self.loop.run_until_complete(self._go_on())

    def abandon(self) -> None:
        """What was read and not handed over goes down with its connection."""
        if self.waiting is not None:
            self.loop.run_until_complete(end(self.waiting))
            self.waiting = None

    def resume(self, ways: Sequence[Way]) -> None:
        seq = self.intake.seq
        assert seq is not None
        missed = self.events(seq + 1, self.sent)
        while missed and self.waiting is None:
            run, missed = missed[:MOST], missed[MOST:]
            self.ways = [ways[n % len(ways)] for n in range(len(run))]
            self.give(run)
        self.sent -= len(missed)  # as if they had not happened yet

    @rule(ways=st.lists(st.sampled_from(WAYS), min_size=1, max_size=MOST))
    def connection_is_lost(self, ways: list[Way]) -> None:
        self.abandon()
        # RESUMED comes after the replay, so what comes first is read whatever the handler has.
        self.resumed_full += self.intake.unacknowledged >= LIMIT
        self.resume(ways)

    @rule(ways=st.lists(st.sampled_from(WAYS), min_size=1, max_size=MOST))
    def process_is_killed(self, ways: list[Way]) -> None:
        self.abandon()
        self.live()
        assert self.sessions.seq is not None
        self.known = set(range(1, self.sessions.seq + 1))
        self.resume(ways)

    @rule(forgets=st.booleans())
    def session_ends(self, forgets: bool) -> None:
        self.abandon()
        if forgets:
            self.intake.forget()
        self.identify()

    # --- what must hold ---

    def upto(self) -> int:
        """The greatest sequence such that everything up to it is taken, as far as is known."""
        seq = 1
        while seq + 1 in self.known:
            seq += 1
        return seq

    @invariant()
    def stored_sequence_is_the_greatest_up_to_which_all_is_taken(self) -> None:
        assert self.sessions.seq is not None
        assert set(range(2, self.sessions.seq + 1)) <= self.taken, "some event would be lost"
        handed = self.intake.seq
        assert handed is not None
        assert self.sessions.seq == min(self.upto(), handed), "more than needed would come twice"

    @invariant()
    def process_that_lives_on_gets_each_event_once_in_order(self) -> None:
        assert self.now == sorted(set(self.now))
        if self.now:
            assert self.now == list(range(self.now[0], self.now[-1] + 1))

    @invariant()
    def handler_never_has_more_than_the_limit(self) -> None:
        had = self.intake.unacknowledged
        reads = 1 + self.resumed_full
        assert had < LIMIT + MOST * reads, "what was taken at once may come on top, within a read"
        full = had >= LIMIT
        assert full == (self.intake.obstacle is not None)
        if not full:
            self.resumed_full = 0
            assert self.waiting is None, "there is room, and the shard still waits"

    def teardown(self) -> None:
        self.abandon()
        self.loop.close()


class LateBatches(Late):
    """The same for a handler of batches: what is read together is taken together."""

    def make(self) -> Intake:
        handling = Handling(batch=self.handle_batch, failures=HandlerFailures(clock=SystemClock()))
        return make_intake(
            handling,
            shard=1,
            sessions=self.sessions,
            note=self.note,
            wanted=lambda: True,
            unacknowledged=LIMIT,
        )

    def handle_batch(self, events: list[Event]) -> Awaitable[Later | None] | Later | None:
        # The way of the last one is the way of all: what it takes, all that was handed now takes.
        *others, last = events
        self.past += others
        self.now += [event.seq for event in others]
        del self.ways[: len(others)]
        self.together = [event.seq for event in others]
        return self.handle(last)

    def take(self, seq: int) -> None:
        for each in (*self.together, seq):
            super().take(each)

    def acknowledge(self, event: Event) -> None:
        self.together = []
        super().acknowledge(event)


Late.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestLate = Late.TestCase
LateBatches.TestCase.settings = Late.TestCase.settings
TestLateBatches = LateBatches.TestCase
