# SPDX-License-Identifier: Apache-2.0
"""Certificates, keys and requests as text.

Apart from the rules about them: cryptography takes long to load, and clusters need none of it.
"""

import re
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from discluster.certificates import BACKDATED, Certificate

# What certificates of others may have, or lack, beside what is no certificate at all.
_NOT_OURS: Final = (
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether ``authority`` signed it."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def read(data: str | bytes) -> Certificate:
    """``data``: PEM text, the first certificate in it counts; or DER.

    Raises:
        ValueError: it is no certificate of a Discluster fleet.
    """
    return facts(parsed(data))


def parsed(data: str | bytes) -> x509.Certificate:
    """As :func:`read`; raises ValueError."""
    if isinstance(data, bytes):
        return x509.load_der_x509_certificate(data)
    found = pem_blocks(data, "CERTIFICATE")
    if not found:
        raise ValueError("it holds no certificate")
    return x509.load_pem_x509_certificate(found[0].encode())


def facts(certificate: x509.Certificate) -> Certificate:
    """What matters of it; raises ValueError if it is none of a Discluster fleet."""
    try:
        extensions = certificate.extensions
        signer = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uses = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except _NOT_OURS as error:
        raise ValueError(str(error)) from None
    hosts = names.get_values_for_type(x509.DNSName)
    is_host = ExtendedKeyUsageOID.CLIENT_AUTH in uses and len(hosts) == len(names) == 1
    return Certificate(
        serial=f"{certificate.serial_number:x}",
        issued=certificate.not_valid_before_utc.timestamp() + BACKDATED,
        expires=certificate.not_valid_after_utc.timestamp(),
        authority=(signer.value.key_identifier or b"").hex(),
        host=hosts[0] if is_host else None,
    )


def authority_id(authority: x509.Certificate) -> str:
    """The key's identifier, in hex, as certificates that it signs have it."""
    found = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return found.value.digest.hex()


def authorities(bundle: str) -> dict[str, x509.Certificate]:
    """Those in a PEM text, by id; raises ValueError."""
    blocks = pem_blocks(bundle, "CERTIFICATE")
    try:
        found = [x509.load_pem_x509_certificate(block.encode()) for block in blocks]
        return {authority_id(certificate): certificate for certificate in found}
    except _NOT_OURS as error:
        raise ValueError(str(error)) from None


def fingerprint(certificate: x509.Certificate) -> str:
    """``sha256:HEX``: what an operator carries to a new host."""
    return f"sha256:{certificate.fingerprint(hashes.SHA256()).hex()}"


def pem_blocks(text: str, label: str) -> list[str]:
    """The blocks of that kind, such as ``CERTIFICATE``, in their order."""
    name = re.escape(label)
    return re.findall(rf"-----BEGIN {name}-----\n.*?-----END {name}-----\n?", text, re.DOTALL)


def private_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """Without a pass phrase: services start without a person."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def public_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def request_for(key: ec.EllipticCurvePrivateKey, host: str) -> str:
    """What is sent to have a certificate made: PEM. MASTER goes by the key in it alone."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    csr = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return csr.public_bytes(serialization.Encoding.PEM).decode()
