# SPDX-License-Identifier: Apache-2.0
"""What MASTER and CONTROL answer to those outside of the fleet: operators and machines that join.

JSON with a ``type`` key, like everything in :mod:`discluster.messages`.
"""

from typing import Literal

import msgspec

from discluster.messages import ClusterView, Message, Rejected


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a person should know, in words. ``host``, ``cluster``: where, if anywhere."""

    severity: Literal["error", "warning", "notice"]
    text: str
    hint: str | None = None
    host: str | None = None
    cluster: int | None = None


class HostStatus(Message, frozen=True, kw_only=True):
    """One host. ``state``: as MASTER sees it, or as CONTROL does when asked itself.

    ``seen``: seconds since the last word of it, None if never.
    """

    host: str
    state: Literal["connected", "unattended", "silent", "expected", "local"]
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


class IdentifyStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The identify lanes. ``reset_after``: seconds until the budget is refilled."""

    max_concurrency: int = 1
    waiting: int = 0
    total: int | None = None
    remaining: int | None = None
    reset_after: float | None = None
    blocked: str | None = None


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


class PlanChange(msgspec.Struct, frozen=True, kw_only=True):
    """One shard that would go elsewhere. ``source``, ``target``: ``(host, cluster)`` or None."""

    shard: int
    source: tuple[str, int] | None
    target: tuple[str, int] | None
    reason: str


class PlanDiff(Message, frozen=True, kw_only=True):
    """What MASTER would change if it planned now with the settings on disk, and why.

    ``summary``: one sentence. ``pending``: changes already decided that wait, in words.
    """

    generation: int
    summary: str
    changes: tuple[PlanChange, ...] = ()
    pending: tuple[str, ...] = ()


class TokenRequest(Message, frozen=True, kw_only=True):
    """Asks for a join token. ``host``: bound to this name; ``ttl``: seconds."""

    host: str | None = None
    ttl: float = 3600.0


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


class Failure(Message, frozen=True, kw_only=True):
    """The body of every HTTP answer of MASTER's that is not a success."""

    code: str
    message: str
    hint: str | None = None


# What CONTROL's socket answers to an operator.
control_to_operator = msgspec.json.Decoder(HostStatus | Rejected)
