# SPDX-License-Identifier: Apache-2.0
"""Plans: what a host, and the fleet, shall run. YAML that a person can read and diff.

A plan is the only command there is. Its generation only grows. A plan that does not validate is
refused whole, with every error.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Final

import msgspec

from discluster import documents
from discluster.documents import Rule

MAXIMUM_SHARDS: Final = 65_536
MAXIMUM_SHARDS_PER_CLUSTER: Final = 256

HostName = Annotated[
    str,
    Rule(
        pattern=r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*",
        pattern_says="a host name in lower case (letters, digits, '-' and '.')",
    ),
]
ClusterId = Annotated[int, Rule(minimum=0, maximum=999_999)]
ShardId = Annotated[int, Rule(minimum=0, maximum=MAXIMUM_SHARDS - 1)]
GatewayUrl = Annotated[
    str, Rule(pattern=r"wss?://[^\s/?#]+[^\s?#]*", pattern_says="a ws:// or wss:// address")
]


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What RESUME needs (Discord: Gateway, Resuming); moves wherever its shard goes."""

    session_id: Annotated[str, Rule(pattern=r"[!-~]{1,64}", pattern_says="1 to 64 printable ASCII")]
    resume_url: GatewayUrl
    seq: Annotated[int, Rule(minimum=0, maximum=2**63)]
    guilds: Annotated[int, Rule(minimum=0, maximum=2**32 - 1)] = 0


def is_sound(session: Session) -> bool:
    """Whether a plan with this session can be read back.

    JSON from a peer brings the types only; a session that no plan can hold is none.
    """
    return documents.satisfies(session)


class ClusterPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The shards of one cluster, ascending."""

    shards: tuple[ShardId, ...]

    def __post_init__(self) -> None:
        if not self.shards:
            raise ValueError("a cluster needs at least one shard; leave the cluster out instead")
        if len(self.shards) > MAXIMUM_SHARDS_PER_CLUSTER:
            raise ValueError(f"a cluster takes at most {MAXIMUM_SHARDS_PER_CLUSTER} shards")
        if list(self.shards) != sorted(set(self.shards)):
            raise ValueError("shards must be ascending, each once")


class IdentifySlots(msgspec.Struct, frozen=True, kw_only=True):
    """How a host paces its identifies while MASTER is away.

    Host ``slot`` of ``slots`` owns every ``slots``-th window of wall-clock time. It begins with
    that only when it has been without MASTER for ``after`` seconds: until then MASTER may believe
    it is in touch, and grant its windows to others.
    """

    max_concurrency: Annotated[int, Rule(minimum=1)] = 1
    slot: Annotated[int, Rule(minimum=0)] = 0
    slots: Annotated[int, Rule(minimum=1)] = 1
    after: Annotated[float, Rule(minimum=0, maximum=86_400)] = 0.0

    def __post_init__(self) -> None:
        if self.slot >= self.slots:
            raise ValueError(f"slot {self.slot} does not exist among {self.slots} slots")


class HostPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What one host shall run."""

    generation: Annotated[int, Rule(minimum=1)]
    shard_count: Annotated[int, Rule(minimum=1, maximum=MAXIMUM_SHARDS)]
    host: HostName
    gateway_url: GatewayUrl
    clusters: dict[ClusterId, ClusterPlan] = {}
    identify: IdentifySlots = IdentifySlots()
    handover: dict[ShardId, Session] = {}

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
            raise ValueError(f"handover of shards that no cluster here runs: {strangers}")

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
    """Who may run a shard now. ``withdrawn``: the generation that took it out of the host's plan;
    until the host reports it released at that generation or later, nobody else gets it.
    """

    host: HostName
    withdrawn: int | None = None


class FleetPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What MASTER keeps on disk: where every shard shall be, and who owns it until it is there."""

    generation: Annotated[int, Rule(minimum=1)]
    shard_count: Annotated[int, Rule(minimum=1, maximum=MAXIMUM_SHARDS)]
    gateway_url: GatewayUrl
    max_concurrency: Annotated[int, Rule(minimum=1)] = 1
    pace_after: Annotated[float, Rule(minimum=0, maximum=86_400)] = 0.0
    reason: str = ""
    hosts: dict[HostName, HostEntry] = {}
    granted: dict[ShardId, Grant] = {}
    sessions: dict[ShardId, Session] = {}

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
        f"host: {_plain(plan.host)}",
        f"gateway_url: {_flow(plan.gateway_url)}",
        *_section("clusters", plan.clusters, ""),
        f"identify: {_flow(plan.identify)}",
        *_section("handover", plan.handover, ""),
    ]
    return "\n".join(lines) + "\n"


def fleet_plan_to_yaml(plan: FleetPlan) -> str:
    """The canonical text; reading it gives an equal plan."""
    lines = [
        f"generation: {plan.generation}",
        f"reason: {_flow(plan.reason)}",
        f"shard_count: {plan.shard_count}",
        f"gateway_url: {_flow(plan.gateway_url)}",
        f"max_concurrency: {plan.max_concurrency}",
        f"pace_after: {_flow(plan.pace_after)}",
        "hosts:" if plan.hosts else "hosts: {}",
    ]
    for host, entry in sorted(plan.hosts.items()):
        lines += [
            f"  {host}:",
            f"    weight: {_flow(entry.weight)}",
            f"    shards_per_cluster: {entry.shards_per_cluster}",
            *_section("clusters", entry.clusters, "    "),
        ]
    lines += _section("granted", plan.granted, "")
    lines += _section("sessions", plan.sessions, "")
    return "\n".join(lines) + "\n"


def digest(text: str) -> str:
    """SHA-256 of a plan's text, in hex: what MASTER and CONTROL compare."""
    return hashlib.sha256(text.encode()).hexdigest()


def _section(name: str, entries: Mapping[int, msgspec.Struct], indent: str) -> list[str]:
    """A mapping with one line an entry, so that a diff shows one line a change."""
    if not entries:
        return [f"{indent}{name}: {{}}"]
    below = [f"{indent}  {key}: {_flow(entries[key])}" for key in sorted(entries)]
    return [f"{indent}{name}:", *below]


def _flow(value: object) -> str:
    if isinstance(value, msgspec.Struct):
        pairs = msgspec.structs.asdict(value).items()
        return "{" + ", ".join(f"{k}: {_flow(v)}" for k, v in pairs if v is not None) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _plain(name: str) -> str:
    """A host name without quotes, unless YAML would take it for a number or for ``null``."""
    return name if isinstance(documents.scalar(name), str) else _quoted(name)


def _quoted(text: str) -> str:
    if text.isascii() and text.isprintable():
        return json.dumps(text)
    # YAML knows neither JSON's surrogate pairs nor control characters as they are.
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if " " <= character <= "~":
        return "\\" + character if character in '"\\' else character
    return f"\\U{ord(character):08x}"
