# SPDX-License-Identifier: Apache-2.0
"""From results to docs/benchmarks.md and its picture. Pure; the prose is in template.md."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Final

from tests.bench import idle as idle_numbers
from tests.bench.chart import Bar, Tone, chart
from tests.bench.figures import Spread, Throughput, per_idle_shard, spread, targets
from tests.bench.machine import Machine
from tests.bench.results import Results
from tests.bench.rows import SHARDS, Kind, Row
from tests.bench.sections import master_section

_TEMPLATE: Final = Path(__file__).with_name("template.md")
_TONES: Final[Mapping[Kind, Tone]] = {
    "ours": "ours",
    "calibration": "bound",
    "floor": "bound",
    "peer": "peer",
}
_OFF_THE_SCALE: Final = "floor:none"
"""So much faster than all else that nothing else could be told apart beside it."""
_SMOKE: Final = (
    "\n\n**A smoke run with few events: it shows that the benchmark runs, and nothing else.**"
)
_MET: Final = {True: "yes", False: "**no**", None: "–"}


def document(results: Results, rows: Sequence[Row], *, picture: str, before: str = "") -> str:
    """The Markdown. ``picture``: name of the picture's file, beside it. ``before``: the page as it
    was; of that the section stays that `make bench-master` wrote.
    """
    rates = Throughput(results.samples)
    measured = [row for row in rows if row.key in rates]
    return Template(_TEMPLATE.read_text()).substitute(
        picture=picture,
        date=results.machine.date,
        commit=results.machine.commit,
        smoke=_SMOKE if results.scale < 1 else "",
        targets=_targets(results, rates),
        throughput=_throughput(measured, rates),
        ratios=_ratios(measured, rates),
        idle=_idle(results, rows),
        start=_start(results),
        machine=_machine(results.machine),
        runs=results.runs,
        shards=SHARDS,
        guilds=idle_numbers.GUILDS_PER_SHARD,
        heartbeat=f"{idle_numbers.HEARTBEAT:g}",
        generator=_generator(results),
        master=master_section(before),
    )


def picture(results: Results, rows: Sequence[Row]) -> str:
    """The SVG."""
    rates = Throughput(results.samples)
    bars = [
        Bar(
            label=f"{row.title.strip('*').replace('`', '')} · {row.compression}",
            spread=rates.rate(row.key),
            tone=_TONES[row.kind],
        )
        for row in rows
        if row.key in rates and row.key != _OFF_THE_SCALE
    ]
    subtitle = f"rounds: {results.runs}; bar: median, line: range; {results.machine.cpu}, one core"
    if _OFF_THE_SCALE in rates:
        rate = rates.rate(_OFF_THE_SCALE).median
        subtitle += f"; not shown: the floor without compression ({rate:,.0f})"
    return chart("Events per CPU-second of the client", subtitle, bars)


def _targets(results: Results, rates: Throughput) -> str:
    lines = [
        (target.what, target.wanted, target.measured, _MET[target.met])
        for target in targets(rates, results.idle)
    ]
    return _table(("target", "wanted", "measured", "met"), "lrrl", lines)


def _throughput(rows: Sequence[Row], rates: Throughput) -> str:
    lines = []
    for row in rows:
        rate, samples = rates.rate(row.key), rates.of(row.key)
        cost = spread(sample.cpu / sample.events * 1e6 for sample in samples)
        wire = spread(sample.wire / sample.events for sample in samples)
        lines.append(
            (
                row.title,
                row.does,
                row.compression,
                f"{rate.median:,.0f}",
                f"{rate.low:,.0f}–{rate.high:,.0f}",
                f"{cost.median:.2f}",
                f"{wire.median:,.0f}",
                f"{samples[0].events:,}",
                f"{max(sample.rss for sample in samples) / 1024:.0f}",
            )
        )
    head = ("client", "with an event", "compression", "events per CPU-s", "range", "µs per event")
    return _table((*head, "bytes per event", "events", "RSS after, MiB"), "lllrrrrrr", lines)


def _ratios(rows: Sequence[Row], rates: Throughput) -> str:
    lines = []
    for row in rows:
        if row.name == "ours-count":
            continue
        same = rates.ratio(f"ours-count:{row.compression}", row.key)
        default = rates.ratio("ours-count:zstd", row.key)
        lines.append((row.title, row.compression, _times(same), _times(default)))
    return _table(
        ("client", "compression", "ours, same compression ÷ it", "ours, zstd ÷ it"), "llrr", lines
    )


def _idle(results: Results, rows: Sequence[Row]) -> str:
    titles = {row.key: (row.title, row.compression) for row in rows}
    kinds = dict.fromkeys((s.row, s.tls, s.shards) for s in results.idle)
    lines = []
    for key, tls, shards in kinds:
        samples = [s for s in results.idle if (s.row, s.tls, s.shards) == (key, tls, shards)]
        rss, pss = (spread(s.rss / 1024 for s in samples), spread(s.pss / 1024 for s in samples))
        each = per_idle_shard(results.idle, key, shards, tls=tls)
        lines.append(
            (
                *titles.get(key, (key, "")),
                "yes" if tls else "no",
                f"{shards:,}",
                str(samples[0].processes),
                f"{rss.median:.1f}",
                f"{pss.median:.1f}",
                "–" if each is None else f"{each.median:.1f} ({each.low:.1f}–{each.high:.1f})",
            )
        )
    head = ("client", "compression", "TLS", "shards", "processes", "RSS, MiB", "PSS, MiB")
    return _table((*head, "kB RSS per shard beyond the first"), "lllrrrrr", lines)


def _start(results: Results) -> str:
    lines = []
    for shards in dict.fromkeys(sample.shards for sample in results.starts):
        samples = [sample for sample in results.starts if sample.shards == shards]
        wall, cpu = spread(s.wall for s in samples), spread(s.cpu for s in samples)
        lines.append((f"{shards:,}", str(samples[0].processes), _seconds(wall), _seconds(cpu)))
    return _table(("shards", "processes", "wall, s", "CPU, s"), "rrrr", lines)


def _machine(machine: Machine) -> str:
    lines = [
        ("processor", f"{machine.cpu}, {machine.cores} cores"),
        ("kernel", machine.kernel),
        ("Python", machine.python),
        ("our libraries", _versions(machine.ours)),
        ("Node", machine.node or "not measured"),
        ("clients in Python", _versions(machine.python_peers)),
        ("clients in Node", _versions(machine.node_peers)),
    ]
    return _table(("", ""), "ll", lines)


def _versions(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items()) or "not measured"


def _generator(results: Results) -> str:
    busy = max((sample.simulator_cpu / sample.wall for sample in results.samples), default=0.0)
    return f"{busy:.0%}"


def _times(ratio: Spread | None) -> str:
    if ratio is None:
        return "–"
    return f"{ratio.median:.2f} ({ratio.low:.2f}–{ratio.high:.2f})"


def _seconds(found: Spread) -> str:
    return f"{found.median:.2f} ({found.low:.2f}–{found.high:.2f})"


def _table(head: Sequence[str], align: str, lines: Iterable[Sequence[str]]) -> str:
    """``align``: l or r for each column."""
    found = list(lines)
    if not found:
        return "*Not measured.*"
    rule = ("---" if side == "l" else "--:" for side in align)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, tuple(rule), *found))
