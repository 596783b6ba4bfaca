# SPDX-License-Identifier: Apache-2.0
"""Shows something that MASTER carries out until it is over: a bar in a terminal, lines in a pipe.

MASTER does the work: a terminal that is closed leaves it running.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol, TypeVar

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from discluster.clock import Clock
from discluster.ctl import tables, words
from discluster.ctl.commands import Context
from discluster.errors import UnavailableError

S = TypeVar("S")

UNFINISHED: Final = 4
"""Exit status: it ended, and not as it should."""
INTERRUPTED: Final = 130
_LOOK_EVERY: Final = 0.5
_PATIENCE: Final = 60.0
"""Seconds for which a MASTER that does not answer any more is waited for: it may be restarted."""


class Work(Protocol[S]):
    """Something that MASTER carries out, and how it is shown. ``S``: where it stands."""

    @property
    def goes_on(self) -> str:
        """What becomes of it while MASTER is away, and how to look at it again."""

    async def look(self) -> S:
        """Where it stands now. An UnavailableError only means: not known just now."""

    def is_over(self, status: S) -> bool:
        """Whether nothing more will come."""

    def bar(self, status: S, *, width: int, away: str | None) -> RenderableType:
        """For a terminal. ``away``: why nothing newer is known."""

    def news(self, status: S) -> Iterable[str]:
        """For a file or pipe: lines that were not told before."""


async def watched(context: Context, status: S, work: Work[S], *, quiet: bool = False) -> S:
    """Shows how ``work`` goes on from ``status`` until it is over; returns how it ended. ``quiet``:
    only waits.

    Raises:
        UnavailableError: MASTER is away for long.
    """
    if quiet:
        return await _until_over(context.clock, status, work, lambda *_: None)
    with context.screen.updating() as show:

        def tell(status: S, away: str | None) -> None:
            if show is None:
                context.screen.text("".join(f"{line}\n" for line in work.news(status)))
            else:
                show(work.bar(status, width=context.screen.width, away=away))

        return await _until_over(context.clock, status, work, tell)


async def _until_over(
    clock: Clock, status: S, work: Work[S], tell: Callable[[S, str | None], None]
) -> S:
    heard, away = clock.monotonic(), None
    while True:
        tell(status, away)
        if work.is_over(status):
            return status
        await clock.sleep(_LOOK_EVERY)
        try:
            status = await work.look()
            heard, away = clock.monotonic(), None
        except UnavailableError as error:
            if clock.monotonic() - heard > _PATIENCE:
                raise UnavailableError(error.message, hint=work.goes_on) from None
            away = error.message


async def carried_out(
    begun: Awaitable[S],
    follow: Callable[[S], Awaitable[int]],
    interrupted: Callable[[S], Awaitable[None]],
) -> int:
    """Waits for MASTER's answer to ``begun`` and follows it; returns the exit status.

    ``interrupted``: what Ctrl-C does; whether MASTER has begun is known by then.
    """
    asked = asyncio.ensure_future(begun)
    try:
        return await follow(await asyncio.shield(asked))
    except asyncio.CancelledError:
        await interrupted(await asked)
        return INTERRUPTED


def bar(
    title: str,
    counted: str,
    *,
    done: int,
    total: int,
    details: Sequence[RenderableType],
    width: int,
    away: str | None,
) -> RenderableType:
    """A bar with ``counted`` beside it, and below it ``details``. ``away``: as in :class:`Work`."""
    grid = Table.grid(padding=(0, 1))
    grid.add_row(
        Text(title, style=tables.HEAD),
        ProgressBar(
            total=total,
            completed=done,
            width=max(10, min(40, width - 50)),
            complete_style=tables.UNDERWAY,
            finished_style="green",
        ),
        Text(counted),
    )
    lines: list[RenderableType] = [grid, *details]
    if away is not None:
        lines.append(Text(words.clean(away), style=tables.UNDERWAY))
    return Group(*lines)
