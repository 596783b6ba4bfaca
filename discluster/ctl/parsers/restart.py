# SPDX-License-Identifier: Apache-2.0
"""``disclusterctl restart``: its options, and which of them go together."""

import argparse
import re
from typing import TYPE_CHECKING, Any, Final

from discluster.ctl.parsers.base import add_command, duration, number

if TYPE_CHECKING:
    from discluster.ctl.commands import Context

_EPILOG: Final = (
    "MASTER does it: a terminal that is closed leaves it running; Ctrl-C pauses it, and those under"
    " way come back. Exit status: 0 if all are back; 1 if it was refused; 4 if it stopped at one"
    " that did not come back, or somebody else paused or aborted it; 130 after Ctrl-C; 69 if"
    " MASTER does not answer."
)


def add(commands: Any) -> None:
    """Adds it to the command line."""
    text = "restart clusters: some now, or all a few at a time; their shards resume"
    restart = add_command(commands, "restart", _restart, text, epilog=_EPILOG)
    restart.add_argument(
        "what", nargs="*", metavar="CLUSTER|HOST", help="clusters; with --rolling hosts"
    )
    restart.add_argument(
        "--rolling", action="store_true", help="a few at a time; stops at one that is not back"
    )
    restart.add_argument("--all", action="store_true", help="the clusters of all hosts")
    restart.add_argument(
        "--at-a-time", type=number, metavar="N", help="so many together (default: 2)"
    )
    restart.add_argument(
        "--timeout", type=duration, metavar="TIME", help="for a cluster to be back (default: 2min)"
    )
    restart.add_argument(
        "--force", action="store_true", help="also if a cluster is not well, or could not connect"
    )
    restart.add_argument("--dry-run", action="store_true", help="only tell the order")
    change = restart.add_mutually_exclusive_group()
    for name, help_text in (
        ("continue", "go on with one that was paused or stopped; look at one that is running"),
        ("pause", "restart no more, as Ctrl-C does"),
        ("abort", "end it; what was not restarted stays as it is"),
    ):
        change.add_argument(
            f"--{name}", dest="change", action="store_const", const=name, help=help_text
        )


def _complaint(options: argparse.Namespace) -> str | None:
    """What does not go together, and what to use instead."""
    if not options.rolling:
        return _complaint_at_once(options)
    if options.change:
        other = options.what or options.all or options.force or options.dry_run
        return f"--{options.change} takes no host, --all, --force or --dry-run" if other else None
    if bool(options.what) == options.all:
        return "say which: HOST ... or --all"
    return None


def _complaint_at_once(options: argparse.Namespace) -> str | None:
    if options.change:
        return f"--{options.change} is about a rolling restart: --rolling --{options.change}"
    if options.at_a_time or options.force or options.dry_run or options.all:
        return "--all, --at-a-time, --force and --dry-run are for --rolling"
    if not options.what:
        return "say which: 'restart 3 4' restarts two clusters now, 'restart --rolling --all' all"
    hosts = [name for name in options.what if not re.fullmatch(r"[0-9]{1,6}", name)]
    return f"{hosts[0]!r} is no cluster; for a host: --rolling {hosts[0]}" if hosts else None


async def _restart(context: "Context", options: argparse.Namespace) -> int:
    from discluster.console import RollingRequest
    from discluster.ctl import restart

    if fault := _complaint(options):
        options.complain(fault)
    at_a_time, timeout = options.at_a_time, options.timeout
    if not options.rolling:
        clusters = sorted({int(name) for name in options.what})
        return await restart.at_once(context, clusters, timeout=timeout or 120.0)
    if options.change == "continue":
        return await restart.carry_on(context, at_a_time=at_a_time, timeout=timeout)
    if options.change:
        change = restart.pause if options.change == "pause" else restart.abort
        return await change(context)
    request = RollingRequest(
        hosts=tuple(options.what),
        at_a_time=at_a_time or 2,
        timeout=timeout or 120.0,
        force=options.force,
        dry_run=options.dry_run,
    )
    return await restart.rolling(context, request)
