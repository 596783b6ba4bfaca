# SPDX-License-Identifier: Apache-2.0
"""What disclusterctl uses: the same routes on the UNIX socket and, for operators with a login, over
TLS.
"""

from collections.abc import Iterable
from pathlib import Path

from aiohttp import web

from discluster.clock import Clock
from discluster.master.access.accounts import Accounts
from discluster.master.access.audit import AuditLog
from discluster.master.access.authority import Authority
from discluster.master.access.callers import Identify, LocalDoor, RemoteDoor
from discluster.master.access.names import UserNames
from discluster.master.access.signing import OperatorSigner
from discluster.master.access.tokens import TokenDesk
from discluster.master.api.gate import Gate, Known, nobody_asks
from discluster.master.api.identities import AccountRoutes, JoinTokenRoutes
from discluster.master.api.login import LoginDesk
from discluster.master.api.looking import LookingRoutes
from discluster.master.api.ordering import OrderRoutes
from discluster.master.api.routes import Route
from discluster.master.daemon import MasterDaemon
from discluster.master.records.events import EventLog
from discluster.operators import OPERATORS_PATH, TRUST_HEADER, trust_mark


class OperatorApi:
    """All routes of operators."""

    def __init__(
        self,
        *,
        daemon: MasterDaemon,
        authority: Authority,
        tokens: TokenDesk,
        accounts: Accounts,
        audit: AuditLog,
        events: EventLog,
        settings_file: Path,
        public_url: str,
        login_life: float,
        clock: Clock,
        more: Iterable[Route] = (),
    ) -> None:
        """``login_life``: days for which an operator's certificate is valid. ``more``: further
        routes.
        """
        self._more = tuple(more)
        self._daemon = daemon
        self._authority = authority
        self._tokens = tokens
        self._accounts = accounts
        self._audit = audit
        self._events = events
        self._settings_file = settings_file
        self._public_url = public_url
        self._signer = OperatorSigner(authority, life=login_life)
        self._clock = clock

    def application(self) -> web.Application:
        """For the UNIX socket: the kernel lets in who may do all."""
        door = LocalDoor(UserNames())
        gate = Gate(door.caller, audit=self._audit, clock=self._clock)
        return gate.application(self.routes(door.caller), prefix="/v1")

    def attach(self, machines: web.Application, *, known: Known = nobody_asks) -> None:
        """Adds the login, and below :data:`OPERATORS_PATH` all routes, to what listens with TLS.
        Nobody gets through who is not in ``accounts``, so it is shut until there is somebody.
        ``known``: told whose a request is, once that is certain.
        """
        door = RemoteDoor(self._accounts, events=self._events, clock=self._clock)
        gate = Gate(door.caller, audit=self._audit, clock=self._clock, known=known)
        served = gate.application(self.routes(door.caller), prefix="")
        served.on_response_prepare.append(self._tell_trust)
        machines.add_subapp(OPERATORS_PATH, served)
        login = LoginDesk(
            self._accounts,
            door=door,
            audit=self._audit,
            authority=self._authority,
            signer=self._signer,
            events=self._events,
            clock=self._clock,
        )
        login.attach(machines)

    async def _tell_trust(self, _: web.Request, answer: web.StreamResponse) -> None:
        answer.headers[TRUST_HEADER] = trust_mark(self._authority.bundle)

    def routes(self, identify: Identify) -> tuple[Route, ...]:
        """Every route, with the role that it needs."""
        looking = LookingRoutes(
            self._daemon,
            events=self._events,
            audit=self._audit,
            settings_file=self._settings_file,
            clock=self._clock,
        )
        ordering = OrderRoutes(self._daemon, settings_file=self._settings_file)
        joining = JoinTokenRoutes(
            authority=self._authority,
            tokens=self._tokens,
            events=self._events,
            public_url=self._public_url,
            clock=self._clock,
        )
        people = AccountRoutes(
            self._accounts,
            identify=identify,
            authority=self._authority,
            signer=self._signer,
            events=self._events,
            public_url=self._public_url,
            clock=self._clock,
        )
        tables = (looking, ordering, joining, people)
        return (*(route for table in tables for route in table.routes()), *self._more)
