# SPDX-License-Identifier: Apache-2.0
"""Plans: what a host, and the fleet, shall run. YAML that a person can read and diff.

A plan is the only command there is. Its generation only grows. A plan that does not validate is
refused whole, with every error.
"""

import hashlib
from collections.abc import Iterator
from typing import Annotated, Final, Literal

import msgspec

from discluster import documents
from discluster.bounds import MAXIMUM_SHARDS as MAXIMUM_SHARDS
from discluster.bounds import ClusterId as ClusterId
from discluster.bounds import Count, Number, ShardCount, Slots
from discluster.bounds import HostName as HostName
from discluster.bounds import ShardId as ShardId
from discluster.documents import Rule
from discluster.flowtext import flow, plain, section

MAXIMUM_SHARDS_PER_CLUSTER: Final = 256
MAXIMUM_SEQ: Final = 2**63 - 1

GatewayUrl = Annotated[
    str,
    Rule(
        longest=256,  # what a record of a session file has room for
        pattern=r"wss?://[^\s/?#]+(/[^\s?#]*)?",
        pattern_says="a ws:// or wss:// address",
    ),
]

Address = Annotated[
    str,
    Rule(
        longest=261,  # a host name, and the port
        pattern=r"(\[[0-9a-fA-F:.]+\]|[\w.%-]+):[0-9]{1,5}",
        pattern_says="of the form ADDRESS:PORT, an IPv6 address in brackets",
    ),
]


# What JSON can say again; is_sound() tells the rest.
_WRITABLE: Final = msgspec.Meta(ge=-(2**63), le=2**63 - 1)


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What RESUME needs (Discord: Gateway, Resuming); moves wherever its shard goes."""

    session_id: Annotated[str, Rule(pattern=r"[!-~]{1,64}", pattern_says="1 to 64 printable ASCII")]
    resume_url: GatewayUrl
    seq: Annotated[int, Rule(minimum=0, maximum=MAXIMUM_SEQ), _WRITABLE]
    guilds: Annotated[int, Rule(minimum=0, maximum=2**32 - 1), _WRITABLE] = 0


def is_sound(session: Session) -> bool:
    """Whether a plan with this session can be read back.

    JSON from a peer brings the types only; a session that no plan can hold is none.
    """
    return documents.satisfies(session)


class ClusterPlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The shards of one cluster, ascending. ``run``: raised whenever the cluster shall be started
    anew; left out of the text while it is 0.
    """

    shards: tuple[ShardId, ...]
    run: Count = 0

    def __post_init__(self) -> None:
        if not self.shards:
            raise ValueError("a cluster needs at least one shard; leave the cluster out instead")
        if len(self.shards) > MAXIMUM_SHARDS_PER_CLUSTER:
            raise ValueError(f"a cluster takes at most {MAXIMUM_SHARDS_PER_CLUSTER} shards")
        if list(self.shards) != sorted(set(self.shards)):
            raise ValueError("shards must be ascending, each once")


class IdentifySlots(msgspec.Struct, frozen=True, kw_only=True):
    """How a host paces its identifies while MASTER is away.

    Host ``slot`` of ``slots`` owns every ``slots``-th window of wall-clock time; one without a
    ``slot`` identifies only with MASTER's permit. It begins with that only when it has been without
    MASTER for ``after`` seconds: until then MASTER may believe it is in touch, and grant its
    windows to others.
    """

    max_concurrency: Slots = 1
    slot: Count | None = None
    slots: Slots = 1
    after: Annotated[float, Rule(minimum=0, maximum=86_400)] = 0.0

    def __post_init__(self) -> None:
        _check_slot(self.slot, self.slots)


class SlotClaim(msgspec.Struct, frozen=True, kw_only=True):
    """The windows that a host has under its plans from generation ``since`` on, as in
    :class:`IdentifySlots`; those of no ``slot`` are none.
    """

    slot: Count | None = None
    slots: Slots = 1
    since: Count = 0

    def __post_init__(self) -> None:
        _check_slot(self.slot, self.slots)


def _check_slot(slot: int | None, slots: int) -> None:
    if slot is not None and slot >= slots:
        raise ValueError(f"slot {slot} does not exist among {slots} slots")


class HostPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What one host shall run. ``handover``: sessions that came with shards, until a cluster here
    runs the shard; ``since``: the generations with which these shards came. ``witnesses``: hosts
    that tell whether MASTER is there, and where they can be asked; this one may be among them.
    """

    generation: Number
    shard_count: ShardCount
    host: HostName
    gateway_url: GatewayUrl
    clusters: dict[ClusterId, ClusterPlan] = {}
    identify: IdentifySlots = IdentifySlots()
    handover: dict[ShardId, Session] = {}
    since: dict[ShardId, Number] = {}
    witnesses: dict[HostName, Address] = {}

    def __post_init__(self) -> None:
        owner: dict[int, int] = {}
        for cluster, plan in self.clusters.items():
            for shard in plan.shards:
                if shard >= self.shard_count:
                    raise ValueError(
                        f"cluster {cluster}: shard {shard} does not exist, shard_count is"
                        f" {self.shard_count}"
                    )
                if shard in owner:
                    raise ValueError(f"shard {shard} is in clusters {owner[shard]} and {cluster}")
                owner[shard] = cluster
        if strangers := sorted(set(self.handover) - set(owner)):
            more = f" and {len(strangers) - 8} more" if len(strangers) > 8 else ""
            raise ValueError(f"handover of shards that no cluster here runs: {strangers[:8]}{more}")

    def shards(self) -> Iterator[int]:
        """All shards of the host, by cluster."""
        for cluster in self.clusters.values():
            yield from cluster.shards


class HostEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A host in the fleet's plan: its share, and the clusters that it shall end up with."""

    weight: Annotated[float, Rule(minimum=0)] = 1.0
    shards_per_cluster: Annotated[int, Rule(minimum=1, maximum=MAXIMUM_SHARDS_PER_CLUSTER)] = 16
    clusters: dict[ClusterId, ClusterPlan] = {}


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Who may run a shard now. ``since``: the generation that gave it to the host. ``withdrawn``:
    the generation that took it out of the host's plan; until the host reports it released at that
    generation or later, nobody else gets it. ``cluster``: of that host, where it runs until its
    turn to move has come; None: where the target says.
    """

    host: HostName
    since: Number = 1
    withdrawn: Count | None = None
    cluster: ClusterId | None = None


class Underway(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster that is being restarted. ``since``: wall-clock seconds; ``ready``: its shards that
    were ready before.
    """

    since: float
    ready: tuple[ShardId, ...] = ()


class Restarted(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster that is back. ``took``: seconds; ``identified``: how many of its shards had to
    identify instead of resuming; ``restarts``: its unit's count of restarts by then.
    """

    took: float
    identified: Count = 0
    restarts: Count = 0


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """A rolling restart: where it stands. ``began``: wall-clock seconds; ``timeout``: seconds that
    a cluster may take to be back. ``waiting``: in the order in which they come; ``gone``: left the
    plan meanwhile. ``problem``: why it stopped, in words.
    """

    state: Literal["running", "paused", "stopped", "done"]
    began: float
    at_a_time: Number
    timeout: Annotated[float, Rule(minimum=1, maximum=86_400)]
    waiting: tuple[ClusterId, ...] = ()
    underway: dict[ClusterId, Underway] = {}
    restarted: dict[ClusterId, Restarted] = {}
    gone: tuple[ClusterId, ...] = ()
    problem: str | None = None


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """MASTER lost its files, or got them from a backup. ``generation``: with which it overtook the
    hosts' plans. ``hosts``: those that it knew then; only they can tell what they run.
    """

    generation: Number
    hosts: tuple[HostName, ...]


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster that its supervisor gave up, so that its shards went elsewhere. ``at``: wall-clock
    seconds. ``shards``: those that it had.
    """

    host: HostName
    at: float
    shards: tuple[ShardId, ...] = ()


class Away(msgspec.Struct, frozen=True, kw_only=True):
    """A host that is away, and what that means. ``unattended``: its CONTROL said goodbye, its
    clusters run on without end, and its shards stay its own. ``lost``: silent for so long that its
    shards are given away; it gets none before it has been back for a while. ``unfit``: it does not
    reach Discord, and gets no shards before ``until``. ``at``, ``until``: wall-clock seconds;
    ``shards``: those that it had then.
    """

    state: Literal["unattended", "lost", "unfit"]
    at: float
    until: float | None = None
    shards: tuple[ShardId, ...] = ()


class FleetPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What MASTER keeps on disk: where every shard shall be, and who owns it until it is there.

    ``slots``: the claims of each host that it may still follow, the newest last. ``recovery``: if
    MASTER's files were ever older than what hosts follow. ``witnesses``: as in :class:`HostPlan`;
    ``panel_before``: those that a host may still go by which has not reported the newest ones.
    ``failed``: clusters that are not planned again. ``away``: what a MASTER that is restarted must
    know of hosts that do not tell it. ``keeping``: hosts that keep their shards when nobody can
    tell them whether MASTER lives.
    """

    generation: Number
    shard_count: ShardCount
    gateway_url: GatewayUrl
    max_concurrency: Slots = 1
    pace_after: Annotated[float, Rule(minimum=0, maximum=86_400)] = 0.0
    reason: str = ""
    hosts: dict[HostName, HostEntry] = {}
    granted: dict[ShardId, Grant] = {}
    slots: dict[HostName, tuple[SlotClaim, ...]] = {}
    recovery: Recovery | None = None
    sessions: dict[ShardId, Session] = {}
    rollout: Rollout | None = None
    witnesses: dict[HostName, Address] = {}
    panel_before: tuple[HostName, ...] = ()
    failed: dict[ClusterId, Failed] = {}
    away: dict[HostName, Away] = {}
    keeping: tuple[HostName, ...] = ()

    def __post_init__(self) -> None:
        seen_clusters: dict[int, str] = {}
        seen_shards: dict[int, str] = {}
        for host, entry in self.hosts.items():
            for cluster, plan in entry.clusters.items():
                if cluster in seen_clusters:
                    raise ValueError(
                        f"cluster {cluster} is on {seen_clusters[cluster]} and on {host}"
                    )
                seen_clusters[cluster] = host
                for shard in plan.shards:
                    if shard in seen_shards or shard >= self.shard_count:
                        raise ValueError(
                            f"shard {shard} on {host} is out of range or also on"
                            f" {seen_shards.get(shard, 'no host')}"
                        )
                    seen_shards[shard] = host
        for shard in (*self.granted, *self.sessions):
            if shard >= self.shard_count:
                raise ValueError(f"shard {shard} does not exist, shard_count is {self.shard_count}")

    def targets(self) -> dict[int, tuple[str, int]]:
        """Shard -> (host, cluster) that it shall end up in."""
        return {
            shard: (host, cluster)
            for host, entry in self.hosts.items()
            for cluster, plan in entry.clusters.items()
            for shard in plan.shards
        }


def host_plan_from_yaml(text: str, *, file: str) -> HostPlan:
    """Raises DocumentError with every fault of the plan."""
    return documents.read(text, HostPlan, file=file)


def fleet_plan_from_yaml(text: str, *, file: str) -> FleetPlan:
    """Raises DocumentError with every fault of the plan."""
    return documents.read(text, FleetPlan, file=file)


def host_plan_to_yaml(plan: HostPlan) -> str:
    """The canonical text; reading it gives an equal plan."""
    lines = [
        f"generation: {plan.generation}",
        f"shard_count: {plan.shard_count}",
        f"host: {plain(plan.host)}",
        f"gateway_url: {flow(plan.gateway_url)}",
        *section("clusters", plan.clusters),
        f"identify: {flow(plan.identify)}",
        *section("handover", plan.handover),
        *(section("since", plan.since) if plan.since else ()),
        *(section("witnesses", plan.witnesses) if plan.witnesses else ()),
    ]
    return "\n".join(lines) + "\n"


def fleet_plan_to_yaml(plan: FleetPlan) -> str:
    """The canonical text; reading it gives an equal plan."""
    lines = [
        f"generation: {plan.generation}",
        f"reason: {flow(plan.reason)}",
        f"shard_count: {plan.shard_count}",
        f"gateway_url: {flow(plan.gateway_url)}",
        f"max_concurrency: {plan.max_concurrency}",
        f"pace_after: {flow(plan.pace_after)}",
        "hosts:" if plan.hosts else "hosts: {}",
    ]
    for host, entry in sorted(plan.hosts.items()):
        lines += [
            f"  {host}:",
            f"    weight: {flow(entry.weight)}",
            f"    shards_per_cluster: {entry.shards_per_cluster}",
            *section("clusters", entry.clusters, "    "),
        ]
    lines += section("granted", plan.granted)
    lines += section("slots", plan.slots)
    if plan.recovery is not None:
        lines.append(f"recovery: {flow(plan.recovery)}")
    lines += section("sessions", plan.sessions)
    if plan.witnesses:
        lines += section("witnesses", plan.witnesses)
    if plan.panel_before:
        lines.append(f"panel_before: {flow(plan.panel_before)}")
    if plan.failed:
        lines += section("failed", plan.failed)
    if plan.away:
        lines += section("away", plan.away)
    if plan.keeping:
        lines.append(f"keeping: {flow(plan.keeping)}")
    if plan.rollout is not None:
        lines += _rollout(plan.rollout)
    return "\n".join(lines) + "\n"


def digest(text: str) -> str:
    """SHA-256 of a plan's text, in hex: what MASTER and CONTROL compare."""
    return hashlib.sha256(text.encode()).hexdigest()


def _rollout(rollout: Rollout) -> list[str]:
    lines = [
        "rollout:",
        f"  state: {rollout.state}",
        f"  began: {flow(rollout.began)}",
        f"  at_a_time: {rollout.at_a_time}",
        f"  timeout: {flow(rollout.timeout)}",
        f"  waiting: {flow(rollout.waiting)}",
        *section("underway", rollout.underway, "  "),
        *section("restarted", rollout.restarted, "  "),
        f"  gone: {flow(rollout.gone)}",
    ]
    return lines if rollout.problem is None else [*lines, f"  problem: {flow(rollout.problem)}"]
