# SPDX-License-Identifier: Apache-2.0
"""``disclusterctl restart``: asks MASTER, then shows how it goes until it is over.

MASTER does the work: a terminal that is closed leaves it running, Ctrl-C pauses it.
"""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

import msgspec
from rich.console import RenderableType

from discluster.console import (
    RestartRequest,
    RollingChange,
    RollingRequest,
    RolloutCluster,
    RolloutStatus,
)
from discluster.ctl import progress, rollout, words
from discluster.ctl.commands import Context
from discluster.errors import DisclusterError

_GOES_ON: Final = "it goes on when MASTER is back; look at it: " + rollout.CONTINUE
_GOES_ON_AT_ONCE: Final = "the restart needs MASTER no more; look at it: disclusterctl status"

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
    async def follow(status: RolloutStatus) -> int:
        work = _Rolling(context.master.rolling, status, goes_on=_GOES_ON)
        return _told(context, await progress.watched(context, status, work))

    async def interrupted(_: RolloutStatus) -> None:
        try:
            await pause(context)
        except DisclusterError as error:
            context.screen.note(f"error: not paused: {words.clean(error.render())}")

    return await progress.carried_out(begun, follow, interrupted)


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
    return progress.UNFINISHED


class _Rolling:
    """A rolling restart as something to watch; in a pipe one line for each cluster that is back."""

    def __init__(self, look: Look, first: RolloutStatus, *, goes_on: str) -> None:
        self.goes_on = goes_on
        self._look = look
        self._newest = first
        self._begun = False
        # Of one that is continued, those that were back before are not told again.
        before = rollout.of_state(first, "restarted") if first.state == "running" else []
        self._told = {cluster.cluster for cluster in before}

    async def look(self) -> RolloutStatus:
        try:
            self._newest = await self._look()
        except DisclusterError as error:
            if error.code != "no-rollout":
                raise
            self._newest = msgspec.structs.replace(self._newest, state="aborted")
        return self._newest

    def is_over(self, status: RolloutStatus) -> bool:
        return status.state != "running"

    def bar(self, status: RolloutStatus, *, width: int, away: str | None) -> RenderableType:
        return rollout.bar(status, width=width, away=away)

    def news(self, status: RolloutStatus) -> Iterator[str]:
        if not self._begun:
            self._begun = True
            yield rollout.head(status)
        for cluster in rollout.of_state(status, "restarted"):
            if cluster.cluster not in self._told:
                self._told.add(cluster.cluster)
                yield rollout.back(cluster, len(self._told), len(status.clusters))


async def at_once(context: Context, clusters: Sequence[int], *, timeout: float) -> int:
    """``restart CLUSTER ...``: all of them now. ``timeout``: seconds for them to be back."""
    answer = await context.master.restart(RestartRequest(clusters=tuple(clusters)))
    began = context.clock.monotonic()
    took: dict[int, float] = {}

    async def look() -> RolloutStatus:
        found = await context.master.restart_progress(answer)
        age = context.clock.monotonic() - began
        return _as_rollout(found.clusters, took, age=age, timeout=timeout)

    first = await look()
    work = _Rolling(look, first, goes_on=_GOES_ON_AT_ONCE)
    status = await progress.watched(context, first, work)
    if status.state == "done":
        context.screen.text(rollout.done(status) + "\n")
        return 0
    context.screen.note(f"error: {words.clean(status.problem or '')}")
    return progress.UNFINISHED


def _as_rollout(
    clusters: Sequence[RolloutCluster], took: dict[int, float], *, age: float, timeout: float
) -> RolloutStatus:
    """Clusters that were restarted at once, shown like a rolling restart. ``took``: what each one
    needed that is back; grows.
    """
    for cluster in clusters:
        if cluster.state == "restarted":
            took.setdefault(cluster.cluster, age)
    timed = [
        msgspec.structs.replace(cluster, seconds=took.get(cluster.cluster, age))
        for cluster in clusters
    ]
    underway = [cluster for cluster in timed if cluster.state == "underway"]
    late = underway if age > timeout else []
    return RolloutStatus(
        state="stopped" if late else "running" if underway else "done",
        at_a_time=len(timed),
        timeout=timeout,
        age=age,
        clusters=tuple(timed),
        problem=f"{rollout.place(late[0])} is not back after {age:.0f} s: {late[0].lacks}"
        if late
        else None,
    )
