# SPDX-License-Identifier: Apache-2.0
"""Numbers, ages and states in words. Pure text, no terminal."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from discluster.console import FleetStatus, HostStatus
from discluster.messages import ShardState, ShardView

NOTHING: Final = "-"

# (for one shard, for several), in the order in which a shard goes through them.
_WAITING_FOR: Final[Mapping[ShardState, tuple[str, str]]] = {
    "fatal": ("stopped for good", "stopped for good"),
    "backoff": ("pausing before its next attempt", "pausing before their next attempt"),
    "held": ("held back", "held back"),
    "idle": ("not started yet", "not started yet"),
    "dialing": ("connecting to Discord", "connecting to Discord"),
    "hello": ("connected, waiting for Discord's hello", "connected, waiting for Discord's hello"),
    "waiting": ("waiting for its turn to identify", "waiting for their turn to identify"),
    "identifying": ("identifying", "identifying"),
    "resuming": ("resuming", "resuming"),
    "closing": ("closing", "closing"),
}


def clean(text: str) -> str:
    """``text`` of another machine's with nothing that could steer the terminal; keeps newlines."""
    lines = text.replace("\t", " ").splitlines()
    return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)


def ascii_json(text: str) -> str:
    """The same JSON; what could steer a terminal, or turn its text round, is escaped."""
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """Like :func:`clean`, for a table's cell."""
    return " ".join(clean(text).split())


def count(number: int, noun: str) -> str:
    """``1 shard``, ``2 shards``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float | None) -> str:
    """Whole units as systemd writes them: ``41s``, ``2h 15min``, ``3d 4h``; ``-`` for None."""
    if seconds is None:
        return NOTHING
    whole = max(0, int(seconds))
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if days:
        return _two(days, "d", hours % 24, "h")
    if hours:
        return _two(hours, "h", minutes % 60, "min")
    return _two(minutes, "min", whole % 60, "s") if minutes else f"{whole}s"


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}" + (f" {small}{small_unit}" if small else "")


def moment(at: float) -> str:
    """Wall-clock seconds as the local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def milliseconds(seconds: float | None) -> str:
    """A latency; ``-`` for None."""
    return NOTHING if seconds is None else f"{seconds * 1000:,.0f}ms"


def size(amount: float | None) -> str:
    """Bytes in the largest unit that fits: ``812 MiB``, ``1.4 GiB``."""
    if amount is None:
        return NOTHING
    rest, units = float(amount), iter(("B", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while rest >= 1023.5 and (larger := next(units, None)):
        rest, unit = rest / 1024, larger
    digits = 1 if rest < 9.95 and unit != "B" else 0
    return f"{rest:,.{digits}f} {unit}"


def percent(part: float | None) -> str:
    """Of one: ``37%``; above 100 where several cores are busy."""
    return NOTHING if part is None else f"{part * 100:,.0f}%"


def rate(amount: float | None) -> str:
    """So many a second, small ones with a decimal."""
    if amount is None:
        return NOTHING
    if 0 < amount < 0.05:
        return "<0.1"
    return f"{amount:.1f}" if 0 < amount < 9.95 else f"{amount:,.0f}"


def ranges(numbers: Iterable[int], *, limit: int = 8) -> str:
    """``0-3, 7, 9-12``; after ``limit`` pieces ``and N more``."""
    pieces: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if pieces and pieces[-1][1] == number - 1:
            pieces[-1] = (pieces[-1][0], number)
        else:
            pieces.append((number, number))
    shown = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in pieces[:limit])
    left = sum(b - a + 1 for a, b in pieces[limit:])
    return f"{shown} and {left} more" if left else shown


def named(noun: str, numbers: Iterable[int]) -> str:
    """``shard 4``, ``shards 4-7``."""
    numbers = list(numbers)
    return f"{noun}{'' if len(numbers) == 1 else 's'} {ranges(numbers)}"


def progress(status: FleetStatus) -> str:
    """The fleet in a sentence: ``14 of 16 shards ready; 2 waiting for their turn to identify``."""
    heard = [host for host in status.hosts if host.state not in ("silent", "lost")]
    silent = [host for host in status.hosts if host.state == "silent"]
    return _sentence(
        ready=status.shards_ready,
        total=status.shard_count,
        unplaced=max(0, status.shard_count - status.shards_planned),
        silent=sum(host.shards_planned for host in silent),
        silent_hosts=len(silent),
        shards=_shards(heard),
        blocked=status.identify.blocked,
    )


def host_progress(host: HostStatus) -> str:
    """One host in one sentence, as :func:`progress`."""
    return _sentence(
        ready=host.shards_ready,
        total=host.shards_planned,
        unplaced=0,
        silent=0,
        silent_hosts=0,
        shards=_shards([host]),
    )


def _shards(hosts: Iterable[HostStatus]) -> list[ShardView]:
    return [s for host in hosts for cluster in host.clusters for s in cluster.shards]


def _sentence(
    *,
    ready: int,
    total: int,
    unplaced: int,
    silent: int,
    silent_hosts: int,
    shards: list[ShardView],
    blocked: str | None = None,
) -> str:
    if not total:
        return "No shards are planned"
    head = f"{ready:,} of {count(total, 'shard')} ready"
    seen: Counter[ShardState] = Counter(shard.state for shard in shards if shard.state != "ready")
    # Two reports are never of one instant, so the parts may not add up; the rest is never negative.
    rest = max(0, total - ready - seen.total() - unplaced)
    on_silent = min(rest, silent)
    parts = [
        f"{number:,} {_phrase(state, phrases[0 if number == 1 else 1], blocked)}"
        for state, phrases in _WAITING_FOR.items()
        if (number := seen[state])
    ]
    if rest > on_silent:
        parts.append(f"{rest - on_silent:,} not running")
    if on_silent:
        where = "a silent host" if silent_hosts == 1 else "silent hosts"
        parts.append(f"{on_silent:,} on {where}")
    if unplaced:
        parts.append(f"{unplaced:,} on no host yet")
    return "; ".join([head, ", ".join(parts)]) if parts else head


def _phrase(state: ShardState, phrase: str, blocked: str | None) -> str:
    """What shards wait for, if it is not just their turn."""
    by_budget = blocked is not None and blocked.startswith("waiting for identify budget")
    return clean(blocked or "") if state == "waiting" and by_budget else phrase
