# SPDX-License-Identifier: Apache-2.0
"""Routes about certificates; see :mod:`discluster.trust`."""

import msgspec
from aiohttp import web

from discluster.errors import DisclusterError
from discluster.master.access.certificates import CertificateDesk
from discluster.master.api import answers
from discluster.master.api.routes import Route, asking, changing
from discluster.master.orders.intents import NO_SUCH_HOST
from discluster.trust import RevokeRequest, RotateRequest, TrustAnswer


class CertificateRoutes:
    """To replace what all trust is for ``admin``."""

    def __init__(self, desk: CertificateDesk) -> None:
        self._desk = desk

    def routes(self) -> tuple[Route, ...]:
        return (
            asking("/authority", self._status),
            changing("/authority/rotate", self._rotate, role="admin"),
            changing("/hosts/revoke", self._revoke),
        )

    async def _status(self, _request: web.Request) -> web.Response:
        return answers.json(self._desk.status())

    async def _rotate(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=RotateRequest)
        if not wanted.finish:
            self._desk.rotate()
            done = ["a new authority is told to all hosts; then certificates are made by it"]
        elif behind := self._desk.finish():
            names = ", ".join(behind)
            done = [f"not waited for any longer: {names}; each must join again with a new token"]
        else:
            done = ["no host that is away is waited for"]
        return answers.json(TrustAnswer(done=tuple(done)))

    async def _revoke(self, request: web.Request) -> web.Response:
        host = msgspec.json.decode(await request.read(), type=RevokeRequest).host
        known = self._desk.hosts()
        if host not in known:
            raise DisclusterError(
                f"no host {host!r} in the fleet",
                hint=f"hosts in it: {', '.join(sorted(known)[:8]) or 'none'}",
                code=NO_SUCH_HOST,
            )
        self._desk.revoke(host, why=f"{host} is revoked, by the operator: it is kept out")
        done = (
            f"{host} is cut off and kept out; its shards go to others when its lease is over",
            f"if its machine is off: disclusterctl host remove {host} --lost",
            f"to let it in again: disclusterctl token create --host {host}",
        )
        return answers.json(TrustAnswer(done=done))
