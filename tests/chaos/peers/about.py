# SPDX-License-Identifier: Apache-2.0
"""The part of docs/chaos.md about libraries of others. Pure; the prose is in about.md."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template
from typing import Final

from tests.chaos.peers.libraries import (
    DISCORD_PY,
    HIKARI_CLUSTERS,
    LIBRARIES,
    PROCESSES,
    SHARDING_MANAGER,
)
from tests.chaos.peers.peer import IDENTIFY_INTERVAL
from tests.chaos.peers.rows import SHARDS
from tests.chaos.peers.units import RESTART_PAUSE
from tests.chaos.rows import Row

TITLES: Final = frozenset(library.title for library in LIBRARIES)
_TEMPLATE: Final = Path(__file__).with_name("about.md")
_ABSENT: Final = "not measured"


def section(
    tables: str,
    compared: Iterable[Row],
    *,
    rate: float,
    versions: Mapping[str, str],
    absent: Mapping[str, str],
) -> str:
    """``compared``: rows to show beside each other; ``versions``: by title, of what was measured;
    ``absent``: why another one was not.
    """
    if not versions and not absent:
        return ""
    missing = "".join(f"\n- **{title}** was not measured: {why}." for title, why in absent.items())
    text = Template(_TEMPLATE.read_text()).substitute(
        tables=tables,
        compared="\n".join(map(_each_time, compared)),
        absent=missing,
        rate=f"{rate:g}",
        shards=SHARDS,
        processes=PROCESSES,
        interval=f"{IDENTIFY_INTERVAL:g}",
        pause=f"{RESTART_PAUSE:g}",
        discord_py=versions.get(DISCORD_PY.title, _ABSENT),
        discord_js=versions.get(SHARDING_MANAGER.title, _ABSENT),
        hikari_clusters=versions.get(HIKARI_CLUSTERS.title, _ABSENT),
    )
    return f"\n\n{text.rstrip()}"


def _each_time(row: Row) -> str:
    """A line of the table that compares; times it was done divide what it cost."""
    times = max(row.times, 1)
    gap = "none" if row.gap_median is None else f"{row.gap_median:.2f} s"
    cells = (row.subject, row.what, row.shards, f"{row.identifies / times:.1f}")
    return "| " + " | ".join(map(str, (*cells, f"{row.lost / times:,.0f}", gap))) + " |"
