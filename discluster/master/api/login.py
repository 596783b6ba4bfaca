# SPDX-License-Identifier: Apache-2.0
"""``POST /v1/login``: an operator exchanges a login token for a certificate. No role is needed, for
nobody is anybody yet; it is audited like all that changes something.
"""

import msgspec
from aiohttp import web

from discluster.clock import Clock
from discluster.errors import RefusedError
from discluster.master.access.accounts import Accounts
from discluster.master.access.audit import AuditLog
from discluster.master.access.authority import Authority
from discluster.master.access.callers import Caller, RemoteDoor
from discluster.master.access.masking import essence
from discluster.master.access.signing import OperatorSigner
from discluster.master.api import answers
from discluster.master.records.events import EventLog
from discluster.operators import LOGIN_PATH, LoginAnswer, LoginRequest


class LoginDesk:
    """Takes login tokens."""

    def __init__(
        self,
        accounts: Accounts,
        *,
        door: RemoteDoor,
        audit: AuditLog,
        authority: Authority,
        signer: OperatorSigner,
        events: EventLog,
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._door = door
        self._audit = audit
        self._authority = authority
        self._signer = signer
        self._events = events
        self._clock = clock

    def attach(self, application: web.Application) -> None:
        """Adds the route."""
        application.router.add_post(LOGIN_PATH, self._log_in)

    async def _log_in(self, request: web.Request) -> web.Response:
        self._door.refuse_hasty(request)
        raw = await request.read()
        wanted = msgspec.json.decode(raw, type=LoginRequest)
        now = self._clock.wall()
        try:
            account = self._accounts.owner_of_login(wanted.token, now=now)
        except RefusedError as error:
            self._door.failed(request, error)
            raise
        caller = Caller(name=account.name, role=account.role, how="login", address=request.remote)
        begun = self._audit.begin(caller, request.method, request.path, essence(raw))
        try:
            account, signed = self._accounts.log_in(
                wanted.token,
                now=now,
                sign=lambda name: self._signer.sign(wanted.csr, name, now=now),
            )
        except Exception as error:
            self._audit.end(begun, "failed", str(error))
            raise
        self._audit.end(begun, "done")
        told = f"the operator {account.name} logged in, role {account.role}, from {request.remote}"
        self._events.record("order", told)
        return answers.json(
            LoginAnswer(
                name=account.name,
                role=account.role,
                certificate=signed.pem,
                ca=self._authority.bundle,
            )
        )
