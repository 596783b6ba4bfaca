# SPDX-License-Identifier: Apache-2.0
"""What a NATS server says, cut into reads in any way, and what JetStream's answers mean.

The first byte tells how it is cut: what is read must not depend on it.
"""

import json

from hypothesis import strategies as st

from discluster.cluster.handlers.nats import jetstream, wire
from discluster.cluster.handlers.publishing.broker import BrokerError
from tests.fuzz import shapes
from tests.fuzz.contract import check_error

LONGEST = 4 * 1024


def target(data: bytes) -> None:
    step, data = (data[0] % 37 + 1 if data else 1), data[1:]
    whole, pieces = _read([data]), _read([data[i : i + step] for i in range(0, len(data), step)])
    assert whole == pieces
    for frame in whole or ():
        if isinstance(frame, wire.Delivery):
            _judge(frame)


def _judge(delivery: wire.Delivery) -> None:
    """A refusal can be shown; what is stored was stored in a stream that has a name."""
    refusal = jetstream.judge(delivery, 7, subject="discord")
    if refusal is not None:
        check_error(BrokerError(refusal.reason, hint=refusal.hint))
    else:
        assert json.loads(delivery.payload.decode(errors="replace"))["stream"]
    try:
        jetstream.check_created(delivery, name="EVENTS")
    except BrokerError as error:
        check_error(error)


def _read(reads: list[bytes]) -> list[wire.Frame] | None:
    """Frames; None: refused."""
    reader = wire.Reader()
    found: list[wire.Frame] = []
    try:
        for data in reads:
            found += reader.feed(data)
    except wire.NatsProtocolError as error:
        check_error(error)
        return None
    return found


def _message(payload: bytes, size: int | None) -> bytes:
    told = len(payload) if size is None else size
    return b"MSG _INBOX.a.7 1 %d\r\n%b\r\n" % (told, payload)


def _with_headers(head: bytes, payload: bytes) -> bytes:
    return b"HMSG _INBOX.a.7 1 %d %d\r\n%b%b\r\n" % (
        *(len(head), len(head) + len(payload)),
        *(head, payload),
    )


def inputs() -> st.SearchStrategy[bytes]:
    answers = shapes.as_json(shapes.struct(jetstream.PubAck))
    payload = st.one_of(answers, answers, st.just(b'{"stream":"E","seq":1}'), st.binary(max_size=9))
    heads = st.sampled_from([b"NATS/1.0 503\r\n\r\n", b"NATS/1.0\r\nA: b\r\n\r\n", b"", b"X 1\r\n"])
    info = shapes.as_json(shapes.struct(wire.Info)).map(lambda told: b"INFO %b\r\n" % told)
    line = st.one_of(
        st.builds(_message, payload, st.none()),
        st.builds(_message, payload, st.none()),
        st.builds(_message, payload, shapes.numbers),
        st.builds(_with_headers, heads, payload),
        st.sampled_from([b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"-ERR 'Stale \x1b[2J'\r\n"]),
        info,
    )
    stream = st.lists(line, max_size=6).map(b"".join)
    return st.builds(
        lambda how, all_: bytes([how]) + all_, st.integers(0, 255), shapes.damaged(stream)
    )
