# SPDX-License-Identifier: Apache-2.0
"""disclusterctl: look at and manage a fleet.

Only argparse is imported before it is known what to do; rich, aiohttp and asyncio cost more time
than ``--help`` or an error takes.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO, get_args

from discluster import __version__
from discluster.ctl import restart_options
from discluster.errors import DisclusterError

if TYPE_CHECKING:
    from discluster.ctl.commands import Context

Command = Callable[["Context", argparse.Namespace], Coroutine[Any, Any, int]]

RUNTIME_DIRECTORY: Final = "/run/discluster"
BROKEN_PIPE: Final = 141
INTERRUPTED: Final = 130
_BUG: Final = 1
_UNWRITABLE: Final = 74
_UNITS: Final = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
_MASTER_SOCKET: Final = "MASTER's socket (default: /run/discluster/master.sock)"
_CONTROL_SOCKET: Final = "CONTROL's socket (default: /run/discluster/control.sock)"

_EPILOG: Final = (
    "Run it on MASTER's machine. On a machine with a CONTROL only, 'status' shows that machine."
    " DISCLUSTER_RUNTIME_DIRECTORY names another directory than /run/discluster for both sockets."
    " NO_COLOR, like --no-color, takes the colours away; output that is not a terminal has none."
)

_STATUS_EPILOG: Final = (
    "Exit status, also with --json: 0 if all is well; 3 if there is an error or a warning, if not"
    " every shard is ready, or if MASTER is away and only this machine's CONTROL answers; 69 if"
    " neither answers. 0 after Ctrl-C with --watch."
)

_RESUME_EPILOG: Final = (
    "Mend first what ended the sessions: a shard that goes on identifying is stopped again. Exit"
    " status: 0 if something was released or nothing was held back, 69 if MASTER does not answer."
)


def build_parser() -> argparse.ArgumentParser:
    """The command line, also the source of the manual page."""
    parser = argparse.ArgumentParser(
        prog="disclusterctl",
        description="Look at and manage a Discluster fleet.",
        epilog=_EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"disclusterctl {__version__}")
    _add_common(parser, hidden=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_status(commands)
    _add(commands, "hosts", _hosts, "the machines of the fleet as a table")
    _add_plan(commands)
    _add_token(commands)
    _add_restart(commands)
    _add_identify(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status. Never raises but SystemExit of the parser."""
    _tolerate_any_text(sys.stdout, sys.stderr)
    try:
        try:
            return _run(build_parser().parse_args(argv))
        finally:
            sys.stdout.flush()  # here, where its failure can be told in words
    except DisclusterError as error:
        return _complain(error.render(), error.exit_status)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return BROKEN_PIPE
    except OSError as error:
        _drop_output()
        where = error.filename or "the answer cannot be written"
        return _complain(f"{where}: {error.strerror or error}", _UNWRITABLE)
    except Exception as error:
        return _complain(bug_report(error), _BUG)


def _run(options: argparse.Namespace) -> int:
    import asyncio

    from discluster.clock import SystemClock
    from discluster.ctl.client import Master
    from discluster.ctl.commands import Context
    from discluster.ctl.screen import Screen

    runtime = Path(os.environ.get("DISCLUSTER_RUNTIME_DIRECTORY") or RUNTIME_DIRECTORY)
    command: Command = options.command
    context = Context(
        master=Master(options.socket or runtime / "master.sock"),
        control_socket=options.control_socket or runtime / "control.sock",
        screen=Screen(out=sys.stdout, err=sys.stderr, no_color=options.no_color),
        clock=SystemClock(),
    )
    return asyncio.run(command(context, options))


def _tolerate_any_text(*streams: TextIO) -> None:
    """A character that the terminal's encoding lacks becomes ``?`` instead of an error."""
    for stream in streams:
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")


def _drop_output() -> None:
    """Or the interpreter complains about the unwritten rest when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(text: str, status: int) -> int:
    from discluster.ctl import words

    print(f"error: {words.clean(text)}", file=sys.stderr)
    return status


def bug_report(error: Exception) -> str:
    """One line about an exception that nobody expected, and where it was raised."""
    trace = error.__traceback__
    place = ""
    while trace is not None:
        place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {place}: {error} (a bug in disclusterctl; please report it)"


# --- the command line ----------------------------------------------------------------------------


def _add_common(parser: argparse.ArgumentParser, *, hidden: bool) -> None:
    """The global options; commands take them too, so that their place does not matter."""

    def add(option: str, help_text: str, **more: Any) -> None:
        if hidden:
            # A command's default must not undo what was given before the command.
            more["default"] = help_text = argparse.SUPPRESS
        parser.add_argument(option, help=help_text, **more)

    add("--socket", _MASTER_SOCKET, metavar="PATH", type=Path)
    add("--control-socket", _CONTROL_SOCKET, metavar="PATH", type=Path)
    add("--no-color", "no colours", action="store_true")


def _add(
    commands: Any, name: str, command: Command, help_text: str, *, epilog: str | None = None
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help_text,
        description=help_text[:1].upper() + help_text[1:] + ".",
        epilog=epilog,
        allow_abbrev=False,
    )
    parser.set_defaults(command=command)
    _add_common(parser, hidden=True)
    return parser


def _add_status(commands: Any) -> None:
    text = "what is wrong, then the fleet, its hosts, clusters and shards"
    status = _add(commands, "status", _status, text, epilog=_STATUS_EPILOG)
    status.add_argument(
        "--json", action="store_true", help="as JSON; with --watch one object a line"
    )
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


def _add_plan(commands: Any) -> None:
    text = "the plan in force, and what would change"
    group = commands.add_parser("plan", help=text, description=f"Shows {text}.")
    inner = group.add_subparsers(metavar="COMMAND", required=True)
    show = _add(inner, "show", _plan_show, "the plan in force as YAML")
    show.add_argument("host", nargs="?", type=_host, metavar="HOST", help="only this host's part")
    _add(inner, "diff", _plan_diff, "what would change if MASTER planned now, and why")


def _add_token(commands: Any) -> None:
    text = "tokens with which new machines join"
    group = commands.add_parser("token", help=text, description=f"Makes {text}.")
    inner = group.add_subparsers(metavar="COMMAND", required=True)
    create = _add(inner, "create", _token_create, "print the line to run on a new machine")
    create.add_argument("--host", type=_host, metavar="NAME", help="valid for this name only")
    create.add_argument(
        "--ttl",
        type=_duration,
        default=3600.0,
        metavar="TIME",
        help="how long it is valid: 30min, 1h (default), 2d; a bare number is seconds",
    )


def _add_restart(commands: Any) -> None:
    text = "restart clusters: some now, or all a few at a time; their shards resume"
    restart = _add(commands, "restart", _restart, text, epilog=restart_options.EPILOG)
    restart_options.add(restart, duration=_duration)


def _add_identify(commands: Any) -> None:
    text = "who may start sessions, how many are left today, and what the guard holds back"
    group = commands.add_parser("identify", help=text, description=f"Shows {text}.")
    inner = group.add_subparsers(metavar="COMMAND", required=True)
    status = _add(inner, "status", _identify_status, "lanes, budget, guard and who waits")
    status.add_argument("--json", action="store_true", help="as JSON")
    resume = _add(
        inner, "resume", _identify_resume, "let go what the guard holds back", epilog=_RESUME_EPILOG
    )
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


def _duration(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,9}) ?(s|min|m|h|d)?", text)
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 90s, 30min, 1h or 2d")
    return float(int(match[1]) * _UNITS[match[2] or "s"])


def _interval(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,3})?", text) or float(text) < 0.1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 on")
    return float(text)


def _host(text: str) -> str:
    from discluster.plan import HostName

    if complaint := get_args(HostName)[1].check(text):
        raise argparse.ArgumentTypeError(complaint)
    return text


# --- from the command line to the commands -------------------------------------------------------


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

    return await commands.hosts(context)


async def _plan_show(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import commands

    return await commands.plan_show(context, host=options.host)


async def _plan_diff(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import commands

    return await commands.plan_diff(context)


async def _restart(context: "Context", options: argparse.Namespace) -> int:
    from discluster.console import RollingRequest
    from discluster.ctl import restart

    if fault := restart_options.complaint(options):
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


async def _identify_status(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import commands

    return await commands.identify_status(context, json=options.json)


async def _identify_resume(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import commands

    return await commands.identify_resume(context, shards=options.shard, reserve=options.reserve)


async def _token_create(context: "Context", options: argparse.Namespace) -> int:
    from discluster.ctl import commands

    return await commands.token_create(context, host=options.host, ttl=options.ttl)


if __name__ == "__main__":
    sys.exit(main())
