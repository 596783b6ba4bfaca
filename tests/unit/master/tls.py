# SPDX-License-Identifier: Apache-2.0
"""Keys, requests and TLS contexts as a CONTROL has them."""

import datetime
import ssl
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from discluster import pem
from discluster.master.access.authority import Authority


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def csr_of(key: ec.EllipticCurvePrivateKey, name: str) -> str:
    return pem.request_for(key, name)


def signed_host(
    authority: Authority, host: str, directory: Path, *, now: datetime.datetime
) -> tuple[Path, Path]:
    """Files with the certificate and the key of ``host``."""
    key = new_key()
    pair = directory / f"{host}.crt", directory / f"{host}.key"
    pair[0].write_text(authority.sign_host(csr_of(key, host), host, now=now))
    pair[1].write_text(pem.private_pem(key))
    return pair


def client_context(authority: Authority, pair: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.bundle)
    if pair is not None:
        context.load_cert_chain(*pair)
    return context
