# SPDX-License-Identifier: Apache-2.0
"""``disclusterctl identify``: status, resume."""

import argparse
from typing import TYPE_CHECKING, Any, Final

from discluster.ctl.parsers.base import add_command, add_group, add_json

if TYPE_CHECKING:
    from discluster.ctl.commands import Context

_STATUS_EPILOG: Final = (
    "Exit status: 3 while nobody may identify, or a shard is held back; 69 if MASTER does not"
    " answer."
)
_RESUME_EPILOG: Final = (
    "Mend first what ended the sessions: a shard that goes on identifying is stopped again. Exit"
    " status: 0 if something was released or nothing was held back, 69 if MASTER does not answer."
)


def add(commands: Any) -> None:
    """Adds the group to the command line."""
    text = "who may start sessions, how many are left today, and what the guard holds back"
    inner = add_group(commands, "identify", text)
    text = "lanes, budget, guard and who waits"
    add_json(add_command(inner, "status", _status, text, epilog=_STATUS_EPILOG))
    text = "let go what the guard holds back"
    resume = add_command(inner, "resume", _resume, text, epilog=_RESUME_EPILOG)
    resume.add_argument(
        "--shard",
        type=int,
        action="append",
        metavar="N",
        help="only this shard; can be given several times. Without it all, and the whole fleet",
    )
    resume.add_argument(
        "--reserve",
        action="store_true",
        help="let the reserve of the daily budget be spent, too, until the next reset",
    )


async def _status(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import commands

    return await commands.identify_status(context, json=options.json)


async def _resume(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import commands

    return await commands.identify_resume(context, shards=options.shard, reserve=options.reserve)
