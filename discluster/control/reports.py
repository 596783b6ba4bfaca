# SPDX-License-Identifier: Apache-2.0
"""What CONTROL tells about its host. Pure."""

from collections.abc import Iterable, Mapping

from discluster import __version__
from discluster.console import HostStatus
from discluster.control.load import UNKNOWN, ClusterLoad
from discluster.control.reconcile import Observed
from discluster.messages import ClusterView, HostReport
from discluster.plan import HostPlan
from discluster.stays import Stay


def build_report(
    *,
    plan: HostPlan | None,
    observed: Observed,
    troubles: Mapping[int, str],
    load: Mapping[int, ClusterLoad] = {},
    host_troubles: Iterable[str | None] = (),
    sentence: str,
    rejected: str | None = None,
    leaving: bool = False,
    witness: str | None = None,
    keeps: bool = False,
) -> HostReport:
    """The full snapshot for MASTER. ``troubles``: of starts and stops, by cluster."""
    numbers = {
        *(cluster for cluster, unit in observed.units.items() if unit.may_run),
        *observed.reports,
        *troubles,
        *(plan.clusters if plan else ()),
    }
    holding = observed.holding(plan)
    left = _left(observed, holding, plan.shard_count) if plan else {}
    return HostReport(
        plan_generation=plan.generation if plan else 0,
        holding=tuple(sorted(holding)),
        released={s: stay.session for s, stay in left.items() if stay.session is not None},
        entered={s: stay.entered for s, stay in left.items()},
        shard_count=plan.shard_count if plan else 0,
        clusters=tuple(_cluster(c, observed, load, troubles) for c in sorted(numbers)),
        problems=tuple(trouble for trouble in host_troubles if trouble is not None),
        summary=sentence,
        rejected=rejected,
        slots=plan.identify if plan else None,
        leaving=leaving,
        witness=witness,
        panel=tuple(sorted(plan.witnesses)) if plan else (),
        keeps=keeps,
    )


def host_status(*, host: str, plan: HostPlan | None, report: HostReport, master: str) -> HostStatus:
    """The same for an operator who asks this machine directly."""
    ready = sum(s.state == "ready" for cluster in report.clusters for s in cluster.shards)
    return HostStatus(
        host=host,
        state="local",
        version=__version__,
        plan_generation=report.plan_generation,
        shards_planned=sum(1 for _ in plan.shards()) if plan else 0,
        shards_ready=ready,
        clusters=report.clusters,
        problems=report.problems,
        summary=report.summary,
        master=master,
    )


def _left(observed: Observed, holding: frozenset[int], shard_count: int) -> dict[int, Stay]:
    """The last stays of shards that nobody here holds. Looks into no file of a cluster that let go
    of nothing: this is asked several times a second.
    """
    shards = {shard for held in observed.held.values() for shard in held.left}
    shards.update(*(observed.claims(cluster) for cluster in observed.held))
    shards -= holding
    stays = ((shard, observed.last_stay(shard, shard_count)) for shard in sorted(shards))
    return {shard: stay for shard, stay in stays if stay is not None}


def _cluster(
    cluster: int,
    observed: Observed,
    load: Mapping[int, ClusterLoad],
    troubles: Mapping[int, str],
) -> ClusterView:
    unit = observed.unit(cluster)
    report = observed.reports.get(cluster)
    held = observed.held.get(cluster)
    problem = troubles.get(cluster)
    if problem is None and report is not None:
        problem = report.problem
    told = load.get(cluster, UNKNOWN)
    if unit.state == "failed":
        problem = f"unit failed: {unit.detail}" if unit.detail else "unit failed"
    return ClusterView(
        cluster=cluster,
        unit=unit.state,
        detail=unit.detail,
        pid=unit.pid,
        connected=report is not None,
        generation=report.generation if report else 0,
        run=held.run if held else 0,
        uptime=report.uptime if report else None,
        restarts=unit.restarts,
        handler=report.handler if report else "",
        shards=report.shards if report else (),
        problem=problem,
        cpu=told.cpu,
        memory=told.memory,
        event_rate=told.event_rate,
    )
