# SPDX-License-Identifier: Apache-2.0
"""One WebSocket of a bot: frames in, acts done, events out as fast as it takes them."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from discluster.cluster.local import frames
from discluster.cluster.local.delivery import Delivery
from discluster.cluster.local.dialogue import (
    Acknowledge,
    Act,
    Begin,
    Close,
    Continue,
    Dialogue,
    Say,
    Send,
)
from discluster.cluster.local.feed import Feed
from discluster.cluster.local.frames import ClientFrameError, ClientFrames, Frame
from discluster.cluster.local.front import Upgrade
from discluster.cluster.local.requests import Identify, Resume
from discluster.decoding import legible
from discluster.gateway.commands import MAXIMUM_PAYLOAD, Command
from discluster.gateway.frames import CLOSE, PING, PONG

CHUNK: Final = 256 * 1024
"""Bytes that are made at a time; a socket holds four of them at most."""

_UNREAD: Final = 16 * CHUNK
_CLOSING: Final = 2.0  # seconds for a client's own close frame
_STUCK: Final = 60.0  # seconds
_ORDERS: Final = 500  # commands that wait for Discord's limits


class Host(Protocol):
    """What a bot's connection needs from the gateway."""

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def answer(self, bot: "Bot") -> None:
        """``bot.waiting`` is to be answered, now or later."""
        ...

    def progressed(self, feed: Feed) -> None:
        """A client of ``feed`` has acknowledged something, or is gone."""
        ...

    def refused(self, bot: "Bot", text: str) -> None:
        """It is sent away, for a reason that the log is to tell."""
        ...

    def send(self, shard: int, command: Command) -> asyncio.Task[None]:
        """Sends to Discord; the task fails with nothing."""
        ...


class Bot:
    """``waiting``: an IDENTIFY or RESUME that is not answered yet, ``waiting_since`` when it came.
    ``feed``: that it is fed from, with ``delivery``.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        upgrade: Upgrade,
        *,
        dialogue: Dialogue,
        host: Host,
        known: Callable[[], None],
    ) -> None:
        """``known``: called when it has shown a right token."""
        self.client = upgrade.client
        self.url = upgrade.url
        self.encoder = upgrade.encoder
        self.transport = transport
        self.dialogue = dialogue
        self.waiting: Identify | Resume | None = None
        self.waiting_since = 0.0
        self.feed: Feed | None = None
        self.delivery: Delivery | None = None
        self._host = host
        self._known = known
        self._frames = ClientFrames(limit=MAXIMUM_PAYLOAD)
        self._paused = False
        self._closing: float | None = None  # since when
        self._orders: set[asyncio.Task[None]] = set()
        transport.write(upgrade.head)
        self._do(dialogue.greeting())

    # --- from the client ---

    def received(self, data: bytes) -> None:
        """The next bytes of its stream."""
        try:
            for frame in self._frames.feed(data):
                self._take(frame)
        except ClientFrameError as error:
            self.close(error.close, error.message)
            self.transport.close()
        if self._paused and self.transport.get_write_buffer_size() > _UNREAD:
            self.transport.abort()  # it talks, and does not listen to the answers

    def _take(self, frame: Frame) -> None:
        if frame.opcode == CLOSE:
            if self._closing is None:
                code = frame.data[:2] if len(frame.data) > 1 else b""
                self.transport.write(frames.encode(CLOSE, code))
            self.transport.close()
            self._closing = self._host.now()
        elif self._closing is not None:
            return
        elif frame.opcode == PING:
            if not self._paused:  # who does not read gets no pongs
                self.transport.write(frames.encode(PONG, frame.data))
        elif frame.opcode != PONG:
            for act in self.dialogue.hear(frame.data, self._host.now()):
                self._do(act)

    def _do(self, act: Act) -> None:
        match act:
            case Say(payload):
                self._write(self.encoder.say(payload))
            case Close(code, reason):
                self.close(code, reason)
            case Acknowledge(seq):
                self._acknowledged(seq)
            case Begin(request) | Continue(request):
                self._known()
                self.waiting, self.waiting_since = request, self._host.now()
                self._host.answer(self)
            case Send(command):
                self._order(command)

    def _acknowledged(self, seq: int) -> None:
        if self.feed is not None and self.delivery is not None:
            reached = self.delivery.confirm(seq, self._host.now())
            self.feed.log.acknowledged(self.client, reached)
            self._host.progressed(self.feed)

    def _order(self, command: Command) -> None:
        if self.feed is None:
            return
        if len(self._orders) >= _ORDERS:
            self.close(4008, "Rate limited: too many commands wait for Discord's limits")
            return
        task = self._host.send(self.feed.shard, command)
        self._orders.add(task)
        task.add_done_callback(self._orders.discard)

    # --- to the client ---

    def attach(self, feed: Feed, delivery: Delivery) -> None:
        """Its request is answered: ``delivery`` goes out from now on."""
        request, self.waiting = self.waiting, None
        self.leave()
        self.feed, self.delivery = feed, delivery
        feed.guests[self] = None
        feed.log.attach(self.client)
        self.pump()
        if isinstance(request, Identify) and request.presence is not None:
            self._order(request.presence)

    def invalid(self) -> None:
        """It has no session, or none any more."""
        self.waiting = None
        self.leave()
        self._do(self.dialogue.invalid())

    def pump(self) -> None:
        """Writes what there is, as long as the client takes it."""
        delivery, now = self.delivery, self._host.now()
        while delivery is not None and not self._paused and self._closing is None:
            text = delivery.more(CHUNK, now)
            if not text:
                if delivery.finished:
                    self.invalid()
                return
            self._write(text)

    def finish(self) -> None:
        """See feed.Guest."""
        if self.delivery is not None:
            self.delivery.finish()

    def pause(self) -> None:
        """The client takes less than it gets."""
        self._paused = True

    def resume(self) -> None:
        """It takes more again."""
        self._paused = False
        self.pump()

    def ask(self, *, urgent: bool = False) -> None:
        """For an acknowledgement, where anything is owed."""
        if self.delivery is None or not self.delivery.owed:
            return
        if say := self.dialogue.ask(self._host.now(), urgent=urgent):
            self._do(say)

    def tick(self, now: float) -> None:
        """To be called some times a second."""
        if self._closing is not None:
            if now - self._closing > _CLOSING:
                self.transport.abort()
            return
        delivery = self.delivery
        owed, since = (delivery.owed, delivery.since) if delivery is not None else (0, now)
        if owed and now - since > _STUCK:
            self.close(4000, f"Nothing was acknowledged for {_STUCK:g} seconds")
        elif act := self.dialogue.tick(now, owed=owed, since=since):
            self._do(act)

    # --- the end ---

    def close(self, code: int, reason: str) -> None:
        """Says goodbye; nothing follows."""
        if self._closing is not None or self.transport.is_closing():
            return
        self._host.refused(self, f"{code} {legible(reason)}")
        self.leave()
        self.waiting = None
        self._write(frames.close_frame(code, reason))
        self._closing = self._host.now()

    def leave(self) -> None:
        """It is fed no more. May be called again."""
        feed, self.feed, self.delivery = self.feed, None, None
        for task in tuple(self._orders):
            task.cancel()
        if feed is not None and feed.guests.pop(self, self) is None:
            feed.log.detach(self.client)
            self._host.progressed(feed)

    def _write(self, data: bytes | memoryview) -> None:
        if self._closing is None and not self.transport.is_closing():
            self.transport.write(data)
