# SPDX-License-Identifier: Apache-2.0
"""Who may come: join tokens of machines, and operators with their credentials."""

import msgspec
from aiohttp import web

from discluster import documents
from discluster.clock import DAY, Clock
from discluster.console import JoinToken, TokenRequest
from discluster.errors import RefusedError
from discluster.master.access.accounts import Accounts
from discluster.master.access.authority import Authority
from discluster.master.access.callers import Identify
from discluster.master.access.signing import OperatorSigner
from discluster.master.access.tokens import TokenDesk
from discluster.master.api import answers
from discluster.master.api.gate import ROLE
from discluster.master.api.routes import Route, asking, changing
from discluster.master.records.events import EventLog
from discluster.operators import (
    Changed,
    LoginAnswer,
    OperatorCredential,
    OperatorName,
    OperatorRequest,
    RenewLogin,
    RevokeOperator,
    WhoAmI,
)
from discluster.plan import HostName

_LONGEST_LOGIN = 30 * DAY
_LONGEST_TOKEN = 366 * DAY


class JoinTokenRoutes:
    """With a join token a machine gets an identity: for ``admin``."""

    def __init__(
        self,
        *,
        authority: Authority,
        tokens: TokenDesk,
        events: EventLog,
        public_url: str,
        clock: Clock,
    ) -> None:
        self._authority = authority
        self._tokens = tokens
        self._events = events
        self._public_url = public_url
        self._clock = clock

    def routes(self) -> tuple[Route, ...]:
        return (changing("/tokens", self._token, role="admin"),)

    async def _token(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=TokenRequest)
        if wanted.host is not None:
            documents.read_value(wanted.host, HostName, what="host name")
        if not 1 <= wanted.ttl <= 30 * DAY:
            raise answers.bad_request("a token lives between 1 second and 30 days")
        token = self._tokens.create(host=wanted.host, ttl=wanted.ttl, now=self._clock.wall())
        host = f" --host {wanted.host}" if wanted.host else ""
        command = (
            f"discluster-control join {self._public_url} --token {token}"
            f" --ca-fingerprint {self._authority.fingerprint}{host}"
        )
        self._events.record("order", f"a join token was made for {wanted.host or 'any host'}")
        return answers.json(
            JoinToken(
                command=command,
                token=token,
                ca_fingerprint=self._authority.fingerprint,
                host=wanted.host,
                expires_in=wanted.ttl,
            )
        )


class AccountRoutes:
    """Operators. What makes or ends one is for ``admin``; each can renew and end the own login."""

    def __init__(
        self,
        accounts: Accounts,
        *,
        identify: Identify,
        authority: Authority,
        signer: OperatorSigner,
        events: EventLog,
        public_url: str,
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._identify = identify
        self._authority = authority
        self._signer = signer
        self._events = events
        self._public_url = public_url
        self._clock = clock

    def routes(self) -> tuple[Route, ...]:
        return (
            asking("/whoami", self._who),
            asking("/operators", self._list),
            changing("/operators", self._create, role="admin"),
            changing("/operators/revoke", self._revoke, role="admin"),
            changing("/renew", self._renew, role="view"),
            changing("/logout", self._log_out, role="view"),
        )

    async def _who(self, request: web.Request) -> web.Response:
        caller = await self._identify(request)
        return answers.json(
            WhoAmI(name=caller.name, role=caller.role, how=caller.how, expires=caller.expires)
        )

    async def _list(self, _request: web.Request) -> web.Response:
        return answers.json(self._accounts.listed(now=self._clock.wall()))

    async def _create(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=OperatorRequest)
        documents.read_value(wanted.name, OperatorName, what="operator's name")
        longest = _LONGEST_LOGIN if wanted.kind == "login" else _LONGEST_TOKEN
        if not 1 <= wanted.ttl <= longest:
            days = f"{longest / DAY:.0f} days"
            raise answers.bad_request(f"such a token lives between 1 second and {days}")
        token = self._accounts.create(
            wanted.name, wanted.role, kind=wanted.kind, ttl=wanted.ttl, now=self._clock.wall()
        )
        what = "login" if wanted.kind == "login" else "token for calls"
        told = f"a {what} was made for the operator {wanted.name}, role {wanted.role}"
        self._events.record("order", told)
        shown = f"--token {token}" if wanted.kind == "login" else "--api-token-file FILE"
        fingerprint = self._authority.fingerprint
        return answers.json(
            OperatorCredential(
                name=wanted.name,
                role=wanted.role,
                kind=wanted.kind,
                token=token,
                url=self._public_url,
                ca_fingerprint=fingerprint,
                command=(
                    f"disclusterctl login {self._public_url} {shown} --ca-fingerprint {fingerprint}"
                ),
                expires_in=wanted.ttl,
            )
        )

    async def _revoke(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=RevokeOperator)
        self._accounts.revoke(wanted.name)
        told = f"the operator {wanted.name} was revoked"
        self._events.record("order", told)
        return answers.json(Changed(done=f"{told}; every login and token of that name has ended"))

    async def _renew(self, request: web.Request) -> web.Response:
        caller = await self._identify(request)
        wanted = msgspec.json.decode(await request.read(), type=RenewLogin)
        # A token that is read out of a script must not become a login that renews itself.
        if caller.how != "certificate":
            raise RefusedError("only who shows a certificate can have it renewed", code=ROLE)
        now = self._clock.wall()
        account, signed = self._accounts.renew(
            caller.name, now=now, sign=lambda name: self._signer.sign(wanted.csr, name, now=now)
        )
        return answers.json(
            LoginAnswer(
                name=account.name,
                role=account.role,
                certificate=signed.pem,
                ca=self._authority.bundle,
            )
        )

    async def _log_out(self, request: web.Request) -> web.Response:
        caller = await self._identify(request)
        if caller.serial is None:
            return answers.json(Changed(done="nothing to end: no certificate was shown"))
        now = self._clock.wall()
        self._accounts.forget_certificate(caller.name, caller.serial, now=now)
        return answers.json(Changed(done=f"this login of {caller.name} has ended"))
