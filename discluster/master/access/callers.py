# SPDX-License-Identifier: Apache-2.0
"""Who calls MASTER's operator API: on its machine by the socket, from elsewhere over TLS."""

import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from discluster.clock import Clock
from discluster.errors import DisclusterError, RefusedError
from discluster.master.access.accounts import Accounts
from discluster.master.access.names import UserNames
from discluster.master.access.throttle import FREE, Throttle, source
from discluster.master.records.events import EventLog
from discluster.operators import How, Role

log = logging.getLogger(__name__)

LOGIN_REQUIRED: Final = "login-required"
TOO_MANY: Final = "too-many-failures"
URI: Final = "discluster:operator/"
"""What an operator's certificate names; a host's has a DNS name, and no host is taken for one."""
_UCRED: Final = struct.Struct("3i")
_BEARER: Final = "Bearer "
_TOLD_EVERY: Final = 60.0


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """``expires``: of the credential, wall clock. ``serial``: of the certificate."""

    name: str
    role: Role
    how: How
    address: str | None = None
    uid: int | None = None
    pid: int | None = None
    serial: int | None = None
    expires: float | None = None

    def __str__(self) -> str:
        where = f"from {self.address}" if self.address else f"process {self.pid}"
        return f"{self.name} ({self.how}, {where})"


Identify = Callable[[web.Request], Awaitable[Caller]]
"""Tells who calls, or raises RefusedError."""


class LocalDoor:
    """Tells who calls on the UNIX socket."""

    def __init__(self, names: UserNames) -> None:
        self._names = names

    async def caller(self, request: web.Request) -> Caller:
        """Whoever the kernel let in: root, MASTER's own user, and the socket's group. They may do
        all.

        Raises:
            RefusedError: the caller is gone already.
        """
        transport = request.transport
        peer = transport.get_extra_info("socket") if transport is not None else None
        if peer is None:
            raise RefusedError("the caller hung up", code=LOGIN_REQUIRED)
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, _ = _UCRED.unpack(raw)
        name = await self._names.name(uid)
        return Caller(name=name, role="admin", how="socket", uid=uid, pid=pid)


class RemoteDoor:
    """Tells who calls over TLS: by an operator's certificate, or by ``Authorization: Bearer``."""

    def __init__(self, accounts: Accounts, *, events: EventLog, clock: Clock) -> None:
        self._accounts = accounts
        self._events = events
        self._clock = clock
        self._throttle = Throttle()
        self._quiet_until = 0.0

    async def caller(self, request: web.Request) -> Caller:
        """
        Raises:
            RefusedError: nobody we know; or too many failures came from that address.
        """
        header = request.headers.get("Authorization")
        if header is not None:
            self.refuse_hasty(request)
        try:
            if header is not None:
                found = self._by_token(header, request.remote)
            else:
                found = self._by_certificate(request)
        except RefusedError as error:
            if error.code != LOGIN_REQUIRED:
                # A certificate cannot be guessed: who has a good one never waits for others.
                self.refuse_hasty(request)
                self.failed(request, error)
            raise
        self._accounts.saw(found.name, found.address, now=self._clock.wall())
        return found

    def refuse_hasty(self, request: web.Request) -> None:
        """
        Raises:
            DisclusterError: so many failures came from there that it has to wait.
        """
        key = source(request.remote)
        if (pause := self._throttle.pause(key, self._clock.monotonic())) > 0:
            raise DisclusterError(
                f"too many logins failed from {key}: wait {pause:.0f} s",
                code=TOO_MANY,
            )

    def failed(self, request: web.Request, error: DisclusterError) -> None:
        """Counts, and tells: a failure is worth a line in the journal while there are few."""
        key, now = source(request.remote), self._clock.monotonic()
        count = self._throttle.failed(key, now)
        if count <= FREE or count.bit_count() == 1:
            times = f", {count} times by now" if count > 1 else ""
            log.warning(
                "refused a login from %s: %s%s",
                key,
                error.message,
                times,
                extra={"ADDRESS": key, "OUTCOME": "refused"},
            )
        if count > FREE and now >= self._quiet_until:
            self._quiet_until = now + _TOLD_EVERY
            told = f"{count} logins of operators failed from {key}; it has to wait between tries"
            self._events.record("master", told, severity="warning")

    def _by_token(self, header: str, address: str | None) -> Caller:
        secret = header.removeprefix(_BEARER).strip()
        if not header.startswith(_BEARER):
            raise RefusedError(
                "the header Authorization must be 'Bearer TOKEN'", code=LOGIN_REQUIRED
            )
        account, expires = self._accounts.of_token(secret, now=self._clock.wall())
        return Caller(
            name=account.name, role=account.role, how="token", address=address, expires=expires
        )

    def _by_certificate(self, request: web.Request) -> Caller:
        certificate = peer_certificate(request)
        name = operator_in(certificate)
        if name is None:
            raise RefusedError(
                "only operators are heard here; this call showed no operator's login",
                hint="log in: disclusterctl operator create, on MASTER's machine, prints how",
                code=LOGIN_REQUIRED,
            )
        serial = int(str(certificate["serialNumber"]), 16)
        now = self._clock.wall()
        account, expires = self._accounts.of_certificate(name, serial, now=now)
        return Caller(
            name=name,
            role=account.role,
            how="certificate",
            address=request.remote,
            serial=serial,
            expires=expires,
        )


def peer_certificate(request: web.Request) -> Mapping[str, Any]:
    """As Python's ssl tells it, verified by TLS; empty if none was shown."""
    transport = request.transport
    shown = transport.get_extra_info("peercert") if transport is not None else None
    return shown or {}


def operator_in(certificate: Mapping[str, Any]) -> str | None:
    """The operator's name in a certificate that has nothing else for a name; None: it is of another
    kind.
    """
    names = certificate.get("subjectAltName", ())
    if len(names) != 1 or names[0][0] != "URI" or not names[0][1].startswith(URI):
        return None
    return str(names[0][1]).removeprefix(URI)
