# SPDX-License-Identifier: Apache-2.0
"""The way to MASTER over TLS, with a login. A certificate that is used is renewed by itself."""

import ssl
from typing import Final

import msgspec
from cryptography import x509

from discluster.clock import Clock
from discluster.ctl import enrolment
from discluster.ctl.https import ask
from discluster.ctl.logins import Login, Logins
from discluster.errors import DisclusterError, RefusedError, StateError
from discluster.operators import OPERATORS_PATH, trust_mark

_RENEW_AFTER: Final = 2 / 3


class RemoteTransport:
    """See :class:`discluster.ctl.transport.Transport`."""

    def __init__(self, login: Login, logins: Logins, *, clock: Clock) -> None:
        self._login = login
        self._logins = logins
        self._clock = clock
        self._context: ssl.SSLContext | None = None

    async def exchange(
        self, method: str, path: str, body: bytes | None, *, timeout: float
    ) -> tuple[int, bytes]:
        context, headers = await self._credentials(timeout)
        url = f"{self._login.master}{OPERATORS_PATH}{path.removeprefix('/v1')}"
        reply = await ask(method, url, context, body, timeout=timeout, headers=headers)
        if reply.trust not in (None, trust_mark(self._login.ca)):
            await self._learn(context, timeout)
        return reply.status, reply.body

    async def _learn(self, context: ssl.SSLContext, timeout: float) -> None:
        """MASTER's authority is being replaced: from now on believe the next one, too."""
        try:
            ca = await enrolment.authorities(self._login, context, timeout=timeout)
            fresh = msgspec.structs.replace(self._login, ca=ca)
            self._logins.keep(fresh)
        except DisclusterError:
            return  # the next call tries again; the one that is trusted still is
        self._login = fresh
        self._context = None

    async def _credentials(self, timeout: float) -> tuple[ssl.SSLContext, dict[str, str]]:
        if self._login.kind == "token":
            token = self._logins.token(self._login)
            return enrolment.trusting(self._login.ca), enrolment.bearer(token)
        if self._context is None:
            self._context = await self._certified(timeout)
        return self._context, {}

    async def _certified(self, timeout: float) -> ssl.SSLContext:
        path = self._logins.pem_file(self._login)
        now = self._clock.wall()
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError) as error:
            raise StateError(f"{path}: cannot be used: {error}", hint="log in again") from None
        ends = certificate.not_valid_after_utc.timestamp()
        if ends <= now:
            raise RefusedError(
                f"your login at {self._login.key} expired on"
                f" {certificate.not_valid_after_utc:%Y-%m-%d}",
                hint="ask for a new one: on MASTER's machine 'disclusterctl operator create"
                f" {self._login.name} --role {self._login.role}'",
                code="login-expired",
            )
        context = self._loaded()
        if now >= ends - (1 - _RENEW_AFTER) * certificate_life(certificate):
            context = await self._renewed(context, timeout)
        return context

    async def _renewed(self, context: ssl.SSLContext, timeout: float) -> ssl.SSLContext:
        try:
            answer, pem = await enrolment.renewed(self._login, context, timeout=timeout)
            self._logins.renew(self._login, pem)
            fresh = msgspec.structs.replace(self._login, ca=answer.ca, role=answer.role)
            self._logins.keep(fresh)
        except DisclusterError:
            # The one that is there is still good; what was asked for tells if MASTER is away.
            return context
        self._login = fresh
        return self._loaded()

    def _loaded(self) -> ssl.SSLContext:
        context = enrolment.trusting(self._login.ca)
        path = self._logins.pem_file(self._login)
        try:
            context.load_cert_chain(path)
        except (OSError, ssl.SSLError) as error:
            raise StateError(f"{path}: cannot be used: {error}", hint="log in again") from None
        return context


def certificate_life(certificate: x509.Certificate) -> float:
    """Seconds."""
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return life.total_seconds()
