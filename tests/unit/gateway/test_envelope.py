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
