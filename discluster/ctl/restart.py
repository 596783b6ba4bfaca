# SPDX-License-Identifier: Apache-2.0
"""``disclusterctl restart``: asks MASTER, then shows how it goes until it is over.

MASTER does the work: a terminal that is closed leaves it running, Ctrl-C pauses it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

import msgspec

from discluster.console import (
    FleetStatus,
    RestartRequest,
    RollingChange,
    RollingRequest,
    RolloutCluster,
    RolloutStatus,
)
from discluster.ctl import rollout, words
from discluster.ctl.commands import Context
from discluster.ctl.screen import Show
from discluster.errors import DisclusterError, UnavailableError
from discluster.messages import ClusterView

NOT_BACK: Final = 4
"""Exit status: not all clusters were restarted, or one did not come back."""
INTERRUPTED: Final = 130
_LOOK_EVERY: Final = 0.5
_PATIENCE: Final = 60.0
"""Seconds for which a MASTER that does not answer any more is waited for: it may be restarted."""
_GOES_ON: Final = "it goes on when MASTER is back; look at it: " + rollout.CONTINUE

Look = Callable[[], Awaitable[RolloutStatus]]


async def rolling(context: Context, request: RollingRequest) -> int:
    """``restart --rolling``. Returns the exit status."""
    if request.dry_run:
        context.screen.text(rollout.order(await context.master.begin_rolling(request)))
        return 0
    return await _carried_out(context, context.master.begin_rolling(request))


async def carry_on(context: Context, *, at_a_time: int | None, timeout: float | None) -> int:
    """``restart --rolling --continue``; of one that is running it only looks on."""
    change = RollingChange(action="continue", at_a_time=at_a_time, timeout=timeout)
    return await _carried_out(context, context.master.change_rolling(change))


async def pause(context: Context) -> int:
    """``restart --rolling --pause``: what Ctrl-C does, from another terminal."""
    status = await context.master.change_rolling(RollingChange(action="pause"))
    context.screen.text(rollout.paused(status) + "\n")
    return 0


async def abort(context: Context) -> int:
    """``restart --rolling --abort``: those that were not restarted stay as they are."""
    status = await context.master.change_rolling(RollingChange(action="abort"))
    context.screen.text(f"aborted: {rollout.counts(status)}\n")
    return 0


async def _carried_out(context: Context, begun: Awaitable[RolloutStatus]) -> int:
    asked = asyncio.ensure_future(begun)
    try:
        # Shielded: whether MASTER has begun must be known before it can be paused.
        status = await asyncio.shield(asked)
        return _told(context, await _watched(context, status, context.master.rolling))
    except asyncio.CancelledError:
        await asked
        return await _paused(context)


async def _paused(context: Context) -> int:
    """Ctrl-C."""
    try:
        await pause(context)
    except DisclusterError as error:
        context.screen.note(f"error: not paused: {words.clean(error.render())}")
    return INTERRUPTED


def _told(context: Context, status: RolloutStatus) -> int:
    """The last line, and the exit status."""
    if status.state == "done":
        context.screen.text(rollout.done(status) + "\n")
        return 0
    if status.state == "paused":
        context.screen.text(rollout.paused(status) + "\n")
    elif status.state == "aborted":
        context.screen.note(f"error: aborted by somebody else: {rollout.counts(status)}")
    else:
        problem = words.clean(status.problem or "it stopped")
        context.screen.note(f"error: {problem} (mend it, then: {rollout.CONTINUE})")
        context.screen.text(f"stopped: {rollout.counts(status)}\n")
    return NOT_BACK


async def _watched(context: Context, status: RolloutStatus, look: Look) -> RolloutStatus:
    """Shows how it goes until it is over."""
    with context.screen.updating() as show:
        lines = _Lines(context, status)
        heard, away = context.clock.monotonic(), None
        while True:
            _show(context, show, lines, status, away)
            if status.state != "running":
                return status
            await context.clock.sleep(_LOOK_EVERY)
            try:
                status = await look()
                heard, away = context.clock.monotonic(), None
            except UnavailableError as error:
                if context.clock.monotonic() - heard > _PATIENCE:
                    raise UnavailableError(error.message, hint=_GOES_ON) from None
                away = error.message
            except DisclusterError as error:
                if error.code != "no-rollout":
                    raise
                return msgspec.structs.replace(status, state="aborted")


def _show(
    context: Context,
    show: Show | None,
    lines: "_Lines",
    status: RolloutStatus,
    away: str | None,
) -> None:
    if show is None:
        lines.add(status)
    else:
        show(rollout.bar(status, width=context.screen.width, away=away))


class _Lines:
    """In a file or pipe: one line for each cluster that is back."""

    def __init__(self, context: Context, status: RolloutStatus) -> None:
        self._context = context
        self._begun = False
        # Of one that is continued, those that were back before are not told again.
        before = rollout.of_state(status, "restarted") if status.state == "running" else []
        self._told = {cluster.cluster for cluster in before}

    def add(self, status: RolloutStatus) -> None:
        if not self._begun:
            self._begun = True
            self._context.screen.text(rollout.head(status) + "\n")
        for cluster in rollout.of_state(status, "restarted"):
            if cluster.cluster not in self._told:
                self._told.add(cluster.cluster)
                line = rollout.back(cluster, len(self._told), len(status.clusters))
                self._context.screen.text(line + "\n")


async def at_once(context: Context, clusters: Sequence[int], *, timeout: float) -> int:
    """``restart CLUSTER ...``: all of them now. ``timeout``: seconds for them to be back."""
    answer = await context.master.restart(RestartRequest(clusters=tuple(clusters)))
    began = context.clock.monotonic()
    took: dict[int, float] = {}

    async def look() -> RolloutStatus:
        fleet = await context.master.status()
        age = context.clock.monotonic() - began
        return _as_rollout(fleet, answer.runs, took, age=age, timeout=timeout)

    status = await _watched(context, await look(), look)
    if status.state == "done":
        context.screen.text(rollout.done(status) + "\n")
        return 0
    context.screen.note(f"error: {words.clean(status.problem or '')}")
    return NOT_BACK


def _as_rollout(
    fleet: FleetStatus, runs: dict[int, int], took: dict[int, float], *, age: float, timeout: float
) -> RolloutStatus:
    """Clusters that were restarted at once, shown like a rolling restart. ``took``: what each one
    needed that is back; grows.
    """
    known = {c.cluster: (host.host, c) for host in fleet.hosts for c in host.clusters}
    clusters = []
    for number, run in runs.items():
        host, view = known.get(number, ("", None))
        lacks = _lacks(view, run)
        if lacks is None:
            took.setdefault(number, age)
        clusters.append(
            RolloutCluster(
                cluster=number,
                host=host,
                state="underway" if lacks else "restarted",
                seconds=age if lacks else took[number],
                lacks=lacks,
                identified=sum(s.identifies > 0 for s in view.shards) if view and not lacks else 0,
            )
        )
    late = [c for c in clusters if c.state == "underway"] if age > timeout else []
    return RolloutStatus(
        state="stopped" if late else "running" if _any_underway(clusters) else "done",
        at_a_time=len(clusters),
        timeout=timeout,
        age=age,
        clusters=tuple(clusters),
        problem=f"{rollout.place(late[0])} is not back after {age:.0f} s: {late[0].lacks}"
        if late
        else None,
    )


def _any_underway(clusters: Iterable[RolloutCluster]) -> bool:
    return any(cluster.state == "underway" for cluster in clusters)


def _lacks(view: ClusterView | None, run: int) -> str | None:
    """Why a cluster is not back, in words."""
    if view is None:
        return "its host does not report it"
    if view.run < run:
        return view.problem or "not started anew yet"
    if view.unit != "active":
        return view.problem or f"its unit is {view.unit}"
    if not view.connected:
        return "it does not report to CONTROL"
    missing = [shard for shard in view.shards if shard.state != "ready"]
    if not missing and view.shards:
        return None
    first = missing[0] if missing else None
    why = f"; shard {first.shard}: {first.problem or first.state}" if first else ""
    ready = len(view.shards) - len(missing)
    return f"{ready} of {words.count(len(view.shards), 'shard')} ready{why}"
