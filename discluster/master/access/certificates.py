# SPDX-License-Identifier: Apache-2.0
"""Who has which certificate, who gets a new one, and who is kept out.

Renewals go over the host's own connection: it is mutually authenticated, and what may end it,
revocation, ends them with it. There is no second door to guard.
"""

import datetime
import logging
from collections.abc import Callable, Collection, Iterator
from typing import Final

from discluster import pem
from discluster.certificates import Certificate, is_revoked
from discluster.clock import Clock
from discluster.console import Trouble
from discluster.errors import DisclusterError, RefusedError
from discluster.master.access.authority import Authority
from discluster.master.access.overview import Sight, counted, overview, troubles
from discluster.master.access.register import Register, Revocations
from discluster.master.access.rotation import lacking, next_step
from discluster.master.access.tls import ServerTls
from discluster.master.hosts.book import HostConnection
from discluster.master.records.events import EventLog
from discluster.messages import (
    CertificateReport,
    Rejected,
    Renewed,
    RenewRefused,
    RenewRequest,
    Trust,
)
from discluster.trust import AuthorityStatus

log = logging.getLogger(__name__)

_LOOK_EVERY: Final = 1.0
UNDERWAY: Final = "rotation-underway"
NO_ROTATION: Final = "no-rotation"


class CertificateDesk:
    """One for MASTER's life; its loop is :meth:`run`."""

    def __init__(
        self,
        *,
        authority: Authority,
        tls: ServerTls,
        register: Register,
        revocations: Revocations,
        events: EventLog,
        clock: Clock,
        life: Callable[[], float],
        known: Callable[[], Collection[str]],
        removed: Callable[[], Collection[str]],
    ) -> None:
        """``life``: of a host's certificate made now, seconds. ``known``: the hosts of the fleet,
        as its plan and its connections have it; ``removed``: those that are none any more.
        """
        self._authority = authority
        self._tls = tls
        self._register = register
        self._revocations = revocations
        self._events = events
        self._clock = clock
        self._life = life
        self._known = known
        self._removed = removed
        self._live: dict[HostConnection, Certificate] = {}
        # Of each connection, by serial: what its host may say that it has.
        self._given: dict[HostConnection, dict[str, Certificate]] = {}
        self._skews: dict[str, float] = {}
        self._refused: dict[str, str] = {}
        self._trouble: str | None = None
        self._pushed = self._trust()

    # --- hosts that connect ---

    def refusal(self, certificate: Certificate) -> RefusedError | None:
        """Why whoever shows it is not let in."""
        host = certificate.host
        if host is None:
            return RefusedError("it showed no certificate of a host", code="no-certificate")
        if certificate.authority not in {pem.authority_id(a) for a in self._authority.trusted}:
            return RefusedError(
                f"the certificate of {host} is of an authority that is trusted no more;"
                f" {_anew(host)}",
                code="authority-retired",
            )
        return self._revoked(certificate)

    def _revoked(self, certificate: Certificate) -> RefusedError | None:
        if not is_revoked(certificate, self._revocations.until):
            return None
        return RefusedError(
            f"{certificate.host} was revoked; {_anew(str(certificate.host))}", code="revoked"
        )

    def connected(self, connection: HostConnection, certificate: Certificate) -> None:
        """It was let in with this."""
        self._live[connection] = certificate
        self._given[connection] = {certificate.serial: certificate}
        # What it has on disk it tells at once; until then nothing is taken for granted.
        self._register.note(connection.host, certificate, ())
        connection.send(self._trust())

    def gone(self, connection: HostConnection) -> None:
        self._live.pop(connection, None)
        self._given.pop(connection, None)

    def said(self, connection: HostConnection, message: CertificateReport | RenewRequest) -> None:
        if isinstance(message, RenewRequest):
            connection.send(self._renew(connection, message))
            return
        # What stands in it is not taken from the host, which may not wish us well.
        given = self._given.get(connection, {}).get(message.certificate.serial)
        if given is not None:
            self._register.note(connection.host, given, message.trusts)
        self._skews[connection.host] = message.wall - self._clock.wall()

    def _renew(self, connection: HostConnection, wanted: RenewRequest) -> Renewed | RenewRefused:
        host, certificate = connection.host, self._live.get(connection)
        # Its authority does not matter: the connection may be older than a rotation.
        refused = self._revoked(certificate) if certificate is not None else None
        try:
            if certificate is None or refused is not None:
                raise refused or RefusedError("this connection has ended")
            made = self.issue(host, wanted.csr)
        except DisclusterError as error:
            self._tell_refused(host, error.message)
            return RenewRefused(reason=error.message)
        self._refused.pop(host, None)
        told = pem.read(made)
        self._given[connection] = {certificate.serial: certificate, told.serial: told}
        log.info("%s gets a new certificate", host, extra={"HOST": host})
        return Renewed(certificate=made)

    def _tell_refused(self, host: str, reason: str) -> None:
        """It will ask again and again."""
        if self._refused.get(host) != reason:
            self._refused[host] = reason
            words = f"{host} gets no new certificate: {reason}"
            self._events.record("host", words, host=host, severity="warning")

    # --- hosts that join ---

    @property
    def bundle(self) -> str:
        """All authorities, PEM."""
        return self._authority.bundle

    def issue(self, host: str, csr: str) -> str:
        """A certificate, PEM, that counts whatever was revoked. Raises RefusedError."""
        at = self._revocations.issue_at(host, self._clock.wall())
        moment = datetime.datetime.fromtimestamp(at, datetime.UTC)
        return self._authority.sign_host(csr, host, now=moment, life=self._life())

    def enrolled(self, host: str, certificate: str) -> None:
        """``host`` joined and is given this."""
        self._register.note(host, pem.read(certificate), ())

    def takes(self, host: str) -> bool:
        """Whether the name is that of a host of the fleet."""
        return host in self.hosts()

    def hosts(self) -> set[str]:
        """All that ever joined and were not removed."""
        return {*self._known(), *self._register.hosts} - set(self._removed())

    # --- operators ---

    def status(self) -> AuthorityStatus:
        return overview(self._sight())

    def troubles(self) -> Iterator[Trouble]:
        return troubles(self._sight())

    def revoke(self, host: str, *, why: str) -> None:
        """Cuts ``host`` off, and keeps it out until it joins again. ``why``: the event's sentence.

        Raises:
            StateError: it could not be written down; nothing was done.
        """
        self._revocations.revoke(host, self._clock.wall())
        self._events.record("host", why, host=host, severity="warning")
        self._push()
        for connection, certificate in tuple(self._live.items()):
            refused = self._revoked(certificate) if connection.host == host else None
            if refused is not None:
                connection.send(Rejected(code=refused.code, reason=refused.message))
                connection.close(refused.message)

    def left(self, host: str) -> None:
        """The operator removes it from the fleet: what it has does not count any more, also when it
        has joined again. Raises StateError.
        """
        self._revocations.revoke(host, self._clock.wall())
        self._push()

    def rotate(self) -> None:
        """Begins to replace the authority.

        Raises:
            DisclusterError: that is under way already.
        """
        if self._authority.phase != "settled":
            raise DisclusterError(
                f"the authority is being replaced already ({self._authority.phase})",
                hint="look at it: disclusterctl ca status; not to wait for hosts that are away:"
                " disclusterctl ca rotate --finish",
                code=UNDERWAY,
            )
        now = self._clock.wall()
        self._authority.announce(datetime.datetime.fromtimestamp(now, datetime.UTC))
        self._register.rotation(now)
        self._events.record("order", "the authority is being replaced, by the operator")
        self._look()

    def finish(self) -> tuple[str, ...]:
        """Hosts that are away now are not waited for any longer; their names.

        Raises:
            DisclusterError: the authority is not being replaced.
        """
        sight, phase = self._sight(), self._authority.phase
        if phase == "settled":
            raise DisclusterError("the authority is not being replaced", code=NO_ROTATION)
        lacks = lacking(phase, self._authority.newest, counted(sight))
        away = frozenset(host for host in lacks if host not in sight.present)
        self._register.rotation(self._register.began, self._register.left_behind | away)
        names = ", ".join(sorted(away)) or "nobody"
        told = f"the new authority does not wait for hosts that are away ({names}), by the operator"
        self._events.record("order", told)
        self._look()
        return tuple(sorted(away))

    # --- the loop ---

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._look()
            await self._clock.sleep(_LOOK_EVERY)

    def _look(self) -> None:
        try:
            self._forget_removed()
            self._advance()
            if self._tls.look():
                log.info("MASTER has a new certificate")
            self._register.save()
            self._trouble = None
        except DisclusterError as error:
            if self._trouble != error.render():
                log.error("%s", error.render())
            self._trouble = error.render()

    def _advance(self) -> None:
        step = None
        if self._authority.phase != "settled":
            sight = self._sight()
            # One that is back after all is waited for like all others.
            behind = sight.left_behind - set(sight.present)
            step = next_step(sight.phase, sight.newest, counted(sight), left_behind=behind)
        if step == "replace":
            self._authority.replace()
            told = "all hosts trust the new authority: certificates are made anew by it"
            self._events.record("master", told)
        elif step == "retire":
            self._authority.retire()
            self._register.rotation(None)
            told = "all hosts have certificates of the new authority: the old one counts no more"
            self._events.record("master", told)
        if step is not None or self._pushed != self._trust():
            self._push()

    def _forget_removed(self) -> None:
        for host in self._removed():
            self._register.forget(host)
            self._skews.pop(host, None)

    def _trust(self) -> Trust:
        return Trust(
            authorities=self._authority.bundle,
            signing=self._authority.id,
            revoked=self._revocations.until,
        )

    def _push(self) -> None:
        self._pushed = self._trust()
        for connection in self._live:
            connection.send(self._pushed)

    def _sight(self) -> Sight:
        records = self._register.hosts
        return Sight(
            now=self._clock.wall(),
            phase=self._authority.phase,
            trusted=self._authority.trusted,
            newest=self._authority.newest,
            master=self._tls.certificate,
            hosts={name: records.get(name) for name in self.hosts()},
            revoked=self._revocations.until,
            present={connection.host for connection in self._live},
            began=self._register.began,
            left_behind=self._register.left_behind,
            skews=self._skews,
            trouble=self._trouble,
        )


def _anew(host: str) -> str:
    return (
        f"it is let in again when it joins with a new token (on MASTER's machine: disclusterctl"
        f" token create --host {host})"
    )
