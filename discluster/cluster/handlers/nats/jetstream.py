# SPDX-License-Identifier: Apache-2.0
"""JetStream on top of NATS's protocol: what acknowledges a message, and how a stream is made
(NATS: Reference, NATS Protocols, JetStream API). No I/O.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from discluster.cluster.handlers.nats import wire
from discluster.cluster.handlers.nats.settings import StreamSettings
from discluster.cluster.handlers.publishing.broker import BrokerError, Refusal
from discluster.cluster.handlers.publishing.naming import Naming
from discluster.cluster.handlers.publishing.settings import MEBIBYTE
from discluster.decoding import DECODE_ERRORS, legible
from discluster.gateway.events import Event

LEFT_OUT: Final = b"Discluster-Left-Out"
"""The header of an event whose body was too large: how many bytes it had."""

_TOO_LARGE: Final = 10_054  # "message size exceeds maximum allowed"
_EXISTS: Final = 10_058  # "stream name already in use with a different configuration"
_NANOSECONDS: Final = 1_000_000_000


class ApiError(msgspec.Struct, frozen=True):
    """``err_code``: what exactly; ``code``: as of HTTP."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class PubAck(msgspec.Struct, frozen=True):
    """The answer to a publication. ``stream``: which one has the message."""

    stream: str = ""
    error: ApiError | None = None


_ack: Final = msgspec.json.Decoder(PubAck).decode


def judge(delivery: wire.Delivery, number: int, *, subject: str) -> Refusal | None:
    """What an answer says of message ``number``. None: a stream has it."""
    if delivery.status == wire.NO_RESPONDERS:
        return Refusal(
            number=number,
            reason=f"no stream takes {subject}.>",
            hint=f"make one whose subjects are {subject}.>, or name one in 'nats.stream.create' of"
            " cluster.yaml; JetStream must be enabled on the server and in the account",
        )
    try:
        ack = _ack(delivery.payload)
    except DECODE_ERRORS:
        return Refusal(number=number, reason="an answer that is none of JetStream's")
    if ack.error is not None:
        error = ack.error
        return Refusal(
            number=number,
            reason=f"the stream refuses: {legible(error.description)} ({error.err_code})",
            hint="see 'nats stream info', and the limits of the stream and of the account",
            too_large=error.err_code == _TOO_LARGE,
        )
    if not ack.stream:
        return Refusal(number=number, reason="an answer that names no stream")
    return None


class JetStreamEncoder:
    """Events as HPUB lines, with what JetStream removes duplicates by.

    ``SUBJECT.TYPE.SHARD``: a consumer can take types, or shards, or both, by subject alone; one
    that looks after some shards gets each of them in order.
    """

    def __init__(self, *, subject: str, inbox: bytes, naming: Naming) -> None:
        """``inbox``: answers come at ``INBOX.NUMBER``."""
        self._subject = subject.encode()
        self._inbox = inbox
        self._naming = naming

    def encode(self, events: Sequence[Event], first: int) -> list[bytes]:
        """See publishing.handler.Encoder."""
        naming, subject, inbox = self._naming, self._subject, self._inbox
        messages: list[bytes] = []
        session: str | None = None  # of the event before: nearly always the same
        prefix = b""
        for number, event in enumerate(events, first):
            shard, seq, kind = event.shard, event.seq, naming.type_of(event)
            if event.session_id is not session:
                session, prefix = event.session_id, naming.prefix(event)
            headers = (
                b"NATS/1.0\r\nNats-Msg-Id: %b%d\r\nDiscluster-Shard: %d\r\n"
                b"Discluster-Sequence: %d\r\nDiscluster-Type: %b\r\n\r\n"
            ) % (prefix, seq, shard, seq, kind)
            body = bytes(event.body)
            size = len(headers)
            messages.append(
                b"HPUB %b.%b.%d %b.%d %d %d\r\n%b%b\r\n"
                % (subject, kind, shard, inbox, number, size, size + len(body), headers, body)
            )
        return messages


def create_request(settings: StreamSettings, *, subject: str) -> tuple[bytes, bytes]:
    """Subject and body of the request that makes the stream."""
    assert settings.create is not None
    wanted = {
        "name": settings.create,
        "subjects": [f"{subject}.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "max_age": settings.max_age * _NANOSECONDS,
        "max_bytes": settings.max_size * MEBIBYTE,
        "duplicate_window": min(settings.duplicates, settings.max_age) * _NANOSECONDS,
        "num_replicas": settings.replicas,
    }
    return f"$JS.API.STREAM.CREATE.{settings.create}".encode(), msgspec.json.encode(wanted)


class _Created(msgspec.Struct, frozen=True):
    error: ApiError | None = None


def check_created(delivery: wire.Delivery, *, name: str) -> None:
    """Raises BrokerError: there is no such stream now."""
    if delivery.status == wire.NO_RESPONDERS:
        raise BrokerError(
            "the server has no JetStream",
            hint="enable it: 'jetstream {}' in nats-server.conf, and in the account",
        )
    try:
        error = msgspec.json.decode(delivery.payload, type=_Created).error
    except DECODE_ERRORS:
        raise BrokerError("an answer that is none of JetStream's") from None
    if error is not None and error.err_code != _EXISTS:
        raise BrokerError(
            f"the stream {name} cannot be made: {legible(error.description)} ({error.err_code})",
            hint="see 'nats.stream' in cluster.yaml",
        )
