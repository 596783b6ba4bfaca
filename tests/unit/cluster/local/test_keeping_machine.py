# SPDX-License-Identifier: Apache-2.0
"""Against a naive model: each event is acknowledged, or can be read, or is counted as lost."""

from collections import Counter
from collections.abc import Iterator

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from discluster.cluster.local.entries import OVERHEAD, OVERHEAD_OF_BLOCK, SLICE, Frame
from discluster.cluster.local.keeping import Keeping
from discluster.cluster.local.log import UNKEPT
from discluster.cluster.local.losses import Why
from discluster.gateway.events import Event
from tests.clock import ManualClock
from tests.unit.cluster.local.events import event, opened

CLIENTS = ("bot", "stats")
SHARDS = (0, 1, 2)
SIZE, AGE, UNACKNOWLEDGED = 20_000, 60.0, 40
ALL = 1 << 30

shards, clients = st.sampled_from(SHARDS), st.sampled_from(CLIENTS)
# From the last position: where clients say that they are.
back = st.one_of(st.integers(-3, 10), st.integers(0, 150))


class Model(msgspec.Struct):
    """What is known of a shard outside. ``origin``: nothing up to this position ever came.
    ``stored``: the sequence from which Discord repeats.
    """

    session: str
    seq: int
    stored: int
    origin: int
    base: int
    last: int
    came: dict[int, float] = {}
    acknowledged: dict[str, int] = {}
    owed: dict[str, set[int]] = {}
    attached: Counter[str] = msgspec.field(default_factory=Counter)


def fresh(session: str, stored: int) -> Model:
    return Model(
        session=session,
        seq=stored,
        stored=stored,
        origin=stored,
        base=0,
        last=stored,
        acknowledged=dict.fromkeys(CLIENTS, stored),
        owed={client: set() for client in CLIENTS},
    )


class KeepingMachine(RuleBasedStateMachine):
    """Three shards and two clients."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.kept = Keeping(
            size=SIZE, age=AGE, clients=CLIENTS, unacknowledged=UNACKNOWLEDGED, clock=self.clock
        )
        self.models = {shard: fresh(f"s{shard}", 1000 * shard) for shard in SHARDS}
        self.sessions = 0
        self.lost = Counter[tuple[str, Why]]()
        self.held_back: dict[int, int] = {}  # by shard: bytes of the batch that was the last

    # --- what happens ---

    @rule(
        shard=shards,
        count=st.integers(1, 30),
        repeated=st.integers(0, 5),
        size=st.sampled_from([0, 0, 60, 1000]),
        new=st.sampled_from([False] * 9 + [True]),
    )
    def comes(self, shard: int, count: int, repeated: int, size: int, new: bool) -> None:
        model, log = self.models[shard], self.kept.open(shard)
        if shard in self.held_back:
            return
        again = min(repeated, model.seq - model.stored)
        batch = [self._event(shard, model.seq - n, size) for n in reversed(range(again))]
        fresh_ones = [self._event(shard, model.seq + n, size) for n in range(1, count + 1)]
        batch += fresh_ones
        self._note(model, fresh_ones)
        if new:
            self.sessions += 1
            model.session, model.seq, model.stored = f"new{self.sessions}", 0, 0
            model.base = model.last
            fresh_ones = [event(1, "READY", session=model.session, shard=shard)]
            fresh_ones.append(self._event(shard, 2, size))
            batch += fresh_ones
            self._note(model, fresh_ones)
        before = self.kept.held
        log.extend(batch)
        self._look(Why.SIZE)
        if self.kept.full:
            self.held_back[shard] = max(0, self.kept.held - before)

    @rule(shard=shards, client=clients, less=back)
    def acknowledges(self, shard: int, client: str, less: int) -> None:
        model = self.models[shard]
        position = min(model.last - less, model.last)
        model.acknowledged[client] = max(model.acknowledged[client], position)
        model.owed[client] = {p for p in model.owed[client] if p > position}
        self.kept.open(shard).acknowledged(client, model.last - less)
        self._look(Why.SIZE)

    @rule(shard=shards, client=clients)
    def attaches(self, shard: int, client: str) -> None:
        self.models[shard].attached[client] += 1
        self.kept.open(shard).attach(client)

    @rule(shard=shards, client=clients)
    def detaches(self, shard: int, client: str) -> None:
        model = self.models[shard]
        if not model.attached[client]:
            return
        model.attached[client] -= 1
        self.kept.open(shard).detach(client)
        self._look(Why.SIZE)

    @rule(shard=shards, client=clients, less=back)
    def resumes(self, shard: int, client: str, less: int) -> None:
        model, log = self.models[shard], self.kept.open(shard)
        if log.session_id is None:
            return
        position = model.last - less
        wanted = {p for p in model.came if p > position}
        kept = self._kept(shard)
        if log.resume(client, position):
            assert position >= model.origin
            assert wanted <= kept
            model.acknowledged[client] = min(position, model.last)
            model.owed[client] = wanted
        else:
            assert position < model.origin or not wanted <= kept
        self._look(Why.SIZE)

    @rule(shard=shards)
    def releases(self, shard: int) -> None:
        model = self.models[shard]
        released = self.kept.open(shard).release()
        if released is None:
            return
        assert released.session_id == model.session
        assert model.stored < released.seq <= model.seq
        model.stored = released.seq
        position = model.base + released.seq
        if position > model.last - UNACKNOWLEDGED:
            assert not any(p <= position for owed in model.owed.values() for p in owed)

    @rule(shard=shards)
    def leaves(self, shard: int) -> None:
        model = self.models[shard]
        self.kept.open(shard)
        self.kept.close(shard)
        told = max(model.base, model.base + model.stored)
        for client, owed in model.owed.items():
            self.lost[client, Why.LEFT] += sum(p <= told for p in owed)
        self.models[shard] = fresh(model.session, model.stored)
        self.held_back.pop(shard, None)
        self._look(Why.SIZE)

    @rule(seconds=st.sampled_from([0.1, 2.0, 25.0, 90.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.jump(seconds)
        self.kept.expire()
        self._look(Why.AGE)
        for shard, model in self.models.items():
            for position in sorted(self._kept(shard))[:1]:
                if self.clock.monotonic() - model.came[position] > AGE + 2 * SLICE:
                    assert min(self._attached_at(model)) < position

    # --- what must be so ---

    @invariant()
    def losses_are_counted_exactly(self) -> None:
        for client in CLIENTS:
            found = self.kept.losses.of(client)
            found.pop(Why.RESTART, None)
            mine = {why: n for (name, why), n in self.lost.items() if name == client and n}
            assert found == mine

    @invariant()
    def owed_is_what_was_not_acknowledged(self) -> None:
        for shard, model in self.models.items():
            for client in CLIENTS:
                log = self.kept.open(shard)
                assert log.owed(client) == len(model.owed[client])
                if log.session_id is not None:
                    assert log.acknowledged_by(client) == model.acknowledged[client]

    @invariant()
    def room_is_bounded(self) -> None:
        least, most = (sum(bounds) for bounds in zip(*map(self._size, SHARDS), strict=True))
        assert least <= self.kept.held <= most
        assert self.kept.held == sum(self.kept.open(shard).held for shard in SHARDS)
        assert self.kept.held <= SIZE + sum(self.held_back.values())

    @precondition(lambda self: self.kept.full)
    @invariant()
    def full_is_for_attached_clients_only(self) -> None:
        awaited = 0
        for shard, model in self.models.items():
            if at := self._attached_at(model):
                frames, _ = self.kept.open(shard).read_each(min(at), size=ALL)
                awaited += sum(len(frame) + OVERHEAD + OVERHEAD_OF_BLOCK for frame in frames)
        assert 2 * awaited > SIZE

    @invariant()
    def any_reader_reads_the_same(self) -> None:
        for shard, model in self.models.items():
            log = self.kept.open(shard)
            read = [opened(frame) for frame in self._in_pieces(shard)]
            assert [found["s"] for found in read] == sorted(self._kept(shard))
            assert (log.last, log.base) == (model.last, model.base) or log.session_id is None
            for found in read:
                if found["s"] > model.base:
                    assert found["d"]["id"] == str(found["s"] - model.base)

    @invariant()
    def read_in_one_piece_they_are_the_same_bytes(self) -> None:
        for shard in SHARDS:
            each = b"".join(self._in_pieces(shard))
            for size in (1, 300, 3000, ALL):
                assert b"".join(self._in_blocks(shard, size)) == each

    # --- helpers ---

    def _event(self, shard: int, seq: int, size: int) -> Event:
        return event(seq, session=self.models[shard].session, shard=shard, size=size)

    def _note(self, model: Model, batch: list[Event]) -> None:
        for one in batch:
            model.seq = one.seq
            model.last = model.base + one.seq
            if one.type in UNKEPT:
                continue
            model.came[model.last] = self.clock.monotonic()
            for owed in model.owed.values():
                owed.add(model.last)

    def _look(self, why: Why) -> None:
        """Counts what is gone. Nothing is, of what an attached client is owed."""
        for shard, model in self.models.items():
            kept = self._kept(shard)
            for client, owed in model.owed.items():
                gone = owed - kept
                assert not gone or not model.attached[client]
                self.lost[client, why] += len(gone)
                owed -= gone
        if not self.kept.full:
            self.held_back.clear()

    def _attached_at(self, model: Model) -> list[int]:
        return [model.acknowledged[client] for client in CLIENTS if model.attached[client]]

    def _kept(self, shard: int) -> set[int]:
        frames, _ = self.kept.open(shard).read_each(-1, size=ALL)
        return {opened(frame)["s"] for frame in frames}

    def _size(self, shard: int) -> tuple[int, int]:
        """Bytes of a shard's log if its entries came all at once, and if each came alone."""
        frames, _ = self.kept.open(shard).read_each(-1, size=ALL)
        size = sum(len(frame) + OVERHEAD for frame in frames)
        return size, size + len(frames) * OVERHEAD_OF_BLOCK

    def _in_blocks(self, shard: int, size: int) -> Iterator[Frame]:
        log, after = self.kept.open(shard), -1
        while True:
            parts, up_to = log.read(after, size=size)
            if up_to == after:
                return
            yield from parts
            after = up_to

    def _in_pieces(self, shard: int) -> Iterator[Frame]:
        log, after = self.kept.open(shard), -1
        while True:
            frames, up_to = log.read_each(after, size=3000)
            if up_to == after:
                return
            assert up_to > after
            yield from frames
            after = up_to


TestKeeping = KeepingMachine.TestCase
TestKeeping.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)
