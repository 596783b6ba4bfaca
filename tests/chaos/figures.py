# SPDX-License-Identifier: Apache-2.0
"""What became of the events of one shard, and who dialled when. Pure.

An event is *lost* if a guild of the shard had it and no process ever took it; it is
*doubled* each time that it is taken again, and *unasked* if no RESUME asked for it again. A *gap*
is the time from the last event in one process to the first in the next.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import msgspec

from discluster.simulator import ledger
from discluster.simulator.ledger import Record, Shard
from discluster.simulator.oracles.conservation import replays
from tests.chaos.recordings import Taken

Sent = tuple[int, int, int]
"""Guild, count, sequence, as ``GET /sent`` tells."""

_NANO = 1e-9


class ShardFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of events, and seconds: the gaps; ``pause``, the longest time without an event;
    ``overlap``, for how long two processes had the shard.
    """

    sent: int
    lost: int
    doubled: int
    unasked: int
    gaps: tuple[float, ...]
    pause: float = 0.0
    overlap: float = 0.0


class Calls(msgspec.Struct, frozen=True, kw_only=True):
    """How the shards came to Discord. ``twice``: shards that authenticated on a second connection
    while the first was open, for however short a time.
    """

    identifies: int
    resumes: int
    twice: int


def shard_figures(
    sent: Sequence[Sent],
    taken: Sequence[Taken],
    *,
    sessions: Sequence[str],
    again: Mapping[str, Sequence[range]],
    floor: Mapping[int, int],
    since: int,
    came: Sequence[int] = (),
) -> ShardFigures:
    """Of the events after ``floor`` (by guild, the last count that belongs to an earlier row), and
    of what was taken after ``since`` nanoseconds. ``taken`` is in order and goes back to the
    beginning; ``again``: by session, the sequences that each RESUME asked for; ``came``: when
    the shard was authenticated at Discord, in nanoseconds of the same clock.
    """
    counted = {(guild, count) for guild, count, _ in sent if count > floor.get(guild, 0)}
    times = Counter((event.guild, event.number) for event in taken)
    doubled = unasked = 0
    allowed = _allowances(taken, times, sessions, again)
    seen: Counter[tuple[int, int]] = Counter()
    for event in taken:
        key = event.guild, event.number
        seen[key] += 1
        if seen[key] > 1 and event.at >= since:
            doubled += 1
            unasked += seen[key] > allowed[key]
    return ShardFigures(
        sent=len(counted),
        lost=sum(event not in times for event in counted),
        doubled=doubled,
        unasked=unasked,
        gaps=tuple(_gaps(taken, since)),
        pause=max(_pauses(taken, since), default=0.0),
        overlap=max(_overlaps(taken, since, came), default=0.0),
    )


def _allowances(
    taken: Iterable[Taken],
    times: Mapping[tuple[int, int], int],
    sessions: Sequence[str],
    again: Mapping[str, Sequence[range]],
) -> dict[tuple[int, int], int]:
    """How often each event that came several times may have come."""
    return {
        (event.guild, event.number): 1
        + sum(event.seq in window for window in again.get(sessions[event.session], ()))
        for event in taken
        if times[event.guild, event.number] > 1
    }


def _gaps(taken: Sequence[Taken], since: int) -> Iterable[float]:
    for before, after in pairwise(taken):
        if after.process != before.process and before.at >= since:
            yield (after.at - before.at) * _NANO


def _pauses(taken: Sequence[Taken], since: int) -> Iterator[float]:
    last = since
    for event in taken:
        if event.at >= since:
            yield (event.at - last) * _NANO
            last = event.at


def _overlaps(taken: Sequence[Taken], since: int, came: Sequence[int]) -> Iterator[float]:
    """Who had the shard before may have it again, but not without a new connection."""
    known: set[int] = set()
    began = 0
    for before, after in pairwise(taken):
        if after.process == before.process:
            continue
        known.add(before.process)
        anew = any(began < at <= after.at for at in came)
        if after.process in known and after.at >= since and not anew:
            yield (after.at - began) * _NANO
        else:
            began = after.at


def floor_of(sent: Iterable[Sent]) -> dict[int, int]:
    """By guild, the last count."""
    floor: dict[int, int] = {}
    for guild, count, _ in sent:
        floor[guild] = max(count, floor.get(guild, 0))
    return floor


def asked_again(records: Iterable[Record]) -> dict[str, list[range]]:
    """By session (as long as a recording keeps of its id), what each RESUME asked for."""
    return {session[:32]: windows for session, windows in replays(records).items()}


def authenticated(records: Iterable[Record], zero: int) -> dict[int, list[int]]:
    """By shard, when each connection was authenticated, in nanoseconds of the clock that showed
    ``zero`` when the simulator's time began.
    """
    found: dict[int, list[int]] = defaultdict(list)
    for record in records:
        if record.shard is not None and _authenticates(record):
            found[record.shard[0]].append(zero + round(record.time / _NANO))
    return found


def calls(records: Iterable[Record], since: int) -> Calls:
    """``records`` go back to the beginning; those numbered above ``since`` are counted."""
    owner: dict[int | None, Shard] = {}
    open_now: dict[Shard, set[int | None]] = defaultdict(set)
    kinds: Counter[str] = Counter()
    twice: set[Shard] = set()
    for record in records:
        if record.n > since:
            kinds[record.kind] += 1
        shard, connection = record.shard, record.connection
        if _ends(record) and connection in owner:
            # By its number: the end of a connection whose session is gone names no shard.
            open_now[owner.pop(connection)].discard(connection)
        elif shard is not None and _authenticates(record):
            if record.n > since and open_now[shard] - {connection}:
                twice.add(shard)
            open_now[shard].add(connection)
            owner[connection] = shard
    return Calls(identifies=kinds["identify"], resumes=kinds["resume"], twice=len(twice))


def _authenticates(record: Record) -> bool:
    return isinstance(record, ledger.Ready) or (
        isinstance(record, ledger.Resume) and record.accepted
    )


def _ends(record: Record) -> bool:
    """The connection, or that it serves a session."""
    lost = isinstance(record, ledger.InvalidSession) and not record.resumable
    return lost or isinstance(record, ledger.Close)
