# SPDX-License-Identifier: Apache-2.0
"""From the messages of one WebSocket to payloads.

One message is one payload in all traffic that was ever captured, and that is the fast path.
Discord's documentation promises it for zstd-stream only, so with zlib-stream a message may also
hold several payloads, or end in the middle of one.
"""

import logging
from collections.abc import Sequence
from typing import Final

from discluster.gateway.compression import MAXIMUM_PAYLOAD, StreamError, inflater
from discluster.gateway.envelope import Envelope, MalformedError, parse, split
from discluster.gateway.identity import Compression

MALFORMED_LIMIT: Final = 5  # in a row

_log = logging.getLogger(__name__)


class Inbound:
    """The receiving side of one connection; nothing of it outlives the connection."""

    __slots__ = ("_carries", "_inflater", "_limit", "_malformed", "_rest", "_shard")

    def __init__(
        self, compression: Compression, *, shard: int, limit: int = MAXIMUM_PAYLOAD
    ) -> None:
        self._inflater = inflater(compression, limit=limit)
        self._carries = compression == "zlib-stream"
        self._limit = limit
        self._rest = b""  # the beginning of a payload
        self._malformed = 0  # in a row
        self._shard = shard

    def feed(self, message: bytes | str) -> Sequence[Envelope]:
        """The payloads that ``message`` completes. A single malformed one is left out.

        Raises:
            StreamError: the connection cannot be read any further.
        """
        text = self._inflater.feed(message) if isinstance(message, bytes) else message
        if not text:
            return ()
        try:
            envelope = parse(text)
        except MalformedError as error:
            data = text if isinstance(text, bytes) else text.encode(errors="replace")
            return self._unusual(data, str(error))
        if self._rest:
            # A whole payload does not continue another one: the rest was no beginning.
            self._rest = b""
            self._count_malformed("a payload was cut off")
        self._malformed = 0
        return (envelope,)

    def _unusual(self, data: bytes, reason: str) -> Sequence[Envelope]:
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
