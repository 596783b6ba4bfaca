# SPDX-License-Identifier: Apache-2.0
"""What an order or a new plan changes, and what plans changed before. Pure."""

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from discluster.console import PlanDiff, PlanEntry, PlanHistory
from discluster.ctl import layout, tables, words
from discluster.ctl.tables import Column
from discluster.orders import Ordered
from discluster.settings import SettingChange


def diff(plan: PlanDiff, *, width: int) -> RenderableType:
    """``disclusterctl plan diff``."""
    generation = Text(f"Plan generation {plan.generation} is in force.", style=tables.FAINT)
    return layout.spaced(Group(*_summary(plan), generation), *_moves(plan, width))


def would_be(order: Ordered, *, width: int) -> RenderableType:
    """What an order would do: ``--dry-run``."""
    return layout.spaced(
        _listed("Outcome", order.done),
        settings(order.settings, width=width),
        Group(*_summary(order.diff)) if order.diff.changes else Text("No shard would move."),
        *_moves(order.diff, width),
    )


def settings(changed: Sequence[SettingChange], *, width: int) -> RenderableType | None:
    """What differs between the settings in force and those on disk."""
    if not changed:
        return None
    return layout.titled("Settings", tables.table(changed, _SETTING_COLUMNS, width))


def history(plans: PlanHistory, *, width: int) -> RenderableType:
    """``disclusterctl plan history``, the newest last."""
    if not plans.entries:
        return Text("There was no plan yet.")
    return tables.table(plans.entries, _HISTORY_COLUMNS, width)


def _moves(plan: PlanDiff, width: int) -> tuple[RenderableType | None, ...]:
    rows = tables.moves(plan.changes)
    return (
        layout.titled("Changes", tables.moves_table(rows, width)) if rows else None,
        _listed("Decided before, still waiting", plan.pending),
        _listed("Notes", plan.notes),
    )


def _listed(title: str, texts: Sequence[str]) -> Group | None:
    return layout.titled(title, layout.bullets(texts)) if texts else None


def _summary(plan: PlanDiff) -> list[Text]:
    summary = words.clean(plan.summary).strip()
    nothing = "Nothing would change"
    if plan.changes or summary.lower().startswith(nothing.lower()):
        return [Text(summary[:1].upper() + summary[1:], style=tables.HEAD)]
    return [Text(f"{nothing}.", style=tables.HEAD), *([Text(summary)] if summary else [])]


def _setting_effect(change: SettingChange) -> Text:
    if change.reloads:
        return Text("now")
    return Text("when MASTER is restarted", style=tables.UNDERWAY)


def _generation(entry: PlanEntry) -> Text:
    return Text(str(entry.generation), style=tables.HEAD if entry.current else "")


_SETTING_COLUMNS: Final = (
    Column[SettingChange]("SETTING", lambda c: c.path, fold=True),
    Column[SettingChange]("IN FORCE", lambda c: c.old or words.NOTHING, fold=True),
    Column[SettingChange]("ON DISK", lambda c: c.new or words.NOTHING, fold=True),
    Column[SettingChange]("TAKES EFFECT", _setting_effect),
)
_HISTORY_COLUMNS: Final = (
    Column[PlanEntry]("GENERATION", _generation, right=True),
    Column[PlanEntry]("STATE", lambda e: "in force" if e.current else ""),
    Column[PlanEntry]("WHEN", lambda e: words.moment(e.at)[:-3]),
    Column[PlanEntry]("HOSTS", lambda e: f"{e.hosts:,}", right=True, width=tables.WIDE),
    Column[PlanEntry]("CLUSTERS", lambda e: f"{e.clusters:,}", right=True, width=tables.WIDE),
    Column[PlanEntry]("SHARDS", lambda e: f"{e.shards:,}", right=True, width=tables.WIDE),
    Column[PlanEntry]("WHY", lambda e: e.reason, fold=True),
    Column[PlanEntry]("MOVES", lambda e: e.moves, fold=True),
)
