# SPDX-License-Identifier: Apache-2.0
"""MASTER's side of TLS while it runs: its certificate is renewed, and whom it trusts changes,
without a connection being closed.
"""

import datetime
import ssl
from collections.abc import Callable, Sequence

from discluster import pem
from discluster.certificates import BACKDATED, Certificate, renewal_due
from discluster.clock import Clock
from discluster.master.access.authority import Authority, bare_server_context


class ServerTls:
    """``context`` is the one to listen with. It hands each new connection over to the newest."""

    def __init__(
        self,
        authority: Authority,
        names: Sequence[str],
        *,
        life: Callable[[], float],
        clock: Clock,
    ) -> None:
        """``life``: of a certificate made now, seconds. Raises StateError."""
        self._authority = authority
        self._names = names
        self._life = life
        self._clock = clock
        self.context = bare_server_context()
        # A context cannot be told to trust somebody no more, so there is a new one each time.
        self.context.sni_callback = self._hand_over
        self._made_with: tuple[str, ...] = ()
        self._make()

    @property
    def certificate(self) -> Certificate:
        """MASTER's own."""
        return self._certificate

    def look(self) -> bool:
        """Renews the certificate if it is time, or if another authority signs or is trusted.
        Whether it did. Raises StateError.
        """
        now, own = self._clock.wall(), self._certificate
        # Somebody may set the machine's clock back, to when this one was not valid yet.
        in_time = own.issued - BACKDATED / 2 < now < renewal_due(own, jitter=0.0)
        if in_time and self._made_with == self._trusted():
            return False
        self._make()
        return True

    def _make(self) -> None:
        now = datetime.datetime.fromtimestamp(self._clock.wall(), datetime.UTC)
        self._newest = self._authority.server_context(self._names, now=now, life=self._life())
        self._certificate = pem.read(self._authority.server_certificate())
        self._made_with = self._trusted()

    def _trusted(self) -> tuple[str, ...]:
        return tuple(pem.authority_id(one) for one in self._authority.trusted)

    def _hand_over(
        self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _: ssl.SSLContext
    ) -> None:
        connection.context = self._newest
