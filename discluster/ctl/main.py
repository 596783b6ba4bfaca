# SPDX-License-Identifier: Apache-2.0
"""disclusterctl: look at and manage a fleet.

Only argparse is imported before it is known what to do; rich, aiohttp and asyncio cost more time
than ``--help`` or an error takes.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TextIO

from discluster import __version__, places
from discluster.ctl.parsers import (
    authority,
    base,
    calls,
    identify,
    looking,
    machines,
    operators,
    plans,
    restart,
)
from discluster.errors import DisclusterError

RUNTIME_DIRECTORY: Final = "/run/discluster"
BROKEN_PIPE: Final = 141
INTERRUPTED: Final = 130
EXIT_STATUSES: Final[Mapping[int, str]] = {
    3: "status, identify status, ca status, call: there was an answer, and not all is well.",
    4: "What was waited for ended, and not as it should; or the time to wait was over.",
    INTERRUPTED: "Ctrl-C.",
    BROKEN_PIPE: "The reader of the output went away.",
}
"""Those that no error has, for the manual page."""
_BUG: Final = 1
_UNWRITABLE: Final = 74

_EPILOG: Final = (
    "On MASTER's machine it uses MASTER's socket, for root and the members of the group"
    " discluster-admin; elsewhere a login ('disclusterctl login')."
    " Without both, on a machine with a CONTROL, 'status' shows that machine, and 'call' asks its"
    " clusters."
    " DISCLUSTER_RUNTIME_DIRECTORY names another directory than /run/discluster for both sockets."
    " NO_COLOR, like --no-color, takes the colours away; output that is not a terminal has none."
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
    base.add_common(parser, hidden=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for group in (looking, plans, machines, restart, identify, calls, operators, authority):
        group.add(commands)
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
    from discluster.ctl.logins import Logins, directory_of
    from discluster.ctl.screen import Screen
    from discluster.ctl.ways import LateTransport, chosen

    runtime = Path(os.environ.get("DISCLUSTER_RUNTIME_DIRECTORY") or RUNTIME_DIRECTORY)
    command: base.Command = options.command
    logins, clock = Logins(directory_of(os.environ)), SystemClock()
    context = Context(
        master=Master(
            LateTransport(
                lambda: chosen(
                    options.socket,
                    options.master,
                    default=places.master_socket(runtime),
                    logins=logins,
                    clock=clock,
                )
            )
        ),
        control_socket=options.control_socket or places.control_socket(runtime),
        screen=Screen(out=sys.stdout, err=sys.stderr, no_color=options.no_color),
        clock=clock,
        stdin=sys.stdin,
        logins=logins,
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


if __name__ == "__main__":
    sys.exit(main())
