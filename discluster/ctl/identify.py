# SPDX-License-Identifier: Apache-2.0
"""What ``disclusterctl identify status`` shows. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from discluster.console import IdentifyOverview, IdentifyStatus, StoppedShard, WaitingShard
from discluster.ctl import layout, words
from discluster.ctl.tables import BAD, FAINT, UNDERWAY

_MOST_LANES: Final = 16


def rendered(overview: IdentifyOverview, *, width: int) -> RenderableType:
    """The sentence, the budget, and tables of what is held back, waits, and is promised."""
    return layout.spaced(
        Group(_sentence(overview.identify), layout.facts(_facts(overview))),
        _stopped(overview.identify.stopped),
        _waiting(overview.waiting, width),
        _lanes(overview),
        _allowances(overview),
    )


def _sentence(identify: IdentifyStatus) -> Text:
    if identify.blocked:
        style = BAD if identify.closed else UNDERWAY
        return Text(f"Nobody may identify: {words.clean(identify.blocked)}", style=f"bold {style}")
    if identify.stopped:
        which = words.named("Shard", [stop.shard for stop in identify.stopped])
        return Text(f"{which} held back by the guard; all others may identify", style=f"bold {BAD}")
    if identify.waiting:
        waiting = words.count(identify.waiting, "shard")
        return Text(f"{waiting} waiting for a turn to identify", style=f"bold {UNDERWAY}")
    return Text("No shard waits to identify", style="bold green")


def _facts(overview: IdentifyOverview) -> Iterator[tuple[str, str]]:
    identify = overview.identify
    if identify.remaining is None:
        yield "Budget", "Discord has not told it yet"
    else:
        resets = words.duration(identify.reset_after)
        yield "Budget", f"{identify.remaining:,} of {identify.total:,} left, resets in {resets}"
    free = "may be spent until the reset" if identify.reserve_is_free else f"{identify.reserve:,}"
    yield "Reserve", free
    yield "MASTER", f"may give out {overview.spendable:,} permits now"
    again = f"{overview.again:,} identifies in 24 hours by shards that had identified before"
    yield "Guard", f"{again}; it closes above {overview.waste:,}"
    yield "Lanes", f"{identify.max_concurrency:,}"


def _table(*columns: str, right: Iterable[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=FAINT)
    for column in columns:
        justify = "right" if column in right else "left"
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    return table


def _stopped(stopped: Iterable[StoppedShard]) -> Group | None:
    table = _table("Shard", "Since", "Why", right=("Shard", "Since"))
    for stop in stopped:
        why = Text(words.one_line(stop.why))
        table.add_row(Text(str(stop.shard), style=BAD), words.duration(stop.age), why)
    hint = Text("hint: mend the cause, then: disclusterctl identify resume", style=FAINT)
    return layout.titled("Held back", table, hint) if table.row_count else None


def _waiting(waiting: Iterable[WaitingShard], width: int) -> Group | None:
    """Those that wait at the same host for the same reason in one row."""
    alike: dict[tuple[str, str], list[int]] = defaultdict(list)
    for shard in waiting:
        alike[shard.host, shard.reason or "for its lane's turn"].append(shard.shard)
    table = _table("Host", "Shards", "Waits")
    for (host, reason), shards in sorted(alike.items()):
        listed = words.ranges(shards, limit=max(2, width // 20))
        table.add_row(words.one_line(host), listed, Text(words.one_line(reason)))
    return layout.titled("Waiting", table) if table.row_count else None


def _lanes(overview: IdentifyOverview) -> Group | None:
    table = _table("Lane", "Waiting", "Permit out", "Free in", right=("Lane", "Waiting", "Free in"))
    for lane in overview.lanes[:_MOST_LANES]:
        out = "-" if lane.granted is None else f"shard {lane.granted}"
        table.add_row(str(lane.lane), f"{lane.waiting:,}", out, words.duration(lane.free_in))
    if not table.row_count:
        return None
    left = len(overview.lanes) - table.row_count
    more = [Text(f"and {words.count(left, 'lane')} more", style=FAINT)] if left else []
    return layout.titled("Lanes in use", table, *more)


def _allowances(overview: IdentifyOverview) -> Group | None:
    numbers = ("Left", "Allowed", "A day later on")
    table = _table("Host", *numbers, "MASTER", right=numbers)
    for one in overview.allowances:
        state = Text("in touch") if one.present else Text("out of touch", style=UNDERWAY)
        counts = (f"{count:,}" for count in (one.left, one.limit, one.daily))
        table.add_row(words.one_line(one.host), *counts, state)
    return layout.titled("May identify without MASTER", table) if table.row_count else None
