# SPDX-License-Identifier: Apache-2.0
"""Lets a machine join: with a token that counts, under a name that nobody else has."""

import logging
from collections.abc import Callable
from typing import Final

from discluster import documents
from discluster.clock import Clock
from discluster.console import JoinAnswer, JoinRequest
from discluster.errors import RefusedError
from discluster.master.access.certificates import CertificateDesk
from discluster.master.access.tokens import TokenDesk
from discluster.master.records.events import EventLog
from discluster.plan import HostName

log = logging.getLogger(__name__)

# Anybody can ask; what is older and worth more must not be pushed out of the events.
_TOLD_AT_MOST: Final = 10
_WITHIN: Final = 60.0


class Enrolment:
    """What ``POST /v1/join`` does."""

    def __init__(
        self,
        *,
        tokens: TokenDesk,
        certificates: CertificateDesk,
        readmit: Callable[[str], None],
        events: EventLog,
        clock: Clock,
    ) -> None:
        """``readmit``: lets a host in again that was removed."""
        self._tokens = tokens
        self._certificates = certificates
        self._readmit = readmit
        self._events = events
        self._clock = clock
        self._told: list[float] = []
        self._untold = 0

    def join(self, wanted: JoinRequest, *, remote: str | None) -> JoinAnswer:
        """The certificate of a machine at ``remote`` that has not one yet.

        Raises:
            DocumentError: its name is none.
            RefusedError: it may not join, and why.
        """
        host = str(documents.read_value(wanted.host, HostName, what="host name"))
        try:
            certificate = self._admit(wanted, host)
        except RefusedError as error:
            self._tell(f"a machine at {remote} may not join as {host}: {error.message}", host)
            raise
        self._readmit(host)
        self._certificates.enrolled(host, certificate)
        told = f"{host} joined with a token, from {remote}"
        self._events.record("host", told, host=host)
        return JoinAnswer(certificate=certificate, ca=self._certificates.bundle)

    def _admit(self, wanted: JoinRequest, host: str) -> str:
        now = self._clock.wall()
        token = self._tokens.check(wanted.token, host=host, now=now)
        # Not before the token is known to count: strangers must not learn which names there are.
        if token.host != host and self._certificates.takes(host):
            raise RefusedError(
                f"{host} is a host of this fleet already, and this token is not bound to that name",
                hint="another name: --host NAME; if this machine is to take its place, on MASTER's"
                f" machine: disclusterctl token create --host {host}",
                code="name-taken",
            )
        certificate = self._certificates.issue(host, wanted.csr)
        # Used up before the certificate leaves: a crash costs a token, and is no second use.
        self._tokens.redeem(wanted.token, host=host, now=now)
        return certificate

    def _tell(self, told: str, host: str) -> None:
        now = self._clock.monotonic()
        self._told = [at for at in self._told if now - at < _WITHIN]
        if len(self._told) >= _TOLD_AT_MOST:
            self._untold += 1
            log.warning("%s", told)
            return
        self._told.append(now)
        if self._untold:
            told += f" (and {self._untold} more such, which only the journal tells)"
            self._untold = 0
        self._events.record("host", told, host=host, severity="warning")
