# SPDX-License-Identifier: Apache-2.0
"""``disclusterctl events``: what MASTER decided and noticed, one line each."""

from typing import Final, Literal

from rich.table import Table
from rich.text import Text

from discluster.console import Event, EventPage, EventQuery
from discluster.ctl import pages, words
from discluster.ctl.commands import Context
from discluster.ctl.screen import Screen

_STYLES: Final[dict[Literal["error", "warning", "notice"], str]] = {
    "error": "red",
    "warning": "yellow",
    "notice": "",
}


async def show(context: Context, query: EventQuery, *, follow: bool, json: bool) -> int:
    """The events that ``query`` asks for, see :func:`discluster.ctl.pages.show`."""
    return await pages.show(
        context,
        context.master.events,
        query,
        lambda page: _print(context.screen, page, json=json),
        follow=follow,
        lost="MASTER lost its events and began anew",
    )


def _print(screen: Screen, page: EventPage, *, json: bool) -> None:
    for event in page.events:
        if json:
            screen.json_line(event)
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
