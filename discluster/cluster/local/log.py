# SPDX-License-Identifier: Apache-2.0
"""The events of one shard that clients of the local gateway may still be owed. Pure.

A position is what clients know as ``s``: the sequence of Discord's session plus a base. The first
session has base 0, so after a restart of the cluster a session that is resumed has the same
positions as before. When Discord begins a new one the base becomes the last position: positions
only grow, and what was kept of the old session stays.
"""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from operator import attrgetter
from typing import Final, Protocol

import msgspec

from discluster.clock import Clock
from discluster.cluster.local.entries import OVERHEAD, OVERHEAD_OF_BLOCK, Entries, Frame
from discluster.cluster.local.framing import TEXT_HEADERS, THOUSAND, Heads, header, thousand
from discluster.cluster.local.losses import Why
from discluster.cluster.local.positions import Acknowledged
from discluster.gateway.events import Event
from discluster.gateway.frames import TEXT

UNKEPT: Final = frozenset(("READY", "RESUMED"))
"""Events of a session's own: each client's connection gets its own ones."""

_NOTHING: Final = msgspec.Raw(b"null")
_NONE: Final[frozenset[str]] = frozenset()


class Pool(Protocol):
    """What the logs of a cluster have in common: the room that there is."""

    def grew(self, size: int) -> None:
        """A log has ``size`` bytes more, or less. To be told when it may be made shorter."""
        ...

    def make_room(self) -> None:
        """What a log holds may be less needed than before."""
        ...

    def lost(self, client: str, why: Why, count: int) -> None:
        """``client`` will never get ``count`` events."""
        ...


_body: Final = attrgetter("body")


def _are_text(events: Sequence[Event]) -> bool:
    """Whether the bodies are UTF-8, of which nobody has made sure. A client closes a connection
    with any other frame, and would get the same one again after its RESUME.
    """
    text = b"".join(map(_body, events))
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _as_text(event: Event) -> Event:
    text = bytes(event.body).decode(errors="replace")
    return msgspec.structs.replace(event, body=msgspec.Raw(text.encode()))


class EventLog:
    """One shard's. ``session_id``: of Discord's session, None before its first event. ``last``: the
    position of the last event; ``base``: what positions of this session are ahead of sequences.
    ``repeated``: events that came again, and were not appended.
    """

    def __init__(
        self,
        shard: int,
        *,
        clients: Iterable[str],
        pool: Pool,
        heads: Heads,
        clock: Clock,
        unacknowledged: int,
    ) -> None:
        """``unacknowledged``: events after which one is acknowledged to Discord although a client
        has not taken it: from then on it is kept in memory only.
        """
        self.shard = shard
        self.session_id: str | None = None
        self.base = self.last = 0
        self.repeated = 0
        self._before = 0  # the position before the first event that came
        self._dropped = 0  # nothing up to this position is here
        self._missed: set[str] = set()  # clients that asked for what came before
        self._released = 0
        self._entries = Entries()
        self._acknowledged = Acknowledged(clients)
        self._pool = pool
        self._heads = heads
        self._clock = clock
        self._unacknowledged = unacknowledged

    @property
    def first(self) -> int:
        """The position of the oldest event that is kept; without any, the one after the last."""
        first = self._entries.first
        return self.last + 1 if first is None else first

    @property
    def held(self) -> int:
        """Bytes."""
        return self._entries.held

    # --- from Discord ---

    def extend(self, events: Sequence[Event]) -> None:
        """Keeps events of the shard, in their order. Those that are here already count as
        ``repeated``. A session that is not the one before begins with its first event.
        """
        entries, heads = self._entries, self._heads
        known, types, parts = heads.known, list[str](), list[bytes | msgspec.Raw]()
        positions, ends = list[int](), list[int]()
        session, base, last = self.session_id, self.base, self.last
        before = entries.end
        if not _are_text(events):
            events = [_as_text(event) for event in events]
        end = before + OVERHEAD_OF_BLOCK
        first, thousands, numbers = thousand(last)
        for event in events:
            # A session without an id cannot be told from the one before it but by its READY.
            if event.session_id != session or not session:
                self._begin(event, last)
                session, base, last = self.session_id, self.base, self.last
            position = base + event.seq
            if position <= last:
                self.repeated += 1
                continue
            last = position
            name, text, size = known.get(event.type) or heads.make(event.type)
            if not size:
                continue
            if position - first >= THOUSAND:
                first, thousands, numbers = thousand(position)
            number, body = numbers[position - first], event.body
            size += len(thousands) + len(number) + len(body)
            head = TEXT_HEADERS[size] if size < len(TEXT_HEADERS) else header(TEXT, size)
            parts += (head, text, thousands, number, body, b"}")
            types.append(name)
            positions.append(position)
            end += size + len(head) + OVERHEAD
            ends.append(end)
        self.last = last
        if parts:
            block, now = b"".join(parts), self._clock.monotonic()
            entries.append(block, types, positions, ends, now=now)
            self._pool.grew(end - before)
            self._pool.make_room()

    def _begin(self, event: Event, last: int) -> None:
        self.last = last
        if self.session_id is None:
            # If it was resumed there are events before this one, and they are not here.
            self.last = self._before = self._dropped = self._released = event.seq - 1
            self._acknowledged.start(self.last)
        elif event.session_id or event.type == "READY":
            self.base = last
        self.session_id = event.session_id

    # --- to clients ---

    def read(self, after: int, *, size: int) -> tuple[list[Frame], int]:
        """Text frames of the events after a position, several in one piece, and the position that
        was read up to: ``after`` if there are none. What it costs does not depend on what else is
        kept.

        ``size``: bytes at most, but one event in any case.
        """
        return self._entries.read(after, size)

    def read_each(
        self, after: int, *, size: int, without: AbstractSet[str] = _NONE
    ) -> tuple[list[Frame], int]:
        """The same, each frame by itself. ``without``: types that are left out; so there may be no
        frame although the position is a later one.
        """
        return self._entries.read_each(after, size, without)

    def holds(self, after: int) -> bool:
        """Whether everything after a position is here, if it has come at all."""
        return after >= self._dropped

    def resume(self, client: str, position: int) -> bool:
        """``client`` RESUMEs: it has everything up to a position, be it less than it acknowledged.
        False: what it lacks is not here any more, so that it must begin anew.
        """
        if self.holds(position):
            self._acknowledged.go_back(client, min(position, self.last))
            self._pool.make_room()
            return True
        if position < self._before and client not in self._missed:
            self._missed.add(client)
            self._pool.lost(client, Why.RESTART, self._before - position)
        return False

    def attach(self, client: str) -> None:
        """A connection of ``client`` takes events: what it is owed is not given up meanwhile."""
        self._acknowledged.attach(client)

    def detach(self, client: str) -> None:
        """That connection is gone."""
        self._acknowledged.detach(client)
        self._pool.make_room()

    def acknowledged(self, client: str, position: int) -> None:
        """``client`` has everything up to a position. Beyond the last one there is nothing to
        acknowledge; an older word than before changes nothing.
        """
        self._acknowledged.advance(client, min(position, self.last))
        self._pool.make_room()

    def acknowledged_by(self, client: str) -> int:
        """The position up to which ``client`` has everything."""
        return self._acknowledged[client]

    def owed(self, client: str) -> int:
        """Events that are kept here and that ``client`` has not acknowledged."""
        return self._entries.after(self._acknowledged[client])

    # --- back to Discord ---

    def release(self) -> Event | None:
        """What may be acknowledged to Discord since this was last asked: everything up to the
        event that is returned, which has no body. All clients have that, or it was given up, or it
        is further back than ``unacknowledged``.
        """
        up_to = max(self._taken(), self.last - self._unacknowledged)
        if self.session_id is None or up_to <= max(self._released, self.base):
            return None
        self._released = up_to
        return Event(self.shard, up_to - self.base, "", _NOTHING, self.session_id)

    def _taken(self) -> int:
        """The position up to which nobody is owed anything."""
        lowest = max(self._acknowledged.lowest, self._dropped)
        # Beyond it there may be only what is not kept.
        return lowest if self._entries.after(lowest) else self.last

    # --- for the pool ---

    @property
    def spare_since(self) -> float:
        """When the oldest event came, if all clients have it; else infinity."""
        return self._entries.since if self.first <= self._acknowledged.lowest else float("inf")

    @property
    def loose_since(self) -> float:
        """When the oldest event came, if no client takes it just now; else infinity."""
        return self._entries.since if self.first <= self._loose() else float("inf")

    @property
    def awaited(self) -> int:
        """Bytes of the events that attached clients have still to acknowledge."""
        return self._entries.bytes_after(self._loose())

    def drop_spare(self, size: int) -> int:
        """Drops the oldest that all have, at most a slice. Returns the bytes."""
        return self._drop(size, self._acknowledged.lowest, Why.SIZE)

    def drop_loose(self, size: int, why: Why) -> int:
        """Drops the oldest that nobody takes just now, at most a slice. Returns the bytes."""
        return self._drop(size, self._loose(), why)

    def close(self) -> None:
        """The shard leaves. What Discord was not told to be taken comes again, elsewhere; what it
        was told so is lost to whoever has not got it.
        """
        told = max(self._released, self.base)
        count = len(self._entries) - self._entries.after(told)
        self._count_lost(count, Why.LEFT)
        self._pool.grew(-self.held)
        self._entries = Entries()

    def _loose(self) -> int:
        attached = self._acknowledged.lowest_attached
        return self.last if attached is None else attached

    def _drop(self, size: int, up_to: int, why: Why) -> int:
        count = self._entries.oldest(size=size, up_to=up_to)
        if not count:
            return 0
        self._count_lost(count, why)
        before = self.held
        self._dropped = self._entries.drop(count)
        self._pool.grew(self.held - before)
        return before - self.held

    def _count_lost(self, count: int, why: Why) -> None:
        """The oldest ``count`` go."""
        for client, position in self._acknowledged.items():
            if lost := self._entries.after_in(position, count):
                self._pool.lost(client, why, lost)
