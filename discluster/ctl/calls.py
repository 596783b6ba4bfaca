# SPDX-License-Identifier: Apache-2.0
"""``disclusterctl call``: asks clusters, through MASTER or the CONTROL of this machine, and shows
what each answered.
"""

from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from discluster.console import CallEntry, CallReport
from discluster.ctl import layout, words
from discluster.ctl.client import control_call
from discluster.ctl.commands import NOT_WELL, WELL, Context
from discluster.ctl.tables import BAD, FAINT, UNDERWAY
from discluster.errors import UnavailableError
from discluster.messages import CallRequest

_LONGEST_CELL: Final = 2000


async def call(context: Context, request: CallRequest, *, json: bool) -> int:
    """Returns 3 if not every cluster answered well, or others of the fleet were not asked.

    Raises:
        UnavailableError: neither MASTER nor CONTROL answers.
    """
    report = await _asked(context, request)
    if json:
        context.screen.json(report)
    else:
        context.screen.show(rendered(report))
    well = report.entries and all(entry.fault is None for entry in report.entries)
    return WELL if well and report.unasked is None else NOT_WELL


async def _asked(context: Context, request: CallRequest) -> CallReport:
    """A call that may have been carried out is not made again: so MASTER is asked first whether it
    is there.
    """
    try:
        await context.master.whoami()
    except UnavailableError as error:
        away = error
    else:
        return await context.master.call(request)
    try:
        report = await control_call(context.control_socket, request)
    except UnavailableError as error:
        raise UnavailableError(f"{away.message}; {error.message}", hint=away.hint) from None
    context.screen.note(words.clean(away.message))
    return report


def rendered(report: CallReport) -> RenderableType:
    """A row for each cluster, those that did not answer well with the reason."""
    parts: list[RenderableType] = []
    if report.entries:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=FAINT)
        table.add_column("Cluster", justify="right", no_wrap=True)
        table.add_column("Host", no_wrap=True)
        table.add_column("Answer", overflow="fold")
        for entry in report.entries:
            host = words.one_line(entry.host or words.NOTHING)
            table.add_row(str(entry.cluster), host, _answer(entry))
        parts.append(table)
    else:
        parts.append(Text("No cluster was asked", style=UNDERWAY))
    if report.unasked is not None:
        told = f"Others of the fleet were not asked: {words.one_line(report.unasked)}"
        parts.append(Text(told, style=UNDERWAY))
    return layout.spaced(Group(*parts[:1]), *parts[1:])


def _answer(entry: CallEntry) -> Text:
    if entry.fault is not None:
        return Text(f"{entry.fault.code}: {words.one_line(entry.fault.text)}", style=BAD)
    told = words.one_line(bytes(entry.value).decode(errors="replace"))
    if len(told) > _LONGEST_CELL:
        told = f"{told[:_LONGEST_CELL]}… ({len(entry.value):,} bytes; --json shows all)"
    return Text(told)
