# SPDX-License-Identifier: Apache-2.0
"""The packet handler ``nats``: which servers, and what is told of them."""

import itertools
import logging
import secrets
from typing import Final
from urllib.parse import urlsplit

from discluster.cluster.handlers.builtin import Surroundings
from discluster.cluster.handlers.nats import wire
from discluster.cluster.handlers.nats.connection import Login, NatsConnection, connect
from discluster.cluster.handlers.nats.jetstream import LEFT_OUT, JetStreamEncoder
from discluster.cluster.handlers.nats.settings import NatsSettings
from discluster.cluster.handlers.publishing.handler import PublishingHandler
from discluster.cluster.handlers.publishing.naming import Naming
from discluster.cluster.handlers.publishing.pipe import Address
from discluster.cluster.handlers.publishing.settings import tls_context
from discluster.secret import read_credential

log = logging.getLogger(__name__)

CREDENTIAL: Final = "discluster.nats"

_PORT: Final = 4222
_HINT: Final = "one line: USER:PASSWORD, or a token"


def make(surroundings: Surroundings) -> PublishingHandler:
    """The handler ``nats``.

    Raises:
        ConfigurationError: a file for TLS, or the credential, cannot be used.
    """
    settings, rng = surroundings.settings.nats, surroundings.rng
    # Nobody else can guess it, and tell us that something was stored.
    inbox = f"_INBOX.{secrets.token_hex(16)}".encode()
    naming = Naming(rng)
    login = Login(
        settings=settings,
        name=f"discluster-cluster@{surroundings.cluster}",
        inbox=inbox,
        secret=read_credential(surroundings.environ, CREDENTIAL, hint=_HINT),
        context=tls_context(settings.tls, group="nats"),
    )
    return PublishingHandler(
        title="NATS",
        settings=settings,
        broker=NatsBroker(login),
        encoder=JetStreamEncoder(subject=settings.subject, inbox=inbox, naming=naming),
        naming=naming,
        clock=surroundings.clock,
        rng=rng,
    )


class NatsBroker:
    """Implements ``publishing.broker.Broker``: tries one server after the other."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._addresses = itertools.cycle(_addresses(login.settings))
        self._left_out = 0

    async def dial(self) -> NatsConnection:
        return await connect(next(self._addresses), self._login, smaller=self.smaller)

    def smaller(self, message: bytes) -> bytes:
        """Without the event's body: what there is can be seen, and what is missing be asked of
        Discord; nothing that follows is held up.
        """
        left = wire.without_body(message, LEFT_OUT)
        if left is not message:
            self._left_out += 1
            log.warning(
                "An event of %d bytes is larger than NATS takes and is published without its body:"
                " see max_payload of the server, and the stream's limit",
                wire.payload_size(message),
            )
        return left

    def summary(self) -> str:
        return f"{self._left_out} too large and without their body" if self._left_out else ""


def _addresses(settings: NatsSettings) -> list[Address]:
    split = map(urlsplit, settings.servers)
    return [
        Address(host=url.hostname or "", port=url.port or _PORT, tls=url.scheme == "tls")
        for url in split
    ]
