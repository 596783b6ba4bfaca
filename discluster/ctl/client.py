# SPDX-License-Identifier: Apache-2.0
"""Asks MASTER (HTTP on its UNIX socket) and the local CONTROL (lines of JSON on its own)."""

import asyncio
import grp
import os
import pwd
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from discluster import console, messages
from discluster.console import (
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
from discluster.messages import Rejected, StatusQuery
from discluster.orders import MovesStatus, Order, Ordered

T = TypeVar("T")
Program = Literal["MASTER", "CONTROL"]

TIMEOUT: Final = 10.0
_LONGEST_LINE: Final = 16 * 1024 * 1024
_VERSIONS: Final = "are disclusterctl and the services of the same version?"
_HINTS: Final[Mapping[Program, str]] = {
    "MASTER": "systemctl status discluster-master; run disclusterctl on MASTER's machine",
    "CONTROL": "systemctl status discluster-control",
}
# The code "document" means ConfigurationError here: only the reader of a file has its Problems.
_KINDS: Final[Mapping[str, type[DisclusterError]]] = {
    "document": ConfigurationError,
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

    def __init__(self, socket: Path, *, timeout: float = TIMEOUT) -> None:
        """``timeout``: seconds for a whole request."""
        self._socket = socket
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
        given = {k: v for k, v in msgspec.structs.asdict(query).items() if v is not None}
        return _read(EventPage, await self._request("GET", f"/v1/events?{urlencode(given)}"))

    async def _request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        try:
            status, data = await self._exchange(method, path, body)
        except aiohttp.ClientConnectorError as error:
            raise unreachable("MASTER", self._socket, error.os_error) from None
        except (aiohttp.ClientError, ConnectionError) as error:
            raise UnavailableError(
                f"MASTER closed the connection before it had answered: {error}",
                hint="journalctl -u discluster-master",
            ) from None
        except TimeoutError:
            raise _too_slow("MASTER", self._timeout) from None
        if status >= 400:
            raise _failure(status, data)
        return data

    async def _exchange(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        async with (
            aiohttp.ClientSession(
                "http://master",
                connector=aiohttp.UnixConnector(path=str(self._socket)),
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                headers={"Content-Type": "application/json"} if body else None,
            ) as session,
            session.request(method, path, data=body, allow_redirects=False) as response,
        ):
            return response.status, await response.read()


async def control_status(socket: Path, *, timeout: float = TIMEOUT) -> HostStatus:
    """What the CONTROL of this machine knows. ``timeout``: seconds.

    Raises:
        UnavailableError, RefusedError, ProtocolError: as for :class:`Master`.
    """
    try:
        async with asyncio.timeout(timeout):
            line = await _ask(socket, messages.encode(StatusQuery()) + b"\n")
    except TimeoutError:
        raise _too_slow("CONTROL", timeout) from None
    except OSError as error:
        raise unreachable("CONTROL", socket, error) from None
    if not line.endswith(b"\n"):
        raise UnavailableError(
            "CONTROL closed the connection before it had answered",
            hint="journalctl -u discluster-control",
        )
    answer: HostStatus | Rejected = messages.decode(
        console.control_to_operator, line, peer="CONTROL"
    )
    if isinstance(answer, Rejected):
        raise RefusedError(f"CONTROL: {answer.reason}", hint="try it with sudo", code=answer.code)
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


def unreachable(who: Program, socket: Path, error: OSError) -> DisclusterError:
    """Why a socket cannot be connected to, and what to do about it."""
    if isinstance(error, PermissionError):
        return _forbidden(who, socket)
    if isinstance(error, FileNotFoundError):
        said = f"{who} is not running here: {socket} does not exist"
    elif isinstance(error, ConnectionRefusedError):
        said = f"{who} is not running here: nobody listens on {socket}"
    else:
        said = f"{who} cannot be reached: {socket}: {error.strerror or error}"
    return UnavailableError(said, hint=_HINTS[who])


def _forbidden(who: Program, socket: Path) -> RefusedError:
    place = _gate(socket)
    try:
        facts = place.stat()
    except OSError:
        return RefusedError(f"no permission to ask {who}: {socket}", hint="try it with sudo")
    user, group = _user_name(facts.st_uid), _group_name(facts.st_gid)
    return RefusedError(
        f"no permission to ask {who} through {socket}: {place} belongs to user {user}, group"
        f" {group}, mode {stat.S_IMODE(facts.st_mode):04o}",
        hint=f"try it with sudo, or as a member of the group {group}",
    )


def _gate(socket: Path) -> Path:
    """What is shut: the topmost directory that we may not pass, or else the socket itself."""
    for directory in reversed(socket.absolute().parents):
        if not os.access(directory, os.X_OK, effective_ids=True):
            return directory
    return socket


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _too_slow(who: Program, timeout: float) -> UnavailableError:
    said = f"{who} is there, but has not answered within {timeout:g} s"
    return UnavailableError(said, hint=_HINTS[who].split(";")[0])


def _failure(status: int, data: bytes) -> DisclusterError:
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
