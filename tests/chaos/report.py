# SPDX-License-Identifier: Apache-2.0
"""docs/chaos.md from results. Pure; the prose is in template.md."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template
from typing import Final

from tests.chaos.campaigns import KILLED, MASTER_KILLED, RESTARTED
from tests.chaos.peers.about import TITLES, section
from tests.chaos.rows import Results, Row

_TEMPLATE: Final = Path(__file__).with_name("template.md")
_HEAD: Final = (
    *("what was done", "times", "events sent", "lost", "twice", "of them unasked", "identifies"),
    *("resumes", "shards connected twice", "gaps", "gap, median", "gap, worst", "as promised"),
)
_COMPARED: Final = (KILLED, RESTARTED, MASTER_KILLED)
_SHORT: Final = (
    "\n\n**The short form, as CI runs it: it shows that nothing is lost, and is no measurement.**"
)


def document(results: Results) -> str:
    """The Markdown."""
    ours = [row for row in results.rows if row.subject not in TITLES]
    theirs = [row for row in results.rows if row.subject in TITLES]
    return Template(_TEMPLATE.read_text()).substitute(
        short=_SHORT if results.short else "",
        tables=_tables(ours, "##"),
        peers=section(
            _tables(theirs, "###"),
            [row for row in results.rows if row.subject in TITLES or row.what in _COMPARED],
            rate=results.rate,
            versions=results.versions,
            absent=results.absent,
        ),
        failures=_failures(results.rows),
        shards=" and ".join(str(n) for n in sorted({row.shards for row in ours})),
        rate=f"{results.rate:g}",
        seed=results.seed,
        minutes=f"{sum(row.seconds for row in results.rows) / 60:.0f}",
        date=results.date,
        commit=results.commit,
        machine=results.machine,
    )


def line(row: Row) -> str:
    """One row in words, as the command tells it."""
    told = (
        f"{row.subject}: {row.what}: {row.times} times in {row.seconds:.0f} s; {row.sent:,} events,"
        f" {row.lost} lost, {row.doubled} twice ({row.unasked} unasked); {row.identifies}"
        f" identifies, {row.resumes} resumes, {row.twice} shards connected twice;"
        f" gap {_seconds(row.gap_median)}, worst {_seconds(row.gap_worst)}"
    )
    return told if not row.broken else f"{told}\n  BROKEN: {'; '.join(row.broken)}"


def _tables(rows: Sequence[Row], level: str) -> str:
    subjects = dict.fromkeys(row.subject for row in rows)
    return "\n\n".join(_section(subject, rows, level) for subject in subjects)


def _section(subject: str, rows: Iterable[Row], level: str) -> str:
    lines = [_cells(row) for row in rows if row.subject == subject]
    rule = ("---", *("--:" for _ in _HEAD[1:-1]), "---")
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in (_HEAD, rule, *lines))
    return f"{level} {subject}\n\n{table}"


def _cells(row: Row) -> Sequence[str]:
    return (
        row.what,
        *(f"{number:,}" for number in (row.times, row.sent, row.lost, row.doubled, row.unasked)),
        *(f"{number:,}" for number in (row.identifies, row.resumes, row.twice, len(row.gaps))),
        _seconds(row.gap_median),
        _seconds(row.gap_worst),
        _kept(row),
    )


def _kept(row: Row) -> str:
    if row.broken:
        return "**no**"
    return "yes" if row.promise.judged else "–"


def _failures(rows: Iterable[Row]) -> str:
    lines = [f"- {row.what}: {'; '.join(row.broken)}" for row in rows if row.broken]
    return "\n\n## Broken promises\n\n" + "\n".join(lines) if lines else ""


def _seconds(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f} s"
