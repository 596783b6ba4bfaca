# SPDX-License-Identifier: Apache-2.0
"""Commands about the plan: plan, rebalance, reload, moves."""

import argparse
from typing import TYPE_CHECKING, Any, Final

from discluster.ctl.parsers.base import (
    add_command,
    add_group,
    add_json,
    add_order,
    add_waiting,
    host,
    number,
    waiting,
)

if TYPE_CHECKING:
    from discluster.ctl.commands import Context
    from discluster.orders import Order

_REBALANCE: Final = (
    "By itself MASTER moves shards for guilds or load only where that is worth it, and not often:"
    " the settings rebalance_gain and rebalance_pause. These do not count here."
)
_ROLLBACK: Final = (
    "What is there of that plan's hosts gets back what it had; the rest is placed anew. It holds"
    " until hosts come or go, or settings change."
)
_RELOAD: Final = (
    "The whole file is checked first: one error in it, and nothing changes (exit status 78, every"
    " error with its line). 'systemctl reload discluster-master' does the same."
)
_MOVES: Final = (
    "Exit status: 0 if it is done, or with --no-wait; 1 if there never was one; 4 if it ended"
    " before all had moved, or --timeout is over; 130 after Ctrl-C; 69 if MASTER does not answer."
)


def add(commands: Any) -> None:
    """Adds them to the command line."""
    _add_plan(commands)
    text = "move shards to the best balance there is now"
    add_order(commands, "rebalance", _rebalance, text, about=_REBALANCE)
    text = "take the settings as they stand on disk, after showing what differs"
    add_order(commands, "reload", _reload, text, about=_RELOAD)
    text = "how far the shards of the newest order have moved, until they all have"
    add_waiting(add_command(commands, "moves", _moves, text, epilog=_MOVES))


def _add_plan(commands: Any) -> None:
    inner = add_group(commands, "plan", "the plan in force, plans before it, and what would change")
    show = add_command(inner, "show", _show, "the plan in force, or an older one, as YAML")
    show.add_argument("host", nargs="?", type=host, metavar="HOST", help="only this host's part")
    show.add_argument(
        "--generation", type=number, metavar="N", help="the whole plan of that generation"
    )
    text = "what would change if MASTER planned now, with the settings on disk, and why"
    add_json(add_command(inner, "diff", _diff, text))
    text = "the plans that moved shards: when, why and what; the newest last"
    add_json(add_command(inner, "history", _history, text))
    text = "put the shards back where they were in an older plan"
    rollback = add_order(inner, "rollback", _rollback, text, about=_ROLLBACK)
    rollback.add_argument("generation", type=number, metavar="GENERATION")


async def _show(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import commands

    if options.host is not None and options.generation is not None:
        options.complain("--generation is about the whole plan; leave the host out")
    return await commands.plan_show(context, host=options.host, generation=options.generation)


async def _diff(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import commands

    return await commands.plan_diff(context, json=options.json)


async def _history(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import commands

    return await commands.plan_history(context, json=options.json)


def _rollback(options: argparse.Namespace) -> "Order":
    from discluster.orders import Rollback

    return Rollback(generation=options.generation, dry_run=options.dry_run)


def _rebalance(options: argparse.Namespace) -> "Order":
    from discluster.orders import Rebalance

    return Rebalance(dry_run=options.dry_run)


def _reload(options: argparse.Namespace) -> "Order":
    from discluster.orders import Reload

    return Reload(dry_run=options.dry_run)


async def _moves(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import orders

    return await orders.look(context, waiting(options), json=options.json)
