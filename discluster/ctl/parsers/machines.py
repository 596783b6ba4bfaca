# SPDX-License-Identifier: Apache-2.0
"""Commands about machines: drain, undrain, host, shards-per-cluster, token."""

import argparse
import re
from typing import TYPE_CHECKING, Any, Final

from discluster.ctl.parsers.base import (
    add_command,
    add_group,
    add_order,
    duration,
    host,
)

if TYPE_CHECKING:
    from discluster.ctl.commands import Context
    from discluster.orders import Order

_DRAIN: Final = (
    "The host stays drained until 'disclusterctl undrain', whether MASTER is restarted or the"
    " deadline is over."
)
_REMOVE: Final = (
    "A host that is connected is drained first. A removed one is refused until it joins again with"
    " a new token; the certificates that it had do not count any more. With --lost a host that is"
    " out of touch is declared off: its shards start elsewhere at once instead of after its lease,"
    " and run twice if it is not off."
)
_REVOKE: Final = (
    "Its connection ends at once, its certificates do not count any more, and other hosts neither"
    " believe it nor answer it. Its clusters stop when its lease is over; then its shards go to"
    " others, as those of a host that is lost. It is let in again when it joins with a new token"
    " that is bound to its name. Exit status: 0 if it is revoked; 1 if there is no such host; 69 if"
    " MASTER does not answer."
)
_CLUSTER_SIZE: Final = (
    "It goes before the setting in master.yaml until it is 'default' again. Shards that change"
    " their cluster resume."
)


def add(commands: Any) -> None:
    """Adds them to the command line."""
    text = "move all shards off a host, with their sessions, and give it none"
    drain = add_order(commands, "drain", _drain, text, about=_DRAIN)
    _add_host_argument(drain)
    drain.add_argument(
        "--deadline",
        type=duration,
        metavar="TIME",
        help="what is still there after that, such as 10min, counts as failed",
    )
    drain.add_argument(
        "--force", action="store_true", help="also if the other hosts cannot take all its shards"
    )
    text = "let a host have shards again that was drained, or did not reach Discord"
    _add_host_argument(add_order(commands, "undrain", _undrain, text))
    _add_cluster_size(commands)
    _add_host(commands)
    _add_token(commands)


def _add_host_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("host", type=host, metavar="HOST")


def _add_cluster_size(commands: Any) -> None:
    text = "how many shards each cluster of a host takes"
    size = add_order(commands, "shards-per-cluster", _cluster_size, text, about=_CLUSTER_SIZE)
    _add_host_argument(size)
    size.add_argument(
        "number", type=_size, metavar="N|default", help="shards; default: as in master.yaml"
    )


def _add_host(commands: Any) -> None:
    inner = add_group(commands, "host", "hosts that leave the fleet")
    text = "forget a host, whose shards are elsewhere by now"
    remove = add_order(inner, "remove", _remove, text, about=_REMOVE)
    _add_host_argument(remove)
    remove.add_argument("--lost", action="store_true", help="its machine is off: asks before")
    remove.add_argument("--yes", action="store_true", help="with --lost: do not ask")
    text = "cut a host off and keep it out: somebody else may have its key"
    _add_host_argument(add_command(inner, "revoke", _revoke, text, epilog=_REVOKE))


def _add_token(commands: Any) -> None:
    inner = add_group(commands, "token", "tokens with which new machines join")
    create = add_command(inner, "create", _token_create, "print the line to run on a new machine")
    create.add_argument("--host", type=host, metavar="NAME", help="valid for this name only")
    create.add_argument(
        "--ttl",
        type=duration,
        default=3600.0,
        metavar="TIME",
        help="how long it is valid: 30min, 1h (default), 2d; a bare number is seconds",
    )


def _size(text: str) -> int | None:
    from discluster.plan import MAXIMUM_SHARDS_PER_CLUSTER as MAXIMUM

    if text == "default":
        return None
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= MAXIMUM:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither a number from 1 to {MAXIMUM} nor 'default'"
        )
    return int(text)


def _drain(options: argparse.Namespace) -> "Order":
    from discluster.orders import Drain

    return Drain(
        host=options.host,
        deadline=options.deadline,
        force=options.force,
        dry_run=options.dry_run,
    )


def _undrain(options: argparse.Namespace) -> "Order":
    from discluster.orders import Undrain

    return Undrain(host=options.host, dry_run=options.dry_run)


def _cluster_size(options: argparse.Namespace) -> "Order":
    from discluster.orders import ClusterSize

    return ClusterSize(
        host=options.host, shards_per_cluster=options.number, dry_run=options.dry_run
    )


def _remove(options: argparse.Namespace) -> "Order":
    from discluster.orders import RemoveHost

    if options.yes and not options.lost:
        options.complain("--yes is about --lost; nothing else asks")
    return RemoveHost(host=options.host, lost=options.lost, dry_run=options.dry_run)


async def _revoke(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import authority

    return await authority.revoke(context, host=options.host)


async def _token_create(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import commands

    return await commands.token_create(context, host=options.host, ttl=options.ttl)
