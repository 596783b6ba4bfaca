# SPDX-License-Identifier: Apache-2.0
"""One connection to the local gateway: an HTTP request, then maybe a WebSocket."""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

from discluster.cluster.local import head
from discluster.cluster.local.bot import CHUNK, Bot
from discluster.cluster.local.front import Upgrade
from discluster.cluster.local.head import HeadError, Request

Answer = Callable[[Request], bytes | Upgrade]
Open = Callable[[asyncio.Transport, Upgrade], Bot]


class Link(asyncio.Protocol):
    """Bounds on strangers are those of the Reception in front of it."""

    def __init__(self, *, answer: Answer, opened: Open, closed: Callable[[Bot], None]) -> None:
        """``answer``: see Front; raises HeadError. ``opened``: makes the bot of an upgrade;
        ``closed``: its connection is gone.
        """
        self._answer = answer
        self._opened = opened
        self._closed = closed
        self._head = b""
        self._bot: Bot | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=4 * CHUNK, low=CHUNK)

    def data_received(self, data: bytes) -> None:
        if self._bot is not None:
            self._bot.received(data)
        elif self._transport is not None and not self._transport.is_closing():
            self._head += data
            self._look(self._transport)

    def _look(self, transport: asyncio.Transport) -> None:
        try:
            request = head.read_request(self._head)
            answer = None if request is None else self._answer(request)
        except HeadError as error:
            answer, request = _refusal(error), None
        if answer is None:
            return
        self._head = b""
        if isinstance(answer, bytes):
            transport.write(answer)
            transport.close()
            return
        self._bot = self._opened(transport, answer)
        if request is not None and request.rest:
            self._bot.received(request.rest)

    def pause_writing(self) -> None:
        if self._bot is not None:
            self._bot.pause()

    def resume_writing(self) -> None:
        if self._bot is not None:
            self._bot.resume()

    def connection_lost(self, error: Exception | None) -> None:
        bot, self._bot, self._transport = self._bot, None, None
        if bot is not None:
            self._closed(bot)


def _refusal(error: HeadError) -> bytes:
    """As Discord's API words errors."""
    status = HTTPStatus(error.status)
    return head.answer(status, {"message": error.message, "code": 0})
