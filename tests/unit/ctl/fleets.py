# SPDX-License-Identifier: Apache-2.0
"""Fleets as MASTER would report them, for the golden files and the tests of the client."""

from collections.abc import Mapping
from typing import Final

import msgspec

from discluster.console import (
    FleetStatus,
    HostAllowance,
    HostStatus,
    IdentifyOverview,
    IdentifyStatus,
    LaneStatus,
    PlanChange,
    PlanDiff,
    RolloutCluster,
    RolloutStatus,
    StoppedShard,
    Trouble,
    WaitingShard,
)
from discluster.messages import ClusterView, ShardView

HANDLER: Final = "unix:/run/bot.sock"
REJECTED: Final = "Discord rejected the bot token (4004 Authentication failed)"


def ready(shard: int) -> ShardView:
    return ShardView(
        shard=shard,
        state="ready",
        since=11_500.0 + 5 * shard,
        latency=0.038 + 0.001 * (shard % 7),
        guilds=990 + 13 * (shard % 5),
        seq=1_204_331 + 977 * shard,
        event_age=0.3,
        events=1_204_000,
        identifies=1,
        resumes=shard % 3,
    )


def cluster(number: int, shards: tuple[ShardView, ...]) -> ClusterView:
    return ClusterView(
        cluster=number,
        unit="active",
        detail="running",
        pid=4100 + number,
        connected=True,
        generation=42,
        uptime=11_640.0,
        handler=HANDLER,
        shards=shards,
    )


def host(name: str, *clusters: ClusterView) -> HostStatus:
    shards = [shard for view in clusters for shard in view.shards]
    return HostStatus(
        host=name,
        state="connected",
        seen=0.8,
        version="0.1.0",
        shards_per_cluster=4,
        plan_generation=42,
        shards_planned=len(shards),
        shards_ready=sum(shard.state == "ready" for shard in shards),
        clusters=clusters,
        summary="follows plan 42",
    )


def fleet(
    *hosts: HostStatus,
    state: str = "",
    troubles: tuple[Trouble, ...] = (),
    identify: IdentifyStatus | None = None,
    shard_count: int | None = None,
) -> FleetStatus:
    planned = sum(host.shards_planned for host in hosts)
    count = planned if shard_count is None else shard_count
    return FleetStatus(
        version="0.1.0",
        generation=42,
        shard_count=count,
        shards_ready=sum(host.shards_ready for host in hosts),
        shards_planned=planned,
        recommended=count,
        state=state or f"all {count} shards ready",
        uptime=273_700.0,
        identify=identify
        or IdentifyStatus(max_concurrency=1, total=1000, remaining=912, reset_after=22_330.0),
        troubles=troubles,
        hosts=hosts,
    )


def three_hosts() -> tuple[HostStatus, HostStatus, HostStatus]:
    """alpha, beta and gamma with two clusters of four ready shards each."""
    views = [cluster(n, tuple(ready(s) for s in range(4 * n, 4 * n + 4))) for n in range(6)]
    return host("alpha", *views[:2]), host("beta", *views[2:4]), host("gamma", *views[4:])


def healthy() -> FleetStatus:
    return fleet(*three_hosts())


def starting() -> FleetStatus:
    """Ten seconds after the first start: most shards wait for their turn."""
    alpha = host(
        "alpha",
        cluster(
            0,
            (
                msgspec.structs.replace(ready(0), since=7.0),
                msgspec.structs.replace(ready(1), since=1.2),
                ShardView(shard=2, state="identifying", since=0.4, latency=0.041, identifies=1),
                _waiting(3),
            ),
        ),
        cluster(1, tuple(_waiting(shard) for shard in range(4, 8))),
    )
    beta = host("beta", cluster(2, tuple(_waiting(shard) for shard in range(8, 12))))
    beta = msgspec.structs.replace(
        beta,
        shards_planned=8,
        clusters=(
            *beta.clusters,
            ClusterView(cluster=3, unit="activating", detail="start", pid=4103, generation=0),
        ),
    )
    return fleet(
        alpha,
        beta,
        state="2 of 16 shards ready; 9 waiting for their turn to identify, 1 identifying",
        identify=IdentifyStatus(
            max_concurrency=1, waiting=9, total=1000, remaining=997, reset_after=86_350.0
        ),
    )


def _waiting(shard: int) -> ShardView:
    why = "waits for its turn to identify"
    return ShardView(shard=shard, state="waiting", since=9.6, latency=0.040, problem=why)


def token_rejected() -> FleetStatus:
    """Discord takes the token no more: every shard has stopped, and MASTER says so once."""
    hosts = tuple(
        host(
            name,
            *(
                cluster(
                    number,
                    tuple(
                        ShardView(
                            shard=shard, state="fatal", since=95.0, problem=REJECTED, fatal=4004
                        )
                        for shard in range(4 * number, 4 * number + 4)
                    ),
                )
                for number in numbers
            ),
        )
        for name, numbers in (("alpha", (0, 1)), ("beta", (2, 3)))
    )
    told = Trouble(
        severity="error",
        text=f"Discord closed shard 0 on alpha with code 4004 for good: {REJECTED}",
        hint="no shard identifies until no cluster reports this any more: mend the cause, then"
        " restart the clusters concerned",
    )
    return fleet(
        *hosts,
        state="0 of 16 shards ready; 16 rejected by Discord",
        troubles=(told,),
        identify=IdentifyStatus(total=1000, remaining=996, reset_after=80_000.0, blocked=told.text),
    )


def silent_host() -> FleetStatus:
    """beta has not been heard of for 14 s; MASTER still waits for its lease to run out."""
    alpha, beta, gamma = three_hosts()
    beta = msgspec.structs.replace(beta, state="silent", seen=14.2)
    status = fleet(alpha, beta, gamma, state="16 of 24 shards ready; 8 not running")
    return msgspec.structs.replace(status, shards_ready=16)


def loaded() -> FleetStatus:
    """Hosts of every standing, and what their clusters use."""
    alpha, beta, gamma = (
        msgspec.structs.replace(one, clusters=tuple(map(_busy, one.clusters)))
        for one in three_hosts()
    )
    idle = msgspec.structs.replace(host("delta"), shards_ready=0)
    hosts = (
        alpha,
        msgspec.structs.replace(beta, standing="draining"),
        msgspec.structs.replace(gamma, standing="unfit"),
        msgspec.structs.replace(idle, standing="drained"),
        msgspec.structs.replace(idle, host="epsilon", standing="standby"),
        msgspec.structs.replace(idle, host="zeta", state="lost", seen=240.0),
    )
    return fleet(*hosts, state="all 24 shards ready; moves 8 shards of beta")


def _busy(view: ClusterView) -> ClusterView:
    known = view.cluster != 3  # started just now
    return msgspec.structs.replace(
        view,
        cpu=0.034 + 0.31 * view.cluster if known else None,
        memory=(71 + 380 * view.cluster) << 20 if known else None,
        event_rate=3.4 + 417.0 * view.cluster if known else None,
    )


def failed_cluster() -> FleetStatus:
    """Cluster 3 crashed until systemd gave up; one of cluster 2's shards has lost its socket."""
    alpha, beta, gamma = three_hosts()
    gone = ClusterView(
        cluster=3,
        unit="failed",
        detail="start-limit-hit",
        restarts=5,
        problem="crashed 5 times within a minute (exit status 1); systemd has given up",
    )
    lost = ShardView(
        shard=9,
        state="backoff",
        since=6.5,
        guilds=1003,
        seq=1_209_000,
        event_age=8.1,
        identifies=1,
        resumes=4,
        problem="gateway-us-east1-b.discord.gg does not answer; next attempt in 12s",
    )
    views = beta.clusters[0].shards
    halves = msgspec.structs.replace(beta.clusters[0], shards=(views[0], lost, *views[2:]))
    beta = msgspec.structs.replace(
        beta,
        clusters=(halves, gone),
        shards_ready=3,
        problems=("the clock is 2.4 s behind MASTER's; identify slots may overlap",),
    )
    return fleet(alpha, beta, gamma, state="19 of 24 shards ready")


def no_hosts() -> FleetStatus:
    return msgspec.structs.replace(
        fleet(state="waiting for the first host"), generation=0, recommended=24
    )


def many_shards() -> FleetStatus:
    """One host with 300 shards in 19 clusters, three of them resuming, and one more recommended."""
    odd: Mapping[int, ShardView] = {
        17: ShardView(shard=17, state="resuming", since=0.6, latency=0.05, resumes=1),
        18: ShardView(shard=18, state="resuming", since=0.5, latency=0.05, resumes=1),
        204: ShardView(shard=204, state="dialing", since=2.0, problem="Discord asked to reconnect"),
    }
    clusters = (
        cluster(n, tuple(odd.get(s) or ready(s) for s in range(16 * n, min(16 * n + 16, 300))))
        for n in range(19)
    )
    alone = msgspec.structs.replace(host("metal-1", *clusters), shards_per_cluster=16)
    status = fleet(
        alone,
        troubles=(
            Trouble(
                severity="notice",
                text="Discord recommends 301 shards, the fleet runs 300",
                hint="the count of a running fleet does not change by itself",
            ),
        ),
        identify=IdentifyStatus(max_concurrency=16, total=2000, remaining=1700, reset_after=600.0),
    )
    return msgspec.structs.replace(status, recommended=301)


def nothing_to_do() -> PlanDiff:
    return PlanDiff(generation=42, summary="nothing would change")


def some_changes() -> PlanDiff:
    drained = "beta gets no shards any more"
    return PlanDiff(
        generation=42,
        summary="10 shards would move: 4 from beta to alpha, 5 from beta to gamma, 1 from nowhere"
        " to alpha",
        changes=(
            *(_change(s, ("beta", 2), ("alpha", 0), drained) for s in range(8, 12)),
            *(_change(s, ("beta", 3), ("gamma", 7), drained) for s in (12, 13, 15, 18, 19)),
            _change(24, None, ("alpha", 1), "the shard has no host yet"),
        ),
        pending=("4 shards on their way from alpha to gamma: alpha has not released them yet",),
    )


def _change(
    shard: int, source: tuple[str, int] | None, target: tuple[str, int] | None, reason: str
) -> PlanChange:
    return PlanChange(shard=shard, source=source, target=target, reason=reason)


def local() -> HostStatus:
    """The local CONTROL's view while MASTER is away."""
    alpha = three_hosts()[0]
    return msgspec.structs.replace(
        alpha,
        state="local",
        seen=None,
        master="wss://master.example:7443, no answer for 4min 10s",
        summary="runs by plan 42 from disk",
    )


def rolling(state: str = "running", *, restarted: int = 12, total: int = 40) -> RolloutStatus:
    """A rolling restart of ``total`` clusters, two of them under way while it runs."""
    underway = 2 if state in ("running", "paused") else 0
    lacks = ("its unit is activating: start", "2 of 16 shards ready; shard 5: resuming")
    hosts = ("alpha", "beta", "gamma")
    clusters = [
        RolloutCluster(
            cluster=number,
            host=hosts[number % 3],
            state="restarted",
            seconds=2.4 + 0.1 * (number % 5),
            identified=0,
        )
        for number in range(restarted)
    ]
    clusters += [
        RolloutCluster(
            cluster=number,
            host=hosts[number % 3],
            state="underway",
            seconds=1.2 + number - restarted,
            lacks=lacks[number - restarted],
        )
        for number in range(restarted, min(total, restarted + underway))
    ]
    clusters += [
        RolloutCluster(cluster=number, host=hosts[number % 3], state="waiting")
        for number in range(restarted + underway, total)
    ]
    return RolloutStatus(
        state=state,  # type: ignore[arg-type]
        at_a_time=2,
        timeout=120.0,
        age=31.0,
        clusters=tuple(clusters),
        problem="cluster 12 on alpha did not come back in 120 s: its unit is failed"
        if state == "stopped"
        else None,
    )


def rolling_paused() -> FleetStatus:
    told = Trouble(
        severity="warning",
        text="rolling restart paused: 12 of 40 clusters restarted",
        hint="go on with it: disclusterctl restart --rolling --continue",
    )
    return fleet(*three_hosts(), troubles=(told,))


BUDGET_WAIT = "waiting for identify budget, 12 left (12 of them the reserve), resets in 3 h"


def budget_spent() -> FleetStatus:
    """Two shards lost their sessions, and the rest of the day's starts is the reserve."""
    waiting = tuple(
        msgspec.structs.replace(_waiting(shard), problem=BUDGET_WAIT) for shard in (2, 3)
    )
    alpha = host("alpha", cluster(0, (ready(0), ready(1), *waiting)))
    identify = IdentifyStatus(
        waiting=2, total=120, remaining=12, reset_after=10_800, reserve=12, blocked=BUDGET_WAIT
    )
    hint = "'disclusterctl identify resume --reserve' lets the reserve be spent as well"
    trouble = Trouble(severity="warning", text=BUDGET_WAIT, hint=hint)
    status = fleet(alpha, shard_count=4)
    return msgspec.structs.replace(status, identify=identify, troubles=(trouble,))


def identify_held() -> IdentifyOverview:
    """A shard in a loop, others that wait, and a host out of touch."""
    why = (
        "identified 10 times within an hour; the last time it ended with: Discord closed with 4002"
    )
    return IdentifyOverview(
        identify=IdentifyStatus(
            max_concurrency=16,
            waiting=3,
            total=1000,
            remaining=431,
            reset_after=9_030,
            reserve=100,
            stopped=(StoppedShard(shard=7, age=1_920, why=why),),
        ),
        spendable=306,
        again=52,
        waste=500,
        lanes=(LaneStatus(lane=4, waiting=2, granted=4, free_in=3.2),),
        waiting=(
            WaitingShard(shard=7, host="alpha", reason=f"held back by the identify guard: {why}"),
            WaitingShard(shard=20, host="beta"),
            WaitingShard(shard=36, host="beta"),
        ),
        allowances=(
            HostAllowance(host="alpha", present=True, limit=15, left=15, daily=225),
            HostAllowance(host="beta", present=False, limit=15, left=10, daily=225),
        ),
    )


def identify_blocked() -> IdentifyOverview:
    """The budget is down to its reserve."""
    return IdentifyOverview(
        identify=budget_spent().identify,
        spendable=0,
        again=4,
        waste=60,
        waiting=tuple(
            WaitingShard(shard=shard, host="alpha", reason=BUDGET_WAIT) for shard in (2, 3)
        ),
    )
