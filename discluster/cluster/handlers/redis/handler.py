# SPDX-License-Identifier: Apache-2.0
"""The packet handler ``redis``: which server, and how."""

from typing import Final
from urllib.parse import urlsplit

from discluster.cluster.handlers.builtin import Surroundings
from discluster.cluster.handlers.publishing.handler import PublishingHandler
from discluster.cluster.handlers.publishing.naming import Naming
from discluster.cluster.handlers.publishing.pipe import Address
from discluster.cluster.handlers.publishing.settings import tls_context
from discluster.cluster.handlers.redis.connection import Login, RedisConnection, connect
from discluster.cluster.handlers.redis.settings import RedisSettings
from discluster.cluster.handlers.redis.streams import StreamEncoder
from discluster.secret import read_credential

CREDENTIAL: Final = "discluster.redis"

_PORT: Final = 6379
_HINT: Final = "one line: a password, or USER:PASSWORD"


def make(surroundings: Surroundings) -> PublishingHandler:
    """The handler ``redis``.

    Raises:
        ConfigurationError: a file for TLS, or the credential, cannot be used.
    """
    settings, rng = surroundings.settings.redis, surroundings.rng
    naming = Naming(rng)
    login = Login(
        settings=settings,
        name=f"discluster-cluster@{surroundings.cluster}",
        secret=read_credential(surroundings.environ, CREDENTIAL, hint=_HINT),
        context=tls_context(settings.tls, group="redis"),
    )
    return PublishingHandler(
        title="Redis",
        settings=settings,
        broker=RedisBroker(login),
        encoder=StreamEncoder(stream=settings.stream, length=settings.length, naming=naming),
        naming=naming,
        clock=surroundings.clock,
        rng=rng,
    )


class RedisBroker:
    """Implements ``publishing.broker.Broker``."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._address = _address(login.settings)

    async def dial(self) -> RedisConnection:
        return await connect(self._address, self._login)

    def smaller(self, message: bytes) -> bytes:
        """Redis takes 512 MB; nothing of Discord's is that large."""
        return message

    def summary(self) -> str:
        return ""


def _address(settings: RedisSettings) -> Address:
    if settings.server.startswith("/"):
        return Address(path=settings.server)
    url = urlsplit(settings.server)
    return Address(host=url.hostname or "", port=url.port or _PORT, tls=url.scheme == "rediss")
