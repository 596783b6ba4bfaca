# SPDX-License-Identifier: Apache-2.0
"""Hosts, clusters, shards and plan changes as tables. Pure.

A table is a tuple of columns; those with a width are left out where there is less room. Colour has
one meaning everywhere: red is wrong, yellow is on its way; what is well has none.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from rich.table import Table
from rich.text import Text

from discluster.console import HostStatus, PlanChange
from discluster.ctl import words
from discluster.messages import ClusterView, ShardView

WIDE: Final = 120
"""From this width on, in characters, the tables have nearly all their columns."""

_ROOM: Final = 9
"""What a column takes that is left out since nothing is known for it."""

BAD: Final = "red"
UNDERWAY: Final = "yellow"
FAINT: Final = "dim"
HEAD: Final = "bold"

_HOST_STYLES: Final[Mapping[str, str]] = {
    "silent": BAD,
    "lost": BAD,
    "unfit": BAD,
    "draining": UNDERWAY,
    "drained": UNDERWAY,
    "standby": FAINT,
    "expected": UNDERWAY,
    "unattended": UNDERWAY,
    "down": FAINT,
}
_HEARD: Final = ("connected", "local")
_OUT_OF_TOUCH: Final = ("silent", "lost")
_UNIT_STYLES: Final[Mapping[str, str]] = {"failed": BAD, "active": ""}
_SHARD_STYLES: Final[Mapping[str, str]] = {"fatal": BAD, "ready": ""}

Row = TypeVar("Row")


class Column(NamedTuple, Generic[Row]):
    """``cell``: the row's value, a Text where it has a colour. ``width``: shown from this width of
    the whole on, in characters. ``fold``: long values may wrap. ``known``: left out where no row
    has a value.
    """

    title: str
    cell: Callable[[Row], str | Text]
    right: bool = False
    width: int = 0
    fold: bool = False
    known: bool = False


class ClusterRow(NamedTuple):
    """A cluster and where it is; ``stale``: nobody hears from its host."""

    host: str
    view: ClusterView
    stale: bool

    @property
    def is_well(self) -> bool:
        """It runs, reports, and all its shards are ready."""
        view = self.view
        runs = view.unit == "active" and view.connected and not view.problem
        return runs and not self.stale and all(s.state == "ready" for s in view.shards)


class ShardRow(NamedTuple):
    """A shard and where it is; ``stale``: nobody hears from its host."""

    host: str
    cluster: int
    view: ShardView
    stale: bool

    @property
    def is_well(self) -> bool:
        """It is ready, as far as we know now."""
        return self.view.state == "ready" and not self.stale


class Move(NamedTuple):
    """Shards that go the same way for the same reason."""

    shards: tuple[int, ...]
    source: tuple[str, int] | None
    target: tuple[str, int] | None
    reason: str


def cluster_rows(hosts: Iterable[HostStatus]) -> list[ClusterRow]:
    """All clusters by number; a cluster on two hosts, mid-move, has two rows."""
    rows = [ClusterRow(h.host, c, h.state in _OUT_OF_TOUCH) for h in hosts for c in h.clusters]
    return sorted(rows, key=lambda row: (row.view.cluster, row.host))


def shard_rows(hosts: Iterable[HostStatus]) -> list[ShardRow]:
    """All shards by number; a shard that two clusters report, mid-move, has two rows."""
    rows = [
        ShardRow(row.host, row.view.cluster, shard, row.stale)
        for row in cluster_rows(hosts)
        for shard in row.view.shards
    ]
    return sorted(rows, key=lambda row: (row.view.shard, row.host, row.cluster))


def moves(changes: Iterable[PlanChange]) -> list[Move]:
    """The changes with those put together that differ in nothing but the shard."""
    alike: dict[tuple[tuple[str, int] | None, tuple[str, int] | None, str], list[int]]
    alike = defaultdict(list)
    for change in changes:
        alike[change.source, change.target, change.reason].append(change.shard)
    found = [Move(tuple(sorted(shards)), *way) for way, shards in alike.items()]
    return sorted(found, key=lambda move: move.shards)


def hosts_table(hosts: Iterable[HostStatus], width: int) -> Table:
    """One row a host, by name."""
    return table(sorted(hosts, key=lambda host: host.host), _HOST_COLUMNS, width)


def clusters_table(rows: Sequence[ClusterRow], width: int) -> Table:
    """One row a cluster."""
    return table(rows, _CLUSTER_COLUMNS, width)


def shards_table(rows: Sequence[ShardRow], width: int) -> Table:
    """One row a shard."""
    return table(rows, _SHARD_COLUMNS, width)


def moves_table(rows: Sequence[Move], width: int) -> Table:
    """One row a move."""
    return table(rows, _MOVE_COLUMNS, width)


def table(rows: Iterable[Row], columns: Sequence[Column[Row]], width: int) -> Table:
    """``rows`` under those ``columns`` that have a value and room. ``width``: of the whole view."""
    rows = list(rows)
    cells = {column: [_cell(column.cell(row)) for row in rows] for column in columns}
    unknown = {c for c in columns if c.known and all(map(_is_empty, cells[c]))}
    room = width + _ROOM * len(unknown)
    shown = [c for c in columns if c.width <= room and c not in unknown]
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=FAINT)
    for column in shown:
        made.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not column.fold,
            overflow="fold" if column.fold else "ellipsis",
        )
    for index in range(len(rows)):
        made.add_row(*(cells[column][index] for column in shown))
    return made


def _cell(value: str | Text) -> Text:
    text = value if isinstance(value, Text) else Text(words.one_line(value))
    return Text(words.NOTHING, style=FAINT) if _is_empty(text) else text


def _is_empty(cell: Text) -> bool:
    return cell.plain in ("", words.NOTHING)


def _number(value: int | None) -> str:
    return words.NOTHING if value is None else f"{value:,}"


def _of(part: int, whole: int) -> Text:
    """``part/whole``; a dash where there is nothing to count."""
    if not whole:
        return Text(words.NOTHING)
    return Text(f"{part:,}/{whole:,}", style="" if part >= whole else UNDERWAY)


def _host_state(host: HostStatus) -> Text:
    """Whether it is in touch; of one that is, what is planned for it, if that is not the usual."""
    state: str = host.state
    if state in _HEARD and host.standing != "eligible":
        state = host.standing
    return Text(state, style=_HOST_STYLES.get(state, ""))


def _host_ready(host: HostStatus) -> Text:
    return _of(0 if host.state in _OUT_OF_TOUCH else host.shards_ready, host.shards_planned)


def _host_clusters(host: HostStatus) -> Text:
    return _of(sum(c.unit == "active" for c in host.clusters), len(host.clusters))


def _sum(host: HostStatus, values: Iterable[float | None]) -> float | None:
    """Over those clusters of a host of which it is known; None where nothing is known now."""
    known = [value for value in values if value is not None]
    return sum(known) if known and host.state in _HEARD else None


def _host_cpu(host: HostStatus) -> str:
    return words.percent(_sum(host, (view.cpu for view in host.clusters)))


def _host_memory(host: HostStatus) -> str:
    return words.size(_sum(host, (view.memory for view in host.clusters)))


def _host_events(host: HostStatus) -> str:
    return words.rate(_sum(host, (view.event_rate for view in host.clusters)))


def _now(row: ClusterRow, value: str) -> str:
    """``value``, unless it is an old one."""
    return words.NOTHING if row.stale else value


def _per_cluster(host: HostStatus) -> str:
    return str(host.shards_per_cluster or words.NOTHING)


def _cluster_state(row: ClusterRow) -> Text:
    view = row.view
    if row.stale:
        return Text(f"was {view.unit}", style=UNDERWAY)
    if view.unit == "active" and not view.connected:
        return Text("no report", style=UNDERWAY)
    return Text(view.unit, style=_UNIT_STYLES.get(view.unit, UNDERWAY))


def _cluster_ready(row: ClusterRow) -> Text:
    ready = 0 if row.stale else sum(shard.state == "ready" for shard in row.view.shards)
    return _of(ready, len(row.view.shards))


def _shard_state(row: ShardRow) -> Text:
    state = row.view.state
    if row.stale:
        return Text(f"was {state}", style=UNDERWAY)
    return Text(state, style=_SHARD_STYLES.get(state, UNDERWAY))


def _place(place: tuple[str, int] | None) -> str:
    return f"{place[0]} cluster {place[1]}" if place else words.NOTHING


_HOST_COLUMNS: Final = (
    Column[HostStatus]("HOST", lambda h: h.host, fold=True),
    Column[HostStatus]("STATE", _host_state),
    Column[HostStatus]("READY", _host_ready, right=True),
    Column[HostStatus]("CLUSTERS", _host_clusters, right=True, width=100),
    Column[HostStatus]("WEIGHT", lambda h: f"{h.weight:g}", right=True, width=90),
    Column[HostStatus]("PER CLUSTER", _per_cluster, right=True, width=WIDE),
    Column[HostStatus]("CPU", _host_cpu, right=True, known=True),
    Column[HostStatus]("MEMORY", _host_memory, right=True, known=True),
    Column[HostStatus]("EVENTS/S", _host_events, right=True, known=True),
    Column[HostStatus]("PLAN", lambda h: str(h.plan_generation or words.NOTHING), right=True),
    Column[HostStatus]("SEEN", lambda h: words.duration(h.seen), right=True),
    Column[HostStatus]("VERSION", lambda h: h.version),
    Column[HostStatus]("SUMMARY", lambda h: h.summary, width=140, fold=True),
)
_CLUSTER_COLUMNS: Final = (
    Column[ClusterRow]("CLUSTER", lambda r: str(r.view.cluster), right=True),
    Column[ClusterRow]("HOST", lambda r: r.host, fold=True),
    Column[ClusterRow]("STATE", _cluster_state),
    Column[ClusterRow]("DETAIL", lambda r: r.view.detail, width=140),
    Column[ClusterRow]("READY", _cluster_ready, right=True),
    Column[ClusterRow]("SHARDS", lambda r: words.ranges(s.shard for s in r.view.shards), fold=True),
    Column[ClusterRow]("CPU", lambda r: _now(r, words.percent(r.view.cpu)), right=True, known=True),
    Column[ClusterRow](
        "MEMORY", lambda r: _now(r, words.size(r.view.memory)), right=True, known=True
    ),
    Column[ClusterRow](
        "EVENTS/S", lambda r: _now(r, words.rate(r.view.event_rate)), right=True, known=True
    ),
    Column[ClusterRow]("UPTIME", lambda r: words.duration(r.view.uptime), right=True, width=90),
    Column[ClusterRow]("RESTARTS", lambda r: _number(r.view.restarts), right=True),
    Column[ClusterRow]("PID", lambda r: str(r.view.pid or words.NOTHING), right=True, width=WIDE),
    Column[ClusterRow]("HANDLER", lambda r: r.view.handler, width=145, fold=True),
)
_SHARD_COLUMNS: Final = (
    Column[ShardRow]("SHARD", lambda r: str(r.view.shard), right=True),
    Column[ShardRow]("CLUSTER", lambda r: str(r.cluster), right=True),
    Column[ShardRow]("HOST", lambda r: r.host, fold=True),
    Column[ShardRow]("STATE", _shard_state),
    Column[ShardRow]("FOR", lambda r: words.duration(r.view.since), right=True),
    Column[ShardRow]("LATENCY", lambda r: words.milliseconds(r.view.latency), right=True),
    Column[ShardRow]("GUILDS", lambda r: _number(r.view.guilds), right=True),
    Column[ShardRow]("SEQUENCE", lambda r: _number(r.view.seq), right=True, width=WIDE),
    Column[ShardRow]("LAST EVENT", lambda r: words.duration(r.view.event_age), right=True),
    Column[ShardRow]("RESUMES", lambda r: _number(r.view.resumes), right=True, width=WIDE),
    Column[ShardRow]("IDENTIFIES", lambda r: _number(r.view.identifies), right=True, width=WIDE),
)
_MOVE_COLUMNS: Final = (
    Column[Move]("SHARDS", lambda m: words.ranges(m.shards, limit=1000), fold=True),
    Column[Move]("FROM", lambda m: _place(m.source), fold=True),
    Column[Move]("TO", lambda m: _place(m.target), fold=True),
    Column[Move]("WHY", lambda m: m.reason, fold=True),
)
