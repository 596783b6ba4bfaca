# SPDX-License-Identifier: Apache-2.0
"""What the processes say to each other, and the snapshots that they report.

All messages are JSON with a ``type`` key. Plans travel as YAML text inside :class:`PlanPush`.
Every report carries the generation that it reflects. Ages are in seconds at the time of the
report, since the clocks of two machines need not agree.
"""

import re
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from discluster.bounds import (
    ALL,
    MANY,
    Amount,
    ClusterId,
    Count,
    Errors,
    HostName,
    Seconds,
    ShardCount,
    ShardId,
    Version,
)
from discluster.certificates import Certificate
from discluster.decoding import DECODE_ERRORS, reason_of
from discluster.errors import ProtocolError
from discluster.plan import IdentifySlots, Session

# Seconds in which a permit can be used. A lane is taken for longer than that when nothing is heard
# of its permit, as of one on a host that is lost; a process that is slower has to ask again.
PERMIT_LIFE: Final = 10.0
PROTOCOL: Final = 6
# Bytes of a call's arguments, and of what one cluster answers, as JSON; and seconds. An answer with
# what belongs to it fits into a line of a cluster.
LONGEST_ARGUMENTS: Final = 32 * 1024
LONGEST_VALUE: Final = 128 * 1024
LONGEST_CALL: Final = 60.0
NOTHING: Final = msgspec.Raw(b"null")
_DEEPER: Final = 256
_deeper: Final = msgspec.json.Decoder(msgspec.Raw)
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
CallFaultCode = Literal[
    "no-such-call",
    "raised",
    "time-out",
    "away",
    "no-such-cluster",
    "too-large",
    "busy",
    "unreadable",
]
CallName = Annotated[str, msgspec.Meta(max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*\Z")]
CallTime = Annotated[float, msgspec.Meta(ge=0, le=LONGEST_CALL)]
Clusters = Annotated[tuple[ClusterId, ...], MANY]


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

    shard: ShardId
    state: ShardState
    since: Seconds = 0.0
    latency: Seconds | None = None
    guilds: Count | None = None
    seq: Count | None = None
    event_age: Seconds | None = None
    events: Count = 0
    identifies: Count = 0
    resumes: Count = 0
    problem: str | None = None
    fatal: Count | None = None


class ClusterView(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster as its CONTROL sees it: what the supervisor says, and what it reports itself.

    ``generation``: of the assignment that it follows, 0 before the first. ``run``: the run of the
    plan with which it was last started. ``shards``: those that it holds, that is, may have a socket
    open for. ``cpu``: of one core, over the last seconds; ``memory``: bytes; ``event_rate``: events
    a second. None where that is not known.
    """

    cluster: ClusterId
    unit: UnitState
    detail: str = ""
    pid: Count | None = None
    connected: bool = False
    generation: Count = 0
    run: Count = 0
    uptime: Seconds | None = None
    restarts: Count = 0
    handler: str = ""
    shards: Annotated[tuple[ShardView, ...], MANY] = ()
    problem: str | None = None
    cpu: Amount | None = None
    memory: Count | None = None
    event_rate: Amount | None = None


class HostReport(Message, frozen=True, kw_only=True):
    """A full snapshot of one host; replaces the one before.

    ``plan_generation``: of the plan in force there (0: none). ``slots``: what that says on pacing.
    ``holding``: shards that a cluster on this host may be running, whether it answers or not.
    ``released``: sessions of shards that were here, as shards of ``shard_count``, and are not held
    any more; ``entered``: the stamps of their last stays, also where the session ended in it.
    ``rejected``: Discord rejected a shard of this host for good, in words. ``leaving``: its
    clusters are being stopped, as when the machine shuts down, and others should take its shards.
    ``witness``: ADDRESS:PORT where other hosts can ask it for MASTER; without the address the one
    that MASTER sees. ``panel``: the witnesses that its plan in force names. ``keeps``: its clusters
    run on when nobody can tell it whether MASTER lives (``when_isolated``).
    """

    plan_generation: Count
    holding: Annotated[tuple[ShardId, ...], ALL] = ()
    released: dict[ShardId, Session] = {}
    entered: dict[ShardId, Count] = {}
    shard_count: Count = 0
    clusters: Annotated[tuple[ClusterView, ...], ALL] = ()
    problems: Annotated[tuple[str, ...], MANY] = ()
    summary: str = ""
    rejected: str | None = None
    slots: IdentifySlots | None = None
    leaving: bool = False
    witness: str | None = None
    panel: Annotated[tuple[HostName, ...], MANY] = ()
    keeps: bool = False


# --- CONTROL -> MASTER ---------------------------------------------------------------------------


class Hello(Message, frozen=True, kw_only=True):
    """First message of a CONTROL; its host name is in its certificate."""

    protocol: int
    version: Version
    report: HostReport


class PlanRefused(Message, frozen=True, kw_only=True):
    """The pushed plan does not validate; the last good one stays in force."""

    generation: Count
    errors: Errors


class PermitRequest(Message, frozen=True, kw_only=True):
    """May ``shard`` identify? Answered by :class:`Permit` or :class:`PermitDenied`."""

    shard: ShardId


class PermitUsed(Message, frozen=True, kw_only=True):
    """The IDENTIFY of ``shard`` was written to its socket. ``at``: when, or when at the latest, on
    the clock that :class:`Permit` is told in; None: just now. ``alone``: the budget has it by
    another way: by :class:`AllowanceReport`, or it was told before that it may be used.
    """

    shard: ShardId
    at: Seconds | None = None
    alone: bool = False


class PermitReturned(Message, frozen=True, kw_only=True):
    """``shard`` no longer wants, or did not use, its permit."""

    shard: ShardId


class AllowanceReport(Message, frozen=True, kw_only=True):
    """The :class:`Allowance` that this host has (``serial`` 0: none), and how many identifies were
    ``spent`` under it. First message of a connection after :class:`Hello`, and the answer to each
    new allowance.
    """

    serial: Count
    identifies: Count = 0
    resets_in: Seconds = 0.0
    daily: Count = 0
    spent: Count = 0


class Checkpoint(Message, frozen=True, kw_only=True):
    """Sessions of this host, as shards of ``shard_count``, that changed since the last one on this
    connection; all of them with the first. ``entered``: the stamp of the stay that each is of.
    ``ended``: shards whose session ended in their last stay.
    """

    shard_count: Count
    sessions: dict[ShardId, Session] = {}
    entered: dict[ShardId, Count] = {}
    ended: Annotated[tuple[ShardId, ...], ALL] = ()


class ClearanceCase(Message, frozen=True, kw_only=True):
    """How it stands with the one shard that tries, of all here that Discord closed with 4003 (see
    :mod:`discluster.clearance`). One that asks is answered by :class:`Clearance`, if at all.
    """

    shard: ShardId
    state: CaseState


class Goodbye(Message, frozen=True, kw_only=True):
    """An orderly stop of CONTROL. Its clusters run on, unless its last report says that the host is
    leaving. Answered by :class:`GoodbyeSeen`; a host that is leaving is answered when it owns no
    shard any more, or at once when nobody can take them.
    """


class CertificateReport(Message, frozen=True, kw_only=True):
    """The certificate that this host has on disk, and the ids of the authorities that it trusts.
    ``wall``: its clock. Comes whenever one of them changes, and now and then.
    """

    certificate: Certificate
    trusts: Annotated[tuple[str, ...], msgspec.Meta(max_length=8)]
    wall: float


class RenewRequest(Message, frozen=True, kw_only=True):
    """Asks for a new certificate of this host. ``csr``: PEM, for a new key. Answered by
    :class:`Renewed` or :class:`RenewRefused`.
    """

    csr: Annotated[str, msgspec.Meta(max_length=16_384)]


# --- MASTER -> CONTROL ---------------------------------------------------------------------------


class Welcome(Message, frozen=True, kw_only=True):
    """MASTER took the connection. ``ping_interval``, ``lease``: seconds. ``now``: MASTER's
    monotonic clock, in which it tells how long permits may be used.
    """

    now: Seconds
    protocol: int
    version: str
    ping_interval: Seconds
    lease: Seconds


class PlanPush(Message, frozen=True, kw_only=True):
    """The host's plan as YAML, with the SHA-256 of its text."""

    generation: Count
    sha256: str
    text: str


class Allowance(Message, frozen=True, kw_only=True):
    """How many ``identifies`` the host may spend without MASTER until the budget is refilled in
    ``resets_in`` seconds, and how many in any 24 hours from then on (``daily``). Replaces the one
    before; ``serial`` grows. Answered by :class:`AllowanceReport`.
    """

    serial: Count
    identifies: Count
    resets_in: Seconds
    daily: Count


class GoodbyeSeen(Message, frozen=True, kw_only=True):
    """MASTER knows that this CONTROL is gone on purpose: shards that the host has stay its own."""


class Clearance(Message, frozen=True, kw_only=True):
    """``shard`` may authenticate again; None: all may that were closed with 4003."""

    shard: ShardId | None


class Halt(Message, frozen=True, kw_only=True):
    """Discord rejected this fleet for the ``reason``, in words: nobody dials. None: all may."""

    reason: str | None


class Trust(Message, frozen=True, kw_only=True):
    """Whom to believe. ``authorities``: all certificates that are trusted, PEM; ``signing``: the id
    of the one that others shall give way to. ``revoked``: see
    :func:`discluster.certificates.is_revoked`. Answered by :class:`CertificateReport`.
    """

    authorities: str
    signing: str
    revoked: dict[str, float] = {}


class Renewed(Message, frozen=True, kw_only=True):
    """``certificate``: PEM, for the key of the request."""

    certificate: str


class RenewRefused(Message, frozen=True, kw_only=True):
    """No new certificate, and why in words."""

    reason: str


class Rejected(Message, frozen=True, kw_only=True):
    """MASTER does not take this connection, and why; the last message on it."""

    code: str
    reason: str


# --- both ways -----------------------------------------------------------------------------------


class Ping(Message, frozen=True, kw_only=True):
    """Are you there? Answered by :class:`Pong` with the same number."""

    number: Count


class Pong(Message, frozen=True, kw_only=True):
    """Answer to :class:`Ping`. ``now``: from MASTER, its monotonic clock."""

    number: Count
    now: Seconds | None = None


class Permit(Message, frozen=True, kw_only=True):
    """``shard`` may identify, once, from ``since`` to ``until``: monotonic seconds of MASTER, and
    from CONTROL to its clusters of the machine. To be used as soon as it may be, or returned.
    """

    shard: ShardId
    since: Seconds
    until: Seconds


class PermitDenied(Message, frozen=True, kw_only=True):
    """``shard`` must wait; ask again after ``retry_after`` seconds. ``reason`` in words."""

    shard: ShardId
    reason: str
    retry_after: Seconds


# --- calls: cluster or operator -> CONTROL -> MASTER -> CONTROL -> cluster, and back --------------


class CallFault(msgspec.Struct, frozen=True, kw_only=True):
    """Why there is no value; ``text`` in words."""

    code: CallFaultCode
    text: Annotated[str, msgspec.Meta(max_length=1000)]


class CallRequest(Message, frozen=True, kw_only=True):
    """Asks ``clusters``, None: all of the fleet but those ``besides``, to answer the call ``name``
    within ``timeout`` seconds. Answered by one or more :class:`CallAsked`, the last of them without
    ``more``, and one :class:`CallAnswer` of each cluster that these name. ``number``: the asker's.
    """

    number: Count
    name: CallName
    args: msgspec.Raw = NOTHING
    clusters: Clusters | None = None
    besides: Clusters = ()
    timeout: CallTime

    def __post_init__(self) -> None:
        _refuse_raw(self.args, LONGEST_ARGUMENTS, "args")


class Call(Message, frozen=True, kw_only=True):
    """Passes a call on to ``clusters``; answered by one :class:`CallAnswer` of each. Clocks differ
    between machines, so ``timeout`` says how many seconds there are, and less at each hop.
    """

    number: Count
    name: CallName
    args: msgspec.Raw = NOTHING
    clusters: Clusters
    timeout: CallTime

    def __post_init__(self) -> None:
        _refuse_raw(self.args, LONGEST_ARGUMENTS, "args")


class CallAsked(Message, frozen=True, kw_only=True):
    """Whom the call ``number`` goes to, by host. ``more``: another one follows. The last one says
    what is ``missing`` of the clusters that were asked for and are not named, and why others of the
    fleet are ``unasked``, in words.
    """

    number: Count
    hosts: dict[HostName, Clusters] = {}
    missing: CallFault | None = None
    unasked: Annotated[str, msgspec.Meta(max_length=1000)] | None = None
    more: bool = False


class CallAnswer(Message, frozen=True, kw_only=True):
    """What ``cluster`` answers to the call ``number``: ``value``, unless there is a ``fault``."""

    number: Count
    cluster: ClusterId
    value: msgspec.Raw = NOTHING
    fault: CallFault | None = None

    def __post_init__(self) -> None:
        _refuse_raw(self.value, LONGEST_VALUE, "value")


def _refuse_raw(raw: msgspec.Raw, longest: int, what: str) -> None:
    """It goes on as it came. As a part of a line, a line in it would be another message; as a part
    of something deeper, it must not be what makes that too deep.
    """
    if len(raw) > longest:
        raise ValueError(f"{what}: {len(raw)} bytes, of at most {longest}")
    text = bytes(raw)
    if b"\n" in text or b"\r" in text:
        raise ValueError(f"{what}: more than one line")
    try:
        _deeper.decode(b"[" * _DEEPER + text + b"]" * _DEEPER)
    except DECODE_ERRORS as error:
        raise ValueError(f"{what}: {reason_of(error)}") from None


# --- cluster <-> CONTROL -------------------------------------------------------------------------


class ClusterReport(Message, frozen=True, kw_only=True):
    """A cluster's full snapshot; the first one introduces it. ``generation`` as in ClusterView.

    ``problem``: why it may run no shard, in words. ``cpu_seconds``, ``memory`` (bytes): what its
    own process has used since it began, and uses now.
    """

    cluster: ClusterId
    pid: Count
    generation: Count
    uptime: Seconds
    handler: str
    shards: Annotated[tuple[ShardView, ...], MANY]
    problem: str | None = None
    cpu_seconds: Amount | None = None
    memory: Count | None = None


class Assignment(Message, frozen=True, kw_only=True):
    """What one cluster shall run; also stored on disk for a start without CONTROL.

    ``entered``: generation of the host's plan under which each shard entered this cluster; it
    stamps the shard's stay here (:mod:`discluster.stays`). ``handover``: the sessions with which
    shards came; what the cluster's own file has of the same stay is newer and wins. Both are kept
    for shards that left, until the next assignment.
    """

    cluster: ClusterId
    generation: Count
    shard_count: ShardCount
    gateway_url: str
    shards: tuple[ShardId, ...]
    entered: dict[ShardId, Count] = {}
    handover: dict[ShardId, Session] = {}


class Lease(Message, frozen=True, kw_only=True):
    """Until when a cluster may hand over events and dial: seconds of CLOCK_BOOTTIME; None: without
    end, since MASTER knows that CONTROL is gone on purpose. ``then``: what it does if nothing
    follows: ``stop`` closes its sockets with the sessions kept, and waits. Comes after the
    assignment that it is about.
    """

    until: Seconds | None
    then: Literal["stop", "keep"] = "stop"


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What is on disk for one cluster, written by CONTROL: its assignment, and the shards that are
    being taken from it.

    ``leaving``: not assigned any more, but not yet reported released; the cluster may still run
    them. ``left``: released, and no cluster of this host got them since: the newest sessions that
    this host knows of them are in this cluster's file. ``run``: the run of the plan with which the
    cluster was last started.
    """

    assignment: Assignment
    leaving: tuple[ShardId, ...] = ()
    left: tuple[ShardId, ...] = ()
    run: Count = 0


class StatusQuery(Message, frozen=True, kw_only=True):
    """An operator asks the local CONTROL; answered by
    :class:`discluster.console.HostStatus`.
    """


# --- CONTROL <-> CONTROL -------------------------------------------------------------------------


class WitnessAnswer(Message, frozen=True, kw_only=True):
    """What a CONTROL answers to another one that is out of touch with MASTER.

    ``hears``: MASTER, within the last third of its lease; None: it cannot tell, having just been
    started. ``age``: seconds since it heard MASTER, None if never. ``generation``: of the plan in
    force there, 0 if none.
    """

    host: str
    hears: bool | None
    age: Seconds | None
    generation: Count


CallMessage = CallRequest | CallAnswer
CalledMessage = Call | CallAsked | CallAnswer
ControlToMaster = (
    Hello
    | HostReport
    | PlanRefused
    | PermitRequest
    | PermitUsed
    | PermitReturned
    | AllowanceReport
    | Checkpoint
    | ClearanceCase
    | CertificateReport
    | RenewRequest
    | CallMessage
    | Goodbye
    | Ping
    | Pong
)
MasterToControl = (
    Welcome
    | PlanPush
    | Permit
    | PermitDenied
    | Allowance
    | Clearance
    | Halt
    | GoodbyeSeen
    | Trust
    | Renewed
    | RenewRefused
    | CalledMessage
    | Rejected
    | Ping
    | Pong
)
PermitMessage = PermitRequest | PermitUsed | PermitReturned
ClusterToControl = ClusterReport | PermitMessage | ClearanceCase | CallMessage
ControlToCluster = (
    Assignment | Lease | Permit | PermitDenied | Clearance | Halt | CalledMessage | Rejected
)

control_to_master = msgspec.json.Decoder(ControlToMaster)
master_to_control = msgspec.json.Decoder(MasterToControl)
cluster_to_control = msgspec.json.Decoder(ClusterToControl)
operator_to_control = msgspec.json.Decoder(StatusQuery | CallRequest)
control_to_cluster = msgspec.json.Decoder(ControlToCluster)
control_to_control = msgspec.json.Decoder(WitnessAnswer)


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
    except DECODE_ERRORS as error:
        raise ProtocolError(
            f"{peer} sent a message that does not fit the protocol: {reason_of(error)}",
            hint="are both sides of the same version?",
        ) from None
