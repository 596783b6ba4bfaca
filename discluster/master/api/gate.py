# SPDX-License-Identifier: Apache-2.0
"""What every call of an operator passes: who is it, is that allowed, and is it on record.

One middleware over all routes, so that none can forget it.
"""

from collections.abc import Callable, Iterable
from typing import Final

from aiohttp import web

from discluster.clock import Clock
from discluster.errors import DisclusterError, RefusedError
from discluster.master.access.audit import AuditLog
from discluster.master.access.callers import TOO_MANY, Caller, Identify
from discluster.master.access.masking import essence
from discluster.master.access.throttle import Throttle
from discluster.master.api.answers import MAXIMUM_BODY, NO_ROLE, Handler, errors_in_words
from discluster.master.api.routes import Route
from discluster.operators import Role, allows

ROLE: Final = "role"
"""Code of the failure of a call that the caller's role does not allow."""


Known = Callable[[web.Request, str], None]


def nobody_asks(_: web.Request, __: str) -> None:
    """Nobody wants to know whose a request is."""


class Gate:
    """The middleware, and the application that cannot be without it."""

    def __init__(
        self,
        identify: Identify,
        *,
        audit: AuditLog,
        clock: Clock,
        known: Known = nobody_asks,
    ) -> None:
        """``known``: told whose a request is, once that is certain."""
        self._known = known
        self._identify = identify
        self._audit = audit
        self._clock = clock
        self._refusals = Throttle()
        self._routes: dict[web.AbstractRoute, Route] = {}

    def application(self, routes: Iterable[Route], *, prefix: str) -> web.Application:
        """Serves ``routes`` below ``prefix``."""
        middlewares = [errors_in_words, self._guarded]
        application = web.Application(middlewares=middlewares, client_max_size=MAXIMUM_BODY)
        for route in routes:
            path = prefix + route.path
            added = application.router.add_route(route.method, path, route.handler)
            self._routes[added] = route
        return application

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        caller = await self._identify(request)
        self._known(request, caller.name)
        if request.match_info.http_exception is not None:
            return await handler(request)  # nothing is there
        route = self._routes.get(request.match_info.route)
        if route is None:
            raise DisclusterError(f"{request.path} was added without a role", code=NO_ROLE)
        body = await request.read()
        if route.changes(body):
            return await self._recorded(request, handler, caller, route)
        if not allows(caller.role, needed := route.needs(body)):
            raise _refusal(caller, needed)
        answer = await handler(request)
        # It may have waited long for its answer, and been revoked meanwhile.
        await self._identify(request)
        return answer

    async def _recorded(
        self, request: web.Request, handler: Handler, caller: Caller, route: Route
    ) -> web.StreamResponse:
        body = essence(await request.read())
        call = (caller, request.method, request.path, body)
        if not allows(caller.role, route.role):
            self._refuse_hasty(caller)
            error = _refusal(caller, route.role)
            self._audit.refuse(*call, error.message)
            raise error
        begun = self._audit.begin(*call)
        try:
            answer = await handler(request)
        except RefusedError as error:
            self._audit.end(begun, "refused", error.message)
            raise
        except Exception as error:
            self._audit.end(begun, "failed", _words(error))
            raise
        done = answer.status < 400
        self._audit.end(begun, "done" if done else "failed", None if done else answer.reason)
        return answer

    def _refuse_hasty(self, caller: Caller) -> None:
        """Or whoever may only look could write the audit log full, until it holds nothing else."""
        now = self._clock.monotonic()
        if (pause := self._refusals.pause(caller.name, now)) > 0:
            told = f"{caller.name} was refused too often: wait {pause:.0f} s"
            raise DisclusterError(told, code=TOO_MANY)
        self._refusals.failed(caller.name, now)


def _refusal(caller: Caller, needed: Role) -> RefusedError:
    hint = f"it takes the role {needed}: disclusterctl operator create, on MASTER's machine"
    if needed == "admin":
        hint = "do it on MASTER's machine, where its socket is: what makes identities is done there"
    return RefusedError(
        f"{caller.name} has the role {caller.role}, which does not allow this",
        hint=hint,
        code=ROLE,
    )


def _words(error: Exception) -> str:
    if isinstance(error, web.HTTPException):
        return error.reason
    return error.message if isinstance(error, DisclusterError) else str(error)
