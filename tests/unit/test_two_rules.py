# SPDX-License-Identifier: Apache-2.0
"""MASTER gives the shards of a host away, and that host's lease runs on: never both.

MASTER's rule and CONTROL's are here as they are, each with its clock; between them are links that
are cut, and late, in each direction by itself, for any spans of time. Time goes in quarter seconds;
the lease is 30 s. An expired lease is not taken up again here: the ownership model has that.
"""

from collections import deque
from collections.abc import Mapping
from typing import Literal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from discluster.control import lease as control
from discluster.lease import is_over
from discluster.master.hosts.lost import Circumstances, HostSight, losses, owners
from discluster.master.hosts.steadiness import Steadiness
from discluster.plan import FleetPlan, Grant, HostEntry
from tests.unit.master.fleets import GATEWAY

LEASE = 30.0
MARGIN = 2.0
PING = 5.0
STEP = 0.25
LENGTH = 140.0
HOST = "h0"


class Span(msgspec.Struct, frozen=True):
    """A link is cut from ``begin`` to ``end``, or ``late`` seconds slow."""

    begin: float
    end: float
    late: float | None


class Word(msgspec.Struct, frozen=True):
    """``value``: the instant or the number of what is asked or answered. ``hears``: an answer's."""

    kind: Literal["ping", "pong", "round", "answer"]
    value: float
    hears: bool = False


class Link:
    """One direction between two; what is sent while it is cut is lost."""

    def __init__(self, spans: list[Span]) -> None:
        self._spans = spans
        self._under_way: deque[tuple[float, Word]] = deque()

    def send(self, what: Word, now: float) -> None:
        late = [span.late for span in self._spans if span.begin <= now < span.end]
        if None not in late:
            arrives = now + max((s for s in late if s is not None), default=0.0)
            # In order, as TCP has it.
            last = self._under_way[-1][0] if self._under_way else 0.0
            self._under_way.append((max(arrives, last), what))

    def arrived(self, now: float) -> list[Word]:
        found = []
        while self._under_way and self._under_way[0][0] <= now:
            found.append(self._under_way.popleft()[1])
        return found


class Question(msgspec.Struct, frozen=True):
    """A round that is not over. ``answers``: by witness."""

    began: float
    answers: dict[str, control.Answer]


class World:
    """MASTER, the hosts h0 ... and what lies between them. h0 is the one to watch."""

    def __init__(
        self, hosts: int, cuts: Mapping[tuple[str, str], list[Span]], apart: float
    ) -> None:
        """``apart``: by how much the hosts' pings come after MASTER's."""
        self.names = tuple(f"h{n}" for n in range(hosts))
        self.now = 0.0
        self.apart = apart
        ends = ("master", *self.names)
        self.links = {(a, b): Link(cuts.get((a, b), [])) for a in ends for b in ends}
        self.steady = {name: Steadiness() for name in self.names}
        self.heard_by_master = dict.fromkeys(self.names, 0.0)
        self.master_heard = dict.fromkeys(self.names, 0.0)
        self.tenure = control.confirmed(control.Tenure(settled=True, length=LEASE), 0.0, 0.0)
        self.last_round: float | None = None
        self.question: Question | None = None
        self.plan = FleetPlan(
            generation=1,
            shard_count=1,
            gateway_url=GATEWAY,
            hosts={name: HostEntry() for name in self.names},
            granted={0: Grant(host=HOST)},
            witnesses={name: f"{name}:1" for name in self.names},
        )

    def step(self) -> None:
        self.now += STEP
        self._master_pings()
        self._hosts_listen()
        self._host_asks()
        self._master_listens()

    def _due(self, offset: float) -> bool:
        return (self.now - offset) % PING < STEP

    def _master_pings(self) -> None:
        if self._due(0.0):
            number = round(self.now / STEP)
            for name in self.names:
                self.steady[name].pinged(number, self.now)
                self.links["master", name].send(Word("ping", number), self.now)

    def _hosts_listen(self) -> None:
        if self._due(self.apart):
            for name in self.names:
                self.links[name, "master"].send(Word("ping", self.now), self.now)
        for name in self.names:
            for message in self.links["master", name].arrived(self.now):
                self.master_heard[name] = self.now
                if message.kind == "ping":
                    self.links[name, "master"].send(Word("pong", message.value), self.now)
                elif name == HOST:
                    self.tenure = control.confirmed(self.tenure, message.value, self.now)

    def _master_listens(self) -> None:
        for name in self.names:
            for message in self.links[name, "master"].arrived(self.now):
                self.heard_by_master[name] = self.now
                if message.kind == "ping":
                    self.links["master", name].send(Word("pong", message.value), self.now)
                else:
                    self.steady[name].answered(int(message.value), self.now, lease=LEASE)

    def _host_asks(self) -> None:
        due = control.next_round(self.tenure, self.last_round)
        if self.question is None and due is not None and self.now >= due:
            self.question, self.last_round = Question(self.now, {}), self.now
            for name in self.names[1:]:
                self.links[HOST, name].send(Word("round", self.now), self.now)
        for name in self.names[1:]:
            for asked in self.links[HOST, name].arrived(self.now):
                hears = self.now - self.master_heard[name] <= LEASE / 3
                self.links[name, HOST].send(Word("answer", asked.value, hears), self.now)
            for answer in self.links[name, HOST].arrived(self.now):
                if self.question is not None and answer.value == self.question.began:
                    # A newer plan: an expired lease stays so.
                    self.question.answers[name] = control.Answer(hears=answer.hears, generation=9)
        self._host_judges()

    def _host_judges(self) -> None:
        question = self.question
        if question is None:
            return
        round_ = control.Round(began=question.began, panel=self.names, answers=question.answers)
        over = self.now >= question.began + control.patience(self.tenure)
        if over or control.decided(self.tenure, round_, host=HOST, now=self.now):
            self.question = None
            self.tenure = control.judged(self.tenure, round_, host=HOST, generation=1, now=self.now)

    def given_away(self) -> bool:
        """Whether MASTER may give the shards of h0 away now."""
        sights = {
            name: HostSight(
                connected=name != HOST,
                quiet=self.now - self.heard_by_master[name],
                steady=self.steady[name].lasts(self.now, lease=LEASE),
                generation=1,
                panel=self.names,
            )
            for name in self.names
        }
        case = Circumstances(
            fleet=self.plan,
            owners=owners(self.plan),
            reports={},
            hosts=sights,
            lease=LEASE,
            margin=MARGIN,
            grace=0.0,
            uptime=self.now,
            return_wait=60.0,
        )
        return HOST in losses(case).lost

    def holds(self) -> bool:
        return not is_over(self.tenure.lease, self.now)


def spans() -> st.SearchStrategy[list[Span]]:
    span = st.builds(
        lambda begin, length, late: Span(begin, begin + length, late),
        st.integers(0, 120).map(float),
        st.integers(1, 90).map(float),
        st.none() | st.none() | st.sampled_from([0.5, 2.0, 4.0, 9.0]),
    )
    return st.lists(span, max_size=2)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    hosts = draw(st.integers(1, 5))
    names = [f"h{n}" for n in range(hosts)]
    both = [("master", n) for n in names] + [(n, "master") for n in names]
    both += [(HOST, n) for n in names[1:]] + [(n, HOST) for n in names[1:]]
    # h0 is cut off in most of what is tried, or there would be nothing to see.
    cut = Span(draw(st.integers(5, 60)), 500.0, None)
    cuts = {pair: draw(spans()) for pair in both}
    if draw(st.integers(0, 4)):
        cuts["master", HOST] = [*cuts["master", HOST], cut]
        cuts[HOST, "master"] = [*cuts[HOST, "master"], cut]
    return World(hosts, cuts, draw(st.integers(0, 19)) * STEP)


@settings(max_examples=150, deadline=None, print_blob=True)
@given(worlds())
def test_lease_of_a_host_never_runs_on_while_its_shards_are_given_away(world: World) -> None:
    while world.now < LENGTH:
        world.step()
        if world.given_away():
            assert not world.holds(), f"at {world.now} s, until {world.tenure.lease.until}"


def _cut_off(hosts: int, *others: tuple[str, str]) -> World:
    """h0 is without MASTER from 20 s on, and ``others`` are cut as well."""
    cut = [Span(20.0, 500.0, None)]
    pairs = [("master", HOST), (HOST, "master"), *others]
    return World(hosts, dict.fromkeys(pairs, cut), 0.0)


def _fate(world: World) -> tuple[float | None, float | None]:
    """When its shards are given away, and when its lease ends."""
    given = ends = None
    while world.now < LENGTH:
        world.step()
        given = world.now if given is None and world.given_away() else given
        ends = world.now if ends is None and not world.holds() else ends
    return given, ends


def test_host_that_is_cut_off_from_all_stops_before_its_shards_are_given_away() -> None:
    others = [(HOST, f"h{n}") for n in (1, 2)]
    given, ends = _fate(_cut_off(3, *others))
    assert given is not None
    assert ends is not None
    assert ends + MARGIN <= given <= 20 + PING + LEASE + MARGIN + 2 * STEP


def test_hosts_carry_on_when_master_is_away_and_nothing_is_given_away() -> None:
    away = [(a, b) for n in (1, 2) for a, b in (("master", f"h{n}"), (f"h{n}", "master"))]
    assert _fate(_cut_off(3, *away)) == (None, None)


def test_last_host_carries_on_alone() -> None:
    assert _fate(_cut_off(1)) == (None, None)
