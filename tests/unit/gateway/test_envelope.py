# SPDX-License-Identifier: Apache-2.0
"""Payloads from the outside, and where one ends and the next begins."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discluster.gateway.envelope import MalformedError, parse, split

BODIES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
PAYLOADS = st.builds(
    lambda body, s, ascii_only: json.dumps(
        {"t": "X", "s": s, "op": 0, "d": body}, ensure_ascii=ascii_only
    ),
    BODIES,
    st.integers(0, 2**63 - 1),
    st.booleans(),
).map(lambda text: text.encode(errors="replace"))


@pytest.mark.parametrize(
    ("text", "op", "s", "t", "d"),
    [
        ('{"op":11}', 11, None, None, b"null"),
        ('{"t":null,"s":null,"op":9,"d":false}', 9, None, None, b"false"),
        ('{"op":0,"d":{"a":1},"s":4,"t":"X"}', 0, 4, "X", b'{"a":1}'),
        ('{"extra":[1],"t":"X","s":4,"op":0,"d":"}{"}', 0, 4, "X", b'"}{"'),
        ('{"op":1,"op":0,"s":4}', 0, 4, None, b"null"),
    ],
)
def test_envelope_of(text: str, op: int, s: int | None, t: str | None, d: bytes) -> None:
    for payload in (text, text.encode()):
        envelope = parse(payload)
        assert (envelope.op, envelope.s, envelope.t, bytes(envelope.d)) == (op, s, t, d)


@pytest.mark.covers("F19")
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"op":"0"}',
        b'{"op":0,"s":1.5}',
        b'{"op":0,"s":-1}',
        b'{"op":0,"s":9223372036854775808}',
        b'{"op":0,"t":7}',
        b'{"op":0,"t":"\xff"}',
        b'{"op":0,"d":',
        b'{"op":0}{"op":1}',
        b'{"op":0,"d":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    ],
)
def test_f19_malformed_payload_is_one_error(payload: bytes) -> None:
    with pytest.raises(MalformedError):
        parse(payload)


def test_error_quotes_nothing_of_the_payload() -> None:
    with pytest.raises(MalformedError) as caught:
        parse(b'{"op":0,"t":{"private":"words"}}')
    assert "private" not in str(caught.value)


@given(st.lists(PAYLOADS, max_size=5), st.data())
def test_split_finds_whole_payloads_and_keeps_the_beginning_of_one(
    payloads: list[bytes], data: st.DataObject
) -> None:
    last = data.draw(PAYLOADS)
    cut = data.draw(st.integers(0, len(last) - 1))
    whole, rest = split(b"".join(payloads) + last[:cut])
    assert whole == payloads
    assert rest == last[:cut]


@given(st.binary(max_size=200))
def test_split_of_anything_loses_no_bytes_but_blanks(data: bytes) -> None:
    whole, rest = split(data)
    assert b"".join(b"".join([*whole, rest]).split()) == b"".join(data.split())


def test_split_survives_any_depth() -> None:
    deep = b"[" * 200_000 + b"]" * 200_000
    assert split(deep) == ([deep], b"")


BLANKS = st.text(" \t\n\r", max_size=3)
PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def escaped(text: str, draw: st.DrawFn) -> str:
    """A JSON string with any of its characters written as \\u escapes."""
    if not text.isalnum() or not text.isascii():
        return json.dumps(text, ensure_ascii=draw(st.booleans()))
    return '"' + "".join(f"\\u{ord(c):04x}" if draw(st.booleans()) else c for c in text) + '"'


@st.composite
def odd_documents(draw: st.DrawFn) -> str:
    """Payloads in any key order, with any blanks, escapes, extra and repeated keys."""
    fields: list[tuple[str, str]] = [("op", str(draw(st.integers(0, 12))))]
    for key, values in (
        ("s", st.none() | st.integers(0, 2**63 - 1)),
        ("t", st.none() | st.text(max_size=20)),
        ("d", PLAIN),
        (draw(st.text(max_size=5)), PLAIN),
    ):
        if draw(st.booleans()):
            fields.append((key, json.dumps(draw(values), ensure_ascii=draw(st.booleans()))))
    fields = draw(st.permutations(fields))

    def blanks() -> str:
        return draw(BLANKS)

    inside = ",".join(
        f"{blanks()}{escaped(key, draw)}{blanks()}:{blanks()}{value}{blanks()}"
        for key, value in fields
    )
    return f"{blanks()}{{{inside}}}{blanks()}"


@given(odd_documents())
def test_envelope_agrees_with_plain_json_on_any_spelling(document: str) -> None:
    try:
        document.encode()
    except UnicodeEncodeError:
        return  # a lone surrogate is not text that a WebSocket can carry
    expected = json.loads(document)
    for payload in (document, document.encode()):
        envelope = parse(payload)
        assert envelope.op == expected["op"]
        assert envelope.s == expected.get("s")
        assert envelope.t == expected.get("t")
        assert json.loads(bytes(envelope.d)) == expected.get("d")


@given(st.text(max_size=80) | st.binary(max_size=80) | PAYLOADS.map(lambda p: p[:-1]))
def test_whatever_is_no_json_object_is_refused_as_json_refuses_it(document: str | bytes) -> None:
    try:
        expected = json.loads(document)
    except (ValueError, RecursionError):
        expected = None
    try:
        envelope = parse(document)
    except MalformedError:
        return
    assert isinstance(expected, dict)
    assert expected["op"] == envelope.op


@pytest.mark.covers("F19")
def test_f19_body_that_is_not_utf_8_is_the_handlers_to_judge() -> None:
    """Only what the shard itself needs is decoded; the body goes on as it came."""
    assert bytes(parse(b'{"op":0,"s":1,"t":"X","d":"\xff"}').d) == b'"\xff"'
