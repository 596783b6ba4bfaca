# SPDX-License-Identifier: Apache-2.0
"""Payloads that are not dispatches, byte for byte as captured from the real gateway."""

from __future__ import annotations

from typing import Final

from discluster.simulator.templates import dump

HEARTBEAT_ACK: Final = b'{"t":null,"s":null,"op":11,"d":null}'
SHORT_HEARTBEAT_ACK: Final = b'{"op":11}'
HEARTBEAT_REQUEST: Final = b'{"t":null,"s":null,"op":1,"d":null}'
RECONNECT: Final = b'{"t":null,"s":null,"op":7,"d":null}'
RESUMED_BODY: Final = dump({"_trace": ['["gateway-simulated-2",{"micros":900}]']})

_HELLO = (
    b'{"t":null,"s":null,"op":10,"d":{"heartbeat_interval":%b,'
    b'"_trace":["[\\"gateway-simulated-1\\",{\\"micros\\":0.0}]"]}}'
)


def hello(interval: float) -> bytes:
    """HELLO; `interval` in real seconds, milliseconds on the wire."""
    return _HELLO % (b"%d" % max(1, round(interval * 1000)))


def odd_hello(interval: object) -> bytes:
    """HELLO with whatever is asked for; `...` leaves the interval out."""
    if interval is ...:
        return b'{"t":null,"s":null,"op":10,"d":{"_trace":[]}}'
    return _HELLO % dump(interval)


def invalid_session(d: str) -> bytes:
    """INVALID_SESSION; `d`: "true", "false", "null" or "missing"."""
    if d == "missing":
        return b'{"t":null,"s":null,"op":9}'
    return b'{"t":null,"s":null,"op":9,"d":%b}' % d.encode()
