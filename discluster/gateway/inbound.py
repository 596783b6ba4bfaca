# SPDX-License-Identifier: Apache-2.0
"""From the messages of one WebSocket to payloads.

One message is one payload in all traffic that was ever captured, and that is the fast path.
Discord's documentation promises it for zstd-stream only, so with zlib-stream a message may also
hold several payloads, or end in the middle of one.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from discluster.gateway.compression import MAXIMUM_PAYLOAD, StreamError, corrupt, inflater
from discluster.gateway.envelope import (
    DECODE_ERRORS,
    DISPATCH,
    Envelope,
    MalformedError,
    decode,
    parse,
    reason_of,
    split,
)
from discluster.gateway.identity import Compression
from discluster.gateway.sockets import Message

MALFORMED_LIMIT: Final = 5  # in a row
_RUN: Final = 64 * 1024  # bytes of text: some dozens of payloads, or one that is large

_log = logging.getLogger(__name__)


class Inbound:
    """The receiving side of one connection; nothing of it outlives the connection."""

    __slots__ = ("_carries", "_inflate", "_limit", "_malformed", "_rest", "_shard", "_shortcut")

    def __init__(
        self, compression: Compression, *, shard: int, limit: int = MAXIMUM_PAYLOAD
    ) -> None:
        stream = inflater(compression, limit=limit)
        self._inflate, self._shortcut = stream.feed, stream.shortcut
        self._carries = compression == "zlib-stream"
        self._limit = limit
        self._rest = b""  # the beginning of a payload
        self._malformed = 0  # in a row
        self._shard = shard

    def feed(self, messages: Iterable[Message]) -> Iterator[list[Envelope]]:
        """The payloads that ``messages`` complete, in runs: dispatches only, or one of anything
        else. Malformed ones are left out. Nothing is inflated before it is asked for.

        Raises:
            StreamError: the connection cannot be read any further.
        """
        shortcut = self._shortcut
        inflate, quick, below = self._inflate, shortcut.call, shortcut.below
        failure: StreamError | None = None
        run: list[Envelope] = []
        size, clean = 0, not (self._malformed or self._rest)
        try:
            for message in messages:
                if type(message) is not bytes:
                    text = message
                elif len(message) < below:
                    text = quick(message)
                else:
                    text = inflate(message)
                try:
                    envelope = decode(text)
                except DECODE_ERRORS as error:
                    yield run
                    for envelope in self._unusual(text, error):
                        yield [envelope]
                    run, size, clean = [], 0, False
                    continue
                if not clean:
                    self._recovered()
                    clean = True
                if envelope.op != DISPATCH:
                    yield run
                    yield [envelope]
                    run, size = [], 0
                    continue
                run.append(envelope)
                size += len(text)
                if size >= _RUN:
                    yield run
                    run, size = [], 0
        except StreamError as error:
            failure = error
        except shortcut.errors as error:
            failure = corrupt(error)
        yield run
        if failure is not None:
            raise failure

    def _recovered(self) -> None:
        if self._rest:
            # A whole payload does not continue another one: the rest was no beginning.
            self._rest = b""
            self._count_malformed("a payload was cut off")
        self._malformed = 0

    def _unusual(self, text: Message, error: Exception) -> Sequence[Envelope]:
        """Of a message that is not one whole payload."""
        if not text:
            return ()  # the message was the beginning of something
        data = text.encode(errors="replace") if isinstance(text, str) else bytes(text)
        reason = reason_of(error)
        payloads, rest = split(self._rest + data)
        envelopes: list[Envelope] = []
        for payload in payloads:
            try:
                envelopes.append(parse(payload))
                self._malformed = 0
            except MalformedError as error:
                self._count_malformed(str(error))
        self._keep(rest, reason)
        return envelopes

    def _keep(self, rest: bytes, reason: str) -> None:
        self._rest = b""
        if not rest:
            return
        if not self._carries or not rest.startswith(b"{"):
            self._count_malformed(reason)
        elif len(rest) > self._limit:
            raise StreamError(f"a payload is larger than {self._limit >> 20} MiB")
        else:
            self._rest = rest

    def _count_malformed(self, reason: str) -> None:
        self._malformed += 1
        _log.warning(
            "Shard %d: Discord sent a payload that cannot be read: %s",
            self._shard,
            reason,
            extra={"SHARD": self._shard},
        )
        if self._malformed >= MALFORMED_LIMIT:
            raise StreamError(f"{MALFORMED_LIMIT} payloads in a row cannot be read")
