# SPDX-License-Identifier: Apache-2.0
"""``disclusterctl events``: what MASTER decided and noticed, one line each."""

from typing import Final, Literal

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
        else:
            pages.show_line(screen, event.at, _sentence(event), style=_STYLES[event.severity])


def _sentence(event: Event) -> str:
    """Beginning with what is wrong, if something is: colours may be missing."""
    prefix = "" if event.severity == "notice" else f"{event.severity}: "
    return prefix + words.one_line(event.sentence)
