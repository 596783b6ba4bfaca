# SPDX-License-Identifier: Apache-2.0
"""A connection to a NATS server, from its INFO to what JetStream answers."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import msgspec

from discluster import __version__
from discluster.cluster.handlers.nats import jetstream, wire
from discluster.cluster.handlers.nats.settings import NatsSettings
from discluster.cluster.handlers.publishing.broker import Answers, BrokerError, Refusal
from discluster.cluster.handlers.publishing.pipe import Address, Pipe
from discluster.secret import Secret

F = TypeVar("F", bound=wire.Frame)

_CREDENTIAL_HINT: Final = (
    "put USER:PASSWORD, or a token, into the credential discluster.nats: docs/brokers.md"
)


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """``name``: what the server shows of us. ``inbox``: where answers shall come, at
    ``INBOX.NUMBER``. ``secret``: USER:PASSWORD or a token.
    """

    settings: NatsSettings
    name: str
    inbox: bytes
    secret: Secret | None
    context: ssl.SSLContext


async def connect(
    address: Address, login: Login, *, smaller: Callable[[bytes], bytes]
) -> "NatsConnection":
    """Logs in, and makes the stream if it shall. ``smaller``: see Broker.

    Raises:
        BrokerError: in vain.
    """
    limit = login.settings.connect_limit
    pipe: Pipe | None = None
    try:
        async with asyncio.timeout(limit):
            pipe = await Pipe.open(address, None)
            frames, info = await _log_in(pipe, address, login)
            return NatsConnection(pipe, frames, info, login, smaller)
    except BaseException as error:
        if pipe is not None:
            await pipe.close()
        if isinstance(error, TimeoutError):
            raise BrokerError(f"{address}: no answer within {limit:g} seconds") from None
        raise


async def _log_in(pipe: Pipe, address: Address, login: Login) -> tuple["_Frames", wire.Info]:
    frames = _Frames(pipe)
    info = await frames.first(wire.Info)
    if not info.headers:
        raise BrokerError(f"{address}: the server knows no headers", hint="NATS 2.2 or later")
    tls = address.tls or info.tls_required
    if tls:
        if not (info.tls_required or info.tls_available):
            raise BrokerError(f"{address}: the server does not offer TLS", hint="or use nats://")
        await pipe.start_tls(login.context)
    pipe.write(
        wire.connect(_options(login, tls=tls)) + wire.subscribe(login.inbox + b".*") + wire.PING
    )
    await frames.first(wire.Pong)
    stream = login.settings.stream
    if stream.create is not None:
        subject, body = jetstream.create_request(stream, subject=login.settings.subject)
        pipe.write(wire.request(subject, login.inbox + b".stream", body))
        jetstream.check_created(await frames.first(wire.Delivery), name=stream.create)
    return frames, info


def _options(login: Login, *, tls: bool) -> wire.Connect:
    user = password = token = None
    if login.secret is not None:
        secret = login.secret.reveal()
        user, colon, password = secret.partition(":")
        if not colon:
            user, password, token = None, None, secret
    return wire.Connect(
        verbose=False,
        pedantic=False,
        headers=True,
        no_responders=True,
        tls_required=tls,
        lang="python",
        version=__version__,
        name=login.name,
        user=user,
        password=password,
        auth_token=token,
    )


class _Frames:
    """Frames as they come; the server's pings are answered on the way."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._reader = wire.Reader()
        self._ahead: list[wire.Frame] = []

    async def some(self) -> list[wire.Frame]:
        """Of the next read; may be none.

        Raises:
            BrokerError: the connection is lost, or the server says that something is wrong.
        """
        if self._ahead:
            ahead, self._ahead = self._ahead, []
            return ahead
        try:
            frames = self._reader.feed(await self._pipe.read())
        except wire.NatsProtocolError as error:
            raise BrokerError(f"it does not speak NATS's protocol: {error.message}") from None
        for frame in frames:
            if isinstance(frame, wire.Ping):
                self._pipe.write(wire.PONG)
            elif isinstance(frame, wire.Failed):
                raise _failure(frame)
        return frames

    async def first(self, kind: type[F]) -> F:
        """The next one of ``kind``; those before it are passed over. Raises BrokerError."""
        while True:
            frames = await self.some()
            for index, frame in enumerate(frames):
                if isinstance(frame, kind):
                    self._ahead = frames[index + 1 :]
                    return frame


def _failure(frame: wire.Failed) -> BrokerError:
    ours = "authori" in frame.reason.lower() or "authentication" in frame.reason.lower()
    return BrokerError(f"the server says: {frame.reason}", hint=_CREDENTIAL_HINT if ours else None)


class NatsConnection:
    """Implements ``publishing.broker.Connection``."""

    def __init__(
        self,
        pipe: Pipe,
        frames: _Frames,
        info: wire.Info,
        login: Login,
        smaller: Callable[[bytes], bytes],
    ) -> None:
        self._pipe = pipe
        self._frames = frames
        self._smaller = smaller
        self._subject = login.settings.subject
        self._prefix = len(login.inbox) + 1
        self._max_payload = info.max_payload

    def write(self, numbers: Sequence[int], messages: Sequence[bytes]) -> None:
        if max(map(len, messages)) > self._max_payload:
            messages = [self._fitting(message) for message in messages]
        self._pipe.write(b"".join(messages))

    async def answers(self) -> Answers:
        stored: list[int] = []
        refused: list[Refusal] = []
        for frame in await self._frames.some():
            if type(frame) is wire.Delivery:
                self._take(frame, stored, refused)
            elif isinstance(frame, wire.Info):
                self._max_payload = frame.max_payload
        return Answers(stored, refused)

    def ping(self) -> None:
        self._pipe.write(wire.PING)

    def abort(self, reason: str) -> None:
        self._pipe.abort(reason)

    async def close(self) -> None:
        await self._pipe.close()

    def _take(self, frame: wire.Delivery, stored: list[int], refused: list[Refusal]) -> None:
        word = frame.subject[self._prefix :]
        if not word.isdigit() or len(word) > 18:
            return
        number = int(word)
        refusal = jetstream.judge(frame, number, subject=self._subject)
        if refusal is None:
            stored.append(number)
        else:
            refused.append(refusal)

    def _fitting(self, message: bytes) -> bytes:
        """The server would close the connection for one beyond its ``max_payload``."""
        if wire.payload_size(message) <= self._max_payload:
            return message
        return self._smaller(message)
