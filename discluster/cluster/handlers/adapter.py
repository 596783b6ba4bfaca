# SPDX-License-Identifier: Apache-2.0
"""What the adapters for libraries share: how a library is fed inside the cluster's process.

A library expects READY and a GUILD_CREATE for each guild before anything else. After a RESUME in a
new process Discord sends neither. So an adapter keeps an image of the shard's guilds on disk, and
begins with that; where there is none, it asks for a new session.
"""

import abc
import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Collection, Coroutine
from typing import Any, Final

import msgspec

from discluster.clock import Clock, SystemClock
from discluster.cluster.handlers import Commands
from discluster.cluster.images import Images, ShardImage
from discluster.errors import ConfigurationError
from discluster.gateway.commands import Command, RequestGuildMembers, shard_of
from discluster.gateway.events import LATER, Event, Later
from discluster.gateway.intents import intent_names
from discluster.lease import boot_id

log = logging.getLogger(__name__)

IMAGE_SIZE: Final = 256 << 20
"""Bytes that the images of all guilds of a cluster may take, unless the bot's author says."""

NOWHERE: Final = "wss://gateway.invalid"
"""Where a library would resume, if it ever dialled."""

_AT_A_TIME: Final = 20
_TIDY_EVERY: Final = 60.0
_OVER: Final = "the bot has closed itself and takes no events: restart the cluster"

Raw = bytes | msgspec.Raw
"""JSON as it came."""


class _Chunk(msgspec.Struct):
    nonce: str = ""


class _Guild(msgspec.Struct):
    raw_id: str = msgspec.field(name="id")

    @property
    def id(self) -> int:
        return int(self.raw_id)


class _Ready(msgspec.Struct):
    guilds: list[_Guild]


class Adapter(abc.ABC):
    """A packet handler that hands everything to a library.

    An event counts as taken when the library was given it and each listener that it is for has run
    up to its first wait. What a listener does after that is lost with a process that is killed.
    """

    library: str
    """Its name, in words for status and log."""

    def __init__(self, *, image_size: int = IMAGE_SIZE, clock: Clock | None = None) -> None:
        self._image_size = image_size
        self._clock = clock or SystemClock()
        self._fed: dict[int, ShardImage] = {}
        self._unknown: set[int] = set()
        self._asking: dict[str, asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    # --- what a library's own adapter says ---

    @abc.abstractmethod
    def intents(self) -> int:
        """What the bot asks for, as a bit field."""

    @abc.abstractmethod
    async def log_in(self, cluster: int) -> None:
        """Makes the bot ready for events, without a gateway connection. REST only."""

    @abc.abstractmethod
    async def log_out(self) -> None:
        """Ends the bot."""

    @property
    @abc.abstractmethod
    def over(self) -> bool:
        """Whether the bot was ended, by itself if not by :meth:`log_out`."""

    @abc.abstractmethod
    def enter(self, shard: int) -> None:
        """``shard`` comes: events of it follow."""

    @abc.abstractmethod
    def leave(self, shard: int) -> None:
        """``shard`` is gone, and its guilds with it."""

    @abc.abstractmethod
    def take(self, shard: int, kind: str, seq: int, body: Raw) -> None:
        """Hands an event of this type and sequence to the library."""

    @abc.abstractmethod
    def guilds(self) -> Collection[int]:
        """Ids of all guilds that the library knows."""

    # --- the packet handler ---

    async def start(self, cluster: int, commands: Commands) -> None:
        """See PacketHandler.

        Raises:
            ConfigurationError: the bot asks for intents that the cluster does not have.
        """
        if missing := self.intents() & ~commands.intents:
            raise ConfigurationError(
                f"the {self.library} bot asks for intents that this cluster does not ask Discord"
                f" for: {intent_names(missing)}",
                hint="add them to 'intents' in cluster.yaml, or take them from the bot",
            )
        self.commands = commands
        self._images = Images(
            commands.directory,
            siblings=commands.directory.parent,
            limit=self._image_size,
            boot_id=boot_id(os.environ),
            clock=self._clock,
        )
        try:
            await self.log_in(cluster)
        except BaseException:
            with contextlib.suppress(Exception):
                await self.log_out()
            raise
        self.run_beside(self._tidy(), what="the images of shards that left")

    def handle(self, event: Event) -> Awaitable[Later] | Later:
        """See PacketHandler."""
        image = self._fed.get(event.shard)
        if image is None:
            return self._begin(event)
        if event.type == "GUILD_MEMBERS_CHUNK" and self._asking:
            asking = self._asking.get(event.parsed(_Chunk).nonce)
            if asking is not None:
                return self._answer(image, event, asking)
        self._take(image, event)
        return LATER

    async def flush(self, shard: int) -> None:
        """See FlushingHandler."""
        # What was handed over is acknowledged in the loop's next turn.
        await asyncio.sleep(0)
        self._images.close(shard)
        self._unknown.discard(shard)
        if self._fed.pop(shard, None) is not None:
            self.leave(shard)

    async def stop(self) -> None:
        """See PacketHandler."""
        for task in self._tasks:
            task.cancel()
        try:
            await self.log_out()
        finally:
            await self._images.stop()

    def summary(self) -> str:
        """See PacketHandler."""
        return f"{self.library}: {len(self.guilds())} guilds"

    def problem(self, shard: int) -> str | None:
        """See TellingHandler."""
        if self.over:
            return _OVER
        if shard in self._unknown:
            return "the bot does not know its guilds until Discord has begun a new session"
        if self._images.in_trouble:
            return "the images of guilds cannot be written to the disk: see the cluster's log"
        return None

    def guilds_of(self, shard: int) -> list[int]:
        """Ids of the guilds of ``shard`` that the library knows."""
        count = self.commands.shard_count or 1
        return [guild for guild in self.guilds() if shard_of(guild, count) == shard]

    async def send(self, shard: int, command: Command) -> None:
        """Returns when it was written, and before the library gets an answer to it.

        Raises:
            CommandError: Discord would not take it.
            NotSentError: it could not be sent in time.
        """
        nonce = command.nonce if isinstance(command, RequestGuildMembers) else None
        if nonce is None:
            await self.commands.send(shard, command)
            return
        asking = self._asking[nonce] = asyncio.get_running_loop().create_future()
        try:
            await self.commands.send(shard, command)
        finally:
            self._asking.pop(nonce, None)
            asking.set_result(None)

    def run_beside(self, work: Coroutine[Any, Any, None], *, what: str) -> None:
        """Runs a coroutine for which no event waits; what it raises is logged."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, what))

    # --- inside ---

    async def _tidy(self) -> None:
        while True:
            self._images.tidy()
            await self._clock.sleep(_TIDY_EVERY)

    async def _begin(self, event: Event) -> Later:
        """The first event of a shard in this process."""
        image = self._images.open(event.shard, session_id=event.session_id, seq=event.seq - 1)
        self.enter(event.shard)
        if event.type != "READY":
            await self._restore(event.shard, image)
        self._fed[event.shard] = image
        self._take(image, event)
        return LATER

    async def _answer(self, image: ShardImage, event: Event, asking: asyncio.Future[None]) -> Later:
        """It may be here before the library, which is about to wait for it, knows that it asked."""
        await asking
        self._take(image, event)
        return LATER

    async def _restore(self, shard: int, image: ShardImage) -> None:
        """READY and the guilds as of now, as if the session began here."""
        if not image.complete:
            self._unknown.add(shard)
            why = f"there is no image of its guilds for {self.library} to begin with"
            self.commands.renew(shard, why)
            return
        ready = image.ready(
            session_id=image.session_id or "",
            resume_gateway_url=NOWHERE,
            shard=shard,
            shard_count=self.commands.shard_count or 1,
        )
        self._restore_one(shard, image.seq, "READY", ready)
        told = 0
        for told, guild in enumerate(image.guilds(), 1):
            self._restore_one(shard, image.seq, *guild)
            if told % _AT_A_TIME == 0:
                await asyncio.sleep(0)
        log.info(
            "Shard %d: %s knows %d guilds from the image; %d had no room in it",
            *(shard, self.library, told, image.left_out),
            extra={"SHARD": shard},
        )

    def _restore_one(self, shard: int, seq: int, kind: str, body: bytes) -> None:
        try:
            self.take(shard, kind, seq, body)
        except Exception:  # what one guild is not worth: all the others
            log.exception("Shard %d: %s from the image", shard, kind, extra={"SHARD": shard})

    def _take(self, image: ShardImage, event: Event) -> None:
        if self.over:
            raise RuntimeError(_OVER)
        image.take((event,))
        if event.type == "READY":
            self._unknown.discard(event.shard)
            self._forget(event)
        self.take(event.shard, event.type, event.seq, event.body)
        # After the first steps of the tasks that the library has just made.
        asyncio.get_running_loop().call_soon(self.commands.taken, event)

    def _forget(self, ready: Event) -> None:
        """A new session: what the bot was removed from meanwhile, nobody told."""
        there = {guild.id for guild in ready.parsed(_Ready).guilds}
        for guild in set(self.guilds_of(ready.shard)) - there:
            gone = msgspec.json.encode({"id": str(guild)})
            self.take(ready.shard, "GUILD_DELETE", ready.seq, gone)

    def _ended(self, task: asyncio.Task[Any], what: str) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: %s", what, error, exc_info=error)
