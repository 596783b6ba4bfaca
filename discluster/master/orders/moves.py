# SPDX-License-Identifier: Apache-2.0
"""How far the moves are that an order asked for. Pure.

A shard has moved when the cluster where the plan wants it says that it is ready there.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping

import msgspec

from discluster.master.orders.changes import few
from discluster.master.orders.orders import Task
from discluster.messages import HostReport, ShardState
from discluster.orders import MovesStatus, Route
from discluster.plan import FleetPlan

_ON_THE_WAY: dict[ShardState, str] = {
    "waiting": "they wait for a permit to identify",
    "held": "nobody may dial Discord now",
    "fatal": "Discord rejects them",
    "backoff": "they do not reach Discord",
}


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What is known at one instant. ``now``: wall-clock seconds. ``blocked``: why no shard may
    dial, ``refused``: why none may identify, in words.
    """

    fleet: FleetPlan
    reports: Mapping[str, HostReport]
    connected: Collection[str]
    now: float
    blocked: str | None = None
    refused: str | None = None


class _Wait(msgspec.Struct, frozen=True):
    words: str
    passes: bool = True  # by itself, soon


_STAYS = _Wait("no other host can take them", passes=False)


class _Shard(msgspec.Struct, frozen=True):
    source: str | None
    target: str | None
    wait: _Wait | None  # None: it has moved


def progress(task: Task, serial: int, sight: Sight) -> MovesStatus:
    """Where ``task`` stands. It ends when all its shards have moved, or at its deadline."""
    if task.ended is not None:
        return task.ended
    shards = list(_shards(task, sight))
    routes = _routes(shards)
    moved = sum(route.moved for route in routes)
    left = None if task.deadline is None else task.deadline - sight.now
    done = moved == len(task.moves)
    late = left is not None and left <= 0
    status = MovesStatus(
        serial=serial,
        order=task.order,
        state="done" if done else "failed" if late else "running",
        age=sight.now - task.began,
        total=len(task.moves),
        moved=moved,
        deadline=left,
        routes=routes,
    )
    return status if done else _explained(status, shards, task, sight)


def _explained(
    status: MovesStatus, shards: Collection[_Shard], task: Task, sight: Sight
) -> MovesStatus:
    """With what keeps it from its end, if that does not pass by itself."""
    waits = Counter(shard.wait for shard in shards if shard.wait is not None)
    stuck = Counter({wait: count for wait, count in waits.items() if not wait.passes})
    hint = None
    if status.state == "failed":
        problem = f"not all had moved at the deadline ({_in_words(waits)})"
        if task.drained is not None:
            way = f"disclusterctl undrain {task.drained}"
            hint = f"{task.drained} stays drained; to end that: {way}"
    elif sight.blocked is not None:
        problem = f"no shard may dial: {sight.blocked}"
    elif stuck:
        problem = _in_words(stuck)
        hint = "'disclusterctl status' says when that ends"
        if _STAYS in stuck:
            hint = "add a host, or raise max_shards of another in master.yaml"
    else:
        return status
    return msgspec.structs.replace(status, problem=problem, hint=hint)


def _in_words(waits: Counter[_Wait]) -> str:
    ordered = sorted(waits.items(), key=lambda item: (-item[1], item[0].words))
    told = [f"{n} shard{'s' * (n != 1)}: {wait.words}" for wait, n in ordered]
    return "; ".join(few(told))


def _routes(shards: Collection[_Shard]) -> tuple[Route, ...]:
    by_route: dict[tuple[str | None, str | None], list[_Shard]] = defaultdict(list)
    for shard in shards:
        by_route[shard.source, shard.target].append(shard)
    ordered = sorted(by_route.items(), key=lambda item: (item[0][0] or "", item[0][1] or ""))
    return tuple(_route(source, target, group) for (source, target), group in ordered)


def _route(source: str | None, target: str | None, group: Collection[_Shard]) -> Route:
    waits = Counter(shard.wait.words for shard in group if shard.wait is not None)
    return Route(
        source=source,
        target=target,
        total=len(group),
        moved=len(group) - waits.total(),
        # What most of them wait for.
        waits=min(waits, key=lambda words: (-waits[words], words)) if waits else None,
    )


def _shards(task: Task, sight: Sight) -> Iterator[_Shard]:
    targets = sight.fleet.targets()
    states: dict[str, Mapping[tuple[int, int], ShardState]] = {}
    for shard, source in task.moves.items():
        target = targets.get(shard)
        if shard >= sight.fleet.shard_count:
            yield _Shard(source, None, None)
        elif target is None or target[0] == task.drained:
            yield _Shard(source, None, _STAYS)
        else:
            host, cluster = target
            if host not in states:
                states[host] = _states(sight.reports.get(host))
            state = states[host].get((cluster, shard))
            yield _Shard(source, host, _wait(shard, host, state, sight))


def _states(report: HostReport | None) -> dict[tuple[int, int], ShardState]:
    return {
        (cluster.cluster, view.shard): view.state
        for cluster in (report.clusters if report is not None else ())
        for view in cluster.shards
    }


def _wait(shard: int, target: str, state: ShardState | None, sight: Sight) -> _Wait | None:
    """What a shard on its way to ``target`` waits for; None: it is there. ``state``: of the shard
    in its new cluster.
    """
    grant = sight.fleet.granted.get(shard)
    if grant is not None and grant.host != target:
        return _release(grant.host, sight, begun=grant.withdrawn is not None)
    if target not in sight.connected:
        return _Wait(f"{target} is out of touch", passes=False)
    if state == "ready":
        return None
    if state == "waiting" and sight.refused is not None:
        return _Wait(f"they must identify, and nobody may: {sight.refused}", passes=False)
    opens = f"{target} opens them"
    return _Wait(_ON_THE_WAY.get(state, opens) if state is not None else opens)


def _release(host: str, sight: Sight, *, begun: bool) -> _Wait:
    if host not in sight.connected:
        return _Wait(f"{host} is out of touch and has not released them", passes=False)
    if not begun:
        return _Wait("their turn comes: only so many move at a time")
    return _Wait(f"{host} releases them")
