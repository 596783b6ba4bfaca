# SPDX-License-Identifier: Apache-2.0
"""How far an order is, in words, as a bar and as lines. Pure: where it stands in, lines out."""

from collections.abc import Iterator
from typing import Final

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from discluster.ctl import progress, tables, words
from discluster.orders import MovesStatus, Route

LOOK: Final = "disclusterctl moves"
_MOST_ROUTES: Final = 8
_TELLS: Final = 10
"""So many times a pipe is told how far it is, at most."""


def counts(status: MovesStatus) -> str:
    """``12 of 24 shards moved``."""
    return f"{status.moved:,} of {words.count(status.total, 'shard')} moved"


def remaining(status: MovesStatus) -> float | None:
    """Seconds until all are moved, going by those that are; None where that tells nothing."""
    left = status.total - status.moved
    if not status.moved or not left or status.problem is not None:
        return None
    return status.age / status.moved * left


def way(route: Route) -> str:
    """``beta to gamma``."""
    if route.source == route.target and route.source is not None:
        return f"within {words.one_line(route.source)}"
    source = words.one_line(route.source) if route.source else "no host"
    target = words.one_line(route.target) if route.target else "no host"
    return f"{source} to {target}"


def bar(status: MovesStatus, *, width: int, away: str | None = None) -> RenderableType:
    """What a terminal shows while it goes on. ``away``: why nothing newer is known."""
    left = remaining(status)
    about = f", about {words.duration(left)} left" if left is not None else ""
    return progress.bar(
        "Moving",
        f"{status.moved:,}/{words.count(status.total, 'shard')}{about}",
        done=status.moved,
        total=status.total,
        details=[*_routes(status), *_notes(status)],
        width=width,
        away=away,
    )


def _routes(status: MovesStatus) -> Iterator[RenderableType]:
    """Those that are not done, the longest first."""
    open_ones = [route for route in status.routes if route.moved < route.total]
    open_ones.sort(key=lambda route: route.moved - route.total)
    grid = Table.grid(padding=(0, 2))
    for route in open_ones[:_MOST_ROUTES]:
        waits = Text(words.one_line(route.waits or ""), style=tables.FAINT)
        waits.no_wrap, waits.overflow = True, "ellipsis"
        grid.add_row(
            Text(f"  {way(route)}"),
            Text(f"{route.moved:,}/{route.total:,}", justify="right"),
            waits,
        )
    if open_ones:
        yield grid
    if len(open_ones) > _MOST_ROUTES:
        yield Text(f"  and {len(open_ones) - _MOST_ROUTES} more ways", style=tables.FAINT)


def _notes(status: MovesStatus) -> Iterator[RenderableType]:
    if status.deadline is not None:
        text = f"the deadline is in {words.duration(status.deadline)}"
        yield _indented(Text(text, style=tables.FAINT))
    if status.problem is not None:
        yield _indented(Text(words.clean(why(status)), style=tables.UNDERWAY))


def _indented(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 2))


def why(status: MovesStatus) -> str:
    """Its problem, and what to do about it."""
    hint = f" ({status.hint})" if status.hint else ""
    return f"{status.problem or 'it stopped'}{hint}"


def head(status: MovesStatus) -> str:
    """The first line in a file or pipe."""
    ways = ", ".join(f"{route.total:,} {way(route)}" for route in status.routes[:_MOST_ROUTES])
    more = f" and {len(status.routes) - _MOST_ROUTES} more ways"
    ways += more if len(status.routes) > _MOST_ROUTES else ""
    total = words.count(status.total, "shard")
    return f"{words.one_line(status.order)}: moving {total}" + (f": {ways}" if ways else "")


def done(status: MovesStatus) -> str:
    """The last line when all are moved."""
    return f"{words.one_line(status.order)}: {counts(status)} in {words.duration(status.age)}"


def was_done(status: MovesStatus) -> str:
    """The same of an order that was done before anybody looked."""
    since = words.duration(status.age)
    return f"{words.one_line(status.order)}: {counts(status)}; ordered {since} ago"


class News:
    """The lines for a file or pipe: how far it is, now and then, and each new problem once."""

    def __init__(self) -> None:
        self._told: int | None = None
        self._problem: str | None = None

    def of(self, status: MovesStatus) -> Iterator[str]:
        """What is new in ``status``."""
        if self._told is None:
            self._told = status.moved
            yield head(status)
        if status.state == "running" and status.moved - self._told >= status.total / _TELLS:
            self._told = status.moved
            yield counts(status)
        if status.state == "running" and status.problem != self._problem:
            self._problem = status.problem
            if status.problem is not None:
                yield f"waits: {words.one_line(why(status))}"
