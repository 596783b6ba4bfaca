# SPDX-License-Identifier: Apache-2.0
"""O-13: what the simulator sent is what the consumer got: nothing lost, doubled, or out of order.

Every counted event is the next of its guild. Within a session events may be missing at the end
only, and only if the session was taken away before they were acknowledged. An event may come
twice only if a RESUME asked for it again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from discluster.simulator import ledger
from discluster.simulator.ledger import Record, Shard
from discluster.simulator.oracles.verdict import Verdict

Event = tuple[int, int]
"""Guild id and count."""


class Sent(NamedTuple):
    """A counted event as it was sent in a session. `number`: its count in the guild."""

    session: str
    guild: int
    number: int
    seq: int


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """A session: whether it is over, and the last sequence that its client acknowledged."""

    ended: bool
    acknowledged: int


class Consumed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the consumer of a shard got, in order: guild ids and counts.

    settled: nothing is under way any more, so that the last event of a living session counts.
    """

    shard: Shard
    events: list[Event]
    bot: int = 0
    settled: bool = True


def replays(records: Iterable[Record]) -> dict[str, list[range]]:
    """By session, the sequences that each RESUME asked for again."""
    asked: dict[str, list[range]] = defaultdict(list)
    for record in records:
        if not isinstance(record, ledger.Resume) or not record.accepted:
            continue
        if record.session and record.seq is not None and record.last_seq is not None:
            asked[record.session].append(range(record.seq + 1, record.last_seq + 1))
    return asked


def events_are_conserved(
    consumed: Consumed,
    sent: Sequence[Sent],
    *,
    fates: Mapping[str, Fate],
    again: Mapping[str, Sequence[range]],
) -> Iterator[Verdict]:
    """O-13 for one shard.

    `sent`: in order of sending. `fates`: of the sessions in it; `again`: see `replays`. What the
    simulator's log has forgotten is not judged.
    """
    got = Counter(consumed.events)
    allowed: Counter[Event] = Counter()
    for event in sent:
        windows = again.get(event.session, ())
        allowed[event.guild, event.number] += 1 + sum(event.seq in window for window in windows)
    first: dict[int, int] = {}
    for event in sent:
        first.setdefault(event.guild, event.number)
    complaints = {
        "lost": _lost(sent, got, fates, settled=consumed.settled),
        "duplicated": [event for event, times in got.items() if times > (allowed[event] or times)],
        "made up": [
            (guild, count)
            for guild, count in got
            if (guild, count) not in allowed and count >= first.get(guild, count + 1)
        ],
        "reordered": _reordered(consumed.events),
    }
    for what, events in complaints.items():
        if events:
            yield _verdict(consumed, what, events, total=len(sent))


def _verdict(consumed: Consumed, what: str, events: list[Event], *, total: int) -> Verdict:
    guild, count = events[0]
    text = (
        f"shard {consumed.shard}: {len(events)} of {total} events {what}, "
        f"as number {count} of guild {guild}"
    )
    return Verdict(oracle="O-13", text=text, bot=consumed.bot)


def _lost(
    sent: Sequence[Sent], got: Counter[Event], fates: Mapping[str, Fate], *, settled: bool
) -> list[Event]:
    sessions: dict[str, list[Sent]] = defaultdict(list)
    for event in sent:
        sessions[event.session].append(event)
    missing: list[Event] = []
    for name, events in sessions.items():
        fate = fates.get(name, Fate(ended=True, acknowledged=0))
        came = [event.seq for event in events if got[event.guild, event.number]]
        sure = max(fate.acknowledged, max(came, default=0))
        whole = settled and not fate.ended
        missing += [
            (event.guild, event.number)
            for event in events
            if (whole or event.seq <= sure) and not got[event.guild, event.number]
        ]
    return missing


def _reordered(events: Iterable[Event]) -> list[Event]:
    """Events that came for the first time after a later one of their guild."""
    latest: dict[int, int] = {}
    seen: set[Event] = set()
    late: list[Event] = []
    for guild, count in events:
        if (guild, count) in seen:
            continue
        seen.add((guild, count))
        if count < latest.get(guild, 0):
            late.append((guild, count))
        else:
            latest[guild] = count
    return late
