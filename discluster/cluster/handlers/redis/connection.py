# SPDX-License-Identifier: Apache-2.0
"""A connection to Redis: replies come in the order of the commands."""

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Final

import msgspec

from discluster.cluster.handlers.publishing.broker import Answers, BrokerError, Refusal
from discluster.cluster.handlers.publishing.pipe import Address, Pipe
from discluster.cluster.handlers.redis import streams, wire
from discluster.cluster.handlers.redis.settings import RedisSettings
from discluster.secret import Secret

log = logging.getLogger(__name__)

_PING: Final = wire.command(b"PING")


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """``name``: what Redis shows of us. ``secret``: PASSWORD or USER:PASSWORD. ``context``: for
    TLS.
    """

    settings: RedisSettings
    name: str
    secret: Secret | None
    context: ssl.SSLContext | None


async def connect(address: Address, login: Login) -> "RedisConnection":
    """Logs in and chooses the database.

    Raises:
        BrokerError: in vain.
    """
    limit = login.settings.connect_limit
    pipe: Pipe | None = None
    try:
        async with asyncio.timeout(limit):
            pipe = await Pipe.open(address, login.context if address.tls else None)
            replies = _Replies(pipe)
            await _log_in(pipe, replies, address, login)
            return RedisConnection(pipe, replies)
    except BaseException as error:
        if pipe is not None:
            await pipe.close()
        if isinstance(error, TimeoutError):
            raise BrokerError(f"{address}: no answer within {limit:g} seconds") from None
        raise


async def _log_in(pipe: Pipe, replies: "_Replies", address: Address, login: Login) -> None:
    words: list[tuple[bytes, ...]] = []
    if login.secret is not None:
        user, colon, password = login.secret.reveal().partition(":")
        who = (user, password) if colon else (user,)
        words.append((b"AUTH", *(part.encode() for part in who)))
    words.append((b"SELECT", b"%d" % login.settings.database))
    pipe.write(b"".join(wire.command(*one) for one in words))
    for one in words:
        reply = await replies.next()
        if isinstance(reply, wire.Error):
            raise BrokerError(
                f"{address}: {one[0].decode()} fails: {reply.text}", hint=streams.hint(reply)
            )
    # A user may be forbidden these, and what they are for can be done without.
    pipe.write(
        wire.command(b"CLIENT", b"SETNAME", login.name.encode())
        + wire.command(b"INFO", b"persistence")
    )
    await replies.next()
    _warn_of_memory_alone(await replies.next())


def _warn_of_memory_alone(reply: wire.Reply) -> None:
    if isinstance(reply, bytes) and wire.infos(reply).get("aof_enabled") == "0":
        log.warning(
            "Redis acknowledges what is in its memory alone: if it is killed, all since its last"
            " snapshot is lost; set 'appendonly yes' in redis.conf"
        )


class _Replies:
    """One after the other."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._reader = wire.Reader()
        self._ahead: deque[wire.Reply] = deque()

    async def some(self) -> list[wire.Reply]:
        """Of the next read; may be none. Raises BrokerError."""
        if self._ahead:
            ahead = list(self._ahead)
            self._ahead.clear()
            return ahead
        try:
            return self._reader.feed(await self._pipe.read())
        except wire.RedisProtocolError as error:
            raise BrokerError(f"it does not speak Redis's protocol: {error.message}") from None

    async def next(self) -> wire.Reply:
        """Raises BrokerError."""
        while not self._ahead:
            self._ahead.extend(await self.some())
        return self._ahead.popleft()


class RedisConnection:
    """Implements ``publishing.broker.Connection``."""

    def __init__(self, pipe: Pipe, replies: _Replies) -> None:
        self._pipe = pipe
        self._replies = replies
        # Numbers of messages, None for a ping, in the order in which they were sent.
        self._asked: deque[int | None] = deque()

    def write(self, numbers: Sequence[int], messages: Sequence[bytes]) -> None:
        self._asked.extend(numbers)
        self._pipe.write(b"".join(messages))

    async def answers(self) -> Answers:
        stored: list[int] = []
        refused: list[Refusal] = []
        asked = self._asked
        for reply in await self._replies.some():
            if not asked:
                raise BrokerError("Redis replies to what it was not asked")
            number = asked.popleft()
            if number is None:
                continue
            if type(reply) is bytes:
                stored.append(number)
            elif (refusal := streams.refusal(reply, number)) is not None:
                refused.append(refusal)
        return Answers(stored, refused)

    def ping(self) -> None:
        self._asked.append(None)
        self._pipe.write(_PING)

    def abort(self, reason: str) -> None:
        self._pipe.abort(reason)

    async def close(self) -> None:
        await self._pipe.close()
