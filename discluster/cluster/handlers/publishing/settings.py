# SPDX-License-Identifier: Apache-2.0
"""Settings that all brokers have."""

import ssl
from pathlib import Path
from typing import Annotated, Final

import msgspec

from discluster.documents import Rule
from discluster.errors import ConfigurationError
from discluster.settings import Setting

MEBIBYTE: Final = 1024 * 1024

File = Annotated[str, Rule(pattern=r"/.*", pattern_says="a path from the root")]

EventTypes = Annotated[
    tuple[Annotated[str, Rule(pattern=r"[A-Z][A-Z0-9_]*", pattern_says="an event type")], ...],
    Setting(
        "Which events are published, as Discord names them. Empty: all, but READY and RESUMED,"
        " which are about the session and are never published",
    ),
]
InFlight = Annotated[
    int,
    Setting(
        "How many events are on their way at once, without an answer",
        unit="events",
        minimum=1,
        maximum=100_000,
    ),
]
Buffer = Annotated[
    int,
    Setting(
        "How much a cluster holds of what is not acknowledged; then no shard is read until there"
        " is room. 'unacknowledged' bounds it as well, for each shard",
        unit="MiB",
        minimum=1,
        maximum=65_536,
    ),
]
Patience = Annotated[
    float,
    Setting(
        "An event that is not acknowledged within this time is sent again, over a new connection",
        unit="seconds",
        minimum=1,
        maximum=600,
    ),
]
ConnectLimit = Annotated[
    float,
    Setting("To connect and to log in", unit="seconds", minimum=0.1, maximum=60),
]


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """See the help of each setting."""

    authorities: Annotated[
        File | None,
        Setting("A PEM file of authorities to trust instead of the machine's"),
    ] = None
    certificate: Annotated[
        File | None, Setting("A PEM file with the certificate to show, for brokers that want one")
    ] = None
    key: Annotated[
        File | None, Setting("The certificate's key, readable for discluster-cluster alone")
    ] = None


def tls_context(settings: TlsSettings, *, group: str) -> ssl.SSLContext:
    """``group``: where the settings stand, for messages.

    Raises:
        ConfigurationError: one of the files cannot be used.
    """
    if (settings.certificate is None) != (settings.key is None):
        raise ConfigurationError(
            f"{group}.tls: certificate and key go together", hint="give both, or neither"
        )
    try:
        context = ssl.create_default_context(cafile=settings.authorities)
        if settings.certificate is not None and settings.key is not None:
            context.load_cert_chain(Path(settings.certificate), Path(settings.key))
    except OSError as error:  # an SSLError is one, too
        raise ConfigurationError(
            f"{group}.tls: a file cannot be used: {error}",
            hint="PEM files, readable for the user discluster-cluster",
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
