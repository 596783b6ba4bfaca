# SPDX-License-Identifier: Apache-2.0
"""NATS's protocol as it is read and written, with the examples of its documentation."""

import pytest

from discluster.cluster.handlers.nats import jetstream, wire
from discluster.cluster.handlers.nats.jetstream import JetStreamEncoder
from discluster.cluster.handlers.nats.settings import StreamSettings
from discluster.cluster.handlers.publishing.broker import BrokerError
from discluster.cluster.handlers.publishing.naming import Naming
from tests.unit.cluster.publishing.events import event
from tests.unit.cluster.publishing.test_naming import naming

ACK = b'{"stream":"EVENTS", "seq":7}'


def read(data: bytes) -> list[wire.Frame]:
    return wire.Reader().feed(data)


def test_frames_of_a_server_are_told_apart() -> None:
    info = b'INFO {"server_id":"N","max_payload":99,"headers":true,"tls_required":true}\r\n'
    data = info + b"PING\r\nPONG\r\n+OK\r\nMSG FOO.BAR 9 11\r\nHello World\r\n"
    assert read(data + b"-ERR 'Unknown Protocol Operation'\r\n") == [
        wire.Info(max_payload=99, headers=True, tls_required=True),
        wire.Ping(),
        wire.Pong(),
        wire.Delivery(b"FOO.BAR", b"Hello World"),
        wire.Failed("Unknown Protocol Operation"),
    ]


def test_message_with_a_reply_subject_and_with_headers() -> None:
    assert read(b"MSG FOO.BAR 9 GREETING.34 11\r\nHello World\r\n") == [
        wire.Delivery(b"FOO.BAR", b"Hello World")
    ]
    assert read(b"HMSG FOO.BAR 9 34 45\r\nNATS/1.0\r\nFoodGroup: vegetable\r\n\r\nHello World\r\n")
    assert read(b"HMSG _INBOX.a.3 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n") == [
        wire.Delivery(b"_INBOX.a.3", b"", wire.NO_RESPONDERS)
    ]


def test_frames_may_be_cut_anywhere() -> None:
    data = b"PING\r\nHMSG a 1 16 20\r\nNATS/1.0 503\r\n\r\nbody\r\nMSG b 1 0\r\n\r\nPONG\r\n"
    for step in range(1, len(data)):
        reader, found = wire.Reader(), []
        for start in range(0, len(data), step):
            found += reader.feed(data[start : start + step])
        assert found == read(data)
        assert len(found) == 4


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"MSG a 1 99999999\r\n",
        b"MSG a 1 -1\r\n",
        b"MSG a\r\n",
        b"MSG a 1 2\r\nabcd\r\n",
        b"HMSG a 1 9 4\r\nabcd\r\n",
        b"HMSG a 1 4 4\r\nabcd\r\n",
        b"INFO {]\r\n",
        b"x" * (wire.LONGEST_LINE + 1),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(wire.NatsProtocolError):
        read(data)


def test_event_is_published_with_its_id_and_its_shard() -> None:
    encoder = JetStreamEncoder(subject="discord", inbox=b"_INBOX.x", naming=naming())
    one, two = encoder.encode([event(41, shard=3), event(42, shard=3, type="TYPING.START")], 9)
    ident = Naming.prefix(naming(), event(41, shard=3)).decode() + "41"
    headers = (
        f"NATS/1.0\r\nNats-Msg-Id: {ident}\r\nDiscluster-Shard: 3\r\n"
        "Discluster-Sequence: 41\r\nDiscluster-Type: MESSAGE_CREATE\r\n\r\n"
    )
    body = '{"content":"x"}'
    assert one.decode() == (
        f"HPUB discord.MESSAGE_CREATE.3 _INBOX.x.9 {len(headers)} {len(headers + body)}\r\n"
        f"{headers}{body}\r\n"
    )
    assert two.startswith(b"HPUB discord.TYPING_START.3 _INBOX.x.10 ")
    assert wire.payload_size(one) == len(headers + body)


def test_event_without_its_body_tells_how_large_it_was() -> None:
    encoder = JetStreamEncoder(subject="discord", inbox=b"_INBOX.x", naming=naming())
    [message] = encoder.encode([event(41, body=b"x" * 5_000)], 9)
    left = wire.without_body(message, jetstream.LEFT_OUT)
    line, _, rest = left.partition(b"\r\n")
    size = len(rest) - 2
    assert line.endswith(b" _INBOX.x.9 %d %d" % (size, size))
    assert rest.endswith(
        b"Discluster-Type: MESSAGE_CREATE\r\nDiscluster-Left-Out: 5000\r\n\r\n\r\n"
    )
    assert wire.without_body(left, jetstream.LEFT_OUT) is left


def test_only_a_stream_that_has_it_acknowledges() -> None:
    def judged(payload: bytes, status: int = 0) -> str:
        delivery = wire.Delivery(b"_INBOX.x.7", payload, status)
        refusal = jetstream.judge(delivery, 7, subject="discord")
        return "stored" if refusal is None else f"{refusal.reason}; {refusal.hint}"

    assert judged(ACK) == "stored"
    assert judged(b'{"stream":"EVENTS","seq":7,"duplicate":true}') == "stored"
    assert "no stream takes discord.>; make one" in judged(b"", wire.NO_RESPONDERS)
    full = b'{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"}}'
    assert "refuses: maximum bytes exceeded (10077)" in judged(full)
    for odd in (b"", b"{}", b"[]", b'{"stream":""}', b'{"stream":7}', b"\xff"):
        assert judged(odd) != "stored"


def test_message_that_the_stream_finds_too_large_is_told_apart() -> None:
    error = b'{"error":{"code":400,"err_code":10054,"description":"message size exceeds"}}'
    refusal = jetstream.judge(wire.Delivery(b"", error), 7, subject="discord")
    assert refusal is not None
    assert refusal.too_large


def test_stream_that_is_there_already_will_do() -> None:
    for payload in (
        b'{"type":"io.nats.jetstream.api.v1.stream_create_response","config":{}}',
        b'{"error":{"code":400,"err_code":10058,"description":"already in use"}}',
    ):
        jetstream.check_created(wire.Delivery(b"", payload), name="EVENTS")
    overlap = b'{"error":{"code":400,"err_code":10065,"description":"subjects overlap"}}'
    for payload, status in ((overlap, 0), (b"", 503), (b"x", 0)):
        with pytest.raises(BrokerError):
            jetstream.check_created(wire.Delivery(b"", payload, status), name="EVENTS")


def test_request_for_a_stream_has_its_bounds() -> None:
    settings = StreamSettings(create="EVENTS", max_age=60, max_size=2, duplicates=120)
    subject, body = jetstream.create_request(settings, subject="discord")
    assert subject == b"$JS.API.STREAM.CREATE.EVENTS"
    assert b'"subjects":["discord.>"]' in body
    assert b'"max_age":60000000000' in body
    assert b'"max_bytes":2097152' in body
    # A server refuses a window that is longer than the stream.
    assert b'"duplicate_window":60000000000' in body
