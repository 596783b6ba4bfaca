# SPDX-License-Identifier: Apache-2.0
"""The handler ``gateway``: Discord's gateway for the bots of this machine (cluster/local)."""

import asyncio
import logging
from pathlib import Path
from typing import Final

from discluster import places
from discluster.cluster.handlers import Commands
from discluster.cluster.handlers.builtin import Surroundings
from discluster.cluster.images import Images
from discluster.cluster.local.bot import Bot
from discluster.cluster.local.front import Front, Upgrade
from discluster.cluster.local.gateway import LocalGateway, Terms
from discluster.cluster.local.keeping import Keeping
from discluster.cluster.local.link import Link
from discluster.cluster.local.listening import Addresses, addresses, listen
from discluster.errors import ConfigurationError
from discluster.gateway.events import Event, Later
from discluster.gateway.waiting import end
from discluster.lease import boot_id
from discluster.reception import Reception
from discluster.secret import Secret, read_credential

log = logging.getLogger(__name__)

LOCAL_TOKEN: Final = "discluster.local-token"
_HINT: Final = (
    f"put any text into /etc/credstore/{LOCAL_TOKEN} (mode 0600), for bots that are not to have"
    " the bot token"
)
_MIB: Final = 1 << 20
_GOODBYE: Final = 1.0  # seconds in which close frames reach bots


def make(surroundings: Surroundings) -> "GatewayHandler":
    """The handler ``gateway``.

    Raises:
        ConfigurationError: no bot could connect; or the local token cannot be read.
    """
    settings = surroundings.settings
    local = settings.local_gateway
    if not local.clients or len(set(local.clients)) < len(local.clients):
        raise ConfigurationError(
            "local_gateway.clients: there is none, or one is named twice",
            hint="each client has a name of its own, as in clients: [bot, stats]",
        )
    runtime = Path(settings.runtime_directory)
    where = addresses(
        host=local.address,
        first_port=local.first_port,
        path=places.local_gateway(runtime, surroundings.cluster) if local.unix_socket else None,
        cluster=surroundings.cluster,
    )
    own = read_credential(surroundings.environ, LOCAL_TOKEN, hint=_HINT)
    tokens = (surroundings.token,) if own is None else (surroundings.token, own)
    return GatewayHandler(surroundings, where=where, tokens=tokens)


class GatewayHandler:
    """Takes what comes in batches, and acknowledges what the bots have."""

    def __init__(
        self, surroundings: Surroundings, *, where: Addresses, tokens: tuple[Secret, ...]
    ) -> None:
        """``tokens``: bots are to show one of them."""
        self._surroundings = surroundings
        self._where = where
        self._tokens = tokens
        self._gateway: LocalGateway | None = None
        self._images: Images | None = None
        self._reception: Reception | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, cluster: int, commands: Commands) -> None:
        settings, clock = self._surroundings.settings, self._surroundings.clock
        local = settings.local_gateway
        self._images = Images(
            commands.directory,
            siblings=commands.directory.parent,
            limit=local.image_size * _MIB,
            boot_id=boot_id(self._surroundings.environ),
            clock=clock,
        )
        keeping = Keeping(
            size=local.keep_size * _MIB,
            age=local.keep_age,
            clients=local.clients,
            unacknowledged=settings.unacknowledged // 2,
            clock=clock,
        )
        terms = Terms(
            clients=local.clients,
            tokens=self._tokens,
            interval=local.heartbeat_interval,
            when_unknown=local.when_unknown,
        )
        self._gateway = gateway = LocalGateway(
            terms=terms, commands=commands, keeping=keeping, images=self._images, clock=clock
        )
        front = Front(
            cluster=cluster,
            clients=local.clients,
            tokens=terms.tokens,
            host=self._where.url_host,
        )
        self._reception = listen(self._where, lambda reception: _link(reception, front, gateway))
        self._task = asyncio.create_task(gateway.run(), name="local gateway")
        log.info("bots find their gateway at %s", self._where.told)

    def handle_batch(self, events: list[Event]) -> asyncio.Task[Later] | Later:
        assert self._gateway is not None
        return self._gateway.take(events)

    async def flush(self, shard: int) -> None:
        """The bots at ``shard`` are sent away."""
        assert self._gateway is not None
        await self._gateway.flush(shard)

    async def stop(self) -> None:
        if self._gateway is not None:
            self._gateway.shut()
        if self._reception is not None:
            await self._reception.close(patience=_GOODBYE)
        if self._where.path is not None:
            self._where.path.unlink(missing_ok=True)
        if self._task is not None:
            await end(self._task)
        if self._images is not None:
            await self._images.stop()

    def summary(self) -> str:
        return self._gateway.summary() if self._gateway is not None else ""

    def problem(self, shard: int) -> str | None:
        """What is wrong at ``shard``."""
        return self._gateway.problem(shard) if self._gateway is not None else None


def _link(reception: Reception, front: Front, gateway: LocalGateway) -> Link:
    def opened(transport: asyncio.Transport, upgrade: Upgrade) -> Bot:
        def known() -> None:
            reception.recognise(transport, transport)
            reception.settle(transport)

        return gateway.opened(transport, upgrade, known)

    return Link(
        answer=lambda request: front.answer(request, gateway.facts()),
        opened=opened,
        closed=gateway.closed,
    )
