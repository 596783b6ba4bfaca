# SPDX-License-Identifier: Apache-2.0
"""``disclusterctl audit``: who changed what, from where, and what came of it; one line each."""

from collections.abc import Mapping
from typing import Any, Final

from discluster.ctl import pages, words
from discluster.ctl.commands import Context
from discluster.ctl.screen import Screen
from discluster.operators import AuditEntry, AuditPage, AuditQuery, Outcome

_STYLES: Final[Mapping[Outcome, str]] = {"failed": "yellow", "refused": "red", "unknown": "yellow"}
_OUTCOMES: Final[Mapping[Outcome, str]] = {
    "unknown": "unknown: MASTER ended before it was told; it may have been done",
}


async def show(context: Context, query: AuditQuery, *, follow: bool, json: bool) -> int:
    """The calls that ``query`` asks for, see :func:`discluster.ctl.pages.show`."""
    return await pages.show(
        context,
        context.master.audit,
        query,
        lambda page: _print(context.screen, page, json=json),
        follow=follow,
        lost="MASTER lost its audit log and began anew",
    )


def _print(screen: Screen, page: AuditPage, *, json: bool) -> None:
    for entry in page.entries:
        if json:
            screen.json_line(entry)
        else:
            style = _STYLES.get(entry.outcome, "")
            pages.show_line(screen, entry.at, sentence(entry), style=style)


def sentence(entry: AuditEntry) -> str:
    """``alice (operate, certificate) from 192.0.2.7: drain host=beta: done``."""
    where = f"from {entry.address}" if entry.address else f"on MASTER's machine, uid {entry.uid}"
    outcome = _OUTCOMES.get(entry.outcome, entry.outcome)
    told = f": {entry.told}" if entry.told else ""
    return words.one_line(
        f"{entry.who} ({entry.role}, {entry.how}) {where}: {_what(entry)}: {outcome}{told}"
    )


def _what(entry: AuditEntry) -> str:
    """The message's name, which says what is asked for, and what it says."""
    body = dict(entry.body)
    kind = body.pop("type", None)
    said = [f"{name}={_shown(value)}" for name, value in body.items() if value not in (None, False)]
    return " ".join([str(kind or f"{entry.verb} {entry.path}"), *said])


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ",".join(map(_shown, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
