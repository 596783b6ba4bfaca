# SPDX-License-Identifier: Apache-2.0
"""What all groups of commands share: how a command is added, and the types of arguments."""

import argparse
import re
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

if TYPE_CHECKING:
    from discluster.ctl.commands import Context
    from discluster.ctl.orders import Wait
    from discluster.orders import Order

Command = Callable[["Context", argparse.Namespace], Coroutine[Any, Any, int]]

ORDER_EPILOG: Final = (
    "MASTER does it, and sessions move with their shards: neither Ctrl-C nor a terminal that is"
    " closed stops it; 'disclusterctl moves' looks at it again. Exit status: 0 if it is done, with"
    " --no-wait or --dry-run if it was, or would be, taken; 1 if it was refused; 4 if it ended"
    " before all had moved, by its deadline, another order or --timeout; 130 after Ctrl-C; 69 if"
    " MASTER does not answer."
)
_UNITS: Final = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
_MASTER_SOCKET: Final = "MASTER's socket (default: /run/discluster/master/master.sock)"
_MASTER: Final = (
    "a MASTER elsewhere that you are logged in to (default: MASTER's socket if it is here, else the"
    " last login)"
)
_CONTROL_SOCKET: Final = "CONTROL's socket (default: /run/discluster/control/control.sock)"


def add_common(parser: argparse.ArgumentParser, *, hidden: bool) -> None:
    """The global options; commands take them too, so that their place does not matter."""

    def add(option: str, help_text: str, **more: Any) -> None:
        if hidden:
            # A command's default must not undo what was given before the command.
            more["default"] = help_text = argparse.SUPPRESS
        parser.add_argument(option, help=help_text, **more)

    add("--socket", _MASTER_SOCKET, metavar="PATH", type=Path)
    add("--master", _MASTER, metavar="URL|HOST")
    add("--control-socket", _CONTROL_SOCKET, metavar="PATH", type=Path)
    add("--no-color", "no colours", action="store_true")


def add_command(
    commands: Any, name: str, command: Command, help_text: str, *, epilog: str | None = None
) -> argparse.ArgumentParser:
    """A command that does something. ``options.complain(text)`` ends it as misuse."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help_text,
        description=_sentence(help_text),
        epilog=epilog,
        allow_abbrev=False,
    )
    parser.set_defaults(command=command, complain=parser.error)
    add_common(parser, hidden=True)
    return parser


def add_group(commands: Any, name: str, help_text: str) -> Any:
    """A command that only has commands of its own; these are added to what is returned."""
    group = commands.add_parser(
        name, help=help_text, description=_sentence(help_text), allow_abbrev=False
    )
    return group.add_subparsers(metavar="COMMAND", required=True)


def add_json(parser: argparse.ArgumentParser, help_text: str = "as JSON") -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help=help_text)


def add_waiting(parser: argparse.ArgumentParser) -> None:
    """Options of a command that waits until shards have moved."""
    parser.add_argument("--no-wait", action="store_true", help="do not wait until all has moved")
    parser.add_argument(
        "--timeout",
        type=duration,
        metavar="TIME",
        help="wait no longer than that, such as 10min; it goes on then (exit status 4)",
    )
    add_json(parser, "as JSON, one object a line: MASTER's answer, and in the end how far it is")


def add_order(
    commands: Any,
    name: str,
    order: Callable[[argparse.Namespace], "Order"],
    help_text: str,
    *,
    about: str = "",
) -> argparse.ArgumentParser:
    """A command that gives the ``order`` that its options say. ``about``: what else to know."""

    async def give(context: "Context", options: argparse.Namespace) -> int:
        from discluster.ctl import orders

        return await orders.give(
            context,
            order(options),
            waiting(options),
            json=options.json,
            assume_yes=getattr(options, "yes", False),
        )

    epilog = f"{about} {ORDER_EPILOG}".strip()
    parser = add_command(commands, name, give, help_text, epilog=epilog)
    parser.add_argument("--dry-run", action="store_true", help="only tell what would move, and why")
    add_waiting(parser)
    return parser


def waiting(options: argparse.Namespace) -> "Wait":
    """What :func:`add_waiting` reads."""
    from discluster.ctl.orders import Wait

    return Wait(wait=not options.no_wait, timeout=options.timeout)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def duration(text: str) -> float:
    """``90s``, ``30min``, ``1h``, ``2d``, or seconds alone."""
    match = re.fullmatch(r"([0-9]{1,9}) ?(s|min|m|h|d)?", text)
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 90s, 30min, 1h or 2d")
    return float(int(match[1]) * _UNITS[match[2] or "s"])


def number(text: str) -> int:
    """A count, or a generation."""
    if not re.fullmatch(r"[0-9]{1,18}", text) or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def host(text: str) -> str:
    """A host's name."""
    from discluster.plan import HostName

    if complaint := get_args(HostName)[1].check(text):
        raise argparse.ArgumentTypeError(complaint)
    return text


def since(text: str) -> float:
    """A moment, or how long ago it was; wall-clock seconds."""
    if re.fullmatch(r"[0-9]{4}-.*", text):
        for form in ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"):
            try:
                return time.mktime(time.strptime(text.replace("T", " "), form))
            except (ValueError, OverflowError):
                continue
        raise argparse.ArgumentTypeError(f"{text!r} is no date such as '2026-05-31 14:30'")
    return time.time() - duration(text)
