# SPDX-License-Identifier: Apache-2.0
"""Signs the certificates of operators."""

import datetime

from cryptography import x509

from discluster.master.access.accounts import Signed
from discluster.master.access.authority import Authority
from discluster.master.access.callers import URI


class OperatorSigner:
    """Certificates that last ``life`` days; whoever uses one gets the next at two thirds of it."""

    def __init__(self, authority: Authority, *, life: float) -> None:
        self._authority = authority
        self._life = datetime.timedelta(days=life)

    def sign(self, csr: str, name: str, *, now: float) -> Signed:
        """A certificate whose only name is the operator's. ``now``: wall clock, seconds.

        Raises:
            RefusedError: the request is not one, or not signed by its key.
        """
        moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
        pem = self._authority.sign_client(
            csr, name, x509.UniformResourceIdentifier(URI + name), now=moment, life=self._life
        )
        certificate = x509.load_pem_x509_certificate(pem.encode())
        ends = certificate.not_valid_after_utc.timestamp()
        return Signed(pem, certificate.serial_number, ends)
