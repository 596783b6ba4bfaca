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
    b'{"t":null,"s":null,"op":10,"d":{"heartbeat_interval":%d,'
    b'"_trace":["[\\"gateway-simulated-1\\",{\\"micros\\":0.0}]"]}}'
)


def hello(interval: float) -> bytes:
    """HELLO; `interval` in real seconds, milliseconds on the wire."""
    return _HELLO % max(1, round(interval * 1000))


def invalid_session(*, resumable: bool) -> bytes:
    """INVALID_SESSION."""
    return b'{"t":null,"s":null,"op":9,"d":%b}' % (b"true" if resumable else b"false")
