# SPDX-License-Identifier: Apache-2.0
"""What it costs per event to have the session on disk: `make bench-sessions` -> docs/sessions.md.

All ways are measured in one process, one after the other in each round, so that a slow minute of
the machine meets all of them alike; the figures are medians over the rounds, of processor time but
for those that wait for the disk. The intake is the cluster's own, with a handler that does nothing.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from discluster.clock import SystemClock
from discluster.gateway.contracts import Sessions
from discluster.gateway.envelope import Envelope
from discluster.gateway.events import Event
from discluster.gateway.handling import as_handling
from discluster.gateway.intake import Intake
from discluster.plan import Session
from discluster.sessions import SessionFile, SessionSlot
from tests.bench.machine import this_machine

ROUNDS = 5
SESSION = Session(session_id="5" * 32, resume_url="wss://gateway-us-east1-b.discord.gg", seq=0)
BATCH = 100

Work = Callable[[int], float]
"""Runs so many times; returns seconds."""


@dataclass(frozen=True)
class Way:
    """``times``: in one round."""

    name: str
    times: int
    work: Work


@dataclass(frozen=True)
class Row:
    """``nanoseconds``: median for one event; ``low``, ``high``: of the rounds."""

    name: str
    times: int
    nanoseconds: float
    low: float
    high: float


class Nowhere:
    """Sessions that are kept nowhere."""

    def load(self) -> Session | None:
        return SESSION

    def save(self, session: Session) -> None:
        pass

    def advance(self, seq: int) -> None:
        pass

    def clear(self) -> None:
        pass


def intake_way(sessions: Sessions) -> Work:
    """Events in runs of BATCH, as they come from a socket."""

    def nothing(event: Event) -> None:
        pass

    intake = Intake(
        shard=0,
        sessions=sessions,
        handling=as_handling(nothing, clock=SystemClock()),
        note=lambda envelope: None,
        wanted=lambda: True,
        unacknowledged=1000,
    )
    intake.load()

    def work(times: int) -> float:
        first = (intake.seq or 0) + 1
        events = [Envelope(op=0, s=first + n, t="MESSAGE_CREATE") for n in range(times)]
        runs = [events[at : at + BATCH] for at in range(0, times, BATCH)]
        began = time.process_time()
        for run in runs:
            intake.take(run, now=0.0)
        took = time.process_time() - began
        assert intake.seq == first + times - 1
        return took

    return work


def store_way(store: Callable[[int], object], *, clock: Callable[[], float]) -> Work:
    """One store for each sequence; ``clock``: of the processor, or of the wall for a disk."""

    def work(times: int) -> float:
        began = clock()
        for seq in range(times):
            store(seq)
        return clock() - began

    return work


def pwrite_store(file: int, *, flush: bool) -> Callable[[int], object]:
    """The same eight bytes by a system call; flushed, they outlive the machine too."""
    pack = struct.Struct("<Q").pack

    def store(seq: int) -> None:
        os.pwrite(file, pack(seq), 64)
        if flush:
            os.fdatasync(file)

    return store


def sqlite_store(
    path: Path, synchronous: str
) -> tuple[sqlite3.Connection, Callable[[int], object]]:
    """A row for each shard, one transaction for each event."""
    base = sqlite3.connect(path, isolation_level=None)
    base.execute("PRAGMA journal_mode=WAL")
    base.execute(f"PRAGMA synchronous={synchronous}")
    base.execute("CREATE TABLE sessions (shard INTEGER PRIMARY KEY, seq INTEGER)")
    base.execute("INSERT INTO sessions VALUES (0, 0)")
    return base, lambda seq: base.execute("UPDATE sessions SET seq = ? WHERE shard = 0", (seq,))


@contextmanager
def ways(directory: Path, scale: float) -> Iterator[list[Way]]:
    """All ways, on files in ``directory``; ``scale``: of how often each is run."""
    many, some, few = (max(BATCH, round(n * scale)) for n in (500_000, 50_000, 500))
    file = SessionFile(directory / "sessions")
    taken = [_slot(file, shard) for shard in range(2)]
    plain = os.open(directory / "plain", os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(plain, 4096)
    off, update_off = sqlite_store(directory / "off.db", "OFF")
    normal, update_normal = sqlite_store(directory / "normal.db", "NORMAL")
    cpu, wall = time.process_time, time.perf_counter
    pwrite, flush = pwrite_store(plain, flush=False), pwrite_store(plain, flush=True)
    try:
        yield [
            Way("an empty call", many, store_way(Nowhere().advance, clock=cpu)),
            Way("`SessionSlot.advance`", many, store_way(taken[0].advance, clock=cpu)),
            Way("`pwrite` of 8 bytes", many, store_way(pwrite, clock=cpu)),
            Way("sqlite, WAL, synchronous=off", some, store_way(update_off, clock=cpu)),
            Way("sqlite, WAL, synchronous=normal", some, store_way(update_normal, clock=cpu)),
            Way("`pwrite` + `fdatasync` (elapsed)", few, store_way(flush, clock=wall)),
            Way("intake, sessions kept nowhere", many, intake_way(Nowhere())),
            Way("intake, session file", many, intake_way(taken[1])),
        ]
    finally:
        off.close()
        normal.close()
        os.close(plain)
        del taken
        file.close()


def _slot(file: SessionFile, shard: int) -> SessionSlot:
    slot = file.slot(shard, 16)
    slot.take_over(SESSION, 1)
    return slot


def measure(directory: Path, *, rounds: int, scale: float) -> list[Row]:
    """All ways in each round."""
    with ways(directory, scale) as measured:
        taken: dict[str, list[float]] = {way.name: [] for way in measured}
        for _ in range(rounds):
            for way in measured:
                taken[way.name].append(way.work(way.times) / way.times * 1e9)
        return [
            Row(way.name, way.times, statistics.median(found), min(found), max(found))
            for way in measured
            for found in [taken[way.name]]
        ]


def table(rows: Sequence[Row]) -> str:
    """Markdown; the ratio is to the session file's store."""
    (base,) = [row.nanoseconds for row in rows if "advance" in row.name]
    lines = ["| way | ns per event | range | ratio | events in a round |", "|---|--:|--:|--:|--:|"]
    lines += [
        f"| {row.name} | {row.nanoseconds:,.0f} | {row.low:,.0f}–{row.high:,.0f}"
        f" | {row.nanoseconds / base:,.1f} | {row.times:,} |"
        for row in rows
    ]
    return "\n".join(lines)


def conclusion(rows: Sequence[Row]) -> str:
    """The difference that the file makes to an event."""
    took = {row.name: row.nanoseconds for row in rows}
    without, stored = took["intake, sessions kept nowhere"], took["intake, session file"]
    return (
        f"In the intake the session file adds {stored - without:,.0f} ns to an event's"
        f" {without:,.0f} ns, which include the empty call, but no socket, inflation or\nparsing."
    )


def page(rows: Sequence[Row], *, rounds: int, directory: Path) -> str:
    """The table with its method, for docs/."""
    method = (__doc__ or "").partition("\n\n")[2].strip()
    machine = this_machine(with_peers=False)
    return (
        "<!-- SPDX-License-Identifier: Apache-2.0 -->\n<!-- Written by `make bench-sessions`. -->"
        "\n\n# What the session file costs\n\nThe last sequence that the handler took is stored for"
        f" each event, so that a crash of the cluster\nloses none.\n\n{table(rows)}\n\n"
        f"{conclusion(rows)}\n\n{method}\n\n"
        "Whatever is stored outlives SIGKILL of the process. Only `fdatasync` is sure to outlive a"
        " power cut;\nwithout it the sequence found afterwards may be an older one, from which"
        " Discord replays more.\n\n"
        f"{machine.date}, commit {machine.commit}, {machine.cpu} with {machine.cores} cores, kernel"
        f" {machine.kernel}, Python {machine.python}, SQLite {sqlite3.sqlite_version},"
        f" {rounds} rounds, files on {_file_system(directory)}.\n"
    )


def _file_system(directory: Path) -> str:
    """The kind of the mount that ``directory`` is on."""
    found = ("", "an unknown file system")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split()
        if directory.is_relative_to(mount) and len(mount) >= len(found[0]):
            found = (mount, kind)
    return found[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sessions", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few events: shows that it runs")
    parser.add_argument("--output", type=Path, help="write the page here, too")
    options = parser.parse_args(arguments)
    rounds, scale = (1, 0.002) if options.quick else (ROUNDS, 1.0)
    with tempfile.TemporaryDirectory() as directory:
        rows = measure(Path(directory), rounds=rounds, scale=scale)
        text = page(rows, rounds=rounds, directory=Path(directory))
    print(table(rows))
    if options.output is not None:
        options.output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
