# SPDX-License-Identifier: Apache-2.0
"""The local gateway of one cluster: its shards' feeds, the bots at them, and the time that passes.

Everything happens in the event loop. What comes of Discord is passed on where it comes in; what
waits for something is looked at again when that comes, and some times a second.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from discluster.clock import Clock, at_most
from discluster.cluster.handlers import Commands
from discluster.cluster.images import Images
from discluster.cluster.local.bot import Bot
from discluster.cluster.local.dialogue import Dialogue
from discluster.cluster.local.feed import Feed, Wish
from discluster.cluster.local.front import Upgrade
from discluster.cluster.local.judging import Facts, not_here
from discluster.cluster.local.keeping import Keeping
from discluster.cluster.local.lost import LossWatch
from discluster.cluster.local.payloads import intents_in
from discluster.cluster.local.requests import Identify, Resume
from discluster.cluster.local.settings import Unknown
from discluster.errors import CommandError, NotSentError
from discluster.gateway.commands import Command
from discluster.gateway.events import LATER, Event, Later
from discluster.secret import Secret

log = logging.getLogger(__name__)

TICK: Final = 0.25  # seconds
_TICKS_OF_A_TIDYING: Final = 240
HELD: Final = 10.0
"""Seconds that a bot waits for a shard that is not here yet."""

_AFTER_A_FAULT: Final = 5.0  # seconds
_REFUSALS_EVERY: Final = 1.0  # seconds; of those who have shown no token
_FLUSHED: Final = 2.0  # seconds for acknowledgements when a shard leaves
_LEAVES: Final = (4000, "The shard leaves this cluster")
_RENEWED: Final = "a bot identifies, and this cluster does not know the guilds of the session"


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What bots find. ``tokens``: each of them opens. ``interval``: of heartbeats, seconds."""

    clients: tuple[str, ...]
    tokens: tuple[Secret, ...]
    interval: float
    when_unknown: Unknown


class LocalGateway:
    """See the module. Implements ``bot.Host``."""

    def __init__(
        self,
        *,
        terms: Terms,
        commands: Commands,
        keeping: Keeping,
        images: Images,
        clock: Clock,
    ) -> None:
        self._terms = terms
        self._commands = commands
        self._keeping = keeping
        self._images = images
        self._clock = clock
        self._feeds: dict[int, Feed] = {}
        self._bots: dict[Bot, None] = {}
        self._room = asyncio.Event()
        self._acknowledged = asyncio.Event()
        self._refused_at = float("-inf")
        self._losses = LossWatch(keeping.losses, clients=terms.clients, clock=clock)

    # --- from Discord ---

    def take(self, events: Sequence[Event]) -> Later | asyncio.Task[Later]:
        """Events of one shard; what is returned holds the shard back if bots are behind."""
        first = events[0]
        feed = self._feeds.get(first.shard)
        if feed is None:
            feed = self._open(first)
        if feed.take(events):
            self._news()
        self._release(feed)
        if self._keeping.full:
            return asyncio.create_task(self._wait_for_room(), name="room for events")
        return LATER

    def _open(self, first: Event) -> Feed:
        shard = first.shard
        image = self._images.open(shard, session_id=first.session_id, seq=first.seq - 1)
        feed = self._feeds[shard] = Feed(shard, log=self._keeping.open(shard), image=image)
        return feed

    def _release(self, feed: Feed) -> None:
        if (event := feed.log.release()) is not None:
            self._commands.taken(event)

    async def _wait_for_room(self) -> Later:
        for bot in tuple(self._bots):
            bot.ask()
        while self._keeping.full:
            self._room.clear()
            await self._room.wait()
        return LATER

    async def flush(self, shard: int) -> None:
        """``shard`` leaves: what bots have, they may say; then they are sent away."""
        feed = self._feeds.get(shard)
        if feed is None:
            return
        try:
            await self._last_words(feed)
        finally:  # also where the cluster has no patience for that
            self._release(feed)
            for bot in self._at(feed):
                bot.close(*_LEAVES)
            del self._feeds[shard]
            self._keeping.close(shard)
            self._images.close(shard)

    async def _last_words(self, feed: Feed) -> None:
        """Until the bots of ``feed`` have acknowledged what they got, or for a moment."""
        for bot in self._at(feed):
            bot.ask(urgent=True)
        deadline = self._clock.monotonic() + _FLUSHED
        while any(bot.delivery is not None and bot.delivery.owed for bot in self._at(feed)):
            self._acknowledged.clear()
            left = deadline - self._clock.monotonic()
            if not await at_most(left, self._acknowledged.wait(), clock=self._clock):
                break

    def _at(self, feed: Feed) -> list[Bot]:
        return [bot for bot in self._bots if bot.feed is feed]

    # --- bots ---

    def opened(
        self, transport: asyncio.Transport, upgrade: Upgrade, known: Callable[[], None]
    ) -> Bot:
        """A bot has connected; ``known`` is called when it has shown a token."""
        dialogue = Dialogue(
            tokens=self._terms.tokens,
            facts=self.facts,
            interval=self._terms.interval,
            now=self.now(),
        )
        bot = Bot(transport, upgrade, dialogue=dialogue, host=self, known=known)
        self._bots[bot] = None
        return bot

    def closed(self, bot: Bot) -> None:
        """Its connection is gone."""
        self._bots.pop(bot, None)
        bot.leave()

    def facts(self) -> Facts:
        """What can be asked for now."""
        commands = self._commands
        return Facts(
            shard_count=commands.shard_count, shards=commands.shards, intents=commands.intents
        )

    def now(self) -> float:
        return self._clock.monotonic()

    def progressed(self, feed: Feed) -> None:
        self._release(feed)
        self._acknowledged.set()
        if not self._keeping.full:
            self._room.set()

    def answer(self, bot: Bot) -> None:
        match bot.waiting:
            case Identify() as identify:
                self._begin(bot, identify)
            case Resume() as resume:
                self._continue(bot, resume)

    def _begin(self, bot: Bot, identify: Identify) -> None:
        feed = self._feeds.get(identify.shard[0])
        if feed is None or not feed.settled:
            return
        if not feed.image.complete:
            self._unknown(feed)
            return
        wish = self._wish(bot, identify.intents)
        bot.attach(feed, feed.begin(wish, shard_count=identify.shard[1], now=self.now()))

    def _wish(self, bot: Bot, intents: int) -> Wish:
        return Wish(
            client=bot.client,
            url=bot.url,
            encoder=bot.encoder,
            intents=intents,
            of=self._commands.intents,
        )

    def _unknown(self, feed: Feed) -> None:
        if feed.renewing:
            return
        feed.renewing = True
        renews = self._terms.when_unknown == "identify"
        log.warning(
            "Shard %d: %s; %s",
            feed.shard,
            _RENEWED,
            "it gets a new one" if renews else "the bot waits, as 'when_unknown' says",
            extra={"SHARD": feed.shard},
        )
        if renews:
            self._commands.renew(feed.shard, _RENEWED)

    def _continue(self, bot: Bot, resume: Resume) -> None:
        intents = intents_in(resume.session_id)
        if intents is None:
            bot.invalid()
            return
        wish = self._wish(bot, intents)
        for feed in self._feeds.values():
            if feed.name(wish) == resume.session_id:
                if not feed.settled:
                    return
                delivery = feed.resume(wish, resume.seq, now=self.now())
                bot.invalid() if delivery is None else bot.attach(feed, delivery)
                return
        settled = {shard for shard, feed in self._feeds.items() if feed.settled}
        if settled.issuperset(self._commands.shards) and self._commands.shards:
            bot.invalid()

    def _news(self) -> None:
        for bot in tuple(self._bots):
            self.answer(bot)

    def refused(self, bot: Bot, text: str) -> None:
        # Strangers may come as often as they like.
        now = self.now()
        if bot.dialogue.authenticated or now - self._refused_at >= _REFUSALS_EVERY:
            self._refused_at = now
            log.info("a connection of %s is closed: %s", bot.client, text)

    def send(self, shard: int, command: Command) -> asyncio.Task[None]:
        return asyncio.create_task(self._send(shard, command))

    async def _send(self, shard: int, command: Command) -> None:
        try:
            await self._commands.send(shard, command)
        except (CommandError, NotSentError) as error:
            log.warning("Shard %d: a bot's command: %s", shard, error.render())

    # --- time ---

    async def run(self) -> None:
        """Until it is cancelled."""
        ticks = 0
        while True:
            await self._clock.sleep(TICK)
            ticks += 1
            try:
                self.tick()
                if ticks % _TICKS_OF_A_TIDYING == 0:
                    self._images.tidy()
            except Exception:  # a fault of ours must not end the beats of all bots
                log.exception("the local gateway failed at a tick")
                await self._clock.sleep(_AFTER_A_FAULT)

    def tick(self) -> None:
        """What time has brought."""
        now = self.now()
        self._keeping.expire()
        for feed in self._feeds.values():
            self.progressed(feed)
        for bot in tuple(self._bots):
            bot.tick(now)
            self._tire(bot, now)
        self._losses.tell()

    def _tire(self, bot: Bot, now: float) -> None:
        """A bot that waits for a shard that does not come."""
        if bot.waiting is None or now - bot.waiting_since < HELD:
            return
        if isinstance(bot.waiting, Resume):
            bot.invalid()
        elif (feed := self._feeds.get(bot.waiting.shard[0])) is None or not feed.settled:
            refusal = not_here(bot.waiting.shard[0], self.facts())
            bot.close(refusal.code, refusal.reason)

    # --- what is told ---

    def summary(self) -> str:
        """Who is there, what is kept, what was lost."""
        count = len(self._commands.shards)
        fed = {client: set[int]() for client in self._terms.clients}
        for bot in self._bots:
            if bot.feed is not None:
                fed[bot.client].add(bot.feed.shard)
        told = [f"{client} on {len(shards)} of {count} shards" for client, shards in fed.items()]
        kept = max(
            (sum(feed.log.owed(client) for feed in self._feeds.values()) for client in fed),
            default=0,
        )
        lost = self._keeping.losses.total
        told.append(f"{kept} events kept, {lost} lost")
        if left_out := self._images.left_out:
            told.append(f"{left_out} guilds are beyond image_size")
        return ", ".join(told)

    def problem(self, shard: int) -> str | None:
        """What is wrong at ``shard``, in words."""
        feed = self._feeds.get(shard)
        if feed is not None and self._keeping.full:
            return "a bot does not take its events in time; it is held back"
        if feed is not None and feed.renewing and self._terms.when_unknown == "wait":
            return "its guilds are not known, and 'when_unknown' lets bots wait for a new session"
        if feed is not None and feed.image.left_out:
            return f"{feed.image.left_out} guilds are beyond 'image_size'; bots get them late"
        if self._images.in_trouble:
            return "what is known of its guilds cannot be written to the disk; see the journal"
        return self._losses.recent()

    def shut(self) -> None:
        """The cluster ends; whoever is still there is sent away."""
        for bot in tuple(self._bots):
            bot.close(4000, "The cluster ends")
