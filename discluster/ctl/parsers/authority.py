# SPDX-License-Identifier: Apache-2.0
"""``disclusterctl ca``: status, rotate."""

import argparse
from typing import TYPE_CHECKING, Any, Final

from discluster.ctl.parsers.base import add_command, add_group, add_json

if TYPE_CHECKING:
    from discluster.ctl.commands import Context

_STATUS: Final = (
    "Certificates are renewed by themselves at two thirds of their life. Exit status: 3 if one has"
    " expired, or was not renewed for so long that it will; 69 if MASTER does not answer."
)
_ROTATE: Final = (
    "First all hosts learn to trust the new authority beside the old one, then their certificates"
    " are made anew, and when all have theirs the old one counts no more. Nothing is disconnected."
    " MASTER does it by itself, over its restarts too; it waits for hosts that are away. Exit"
    " status: 0 if it was begun; 1 if it is under way already, or with --finish if it is not; 69"
    " if MASTER does not answer."
)


def add(commands: Any) -> None:
    """Adds the group to the command line."""
    inner = add_group(commands, "ca", "the fleet's certificates, and the authority that makes them")
    text = "who has which certificate, and until when"
    add_json(add_command(inner, "status", _status, text, epilog=_STATUS))
    text = "replace the authority while the fleet runs"
    rotate = add_command(inner, "rotate", _rotate, text, epilog=_ROTATE)
    rotate.add_argument(
        "--finish",
        action="store_true",
        help="of one under way: wait no longer for hosts that are away now; they must join again",
    )


async def _status(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import authority

    return await authority.status(context, json=options.json)


async def _rotate(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import authority

    return await authority.rotate(context, finish=options.finish)
