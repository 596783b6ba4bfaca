# SPDX-License-Identifier: Apache-2.0
"""Commands that only look: status, hosts, events."""

import argparse
import re
from typing import TYPE_CHECKING, Any, Final

from discluster.ctl.parsers.base import add_command, add_json, host, number, since

if TYPE_CHECKING:
    from discluster.ctl.commands import Context

_STATUS_EPILOG: Final = (
    "Exit status, also with --json: 0 if all is well; 3 if there is an error or a warning, if not"
    " every shard is ready, or if MASTER is away and only this machine's CONTROL answers; 69 if"
    " neither answers. 0 after Ctrl-C with --watch."
)
_EVENTS_EPILOG: Final = (
    "MASTER keeps them on disk, the setting events_kept says how many; the same sentences are in"
    " its journal with the fields HOST, CLUSTER, SHARD and GENERATION. Exit status: 0, also after"
    " Ctrl-C with --follow; 69 if MASTER does not answer, with --follow it is waited for."
)
_EVENTS_SHOWN: Final = 50


def add(commands: Any) -> None:
    """Adds them to the command line."""
    text = "what is wrong, then the fleet, its hosts, clusters and shards"
    status = add_command(commands, "status", _status, text, epilog=_STATUS_EPILOG)
    add_json(status, "as JSON; with --watch one object a line")
    status.add_argument(
        "-w",
        "--watch",
        nargs="?",
        const=2.0,
        type=_interval,
        metavar="SECONDS",
        help="again every SECONDS (2 if not given) until Ctrl-C",
    )
    status.add_argument(
        "--shards",
        action="store_true",
        help="every shard and cluster; without it, of more than 64 only those that are not well",
    )
    hosts = add_command(commands, "hosts", _hosts, "the machines of the fleet as a table")
    add_json(hosts, "as JSON, one object a line")
    _add_events(commands)


def _add_events(commands: Any) -> None:
    text = "what MASTER decided and noticed, and why; the newest last"
    events = add_command(commands, "events", _events, text, epilog=_EVENTS_EPILOG)
    add_json(events, "as JSON, one object a line")
    events.add_argument(
        "-f", "--follow", action="store_true", help="and those that come, until Ctrl-C"
    )
    events.add_argument("--host", type=host, metavar="HOST", help="only what is about this host")
    events.add_argument(
        "--since",
        type=since,
        metavar="TIME",
        help="from then on: so long ago (90s, 30min, 2d), or 'YYYY-MM-DD HH:MM[:SS]' local time",
    )
    events.add_argument(
        "-n",
        "--lines",
        type=number,
        metavar="N",
        help="of those only the newest N (default: 50, with --since all)",
    )


def _interval(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,3})?", text) or float(text) < 0.1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 on")
    return float(text)


async def _status(context: "Context", options: argparse.Namespace) -> int:
    import asyncio

    from discluster.ctl import commands

    look = {"json": options.json, "everything": options.shards}
    if options.watch is None:
        return await commands.status(context, **look)
    try:
        await commands.watch(context, **look, interval=options.watch)
    except asyncio.CancelledError:
        pass  # Ctrl-C, the way to end it
    return 0


async def _hosts(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import commands

    return await commands.hosts(context, json=options.json)


async def _events(context: "Context", options: argparse.Namespace) -> int:
    import asyncio

    from discluster.console import EventQuery
    from discluster.ctl import events

    last = options.lines or (None if options.since is not None else _EVENTS_SHOWN)
    query = EventQuery(last=last, host=options.host, since=options.since or 0.0)
    try:
        return await events.show(context, query, follow=options.follow, json=options.json)
    except asyncio.CancelledError:
        if options.follow:
            return 0  # Ctrl-C, the way to end it
        raise
