# SPDX-License-Identifier: Apache-2.0
"""The request at the witness endpoint of a CONTROL, and what another one answers to ours."""

import ssl

from hypothesis import strategies as st

from discluster.clock import SystemClock
from discluster.control.addresses import Endpoint
from discluster.control.panel import _body_length
from discluster.control.witness import Witness
from discluster.errors import ProtocolError
from discluster.messages import WitnessAnswer, control_to_control, decode
from tests.fuzz import shapes
from tests.fuzz.contract import check_error

LONGEST = 4 * 1024
_ANSWER = WitnessAnswer(host="alpha", hears=True, age=0.5, generation=7)


def target(data: bytes) -> None:
    answered = _witness()._response(data)
    assert answered.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 404 "))
    asked = b"GET /v1/witness"
    assert answered.startswith(b"HTTP/1.1 404 ") or data == asked or data.startswith(asked + b" ")
    head, _, body = data.partition(b"\r\n\r\n")
    try:
        length = _body_length(head + b"\r\n\r\n")
    except ValueError:
        length = len(body)
    try:
        assert 0 <= length < 10_000 or length == len(body)
        decode(control_to_control, body[:length], peer="beta")
    except ProtocolError as error:
        check_error(error, names="beta")


def _witness() -> Witness:
    return Witness(
        listen=Endpoint(host="127.0.0.1", port=0),
        announced=None,
        ssl_context=_no_tls,
        admits=lambda _: True,
        answer=lambda: _ANSWER,
        on_change=lambda: None,
        clock=SystemClock(),
    )


def _no_tls() -> ssl.SSLContext:
    raise NotImplementedError


def inputs() -> st.SearchStrategy[bytes]:
    request = st.builds(
        "{} {} HTTP/1.1\r\nHost: a\r\n\r\n".format,
        st.sampled_from(["GET", "POST", "get", "G\x00T", ""]),
        st.sampled_from(["/v1/witness", "/v1/witness/", "//v1/witness", "/../v1/witness", "/"]),
    )
    answer = st.builds(
        lambda length, body: f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode() + body,
        st.sampled_from(
            ["5", "0", "99999", "-1", "0x10", "1e3", "\u0661", "20\r\nContent-Length: 3"]
        ),
        shapes.as_json(shapes.struct(WitnessAnswer)),
    )
    return shapes.damaged(st.one_of(request.map(str.encode), answer))
