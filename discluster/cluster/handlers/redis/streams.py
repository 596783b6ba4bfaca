# SPDX-License-Identifier: Apache-2.0
"""Redis Streams: an event as an XADD, and what its reply says (Redis: Commands, XADD). No I/O."""

from collections.abc import Mapping, Sequence
from typing import Final

from discluster.cluster.handlers.publishing.broker import Refusal
from discluster.cluster.handlers.publishing.naming import Naming
from discluster.cluster.handlers.redis import wire
from discluster.gateway.events import Event

_HINTS: Final[Mapping[str, str]] = {
    "OOM": "Redis is at its maxmemory: give it more, or lower 'redis.length' in cluster.yaml",
    "MISCONF": "Redis cannot write to its disk",
    "READONLY": "this is a replica: name the primary as 'redis.server' in cluster.yaml",
    "MOVED": "Redis Cluster is not supported: name one server that has all keys",
    "WRONGTYPE": "a key of this name is no stream: choose another 'redis.stream' in cluster.yaml",
    "NOPERM": "the user needs the command XADD on these keys",
    "NOAUTH": "put a password, or USER:PASSWORD, into the credential discluster.redis",
    "WRONGPASS": "see the credential discluster.redis: a password, or USER:PASSWORD",
}


class StreamEncoder:
    """Events as ``XADD STREAM:TYPE * id ID shard SHARD seq SEQ d BODY``."""

    def __init__(self, *, stream: str, length: int, naming: Naming) -> None:
        """``length``: of each stream, about; 0: not limited."""
        self._stream = stream.encode()
        self._naming = naming
        limit = (b"MAXLEN", b"~", b"%d" % length) if length else ()
        self._count = 11 + len(limit)
        self._before_id = b"".join(_bulk(word) for word in (*limit, b"*", b"id"))
        self._keys: dict[bytes, bytes] = {}

    def encode(self, events: Sequence[Event], first: int) -> list[bytes]:
        """See publishing.handler.Encoder."""
        naming = self._naming
        messages: list[bytes] = []
        session: str | None = None  # of the event before: nearly always the same
        prefix = b""
        for event in events:
            if event.session_id is not session:
                session, prefix = event.session_id, naming.prefix(event)
            ident = b"%b%d" % (prefix, event.seq)
            shard, seq, body = b"%d" % event.shard, b"%d" % event.seq, bytes(event.body)
            messages.append(
                b"%b$%d\r\n%b\r\n$5\r\nshard\r\n$%d\r\n%b\r\n$3\r\nseq\r\n$%d\r\n%b\r\n"
                b"$1\r\nd\r\n$%d\r\n%b\r\n"
                % (
                    *(self._head(naming.type_of(event)), len(ident), ident),
                    *(len(shard), shard, len(seq), seq, len(body), body),
                )
            )
        return messages

    def _head(self, kind: bytes) -> bytes:
        """Up to the value of ``id``."""
        known = self._keys.get(kind)
        if known is None:
            key = b"%b:%b" % (self._stream, kind)
            known = b"*%d\r\n%b%b%b" % (self._count, _bulk(b"XADD"), _bulk(key), self._before_id)
            if len(self._keys) < 1_000:
                self._keys[kind] = known
        return known


def _bulk(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)


def refusal(reply: wire.Reply, number: int) -> Refusal | None:
    """What the reply to an XADD says of message ``number``. None: it is in the stream."""
    if isinstance(reply, bytes):
        return None
    if isinstance(reply, wire.Error):
        return Refusal(number=number, reason=reply.text, hint=_HINTS.get(reply.code))
    return Refusal(number=number, reason="a reply that XADD does not give")


def hint(error: wire.Error) -> str | None:
    """What to do about ``error``."""
    return _HINTS.get(error.code)
