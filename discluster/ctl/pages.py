# SPDX-License-Identifier: Apache-2.0
"""What MASTER tells by pages, with what comes while one looks: events and the audit log."""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeVar

import msgspec
from rich.table import Table
from rich.text import Text

from discluster.console import EventQuery
from discluster.ctl import words
from discluster.ctl.commands import Context
from discluster.ctl.screen import Screen
from discluster.errors import UnavailableError
from discluster.operators import AuditQuery

# Seconds for which MASTER may hold its answer back: less than the client waits for one.
_WAIT: Final = 5.0
_AWAY_PAUSE: Final = 1.0


class Page(Protocol):
    """See :class:`discluster.console.EventPage`."""

    @property
    def upto(self) -> int: ...

    @property
    def newest(self) -> int: ...


Q = TypeVar("Q", EventQuery, AuditQuery)
P = TypeVar("P", bound=Page)


async def show(
    context: Context,
    ask: Callable[[Q], Awaitable[P]],
    query: Q,
    show_page: Callable[[P], None],
    *,
    follow: bool,
    lost: str,
) -> int:
    """All pages that ``query`` asks for; with ``follow`` those that come, too, until cancelled. A
    MASTER that goes away is waited for then. ``lost``: what to say if MASTER began anew. Returns
    the exit status.
    """
    while True:
        page = await ask(query)
        show_page(page)
        query = msgspec.structs.replace(query, after=page.upto, last=None)
        if page.upto == page.newest:
            break
    if follow:
        query = msgspec.structs.replace(query, wait=_WAIT)
        await _follow(context, ask, query, show_page, lost)
    return 0


def show_line(screen: Screen, at: float, sentence: str, *, style: str) -> None:
    """One entry; on a terminal a long sentence is wrapped beside its time. ``at``: wall clock,
    seconds.
    """
    if not screen.is_terminal:
        screen.text(f"{words.moment(at)}  {sentence}\n")
        return
    row = Table.grid(padding=(0, 2))
    row.add_row(
        Text(words.moment(at), style="dim", no_wrap=True),
        Text(sentence, style=style),
    )
    screen.show(row)


async def _follow(
    context: Context,
    ask: Callable[[Q], Awaitable[P]],
    query: Q,
    show_page: Callable[[P], None],
    lost: str,
) -> None:
    told = False
    while True:
        try:
            page = await ask(query)
        except UnavailableError as error:
            if not told:
                context.screen.note(f"error: {words.clean(error.render())}; waiting for it")
            told = True
            await context.clock.sleep(_AWAY_PAUSE)
            continue
        told = False
        if page.newest < query.after:
            context.screen.note(lost)
        show_page(page)
        query = msgspec.structs.replace(query, after=page.upto)
