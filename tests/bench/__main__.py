# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.bench``: measures, and writes docs/benchmarks.md (``make bench-gateway``)."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Final

from tests.bench.idle import HEARTBEAT, IdleSample, StartSample, measure_idle, measure_start
from tests.bench.machine import this_machine
from tests.bench.measure import Sample, measure
from tests.bench.processes import REPOSITORY, BenchError, Cores, cores
from tests.bench.report import document, picture
from tests.bench.results import Results, read, save
from tests.bench.rows import Row, all_rows, chosen, needs_installation
from tests.clients import installation
from tests.installing import InstallError

_RUNS: Final = 5
_FEW: Final = 3
_QUICK_SCALE: Final = 0.02
_QUICK_ROWS: Final = (
    *("ours-count:zstd", "ours-parse:none", "local:none", "local-four:zstd", "local-z*"),
    *("floor:zlib", "calibration:*"),
)
_QUICK_HEARTBEAT: Final = 0.3
# Row, TLS, numbers of shards. The lines of one size tell what TLS and decompression take.
_IDLE: Final = (
    ("ours-count:zstd", True, (1, 100, 1000)),
    ("ours-count:zlib", True, (1, 100)),
    ("ours-count:none", True, (1, 100)),
    ("ours-count:zstd", False, (1, 100)),
    ("ours-count:none", False, (1, 100)),
    ("discordjs-ws:none", True, (1, 100)),
    ("discord.py:zstd", True, (1, 100)),
)
_QUICK_IDLE: Final = (("ours-count:zstd", True, (1, 4)),)
_START_SHARDS: Final = 500


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="bench-gateway",
        description="Measures the gateway path beside other people's clients and the floor.",
    )
    parser.add_argument("--runs", type=int, default=_RUNS, help="rounds (default: %(default)s)")
    parser.add_argument(
        "--rows",
        nargs="+",
        default=[],
        metavar="NAME:COMPRESSION",
        help="these rows only, patterns allowed; the document is then written to build/bench",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a smoke run of a few seconds: own rows, few events; written to build/bench",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="measure nothing, write the document anew from the single runs in FILE",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIRECTORY",
        help="where the document and its picture go (default: docs, or build/bench for a part)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    options = build_parser().parse_args(arguments)
    try:
        results = read(options.report) if options.report else asyncio.run(_measured(options))
    except BenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130  # what was started has ended
    part = bool(options.quick or options.rows)
    raw = REPOSITORY / "build" / "bench"
    output: Path = options.output or (raw if part else REPOSITORY / "docs")
    if not options.report:
        save(results, output if part else raw)
    _write(results, output)
    return 0


def _write(results: Results, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    image, text = output / "benchmarks.svg", output / "benchmarks.md"
    image.write_text(picture(results, all_rows()))
    before = text.read_text() if text.exists() else ""
    text.write_text(document(results, all_rows(), picture=image.name, before=before))
    print(f"wrote {text} and {image}")


async def _measured(options: argparse.Namespace) -> Results:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    rows = chosen(options.rows or (_QUICK_ROWS if options.quick else ()))
    with_peers = needs_installation(rows)
    if with_peers:
        _install()
    scale = _QUICK_SCALE if options.quick else 1.0
    runs = 1 if options.quick else options.runs
    where = _cores(alone=not options.quick)
    samples = await _rounds(rows, runs, where, scale)
    few = min(runs, _FEW)
    return Results(
        machine=this_machine(with_peers=with_peers),
        runs=runs,
        scale=scale,
        samples=tuple(samples),
        idle=tuple(await _idle(rows, few, where, quick=options.quick)),
        starts=tuple(await _starts(few, where, shards=10 if options.quick else _START_SHARDS)),
    )


def _install() -> None:
    try:
        installation.install()
    except InstallError as error:
        raise BenchError(
            f"{error}\n(measure a part: --rows 'ours*' 'floor*' 'calibration*')"
        ) from None


def _cores(*, alone: bool) -> Cores:
    where = cores()
    if alone and where.client == where.simulator:
        raise BenchError("two cores are needed: one for the client, one for the simulator")
    # This process, too, keeps off the client's core.
    os.sched_setaffinity(0, {where.simulator})
    return where


async def _rounds(rows: Sequence[Row], runs: int, where: Cores, scale: float) -> list[Sample]:
    samples = []
    for number in range(1, runs + 1):
        for row in rows:
            sample = await measure(row, cores=where, scale=scale)
            print(f"{number}/{runs} {row.key:18} {sample.rate:12,.0f} events/CPU-s", flush=True)
            samples.append(sample)
    return samples


async def _idle(rows: Sequence[Row], runs: int, where: Cores, *, quick: bool) -> list[IdleSample]:
    known = {row.key: row for row in rows}
    heartbeat = _QUICK_HEARTBEAT if quick else HEARTBEAT
    samples = []
    for number, (key, tls, sizes) in product(range(1, runs + 1), _QUICK_IDLE if quick else _IDLE):
        for shards in sizes if key in known else ():
            sample = await measure_idle(
                known[key], shards, cores=where, tls=tls, heartbeat=heartbeat
            )
            print(f"{number}/{runs} {key:18} {shards:6} idle: {sample.rss:9,} kB", flush=True)
            samples.append(sample)
    return samples


async def _starts(runs: int, where: Cores, *, shards: int) -> list[StartSample]:
    samples = []
    for number in range(1, runs + 1):
        sample = await measure_start(shards, cores=where)
        print(f"{number}/{runs} start of {shards} shards: {sample.wall:.2f} s", flush=True)
        samples.append(sample)
    return samples


if __name__ == "__main__":
    sys.exit(main())
