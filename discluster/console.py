# SPDX-License-Identifier: Apache-2.0
"""What MASTER and CONTROL answer to those outside of the fleet: operators and machines that join.

JSON with a ``type`` key, like everything in :mod:`discluster.messages`.
"""

from typing import Literal

import msgspec

from discluster.bounds import ClusterId, Count, Seconds, ShardId
from discluster.messages import NOTHING, CallFault, ClusterView, Message, Rejected


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a person should know, in words. ``host``, ``cluster``: where, if anywhere."""

    severity: Literal["error", "warning", "notice"]
    text: str
    hint: str | None = None
    host: str | None = None
    cluster: int | None = None


class HostStatus(Message, frozen=True, kw_only=True):
    """One host. ``state``: as MASTER sees it, or as CONTROL does when asked itself. Unattended: its
    CONTROL said goodbye, its clusters run on; down: they were stopped with it; lost: silent for so
    long that its shards were given away.

    ``standing``: what is planned for it. Drained: draining, and it has no shard any more; unfit: it
    does not reach Discord. ``seen``: seconds since the last word of it, None if never.
    ``master``, ``certificate``: how it stands with them in words, as the host itself tells.
    """

    host: str
    state: Literal["connected", "unattended", "down", "silent", "lost", "expected", "local"]
    standing: Literal["eligible", "draining", "drained", "standby", "unfit"] = "eligible"
    seen: float | None = None
    version: str = ""
    weight: float = 1.0
    shards_per_cluster: int = 0
    plan_generation: int = 0
    shards_planned: int = 0
    shards_ready: int = 0
    clusters: tuple[ClusterView, ...] = ()
    problems: tuple[str, ...] = ()
    summary: str = ""
    master: str = ""
    certificate: str = ""


class StoppedShard(msgspec.Struct, frozen=True, kw_only=True):
    """A shard that gets no permit until the operator lets it go. ``age``: seconds since then."""

    shard: int
    age: float
    why: str


class WaitingShard(msgspec.Struct, frozen=True, kw_only=True):
    """A shard that wants to identify. ``reason``: None if it waits for its lane's turn."""

    shard: int
    host: str
    reason: str | None = None


class LaneStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A lane in use. ``granted``: the shard that has its permit. ``free_in``: seconds."""

    lane: int
    waiting: int
    granted: int | None = None
    free_in: float = 0.0


class HostAllowance(msgspec.Struct, frozen=True, kw_only=True):
    """What a host may spend without MASTER: ``left`` of ``limit`` until the reset, then ``daily``.
    ``present``: it is in touch, and would give it back.
    """

    host: str
    present: bool
    limit: int
    left: int
    daily: int


class IdentifyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The identify lanes. ``waiting``: shards. ``reset_after``: seconds until the budget is
    refilled. ``reserve``: how many of the remaining are not spent. ``blocked``: why nobody may
    identify. ``stopped``: shards that the guard holds back. ``closed``: why it holds back all.
    """

    max_concurrency: int = 1
    waiting: int = 0
    total: int | None = None
    remaining: int | None = None
    reset_after: float | None = None
    reserve: int = 0
    reserve_is_free: bool = False
    blocked: str | None = None
    stopped: tuple[StoppedShard, ...] = ()
    closed: str | None = None


class IdentifyOverview(Message, frozen=True, kw_only=True):
    """What ``disclusterctl identify status`` shows. ``spendable``: permits that MASTER may give out
    now. ``again``: identifies of the last 24 hours beyond one for each shard; ``waste``: how many
    of them close the guard.
    """

    identify: IdentifyStatus
    spendable: int
    again: int
    waste: int
    lanes: tuple[LaneStatus, ...] = ()
    waiting: tuple[WaitingShard, ...] = ()
    allowances: tuple[HostAllowance, ...] = ()


class ResumeRequest(Message, frozen=True, kw_only=True):
    """Lets shards identify again that the guard holds back. ``shards``: None for all. ``reserve``:
    lets the reserve be spent until the next reset.
    """

    shards: tuple[ShardId, ...] | None = None
    reserve: bool = False


class ResumeAnswer(Message, frozen=True, kw_only=True):
    """``done``: what was released, in sentences; empty if nothing was held back."""

    done: tuple[str, ...] = ()


class RollingRequest(Message, frozen=True, kw_only=True):
    """Restart all clusters of ``hosts`` (none: of the fleet), ``at_a_time`` together, each back
    within ``timeout`` seconds. ``force``: also if a cluster is not well. ``dry_run``: only tell the
    order. Answered by :class:`RolloutStatus`.
    """

    hosts: tuple[str, ...] = ()
    at_a_time: Count = 2
    timeout: Seconds = 120.0
    force: bool = False
    dry_run: bool = False


class RollingChange(Message, frozen=True, kw_only=True):
    """Pause, continue or abort the rolling restart; how it goes on, if that changes. Answered by
    :class:`RolloutStatus`.
    """

    action: Literal["pause", "continue", "abort"]
    at_a_time: Count | None = None
    timeout: Seconds | None = None


class RolloutCluster(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster of a rolling restart. ``seconds``: under way for so long, or what it took.
    ``lacks``: why it is not back yet, in words. ``identified``: shards that could not resume.
    """

    cluster: int
    host: str
    state: Literal["waiting", "underway", "restarted", "gone"]
    seconds: float | None = None
    lacks: str | None = None
    identified: int = 0


class RolloutStatus(Message, frozen=True, kw_only=True):
    """Where a rolling restart stands. ``clusters``: in the order in which they come. ``age``:
    seconds since it began. ``problem``: why it stopped, in words.
    """

    state: Literal["planned", "running", "paused", "stopped", "done", "aborted"]
    at_a_time: int
    timeout: float
    age: float
    clusters: tuple[RolloutCluster, ...] = ()
    problem: str | None = None


class RestartRequest(Message, frozen=True, kw_only=True):
    """Restart these clusters now. Answered by :class:`RestartAnswer`."""

    clusters: tuple[ClusterId, ...]


class RestartAnswer(Message, frozen=True, kw_only=True):
    """Cluster -> the run that it is started with (see :class:`discluster.messages.ClusterView`)."""

    runs: dict[ClusterId, Count]


class RestartProgress(Message, frozen=True, kw_only=True):
    """Whether clusters that were restarted at once are back; nobody counts their seconds. Answers a
    :class:`RestartAnswer` that is sent back.
    """

    clusters: tuple[RolloutCluster, ...]


class FleetStatus(Message, frozen=True, kw_only=True):
    """The whole fleet as MASTER sees it; what ``disclusterctl status --json`` prints."""

    version: str
    generation: int
    shard_count: int
    shards_ready: int
    shards_planned: int
    recommended: int | None
    state: str
    uptime: float
    identify: IdentifyStatus
    troubles: tuple[Trouble, ...] = ()
    hosts: tuple[HostStatus, ...] = ()
    rollout: RolloutStatus | None = None


class PlanChange(msgspec.Struct, frozen=True, kw_only=True):
    """One shard that would go elsewhere. ``source``, ``target``: ``(host, cluster)`` or None."""

    shard: int
    source: tuple[str, int] | None
    target: tuple[str, int] | None
    reason: str


class PlanDiff(Message, frozen=True, kw_only=True):
    """What MASTER would change, or has changed, and why.

    ``summary``: one sentence. ``pending``: changes already decided that wait, in words. ``notes``:
    what does not fit, and what would help, in sentences.
    """

    generation: int
    summary: str
    changes: tuple[PlanChange, ...] = ()
    pending: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class PlanEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A plan that moved shards. ``at``: wall-clock seconds. ``moves``: in words, against the plan
    before it. ``current``: the one whose targets are in force.
    """

    generation: int
    at: float
    reason: str
    moves: str
    hosts: int
    clusters: int
    shards: int
    current: bool = False


class PlanHistory(Message, frozen=True, kw_only=True):
    """The newest last."""

    entries: tuple[PlanEntry, ...] = ()


class TokenRequest(Message, frozen=True, kw_only=True):
    """Asks for a join token. ``host``: bound to this name; ``ttl``: seconds."""

    host: str | None = None
    ttl: Seconds = 3600.0


class JoinToken(Message, frozen=True, kw_only=True):
    """``command``: what to run on the new machine, as root. ``expires_in``: seconds."""

    command: str
    token: str
    ca_fingerprint: str
    host: str | None
    expires_in: float


class JoinRequest(Message, frozen=True, kw_only=True):
    """A new machine asks for its certificate. ``csr``: PEM, made on the machine."""

    token: str
    host: str
    csr: str


class JoinAnswer(Message, frozen=True, kw_only=True):
    """``certificate``, ``ca``: PEM."""

    certificate: str
    ca: str


EventKind = Literal["master", "host", "plan", "shards", "cluster", "order", "identify", "discord"]


class Event(Message, frozen=True, kw_only=True):
    """Something that MASTER decided or noticed, and why: one ``sentence``. ``number``: grows by one
    from event to event. ``at``: wall clock, seconds since 1970 UTC. ``host``, ``cluster``,
    ``shard``, ``generation``: what it is about, where it is about one.
    """

    number: int
    at: float
    kind: EventKind
    sentence: str
    severity: Literal["error", "warning", "notice"] = "notice"
    host: str | None = None
    cluster: int | None = None
    shard: int | None = None
    generation: int | None = None


class EventQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The newest events ``after`` that number, of ``host`` if named, not older than ``since`` (wall
    clock, seconds); of those only the ``last`` ones if that is given. ``wait``: the answer may take
    so many seconds, until there is an event after ``after``.
    """

    after: Count = 0
    last: Count | None = None
    host: str | None = None
    since: Seconds = 0.0
    wait: Seconds = 0.0


class EventPage(Message, frozen=True, kw_only=True):
    """``events`` in the order in which they happened. ``upto``: ask for those after this number
    next. ``newest``: number of the newest event there is, 0 before the first.
    """

    events: tuple[Event, ...]
    upto: int
    newest: int


class Failure(Message, frozen=True, kw_only=True):
    """The body of every HTTP answer of MASTER's that is not a success."""

    code: str
    message: str
    hint: str | None = None


class CallEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a call at one cluster: its ``value``, unless there is a ``fault``. ``host``:
    None if the cluster is on none.
    """

    cluster: int
    host: str | None = None
    value: msgspec.Raw = NOTHING
    fault: CallFault | None = None


class CallReport(Message, frozen=True, kw_only=True):
    """What came of a call: one entry for each cluster that was asked, by number. ``unasked``: why
    others of the fleet were not asked, in words.
    """

    entries: tuple[CallEntry, ...]
    unasked: str | None = None


# What CONTROL's socket answers to an operator.
control_to_operator = msgspec.json.Decoder(HostStatus | CallReport | Rejected)
