# SPDX-License-Identifier: Apache-2.0
"""``disclusterctl events``: what MASTER decided and noticed, one line each."""

from typing import Final, Literal

import msgspec
from rich.table import Table
from rich.text import Text

from discluster import messages
from discluster.console import Event, EventPage, EventQuery
from discluster.ctl import words
from discluster.ctl.commands import Context
from discluster.ctl.screen import Screen
from discluster.errors import UnavailableError

# Seconds for which MASTER may hold its answer back: less than the client waits for one.
_WAIT: Final = 5.0
_AWAY_PAUSE: Final = 1.0
_STYLES: Final[dict[Literal["error", "warning", "notice"], str]] = {
    "error": "red",
    "warning": "yellow",
    "notice": "",
}


async def show(context: Context, query: EventQuery, *, follow: bool, json: bool) -> int:
    """The events that ``query`` asks for; with ``follow`` those that come, too, until cancelled. A
    MASTER that goes away is waited for then. Returns the exit status.
    """
    while True:
        page = await context.master.events(query)
        _print(context.screen, page, json=json)
        query = msgspec.structs.replace(query, after=page.upto, last=None)
        if page.upto == page.newest:
            break
    if follow:
        await _follow(context, msgspec.structs.replace(query, wait=_WAIT), json=json)
    return 0


async def _follow(context: Context, query: EventQuery, *, json: bool) -> None:
    told = False
    while True:
        try:
            page = await context.master.events(query)
        except UnavailableError as error:
            if not told:
                context.screen.note(f"error: {words.clean(error.render())}; waiting for it")
            told = True
            await context.clock.sleep(_AWAY_PAUSE)
            continue
        told = False
        if page.newest < query.after:
            context.screen.note("MASTER lost its events and began anew")
        _print(context.screen, page, json=json)
        query = msgspec.structs.replace(query, after=page.upto)


def _print(screen: Screen, page: EventPage, *, json: bool) -> None:
    for event in page.events:
        if json:
            screen.text(messages.encode(event).decode() + "\n")
        elif screen.is_terminal:
            screen.show(_row(event))
        else:
            screen.text(f"{words.moment(event.at)}  {_sentence(event)}\n")


def _row(event: Event) -> Table:
    """For a terminal: a long sentence is wrapped beside its time."""
    row = Table.grid(padding=(0, 2))
    row.add_row(
        Text(words.moment(event.at), style="dim", no_wrap=True),
        Text(_sentence(event), style=_STYLES[event.severity]),
    )
    return row


def _sentence(event: Event) -> str:
    """Beginning with what is wrong, if something is: colours may be missing."""
    prefix = "" if event.severity == "notice" else f"{event.severity}: "
    return prefix + words.one_line(event.sentence)
