# SPDX-License-Identifier: Apache-2.0
"""One shard: what comes of it, what is known of it, and who is fed with it."""

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any, Final, Protocol

import msgspec

from discluster.cluster.images.image import ShardImage
from discluster.cluster.local import payloads
from discluster.cluster.local.delivery import Delivery
from discluster.cluster.local.encoding import Encoder
from discluster.cluster.local.interests import unwanted
from discluster.cluster.local.log import UNKEPT, EventLog
from discluster.gateway.events import Event

_type: Final = attrgetter("type")


class Guest(Protocol):
    """A connection that is fed."""

    def pump(self) -> None:
        """There may be something more."""
        ...

    def finish(self) -> None:
        """Its session is over: what the log has now is the last of it."""
        ...


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """How a client wants to be fed. ``url``: where it is to resume. ``intents``: its own, ``of``
    those of the cluster.
    """

    client: str
    url: str
    encoder: Encoder
    intents: int
    of: int


class Feed:
    """``settled``: READY or RESUMED came, so that nothing older follows. ``guests``: who is fed.
    ``renewing``: a new session was asked for.
    """

    def __init__(self, shard: int, *, log: EventLog, image: ShardImage) -> None:
        self.shard = shard
        self.log = log
        self.image = image
        self.settled = self.renewing = False
        self.guests: dict[Guest, None] = {}

    def take(self, events: Sequence[Event]) -> bool:
        """Events of the shard in their order. Whether there is news for those who wait for it."""
        self.image.take(events)
        news = not UNKEPT.isdisjoint(map(_type, events))
        if news:
            events = self._begun(events)
            self.settled = True
        self.log.extend(events)
        for guest in tuple(self.guests):
            guest.pump()
        return news

    def _begun(self, events: Sequence[Event]) -> Sequence[Event]:
        """What of ``events`` is of the newest session; those before it were owed to the guests of
        the one before, whose session is over.
        """
        begins = [index for index, event in enumerate(events) if event.type == "READY"]
        if not begins:
            return events
        self.renewing = False
        self.log.extend(events[: begins[-1]])
        for guest in tuple(self.guests):
            guest.finish()
        return events[begins[-1] :]

    def name(self, wish: Wish) -> str:
        """What the client calls the session."""
        return payloads.session_name(
            self.log.session_id or "",
            base=self.log.base,
            client=wish.client,
            intents=wish.intents,
        )

    def begin(self, wish: Wish, *, shard_count: int, now: float) -> Delivery:
        """Answers an IDENTIFY: the image, and what the client has not acknowledged. Only if
        ``image.complete``.
        """
        after = self.log.acknowledged_by(wish.client)
        image = self._pictured(wish, shard_count, max(1, after))
        return self._delivery(wish, after=after, image=image, now=now)

    def resume(self, wish: Wish, seq: int, *, now: float) -> Delivery | None:
        """Answers a RESUME of this session; None: what the client lacks is not here any more."""
        if seq > self.log.last or not self.log.resume(wish.client, seq):
            return None
        return self._delivery(wish, after=seq, resumes=True, now=now)

    def _delivery(self, wish: Wish, **how: Any) -> Delivery:
        without = unwanted(wish.intents, of=wish.of)
        return Delivery(self.log, encoder=wish.encoder, without=without, **how)

    def _pictured(self, wish: Wish, shard_count: int, seq: int) -> Iterator[bytes]:
        ready = self.image.ready(
            session_id=self.name(wish),
            resume_gateway_url=wish.url,
            shard=self.shard,
            shard_count=shard_count,
        )
        yield payloads.dispatch("READY", seq, ready)
        for guild in self.image.guilds():
            yield payloads.dispatch(guild.type, seq, guild.body)
