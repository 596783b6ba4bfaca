# SPDX-License-Identifier: Apache-2.0
"""``disclusterctl call``."""

import argparse
import re
from typing import TYPE_CHECKING, Any, Final

from discluster.ctl.parsers.base import add_command, add_json

if TYPE_CHECKING:
    from discluster.ctl.commands import Context
    from discluster.messages import CallRequest

_EPILOG: Final = (
    "Each cluster that is asked has a row: what its handler answered, or why it did not:"
    " no-such-call (its handler has none of that name), raised (an exception), time-out, away (the"
    " cluster, its host or MASTER is not there), no-such-cluster, too-large, busy, unreadable. What"
    " a call does is known to the handler alone, so it takes the role operate, and is in the audit"
    " log. While MASTER is away, CONTROL of this machine asks its own clusters. Exit status: 0 if"
    " all that should be were asked, and answered well; 3 if not; 69 if neither MASTER nor CONTROL"
    " answers."
)
_LARGEST_CLUSTER: Final = 999_999


def add(commands: Any) -> None:
    """Adds it to the command line."""
    text = "call what the packet handlers of clusters offer by name, and show what each answers"
    call = add_command(commands, "call", _call, text, epilog=_EPILOG)
    call.add_argument(
        "name", metavar="NAME", type=_name, help="of the call, as the handler has it in 'calls'"
    )
    call.add_argument(
        "args", metavar="ARGS", nargs="?", default="null", help="its arguments, one value as JSON"
    )
    whom = call.add_mutually_exclusive_group(required=True)
    whom.add_argument("--all", action="store_true", help="all clusters of the fleet")
    whom.add_argument(
        "--cluster",
        type=_cluster,
        action="append",
        metavar="N",
        help="only this cluster; can be given several times",
    )
    call.add_argument(
        "--timeout",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="how long to wait for answers, of 60 seconds at most (default: 10)",
    )
    add_json(call)


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name of a call: up to 64 letters, digits, '_', '-' and '.'"
        )
    return text


def _cluster(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) > _LARGEST_CLUSTER:
        raise argparse.ArgumentTypeError(f"{text!r} is no cluster: 0 to {_LARGEST_CLUSTER}")
    return int(text)


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,3})?", text) or not 0.1 <= float(text) <= 60:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 60")
    return float(text)


async def _call(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import calls
    from discluster.decoding import DECODE_ERRORS, reason_of

    try:
        request = _request(options)
    except DECODE_ERRORS as error:
        options.complain(f"argument ARGS: no JSON: {reason_of(error)}")
        raise  # complaining ends it
    except ValueError as error:
        options.complain(f"it cannot be called: {error}")
        raise
    return await calls.call(context, request, json=options.json)


def _request(options: argparse.Namespace) -> "CallRequest":
    import msgspec

    from discluster.messages import CallRequest

    return CallRequest(
        number=0,
        name=options.name,
        args=msgspec.Raw(msgspec.json.encode(msgspec.json.decode(options.args))),
        clusters=None if options.all else tuple(options.cluster),
        timeout=options.timeout,
    )
