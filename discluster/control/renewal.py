# SPDX-License-Identifier: Apache-2.0
"""Keeps this host's certificate alive, and knows whom MASTER trusts.

Requests go over the connection to MASTER: while that is away there is nobody to sign anything, and
when it is back it asks at once.
"""

import logging
import random
from collections.abc import Callable
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from discluster import pem
from discluster.certificates import Certificate, renewal_due
from discluster.clock import Clock, in_words
from discluster.control.identity import Identity
from discluster.control.waiting import Alarm
from discluster.errors import DisclusterError, RefusedError
from discluster.messages import (
    CertificateReport,
    Message,
    Renewed,
    RenewRefused,
    RenewRequest,
    Trust,
)

log = logging.getLogger(__name__)

# Seconds. The wall clock may be set while nobody looks.
_LOOK_AT_LEAST_EVERY: Final = 60.0
_REPORT_EVERY: Final = 600.0
_SHORTEST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 3600.0
_REPLACED_WITHIN: Final = 60.0


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """When a certificate is renewed. ``jitter``: 0 to 1, drawn anew for each certificate.
    ``replace_from``: since when, by the wall clock, another authority signs than the one that made
    it. ``tried``: how often it was asked for in vain; ``wait_until``: not asked for again before.
    """

    jitter: float
    replace_from: float | None = None
    tried: int = 0
    wait_until: float = 0.0


def due_at(certificate: Certificate, schedule: Schedule) -> float:
    """When to ask for a new one, wall clock. Pure."""
    due = renewal_due(certificate, jitter=schedule.jitter)
    if schedule.replace_from is not None:
        spread = min(_REPLACED_WITHIN, certificate.life / 10)
        due = min(due, schedule.replace_from + schedule.jitter * spread)
    return max(due, schedule.wait_until)


def asked(certificate: Certificate, schedule: Schedule, now: float) -> Schedule:
    """It was asked for a new one: if none comes, the next attempt waits twice as long. Pure."""
    pause = min(_longest_pause(certificate), _SHORTEST_PAUSE * 2 ** min(schedule.tried, 12))
    return msgspec.structs.replace(
        schedule,
        tried=schedule.tried + 1,
        wait_until=now + pause * (1.0 + schedule.jitter),
    )


def renewed(certificate: Certificate, now: float, *, jitter: float) -> Schedule:
    """For a new one. It rests even if this machine's clock, which may be wrong, has it due already.
    Pure.
    """
    return Schedule(jitter=jitter, wait_until=now + _longest_pause(certificate))


def _longest_pause(certificate: Certificate) -> float:
    return max(_SHORTEST_PAUSE, min(_LONGEST_PAUSE, certificate.life / 50))


class Renewing:
    """One for CONTROL's life."""

    def __init__(
        self,
        identity: Identity,
        *,
        on_change: Callable[[], None],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        """``on_change``: who listens with our certificate makes it new."""
        self._identity = identity
        self._on_change = on_change
        self._clock = clock
        self._rng = rng
        self._alarm = Alarm(clock)
        self._send: Callable[[Message], None] | None = None
        self._signing: str | None = None
        self._reported_at = float("-inf")
        self._key: ec.EllipticCurvePrivateKey | None = None
        self._certificate: Certificate | None = None
        self._schedule = Schedule(jitter=rng.random())
        self.trouble: str | None = None

    # --- what the link tells ---

    def connected(self, send: Callable[[Message], None]) -> None:
        """MASTER is there. ``send``: to it."""
        self._send = send
        self._key = None
        self._schedule = msgspec.structs.replace(self._schedule, tried=0, wait_until=0.0)
        self._load()
        self._report()
        self._alarm.ring()

    def lost(self) -> None:
        self._send = None

    def said(self, message: object) -> bool:
        """Whether ``message`` was for us."""
        if not isinstance(message, (Trust, Renewed, RenewRefused)):
            return False
        try:
            if isinstance(message, Trust):
                self._trust(message)
            elif isinstance(message, Renewed):
                self._take(message)
            else:
                raise RefusedError(f"MASTER refuses a new certificate: {message.reason}")
        except DisclusterError as error:
            self._failed(error)
        self._alarm.ring()
        return True

    def words(self) -> str:
        """How long the certificate lives, for a person; empty without one."""
        if self._certificate is None:
            return ""
        now = self._clock.wall()
        left, due = self._certificate.expires - now, due_at(self._certificate, self._schedule) - now
        told = f"valid for {in_words(left)}" if left > 0 else f"expired {in_words(-left)} ago"
        when = f"renewed in {in_words(due)}" if due > 0 else "renewal is due"
        return f"{told}, {when}" + (f"; {self.trouble}" if self.trouble else "")

    # --- the loop ---

    async def run(self) -> None:
        """Until cancelled."""
        self._load()
        while True:
            await self._alarm.wait(self._step())

    def _step(self) -> float:
        """Does what is due; seconds until the next look."""
        if self._send is None:
            return _LOOK_AT_LEAST_EVERY
        if self._clock.monotonic() - self._reported_at >= _REPORT_EVERY:
            self._report()
        if self._certificate is None:
            return _LOOK_AT_LEAST_EVERY
        now = self._clock.wall()
        if (due := due_at(self._certificate, self._schedule)) <= now:
            self._ask(self._certificate, self._send, now)
            due = due_at(self._certificate, self._schedule)
        return min(_LOOK_AT_LEAST_EVERY, max(0.05, due - now))

    def _ask(self, certificate: Certificate, send: Callable[[Message], None], now: float) -> None:
        self._schedule = asked(certificate, self._schedule, now)
        self._key = ec.generate_private_key(ec.SECP256R1())
        csr = pem.request_for(self._key, str(certificate.host))
        send(RenewRequest(csr=csr))

    def _take(self, message: Renewed) -> None:
        if self._key is None:
            return
        self._identity.renew(self._key, message.certificate, now=self._clock.wall())
        self._key = None
        self.trouble = None
        now = self._clock.wall()
        self._load()
        if self._certificate is not None:
            self._schedule = renewed(self._certificate, now, jitter=self._rng.random())
            log.info("a new certificate: %s", self.words())
        self._follow()
        self._on_change()
        self._report()

    def _trust(self, message: Trust) -> None:
        self._signing = message.signing
        changed = self._identity.trust(message.authorities, message.revoked)
        self.trouble = None
        self._follow()
        self._report()
        if changed:
            log.info("MASTER tells other authorities than before")
            self._on_change()

    def _follow(self) -> None:
        """Whether another authority signs now."""
        other = self._certificate is not None and self._signing not in (
            None,
            self._certificate.authority,
        )
        since = self._schedule.replace_from
        if other != (since is not None):
            since = self._clock.wall() if other else None
            self._schedule = msgspec.structs.replace(self._schedule, replace_from=since)

    def _load(self) -> None:
        try:
            self._certificate = self._identity.certificate() if self._identity.joined else None
        except DisclusterError as error:
            self._failed(error)

    def _report(self) -> None:
        if self._certificate is None or self._send is None:
            return
        self._reported_at = self._clock.monotonic()
        try:
            trusts = self._identity.trusts()
        except DisclusterError as error:
            self._failed(error)
            return
        wall = self._clock.wall()
        self._send(CertificateReport(certificate=self._certificate, trusts=trusts, wall=wall))

    def _failed(self, error: DisclusterError) -> None:
        if self.trouble != error.render():
            log.error("%s", error.render())
        self.trouble = error.render()
