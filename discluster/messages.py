# SPDX-License-Identifier: Apache-2.0
"""What the processes say to each other, and the snapshots that they report.

All messages are JSON with a ``type`` key. Plans travel as YAML text inside :class:`PlanPush`.
Every report carries the generation that it reflects. Ages are in seconds at the time of the
report, since the clocks of two machines need not agree.
"""

import re
from typing import Final, Literal, TypeVar

import msgspec

from discluster.errors import ProtocolError
from discluster.plan import Session

PROTOCOL: Final = 2
T = TypeVar("T")

ShardState = Literal[
    "idle",
    "dialing",
    "hello",
    "waiting",
    "identifying",
    "resuming",
    "ready",
    "backoff",
    "held",
    "closing",
    "fatal",
]
CaseState = Literal["asks", "accepted", "failed"]
UnitState = Literal["inactive", "activating", "active", "deactivating", "failed", "unknown"]


def _tag(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=_tag):
    """Root of everything that goes over a wire."""


class ShardView(msgspec.Struct, frozen=True, kw_only=True):
    """One shard as its cluster sees it.

    ``since``: seconds in this state. ``latency``: seconds from the last heartbeat to its
    acknowledgement. ``event_age``: seconds since the last dispatch. ``seq``: last sequence that the
    handler took. ``guilds``: None where it is not known. ``problem``: why it is not ready, in
    words. ``fatal``: the close code after which Discord must not be asked again.
    """

    shard: int
    state: ShardState
    since: float = 0.0
    latency: float | None = None
    guilds: int | None = None
    seq: int | None = None
    event_age: float | None = None
    events: int = 0
    identifies: int = 0
    resumes: int = 0
    problem: str | None = None
    fatal: int | None = None


class ClusterView(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster as its CONTROL sees it: what the supervisor says, and what it reports itself.

    ``generation``: of the assignment that it follows, 0 before the first. ``shards``: those that it
    holds, that is, may have a socket open for.
    """

    cluster: int
    unit: UnitState
    detail: str = ""
    pid: int | None = None
    connected: bool = False
    generation: int = 0
    uptime: float | None = None
    restarts: int = 0
    handler: str = ""
    shards: tuple[ShardView, ...] = ()
    problem: str | None = None


class HostReport(Message, frozen=True, kw_only=True):
    """A full snapshot of one host; replaces the one before.

    ``plan_generation``: of the plan in force there (0: none). ``holding``: shards that a cluster on
    this host may be running, whether it answers or not. ``released``: sessions of shards that
    were here and are not held any more. ``rejected``: Discord rejected a shard of this host for
    good, in words.
    """

    plan_generation: int
    holding: tuple[int, ...] = ()
    released: dict[int, Session] = {}
    clusters: tuple[ClusterView, ...] = ()
    problems: tuple[str, ...] = ()
    summary: str = ""
    rejected: str | None = None


# --- CONTROL -> MASTER ---------------------------------------------------------------------------


class Hello(Message, frozen=True, kw_only=True):
    """First message of a CONTROL; its host name is in its certificate."""

    protocol: int
    version: str
    report: HostReport


class PlanRefused(Message, frozen=True, kw_only=True):
    """The pushed plan does not validate; the last good one stays in force."""

    generation: int
    errors: str


class PermitRequest(Message, frozen=True, kw_only=True):
    """May ``shard`` identify? Answered by :class:`Permit` or :class:`PermitDenied`."""

    shard: int


class PermitUsed(Message, frozen=True, kw_only=True):
    """The IDENTIFY of ``shard`` was written to its socket just now."""

    shard: int


class PermitReturned(Message, frozen=True, kw_only=True):
    """``shard`` no longer wants, or did not use, its permit."""

    shard: int


class ClearanceCase(Message, frozen=True, kw_only=True):
    """How it stands with the one shard that tries, of all here that Discord closed with 4003 (see
    :mod:`discluster.clearance`). One that asks is answered by :class:`Clearance`, if at all.
    """

    shard: int
    state: CaseState


class Goodbye(Message, frozen=True, kw_only=True):
    """An orderly stop of CONTROL; its clusters run on. Answered by :class:`GoodbyeSeen`."""


# --- MASTER -> CONTROL ---------------------------------------------------------------------------


class Welcome(Message, frozen=True, kw_only=True):
    """MASTER took the connection. ``ping_interval``, ``lease``: seconds."""

    protocol: int
    version: str
    ping_interval: float
    lease: float


class PlanPush(Message, frozen=True, kw_only=True):
    """The host's plan as YAML, with the SHA-256 of its text."""

    generation: int
    sha256: str
    text: str


class GoodbyeSeen(Message, frozen=True, kw_only=True):
    """MASTER counts the host as unattended: its shards stay its own."""


class Clearance(Message, frozen=True, kw_only=True):
    """``shard`` may authenticate again; None: all may that were closed with 4003."""

    shard: int | None


class Halt(Message, frozen=True, kw_only=True):
    """Discord rejected this fleet for the ``reason``, in words: nobody dials. None: all may."""

    reason: str | None


class Rejected(Message, frozen=True, kw_only=True):
    """MASTER does not take this connection, and why; the last message on it."""

    code: str
    reason: str


# --- both ways -----------------------------------------------------------------------------------


class Ping(Message, frozen=True, kw_only=True):
    """Are you there? Answered by :class:`Pong` with the same number."""

    number: int


class Pong(Message, frozen=True, kw_only=True):
    """Answer to :class:`Ping`."""

    number: int


class Permit(Message, frozen=True, kw_only=True):
    """``shard`` may identify now; to be used or returned at once."""

    shard: int


class PermitDenied(Message, frozen=True, kw_only=True):
    """``shard`` must wait; ask again after ``retry_after`` seconds. ``reason`` in words."""

    shard: int
    reason: str
    retry_after: float


# --- cluster <-> CONTROL -------------------------------------------------------------------------


class ClusterReport(Message, frozen=True, kw_only=True):
    """A cluster's full snapshot; the first one introduces it. ``generation`` as in ClusterView."""

    cluster: int
    pid: int
    generation: int
    uptime: float
    handler: str
    shards: tuple[ShardView, ...]


class Assignment(Message, frozen=True, kw_only=True):
    """What one cluster shall run; also stored on disk for a start without CONTROL.

    ``handover``: sessions for shards that come from elsewhere; a session that the cluster's own
    file has is newer and wins.
    """

    cluster: int
    generation: int
    shard_count: int
    gateway_url: str
    shards: tuple[int, ...]
    handover: dict[int, Session] = {}


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What is on disk for one cluster, written by CONTROL: its assignment, and the shards that are
    being taken from it.

    ``leaving``: not assigned any more, but not yet reported released; the cluster may still run
    them. ``left``: released, and no cluster of this host got them since: the newest sessions that
    this host knows of them are in this cluster's file.
    """

    assignment: Assignment
    leaving: tuple[int, ...] = ()
    left: tuple[int, ...] = ()


class StatusQuery(Message, frozen=True, kw_only=True):
    """An operator asks the local CONTROL; answered by
    :class:`discluster.console.HostStatus`.
    """


ControlToMaster = (
    Hello
    | HostReport
    | PlanRefused
    | PermitRequest
    | PermitUsed
    | PermitReturned
    | ClearanceCase
    | Goodbye
    | Ping
    | Pong
)
MasterToControl = (
    Welcome
    | PlanPush
    | Permit
    | PermitDenied
    | Clearance
    | Halt
    | GoodbyeSeen
    | Rejected
    | Ping
    | Pong
)
PermitMessage = PermitRequest | PermitUsed | PermitReturned
ClusterToControl = ClusterReport | PermitMessage | ClearanceCase | StatusQuery
ControlToCluster = Assignment | Permit | PermitDenied | Clearance | Halt | Rejected

control_to_master = msgspec.json.Decoder(ControlToMaster)
master_to_control = msgspec.json.Decoder(MasterToControl)
cluster_to_control = msgspec.json.Decoder(ClusterToControl)
control_to_cluster = msgspec.json.Decoder(ControlToCluster)


def encode(message: Message) -> bytes:
    """The message as one line of JSON without its newline."""
    return msgspec.json.encode(message)


def decode(decoder: msgspec.json.Decoder[T], data: bytes | str, *, peer: str) -> T:
    """The typed message in ``data``.

    Raises:
        ProtocolError: not JSON, an unknown type, or a field that does not fit.
    """
    try:
        return decoder.decode(data)
    except msgspec.DecodeError as error:
        raise ProtocolError(
            f"{peer} sent a message that does not fit the protocol: {error}",
            hint="are both sides of the same version?",
        ) from None
