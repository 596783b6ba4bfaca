# SPDX-License-Identifier: Apache-2.0
"""MASTER at size: `make bench-master` -> its section in docs/benchmarks.md.

MASTER is the program as it is installed, on one core; its CONTROLs are simulated by one process on
another (`tests/bench/master_hosts.py`), each with a TLS connection of its own.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template
from typing import Final

import msgspec

from discluster.console import Event
from discluster.messages import encode
from discluster.orders import Reload
from tests.bench.machine import Machine, this_machine
from tests.bench.master_fleet import Fleet, Span, rig
from tests.bench.processes import BenchError, cores
from tests.bench.sections import with_master_section

SHARDS_A_THOUSAND: Final = 65_536
SIZES: Final = (100, 300, 1000)
SHARDS_PER_CLUSTER: Final = 12
_TEMPLATE: Final = Path(__file__).with_name("master.md")


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one size. ``noticed``: seconds from the power cut until MASTER said that the last
    of the hosts is lost; ``dials``: of hosts whose connection had ended, 0 unless a process
    was starved; ``rss``: kB of MASTER, after everything else.
    """

    fleet: Fleet
    start: Span
    push: Span
    rest: Span
    join: Span
    lost: Span
    noticed: float
    dials: int
    rss: int


def fleet_of(hosts: int, *, quick: bool = False) -> Fleet:
    """With the shipped settings; ``quick``: with a lease that a test can wait for."""
    return Fleet(
        hosts=hosts,
        shards=round(hosts * SHARDS_A_THOUSAND / 1000),
        lost=hosts // 10,
        lease=3.0 if quick else 30.0,
        ping_interval=0.5 if quick else 5.0,
        start_wait=10.0 if quick else 120.0,
        rest=3.0 if quick else 30.0,
    )


async def measure(fleet: Fleet) -> Sample:
    """Everything once, on a fresh MASTER."""
    with tempfile.TemporaryDirectory(prefix="bench-master-") as name:
        began = time.monotonic()
        async with rig(fleet, Path(name), cores=cores()) as made:
            settle = f"settle {fleet.shards}"
            start = await made.span(f"connect {fleet.hosts}", settle)
            made.set_cluster_size(SHARDS_PER_CLUSTER)
            narrow = f"narrow {SHARDS_PER_CLUSTER}"
            push = await made.span(narrow, settle, order=encode(Reload()))
            rest = await made.rest(fleet.rest)
            join = await made.span(f"connect {fleet.hosts + 1}", settle)
            # After its own start MASTER gives nothing away for a while.
            patience = max(fleet.start_wait, 2 * fleet.lease) + fleet.lease / 2
            await made.rest(max(0.0, began + patience - time.monotonic()))
            cut = time.time()
            lost = await made.span(f"lose {fleet.lost}", settle)
            events = await made.events(since=cut)
            return Sample(
                fleet=fleet,
                start=start,
                push=push,
                rest=rest,
                join=join,
                lost=lost,
                noticed=noticed(events) - cut,
                dials=(await made.command("look 0")).dials,
                rss=made.master.memory().rss,
            )


def noticed(events: Sequence[Event]) -> float:
    """When MASTER said that the last host is lost; wall clock, seconds."""
    told = [event.at for event in events if event.kind == "host" and " lost" in event.sentence]
    if not told:
        raise BenchError("MASTER recorded no lost host")
    return max(told)


# --- the section ---------------------------------------------------------------------------------

_ROWS: Final[tuple[tuple[str, Callable[[Sample], str]], ...]] = (
    ("shards", lambda s: f"{s.fleet.shards:,}"),
    ("**Start**: first dial until all have their plan, s", lambda s: f"{s.start.seconds:.1f}"),
    ("… CPU time, s", lambda s: f"{s.start.cpu:.1f}"),
    ("**Full push** of a new plan: until all have it, s", lambda s: f"{s.push.seconds:.1f}"),
    ("… CPU time, s", lambda s: f"{s.push.cpu:.2f}"),
    ("… bytes", lambda s: f"{s.push.bytes:,}"),
    ("… longest that MASTER did not answer, s", lambda s: f"{s.push.stall:.2f}"),
    ("**At rest**: CPU, % of a core", lambda s: f"{100 * s.rest.cpu / s.rest.seconds:.1f}"),
    ("… longest that MASTER did not answer, s", lambda s: f"{s.rest.stall:.2f}"),
    ("**A host joins**: until its shards run there, s", lambda s: f"{s.join.seconds:.1f}"),
    ("… generations", lambda s: f"{s.join.generations}"),
    ("… plans pushed", lambda s: f"{s.join.pushes:,}"),
    ("… CPU time for each generation, s", lambda s: f"{s.join.cpu / s.join.generations:.2f}"),
    ("**A tenth of the hosts lost** at once: hosts", lambda s: f"{s.fleet.lost}"),
    ("… power cut until MASTER says so, s", lambda s: f"{s.noticed:.1f}"),
    ("… until the others have all their shards, s", lambda s: f"{s.lost.seconds:.1f}"),
    ("… longest that MASTER did not answer, s", lambda s: f"{s.lost.stall:.2f}"),
    ("**Memory** of MASTER, MB", lambda s: f"{s.rss / 1000:.0f}"),
)


def table(samples: Sequence[Sample]) -> str:
    """Markdown, a column for each size."""
    head = "| | " + " | ".join(f"{s.fleet.hosts:,} hosts" for s in samples) + " |"
    rows = [f"| {name} | {' | '.join(map(cell, samples))} |" for name, cell in _ROWS]
    return "\n".join([head, "|---|" + "--:|" * len(samples), *rows])


def section(samples: Sequence[Sample], machine: Machine) -> str:
    """The table with its method."""
    return Template(_TEMPLATE.read_text()).substitute(
        table=table(samples),
        date=machine.date,
        commit=machine.commit,
        machine=f"{machine.cpu} with {machine.cores} cores, kernel {machine.kernel}, Python"
        f" {machine.python}",
        per_cluster=SHARDS_PER_CLUSTER,
        lease=f"{samples[0].fleet.lease:g}",
        ping=f"{samples[0].fleet.ping_interval:g}",
        rest=f"{samples[0].fleet.rest:g}",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.master", description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=SIZES, help="sizes to measure")
    parser.add_argument("--quick", action="store_true", help="a short lease: shows that it runs")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--page", type=Path, help="put the section into this page")
    options = parser.parse_args(arguments)
    samples = []
    for hosts in options.hosts:
        samples.append(asyncio.run(measure(fleet_of(hosts, quick=options.quick))))
        print(table(samples[-1:]), flush=True)
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(samples), indent=1))
    if options.page is not None:
        text = section(samples, this_machine(with_peers=False))
        options.page.write_text(with_master_section(options.page.read_text(), text))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"error: {error}")
