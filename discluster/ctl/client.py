# SPDX-License-Identifier: Apache-2.0
"""Asks MASTER (HTTP, whatever the way to it) and the local CONTROL (lines of JSON)."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from discluster import console, messages
from discluster.console import (
    CallReport,
    EventPage,
    EventQuery,
    Failure,
    FleetStatus,
    HostStatus,
    IdentifyOverview,
    JoinToken,
    PlanDiff,
    PlanHistory,
    RestartAnswer,
    RestartProgress,
    RestartRequest,
    ResumeAnswer,
    ResumeRequest,
    RollingChange,
    RollingRequest,
    RolloutStatus,
    TokenRequest,
)
from discluster.ctl.transport import SocketTransport, Transport, too_slow, unreachable
from discluster.errors import (
    ConfigurationError,
    CredentialError,
    DisclusterError,
    DiscordError,
    ProtocolError,
    RefusedError,
    StateError,
    SupervisorError,
    UnavailableError,
)
from discluster.messages import CallRequest, Message, Rejected, StatusQuery
from discluster.operators import (
    AuditPage,
    AuditQuery,
    Changed,
    OperatorCredential,
    OperatorList,
    OperatorRequest,
    RevokeOperator,
    WhoAmI,
)
from discluster.orders import MovesStatus, Order, Ordered
from discluster.trust import AuthorityStatus, RevokeRequest, RotateRequest, TrustAnswer

T = TypeVar("T")

TIMEOUT: Final = 10.0
_LONGEST_LINE: Final = 16 * 1024 * 1024
_VERSIONS: Final = "are disclusterctl and the services of the same version?"
# The code "document" means ConfigurationError here: only the reader of a file has its Problems.
_KINDS: Final[Mapping[str, type[DisclusterError]]] = {
    "document": ConfigurationError,
    **dict.fromkeys(("role", "login-required", "login-unknown", "login-expired"), RefusedError),
    "too-many-failures": UnavailableError,
    "audit": StateError,
    **{
        kind.code: kind
        for kind in (
            ConfigurationError,
            CredentialError,
            DiscordError,
            ProtocolError,
            RefusedError,
            StateError,
            SupervisorError,
            UnavailableError,
        )
    },
}


class Master:
    """MASTER's operator API. Every method raises a DisclusterError when it gets no good answer:

    UnavailableError (nobody answers), RefusedError (no permission), ProtocolError (an answer that
    does not fit), or the class whose code MASTER's own :class:`~discluster.console.Failure` has.
    """

    def __init__(self, way: Path | Transport, *, timeout: float = TIMEOUT) -> None:
        """``way``: the path of its socket, or another way to it. ``timeout``: seconds for a whole
        request.
        """
        self._way = SocketTransport(way) if isinstance(way, Path) else way
        self._timeout = timeout

    async def status(self) -> FleetStatus:
        """The whole fleet."""
        return _read(FleetStatus, await self._request("GET", "/v1/status"))

    async def plan(self, host: str | None = None) -> str:
        """The plan in force as YAML, the fleet's or one host's, exactly as MASTER gives it."""
        path = "/v1/plan" if host is None else f"/v1/plan/{quote(host, safe='')}"
        return (await self._request("GET", path)).decode(errors="replace")

    async def old_plan(self, generation: int) -> str:
        """The fleet's plan of that generation as YAML."""
        return (await self._request("GET", f"/v1/history/{generation}")).decode(errors="replace")

    async def history(self) -> PlanHistory:
        """The plans that moved shards."""
        return _read(PlanHistory, await self._request("GET", "/v1/history"))

    async def diff(self) -> PlanDiff:
        """What MASTER would change if it planned now."""
        return _read(PlanDiff, await self._request("GET", "/v1/diff"))

    async def order(self, order: Order) -> Ordered:
        """Gives an order, or asks what it would do."""
        return _read(Ordered, await self._request("POST", "/v1/orders", messages.encode(order)))

    async def moves(self) -> MovesStatus:
        """How far the newest order is."""
        return _read(MovesStatus, await self._request("GET", "/v1/moves"))

    async def create_token(self, request: TokenRequest) -> JoinToken:
        """A new join token."""
        body = messages.encode(request)
        return _read(JoinToken, await self._request("POST", "/v1/tokens", body))

    async def identify(self) -> IdentifyOverview:
        """Lanes, budget, guard and allowances."""
        return _read(IdentifyOverview, await self._request("GET", "/v1/identify"))

    async def resume_identify(self, request: ResumeRequest) -> ResumeAnswer:
        """Releases the identify guard."""
        body = messages.encode(request)
        return _read(ResumeAnswer, await self._request("POST", "/v1/identify/resume", body))

    async def rolling(self) -> RolloutStatus:
        """Where the last rolling restart stands."""
        return _read(RolloutStatus, await self._request("GET", "/v1/rolling"))

    async def begin_rolling(self, request: RollingRequest) -> RolloutStatus:
        """Begins a rolling restart."""
        body = messages.encode(request)
        return _read(RolloutStatus, await self._request("POST", "/v1/rolling", body))

    async def change_rolling(self, change: RollingChange) -> RolloutStatus:
        """Pauses, continues or aborts it."""
        body = messages.encode(change)
        return _read(RolloutStatus, await self._request("POST", "/v1/rolling/change", body))

    async def restart(self, request: RestartRequest) -> RestartAnswer:
        """Restarts clusters now."""
        body = messages.encode(request)
        return _read(RestartAnswer, await self._request("POST", "/v1/restart", body))

    async def restart_progress(self, started: RestartAnswer) -> RestartProgress:
        """Which of the clusters that were restarted now are back."""
        body = messages.encode(started)
        return _read(RestartProgress, await self._request("POST", "/v1/restart/progress", body))

    async def events(self, query: EventQuery) -> EventPage:
        """What MASTER decided and noticed. ``query.wait`` must be less than the timeout."""
        return _read(EventPage, await self._request("GET", f"/v1/events?{_as_query(query)}"))

    async def operators(self) -> OperatorList:
        """Who has a login."""
        return _read(OperatorList, await self._request("GET", "/v1/operators"))

    async def create_operator(self, request: OperatorRequest) -> OperatorCredential:
        """A credential for an operator."""
        body = messages.encode(request)
        return _read(OperatorCredential, await self._request("POST", "/v1/operators", body))

    async def revoke_operator(self, name: str) -> Changed:
        """Ends an operator."""
        body = messages.encode(RevokeOperator(name=name))
        return _read(Changed, await self._request("POST", "/v1/operators/revoke", body))

    async def whoami(self) -> WhoAmI:
        """Who we are to MASTER."""
        return _read(WhoAmI, await self._request("GET", "/v1/whoami"))

    async def log_out(self) -> Changed:
        """Ends the certificate that is shown."""
        return _read(Changed, await self._request("POST", "/v1/logout", b"{}"))

    async def audit(self, query: AuditQuery) -> AuditPage:
        """Who changed what. ``query.wait`` must be less than the timeout."""
        return _read(AuditPage, await self._request("GET", f"/v1/audit?{_as_query(query)}"))

    async def authority(self) -> AuthorityStatus:
        """All certificates, and how far a rotation is."""
        return _read(AuthorityStatus, await self._request("GET", "/v1/authority"))

    async def rotate(self, request: RotateRequest) -> TrustAnswer:
        """Replaces the authority."""
        body = messages.encode(request)
        return _read(TrustAnswer, await self._request("POST", "/v1/authority/rotate", body))

    async def revoke(self, request: RevokeRequest) -> TrustAnswer:
        """Keeps a host out."""
        body = messages.encode(request)
        return _read(TrustAnswer, await self._request("POST", "/v1/hosts/revoke", body))

    async def call(self, request: CallRequest) -> CallReport:
        """What clusters answer; waits that much longer than they may take."""
        body = messages.encode(request)
        return _read(
            CallReport, await self._request("POST", "/v1/calls", body, longer=request.timeout)
        )

    async def _request(
        self, method: str, path: str, body: bytes | None = None, *, longer: float = 0.0
    ) -> bytes:
        timeout = self._timeout + longer
        status, data = await self._way.exchange(method, path, body, timeout=timeout)
        if status >= 400:
            raise failure_in(status, data)
        return data


async def control_status(socket: Path, *, timeout: float = TIMEOUT) -> HostStatus:
    """What the CONTROL of this machine knows. ``timeout``: seconds.

    Raises:
        UnavailableError, RefusedError, ProtocolError: as for :class:`Master`.
    """
    return await _control(socket, StatusQuery(), HostStatus, timeout=timeout)


async def control_call(
    socket: Path, request: CallRequest, *, timeout: float = TIMEOUT
) -> CallReport:
    """What the clusters of this machine answer. ``timeout``: seconds beyond what they may take.

    Raises:
        UnavailableError, RefusedError, ProtocolError: as for :class:`Master`.
    """
    return await _control(socket, request, CallReport, timeout=timeout + request.timeout)


async def _control(socket: Path, question: Message, shape: type[T], *, timeout: float) -> T:
    try:
        async with asyncio.timeout(timeout):
            line = await _ask(socket, messages.encode(question) + b"\n")
    except TimeoutError:
        raise too_slow("CONTROL", timeout) from None
    except OSError as error:
        raise unreachable("CONTROL", socket, error) from None
    if not line.endswith(b"\n"):
        raise UnavailableError(
            "CONTROL closed the connection before it had answered",
            hint="journalctl -u discluster-control",
        )
    answer = messages.decode(console.control_to_operator, line, peer="CONTROL")
    if isinstance(answer, Rejected):
        raise RefusedError(f"CONTROL: {answer.reason}", hint="try it with sudo", code=answer.code)
    if not isinstance(answer, shape):
        raise ProtocolError("CONTROL answered something else", hint=_VERSIONS)
    return answer


async def _ask(socket: Path, question: bytes) -> bytes:
    """One line out, one line in; shorter than a line if the peer closes."""
    reader, writer = await asyncio.open_unix_connection(socket, limit=_LONGEST_LINE)
    try:
        writer.write(question)
        return await reader.readline()
    except ValueError:
        said = f"CONTROL's answer is longer than {_LONGEST_LINE} bytes"
        raise ProtocolError(said, hint=_VERSIONS) from None
    finally:
        writer.close()


def _as_query(query: msgspec.Struct) -> str:
    given = msgspec.structs.asdict(query).items()
    return urlencode({name: value for name, value in given if value is not None})


def failure_in(status: int, data: bytes) -> DisclusterError:
    """MASTER's own words as an error of the class that has the code."""
    try:
        failure = _read(Failure, data)
    except ProtocolError:
        said = f"MASTER answered with HTTP status {status} and no reason that could be read"
        return ProtocolError(said, hint=_VERSIONS)
    kind = _KINDS.get(failure.code, DisclusterError)
    return kind(failure.message, hint=failure.hint, code=failure.code)


def _read(shape: type[T], data: bytes) -> T:
    return messages.decode(msgspec.json.Decoder(shape), data, peer="MASTER")
