# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.chaos``: kills, counts, and writes docs/chaos.md (``make chaos``)."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.bench.machine import this_machine
from tests.bench.processes import REPOSITORY
from tests.chaos import campaigns
from tests.chaos.peers.rows import Peers, peer_rows
from tests.chaos.report import document, line
from tests.chaos.rows import Results, Row, read, save

SEED: Final = 20
_BROKEN: Final = 1


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="chaos",
        description="Kills processes of a fleet under load and counts what Discord sent.",
        epilog="Exit status: 0 every row keeps its promise; 1 one does not.",
    )
    parser.add_argument("--short", action="store_true", help="two minutes; written to build/chaos")
    parser.add_argument(
        "--no-peers", action="store_true", help="our fleet only, not the libraries of others"
    )
    parser.add_argument("--seed", type=int, default=SEED, help="(default: %(default)s)")
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="only write the document anew from FILE"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIRECTORY", help="(default: docs, or build/chaos)"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options = build_parser().parse_args(arguments)
    raw = REPOSITORY / "build" / "chaos"
    # Started in the background by a shell we ignore SIGINT, and so would all that we start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        results = read(options.report) if options.report else asyncio.run(_measured(options))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130  # what was started has ended
    output: Path = options.output or (raw if results.short else REPOSITORY / "docs")
    if not options.report:
        save(results, (output if results.short else raw) / "chaos.json")
    output.mkdir(parents=True, exist_ok=True)
    (output / "chaos.md").write_text(document(results))
    print(f"written: {output / 'chaos.md'}")
    return _BROKEN if any(row.broken for row in results.rows) else 0


async def _measured(options: argparse.Namespace) -> Results:
    machine = this_machine(with_peers=False)
    form = campaigns.short_form if options.short else campaigns.long_form
    rows = await form(options.seed, _tell)
    peers = Peers()
    if not options.short and not options.no_peers:
        peers = await peer_rows(seed=options.seed, rate=campaigns.RATE, tell=_tell)
    return Results(
        rows=(*rows, *peers.rows),
        versions=peers.versions,
        absent=peers.absent,
        seed=options.seed,
        short=options.short,
        rate=campaigns.RATE,
        date=machine.date,
        commit=machine.commit,
        machine=f"{machine.cpu}, {machine.cores} cores, Linux {machine.kernel},"
        f" Python {machine.python}",
    )


def _tell(row: Row) -> None:
    print(line(row), flush=True)


if __name__ == "__main__":
    sys.exit(main())
