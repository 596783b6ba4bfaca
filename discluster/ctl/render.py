# SPDX-License-Identifier: Apache-2.0
"""What each command shows, as rich renderables. Pure: a snapshot and a width in, lines out."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from discluster.console import FleetStatus, HostStatus, IdentifyStatus, Trouble
from discluster.ctl import layout, problems, tables, words

MANY: Final = 64
"""Above this number of rows a table of clusters or shards shows only those that are not well."""

_SEVERITY_STYLES: Final = {"error": "bold red", "warning": "bold yellow", "notice": "bold"}


def fleet(status: FleetStatus, *, width: int, everything: bool = False) -> RenderableType:
    """``disclusterctl status``: the sentence, what is wrong, the fleet's facts, then the tables."""
    found = problems.of_fleet(status)
    style = "bold green" if problems.fleet_is_well(status) else "bold yellow"
    if any(problem.severity == "error" for problem in found):
        style = "bold red"
    return layout.spaced(
        Group(Text(words.progress(status), style=style), *_state(status)),
        _problems(found),
        layout.facts(_fleet_facts(status)),
        _hosts(status.hosts, width),
        _clusters(status.hosts, width, everything),
        _shards(status.hosts, width, everything),
    )


def _state(status: FleetStatus) -> list[Text]:
    """MASTER's own sentence, unless it is about the shards too, as the first line is."""
    return [Text(words.clean(status.state))] if "ready" not in status.state else []


def host(
    status: HostStatus, *, width: int, because: str | None = None, everything: bool = False
) -> RenderableType:
    """One machine as its own CONTROL sees it; ``because``: why that, and not the fleet."""
    found = problems.of_host(status)
    ready = status.shards_ready >= status.shards_planned
    style = "bold red" if any(p.severity == "error" for p in found) else "bold yellow"
    sentence = Text(words.clean(f"{status.host}: {words.host_progress(status)}"))
    sentence.stylize("bold green" if ready and not found else style)
    return layout.spaced(
        Text(words.clean(because), style=tables.UNDERWAY) if because else None,
        sentence,
        _problems(found),
        layout.facts(_host_facts(status)),
        _clusters([status], width, everything),
        _shards([status], width, everything),
    )


def hosts(status: FleetStatus, *, width: int) -> RenderableType:
    """``disclusterctl hosts``."""
    if not status.hosts:
        return Text("No host has joined the fleet yet.")
    return tables.hosts_table(status.hosts, width)


def _problems(found: Sequence[Trouble]) -> Group | None:
    if not found:
        return None
    grid = layout.grid(2)
    for problem in found:
        text = Text(words.clean(_where(problem) + problem.text))
        if problem.hint:
            text.append("\nhint: " + words.clean(problem.hint), style=tables.FAINT)
        grid.add_row(Text(problem.severity, style=_SEVERITY_STYLES[problem.severity]), text)
    only_notices = all(problem.severity == "notice" for problem in found)
    return layout.titled("Notices" if only_notices else "Problems", grid)


def _where(problem: Trouble) -> str:
    """The places that the problem's own words do not name."""
    places = (problem.host, None if problem.cluster is None else f"cluster {problem.cluster}")
    return "".join(f"{place}: " for place in places if place and place not in problem.text)


def _fleet_facts(status: FleetStatus) -> Iterable[tuple[str, str]]:
    clusters = sum(len(host.clusters) for host in status.hosts)
    size = f"{words.count(len(status.hosts), 'host')}, {words.count(clusters, 'cluster')}"
    yield "Fleet", f"{size}, {words.count(status.shards_planned, 'shard')}{_guilds(status.hosts)}"
    if status.generation:
        shards = words.count(status.shard_count, "shard")
        yield "Plan", f"generation {status.generation}, {shards}"
    else:
        count = status.recommended
        recommended = f"; Discord recommends {words.count(count, 'shard')}" if count else ""
        yield "Plan", f"none yet{recommended}"
    yield "Identify", _identify(status.identify, status.troubles)
    yield "MASTER", f"{status.version}, up {words.duration(status.uptime)}"


def _host_facts(status: HostStatus) -> Iterable[tuple[str, str]]:
    yield "MASTER", status.master or "not known"
    if status.certificate:
        yield "Certificate", status.certificate
    plan = f"generation {status.plan_generation}" if status.plan_generation else "none yet"
    shards = words.count(status.shards_planned, "shard")
    clusters = words.count(len(status.clusters), "cluster")
    yield "Plan", f"{plan}, {shards} in {clusters}{_guilds([status])}"
    if status.summary:
        yield "CONTROL", f"{status.version}: {status.summary}" if status.version else status.summary


def _identify(lanes: IdentifyStatus, troubles: Iterable[Trouble]) -> str:
    if lanes.blocked:
        told = any(lanes.blocked in trouble.text for trouble in troubles)
        return "stopped for the reason above" if told else f"stopped: {lanes.blocked}"
    parts = [f"{lanes.max_concurrency:,} at a time", f"{lanes.waiting or 'none'} waiting"]
    if lanes.remaining is not None:
        total = "" if lanes.total is None else f" of {lanes.total:,}"
        kept = f" ({min(lanes.reserve, lanes.remaining):,} the reserve)" if lanes.reserve else ""
        parts.append(f"{lanes.remaining:,}{total} left{kept}")
    if lanes.reset_after is not None:
        parts.append(f"refilled in {words.duration(lanes.reset_after)}")
    return ", ".join(parts)


def _guilds(hosts: Iterable[HostStatus]) -> str:
    # By shard: in the midst of a move two clusters may report the same one.
    known = {row.view.shard: row.view.guilds for row in tables.shard_rows(hosts)}
    numbers = [guilds for guilds in known.values() if guilds is not None]
    return f", {words.count(sum(numbers), 'guild')}" if numbers else ""


def _hosts(hosts: Sequence[HostStatus], width: int) -> Group | None:
    return layout.titled("Hosts", tables.hosts_table(hosts, width)) if hosts else None


def _clusters(hosts: Iterable[HostStatus], width: int, everything: bool) -> Group | None:
    rows = tables.cluster_rows(hosts)
    if not rows:
        return None
    shown = rows if everything or len(rows) <= MANY else [row for row in rows if not row.is_well]
    body: list[RenderableType] = [tables.clusters_table(shown, width)] if shown else []
    if len(shown) < len(rows):
        body.append(_left_out(len(rows) - len(shown), "cluster", " well"))
    return layout.titled("Clusters", *body)


def _shards(hosts: Iterable[HostStatus], width: int, everything: bool) -> Group | None:
    rows = tables.shard_rows(hosts)
    if not rows:
        return None
    shown = rows if everything or len(rows) <= MANY else [row for row in rows if not row.is_well]
    body: list[RenderableType] = [tables.shards_table(shown, width)] if shown else []
    if len(shown) < len(rows):
        body.append(_left_out(len(rows) - len(shown), "shard", f" ready{_latency(rows)}"))
    if notes := _notes(shown):
        body += [Text(""), layout.bullets(notes)]
    return layout.titled("Shards", *body)


def _left_out(number: int, noun: str, more: str) -> Text:
    text = f"{words.count(number, noun)}{more}; --shards lists {'it' if number == 1 else 'them'}"
    return Text(text, style=tables.FAINT)


def _latency(rows: Iterable[tables.ShardRow]) -> str:
    known = [r.view.latency for r in rows if r.is_well and r.view.latency is not None]
    if not known:
        return ""
    middle, worst = words.milliseconds(median(known)), words.milliseconds(max(known))
    return f", latency {middle} (median), {worst} (highest)"


def _notes(rows: Iterable[tables.ShardRow]) -> list[str]:
    """Why shards are not ready, each reason once; not what stands further up already."""
    alike: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        if row.view.problem and row.view.state not in ("fatal", "backoff", "held", "waiting"):
            alike[row.view.problem].append(row.view.shard)
    return [f"{words.named('shard', shards)}: {text}" for text, shards in alike.items()]
